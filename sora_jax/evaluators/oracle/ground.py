"""What is behind the objects of a shot: from its neutral pixels alone.

Everything but the bodies is grey, so a pixel is clean where its chroma
max(RGB) - min(RGB) is small and no coloured pixel is near. Walls all have one
tone and straight sides: they are what is left of the clean pixels of that tone
after a morphological opening with a line longer than a checker's square.

The rest of a frame is plain if most of its greys lie close to their median.
Else two families are fitted to it by least squares, and the share of the
variance that they explain (R^2) decides:

  gradient  a cubic polynomial in (y, x), which holds for a quarter of its wave;
  checker   {cos, sin}(pi y / a) {cos, sin}(pi x / a), the fundamental of
            squares of side a: (8 / pi^2)^2 = 66 % of a sharp checker's
            variance, and all that is left of a blurred one. The zoom is
            searched.

What neither explains is a texture if it is as smooth as the world's, and like
nothing in the world if it is not.
"""

from __future__ import annotations

import numpy as np
import scipy

from sora_jax.data.world import background, motions, vocabulary
from sora_jax.data.world.nouns import UNITS
from sora_jax.evaluators.oracle import nouns

CHROMA = 24  # from which on a pixel is coloured: an eighth of a body's
LOOKS = 5  # frames in which the kind is decided
POINTS = 1500  # pixels of a frame that are fitted
WALL = 10.0  # grey levels around a wall's tone
RUN = 3.0  # units: least length of a wall's side; squares have 1.25
LEAST = 0.04  # share of a frame that must be clean for it to be read
FLAT = 6.0  # around the median of a plain tone, grey levels
PLAIN = 0.65  # least share of a plain tone there; checkers and textures: half
TONE = 40.0  # from the nearest plain tone; more is none of them
DEEP = 65.0  # spread of what has two tones 50 apart, at most
SQUARES = 0.45  # least R^2 of a checker; textures reach 0.25
CURVE = 0.65  # least R^2 of a gradient; textures reach 0.45
SMOOTH = 0.4  # least correlation of a texture's neighbours; noise has 0
ZOOMS = np.geomspace(0.5, 2.0, 30)  # of a checker


def clean(video: np.ndarray) -> np.ndarray:
  """Where no body is, nor the soft edge of one: bool [T, H, W].

  Args:
    video: uint8 [T, H, W, 3].
  """
  coloured = np.ptp(video, axis=-1) >= CHROMA
  steps = 1 + round(0.1 * min(video.shape[1:3]) / UNITS)
  cross = scipy.ndimage.generate_binary_structure(2, 1)[None]
  return ~scipy.ndimage.binary_dilation(coloured, cross, steps)


def read(video: np.ndarray) -> nouns.Ground:
  """The background of a shot, uint8 [T, H, W, 3].

  Walls and rods count as no part of the background when its kind is decided,
  and stand in `grey` as they are seen.
  """
  seen = clean(video)
  grey = video.mean(-1, dtype=np.float32)
  walls = np.array([_walls(g, s) for g, s in zip(grey, seen)])
  kind = _kind(grey, seen & ~walls)
  # Around a body before nothing there would be a ring of them.
  walls &= seen & (np.abs(grey - motions.TONE) < WALL)
  stains = [_stains(g, s, kind) for g, s in zip(grey, seen)]
  return nouns.Ground(kind, _filled(grey, seen), walls, np.array(stains))


def smooth(grey: np.ndarray, seen: np.ndarray, sigma: float) -> np.ndarray:
  """Gaussian mean over the seen pixels of each frame, [T, H, W]."""
  width = (0, sigma, sigma)
  total = scipy.ndimage.gaussian_filter(grey * seen, width)
  weight = scipy.ndimage.gaussian_filter(seen.astype(np.float32), width)
  return total / np.maximum(weight, 1e-3)


def _filled(grey: np.ndarray, seen: np.ndarray) -> np.ndarray:
  """Unseen pixels from other frames of a still picture, else from nearby."""
  if seen.all():
    return grey
  out = grey.copy()
  rest = ~seen
  counts = seen.sum(0)
  mean = (grey * seen).sum(0) / np.maximum(counts, 1)
  wander = np.abs(grey - mean)[seen]
  if wander.size and np.quantile(wander, 0.9) < FLAT:  # nothing moves
    known = rest & (counts > 0)
    out[known] = np.broadcast_to(mean, grey.shape)[known]
    rest = rest & ~known
  for frame, unknown in zip(out, rest):
    if unknown.any() and not unknown.all():
      near = scipy.ndimage.distance_transform_edt(
        unknown, return_distances=False, return_indices=True
      )
      frame[:] = frame[tuple(near)]
  return out


def _walls(grey: np.ndarray, seen: np.ndarray) -> np.ndarray:
  """Where one frame [H, W] shows walls."""
  side = max(3, round(RUN * min(grey.shape) / UNITS))
  # Bodies in front of a wall do not end it.
  like = ~seen | (np.abs(grey - motions.TONE) < WALL)
  found = np.zeros_like(seen)
  for line in (np.ones((1, side)), np.ones((side, 1))):
    found |= scipy.ndimage.binary_opening(like, line)
  return scipy.ndimage.binary_dilation(found, np.ones((3, 3)))


def _kind(grey: np.ndarray, clear: np.ndarray) -> str:
  """From the medians of the features of a few frames."""
  picks = np.unique(np.linspace(0, len(grey) - 1, LOOKS).round().astype(int))
  found = [_features(grey[t], clear[t]) for t in picks]
  found = [f for f in found if f is not None]
  if not found:
    return nouns.NONE
  tone, flat, spread, squares, curve, alike = np.median(found, axis=0)
  if flat > PLAIN:
    tones = vocabulary.TONES
    word = min(tones, key=lambda name: abs(tones[name] - tone))
    return word if abs(tones[word] - tone) < TONE else nouns.NONE
  if spread > DEEP:
    return nouns.NONE
  if squares > SQUARES:
    return "checker"
  if curve > CURVE:
    return "gradient"
  return "textured" if alike > SMOOTH else nouns.NONE


def _features(grey: np.ndarray, clear: np.ndarray) -> tuple[float, ...] | None:
  """What tells the kinds apart in one frame [H, W], where it is clear.

  Returns:
    its tone, the share of pixels near it, the spread, R^2 of a checker and of a
    gradient, and the neighbours' correlation; the last three are 0 for a plain
    one. None if too little of the frame is clean.
  """
  if clear.mean() < LEAST:
    return None
  unit = min(grey.shape) / UNITS
  soft = smooth(grey[None], clear[None], max(0.5, 0.1 * unit))[0]
  values = soft[clear].astype(np.float64)
  low, tone, high = np.quantile(values, (0.15, 0.5, 0.85))
  flat = (np.abs(values - tone) < FLAT).mean()
  if flat > PLAIN:  # so are nearly all others, and the fits are slow
    return tone, flat, high - low, 0.0, 0.0, 0.0
  every = slice(None, None, 1 + len(values) // POINTS)
  values = values[every]
  places = _places(clear)[every]
  squares = max(_explained(_waves(places / zoom), values) for zoom in ZOOMS)
  curve = _explained(_cubic(places), values)
  return tone, flat, high - low, squares, curve, _neighbours(grey, clear)


def _stains(grey: np.ndarray, seen: np.ndarray, kind: str) -> float:
  """Share of one frame's [H, W] clean pixels that its kind does not explain."""
  if kind not in (*vocabulary.TONES, "gradient") or seen.mean() < LEAST:
    return float("nan")
  values = grey[seen].astype(np.float64)
  if kind == "gradient":
    basis = _cubic(_places(seen))
    values = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
  else:
    values = values - np.median(values)
  return float((np.abs(values) > FLAT).mean())


def _places(mask: np.ndarray) -> np.ndarray:
  """Of a mask's [H, W] pixels from the frame's middle, units, [n, 2]."""
  middle = np.array(mask.shape) / 2
  return (np.argwhere(mask) + 0.5 - middle) * (UNITS / min(mask.shape))


def _neighbours(grey: np.ndarray, clear: np.ndarray) -> float:
  """Correlation of clean pixels 0.3 units apart, the mean of both axes."""
  step = max(1, round(0.3 * min(grey.shape) / UNITS))
  found = []
  for g, c in ((grey, clear), (grey.T, clear.T)):
    both = c[step:] & c[:-step]
    pair = g[step:][both], g[:-step][both]
    if min((np.ptp(side) for side in pair if side.size), default=0):
      found.append(np.corrcoef(*pair)[0, 1])
  return float(np.mean(found)) if found else 0.0


def _cubic(places: np.ndarray) -> np.ndarray:
  """Monomials up to the third degree, [n, 10] of [n, 2]."""
  y, x = places.T / UNITS
  return np.stack([y**i * x**j for i in range(4) for j in range(4 - i)], 1)


def _waves(places: np.ndarray) -> np.ndarray:
  """A checker's fundamental in any phase, and a constant, [n, 5] of [n, 2]."""
  y, x = places.T * np.pi / background.SQUARE
  waves = [f(y) * g(x) for f in (np.cos, np.sin) for g in (np.cos, np.sin)]
  return np.stack([np.ones_like(y), *waves], 1)


def _explained(basis: np.ndarray, values: np.ndarray) -> float:
  """R^2 of the least-squares fit of a basis [n, k] to values [n]."""
  fit = np.linalg.lstsq(basis, values, rcond=None)[0]
  return 1 - np.var(values - basis @ fit) / max(values.var(), 1e-9)
