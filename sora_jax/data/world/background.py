"""What is behind everything: endless grey planes, filtered for any pixel.

Every kind is a function of the world's coordinates and so moves with the
camera. All but the textures' noise are sums or products over the axes:

  gradient  1/2 + sin(k . p) / 2, steepest in the middle of the stage;
  checker   1/2 + f(y) f(x) / 2, f the square wave's mean over the pixel;
  textured  sum_ij b(y - y_i) v_ij b(x - x_j): values v that are hashed from the
            lattice's integers (so any part of the plane can be drawn alone),
            and quadratic B-splines b, which are a partition of unity and are
            stretched to the pixel where the lattice is finer.

Each is a share in [0, 1] between the background's two tones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sora_jax.data.world import nouns, splines, vocabulary

PERIOD = 24.0  # of a gradient, units; a frame at zoom 1 shows less than half
SQUARE = 1.25  # side of a checker's square, units
OCTAVES = ((0.8, 2 / 3), (0.4, 1 / 3))  # of textures: (lattice, share), units


def grey(
  background: nouns.Background, y: np.ndarray, x: np.ndarray, pixel: np.ndarray
) -> np.ndarray:
  """Grey values 0..255, float32 [T or 1, H, W].

  Args:
    background: what to draw.
    y: [T or 1, H, 1] of the pixels' middles, units.
    x: [T or 1, 1, W] of the pixels' middles, units.
    pixel: [T or 1, 1, 1] side of a pixel, units.

  Raises:
    ValueError: for a kind that is not in vocabulary.BACKGROUNDS.
  """
  if background.kind not in BACKGROUND:
    raise ValueError(
      f"No background {background.kind!r} in the world; use "
      f"{', '.join(vocabulary.BACKGROUNDS)}."
    )
  share = BACKGROUND[background.kind](background.seed, y, x, pixel)
  dark, bright = background.tones
  share *= np.float32(bright - dark)
  share += np.float32(dark)
  return share


def _plain(seed, y, x, pixel):
  return np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)


def _gradient(seed, y, x, pixel):
  turn = np.random.default_rng(seed).uniform(0, 2 * np.pi)
  rise = np.array([np.sin(turn), np.cos(turn)]) * 2 * np.pi / PERIOD
  # sin(a + b), with sines of the axes alone: float64, and few.
  a, b = rise[0] * y, rise[1] * x
  across = _single(np.sin(a) / 2) * _single(np.cos(b))
  across += _single(np.cos(a) / 2) * _single(np.sin(b))
  across += np.float32(0.5)
  return across


def _checker(seed, y, x, pixel):
  corner = np.random.default_rng(seed).uniform(0, 2 * SQUARE, 2)
  down, right = (_wave(v - c, pixel) for v, c in zip((y, x), corner))
  squares = _single(down / 2) * _single(right)
  squares += np.float32(0.5)
  return squares


def _wave(x: np.ndarray, pixel: np.ndarray) -> np.ndarray:
  """Mean over a pixel of the wave that is 1 and -1 on alternate squares."""

  def integral(x):
    return SQUARE - np.abs(x % (2 * SQUARE) - SQUARE)

  return (integral(x + pixel / 2) - integral(x - pixel / 2)) / pixel


def _textured(seed, y, x, pixel):
  total = np.zeros((), np.float64)
  for octave, (lattice, share) in enumerate(OCTAVES):
    cell = lattice / pixel  # [T or 1, 1, 1], pixels
    reach = 1.5 * np.maximum(lattice, pixel)
    bases, nodes = [], []
    for points in (y[:, :, 0], x[:, 0, :]):
      first = np.floor((points - reach[:, 0]).min() / lattice)
      last = np.ceil((points + reach[:, 0]).max() / lattice)
      nodes.append(np.arange(int(first), int(last) + 1))
      places = points / pixel[:, 0]
      bases.append(splines.basis(places, nodes[-1] * cell[:, 0], cell))
    values = share * _hashed(*nodes, (seed, octave))
    total = total + bases[0] @ values @ bases[1].transpose(0, 2, 1)
  return _single(np.minimum(total, 1.0))


def _hashed(rows: np.ndarray, columns: np.ndarray, salt) -> np.ndarray:
  """0 or 1 for each lattice point (i, j), float64 [rows, columns].

  The top bit of splitmix64 (Steele et al. 2014, "Fast splittable pseudorandom
  number generators"), applied once for each of the salt's integers, i and j.
  Two values, for they have the most contrast; interpolation makes the rest.
  """
  state = np.zeros((1, 1), np.uint64)
  parts = [np.array([[s]]) for s in salt] + [rows[:, None], columns[None, :]]
  for part in parts:
    state = state ^ part.astype(np.int64).astype(np.uint64)
    state = state + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
      state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state = state ^ (state >> np.uint64(31))
  return (state >> np.uint64(63)).astype(np.float64)


def _single(x: np.ndarray) -> np.ndarray:
  return x.astype(np.float32)


# Kind -> share of the bright tone, float32 [T or 1, H, W], of
# (seed, y, x, pixel) as in `grey`.
BACKGROUND: dict[str, Callable[..., np.ndarray]] = {
  "plain": _plain,
  "gradient": _gradient,
  "checker": _checker,
  "textured": _textured,
}
