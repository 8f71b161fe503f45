"""What a blob is: compared with the renderer's own pictures of every shape.

Each candidate is drawn at the blob's centre of mass with the blob's mass, for
every look of a material (a sheen and a rim shorten chroma, so they look like
less coverage); the least squared difference wins. A turned shape is drawn at
several angles within its symmetry. What no shape explains and is as large as a
digit is one, and is left to a small classifier.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.world import nouns, scenes, shapes, vocabulary
from sora_jax.evaluators import digits_oracle
from sora_jax.evaluators.oracle.nouns import NONE
from sora_jax.evaluators.oracle.segment import Blob

SYMMETRY = {  # angle by which a turned shape looks the same
  "square": np.pi / 2,
  "triangle": 2 * np.pi / 3,
  "star": 2 * np.pi / 5,
}
LOOKS = ("plain", "sheen", "rim")
COARSE = 8  # angles that are tried within a symmetry
POOR = 0.1  # share of the area: what fits worse than this may be a digit
NOTHING = 0.25  # what fits worse than this has no word
TALL = 2.0  # units: the least height of the ink of a digit
VIEWS = 5  # frames of a track that are compared with all shapes
PAD = 2  # pixels around a blob that a candidate may cover


@dataclasses.dataclass(frozen=True)
class Fit:
  """The best picture of a blob.

  Attributes:
    residual: squared difference as a share of the blob's area.
    angle: radians clockwise, within the shape's symmetry.
    area: of the candidate, its material's shading taken off, pixels squared.
    pixels: float64 [2] centre of the candidate.
  """

  residual: float
  angle: float
  area: float
  pixels: np.ndarray


def fit(blob: Blob, shape: str, look: str, angles: np.ndarray) -> Fit:
  """The best of a shape's pictures at `angles` [A] radians."""
  target = np.pad(blob.cover, PAD)
  corner = np.array(blob.corner) - PAD
  mass = max(blob.area, 1e-6)
  radius = np.full(len(angles), np.sqrt(mass / np.pi))
  centre = np.repeat(blob.pixels[None], len(angles), 0)
  axes = [np.arange(n) + 0.5 for n in target.shape]
  for last in (False, True):
    y, x = (
      axes[k] + corner[k] - centre[:, k, None] for k in (0, 1)
    )  # [A, h], [A, w]
    drawn = _picture(shape, look, y, x, radius, angles)
    if last:
      break
    # Shading and the pixels' grid change a picture's mass and its centre.
    got = np.maximum(drawn.sum((1, 2), dtype=np.float64), 1e-6)
    down = (drawn.sum(2) * y).sum(1) / got
    right = (drawn.sum(1) * x).sum(1) / got
    radius = radius * np.sqrt(mass / got)
    centre = centre - np.stack([down, right], 1)
  error = ((drawn - target) ** 2).sum((1, 2), dtype=np.float64) / mass
  best = int(error.argmin())
  return Fit(
    residual=float(error[best]),
    angle=float(angles[best]),
    area=float(np.pi * radius[best] ** 2),
    pixels=centre[best],
  )


def turned(blob: Blob, shape: str, look: str) -> Fit:
  """The best of a shape's pictures at any angle."""
  if shape not in SYMMETRY:
    return fit(blob, shape, look, np.zeros(1))
  step = SYMMETRY[shape] / COARSE
  count = round(_period(shape, look) / step)
  found = fit(blob, shape, look, step * np.arange(count))
  for _ in range(3):  # each round is four times as fine
    step /= 4
    near = found.angle + step * np.arange(-3, 4)
    found = fit(blob, shape, look, near)
  return found


def _period(shape: str, look: str) -> float:
  """Angle by which it looks the same; a sheen does so after half a turn."""
  if look != "sheen":
    return SYMMETRY[shape]
  return np.pi if shape == "square" else 2 * np.pi


def read(blobs: list[Blob], side: int) -> tuple[str, int, str, float]:
  """What the blobs [n] of one track are.

  Args:
    blobs: seen whole, at least one.
    side: the frame's shorter side, pixels.

  Returns:
    a key of vocabulary.SHAPES or NONE, a digit's class or -1, the look of its
    material, and the residual of the fit as a share of the area.
  """
  few = [
    blobs[k]
    for k in np.unique(
      np.linspace(0, len(blobs) - 1, VIEWS).round().astype(int)
    )
  ]
  shape, look, residual = solid(few)
  height = np.median([max(b.cover.shape) for b in few]) - 2  # soft edges
  if residual > POOR and height > TALL * side / nouns.UNITS:
    return "digit", _digit(blobs, side), "plain", 0.0
  return (shape if residual < NOTHING else NONE), -1, look, residual


def solid(blobs: list[Blob]) -> tuple[str, str, float]:
  """The shape but a digit and the look of the least residual, and that."""
  first = {
    (shape, look): turned(blobs[0], shape, look).residual
    for shape in vocabulary.SHAPES
    if shape != "digit"
    for look in LOOKS
  }
  best = (NONE, "plain", np.inf)
  # The likely ones first, and none is followed once it cannot win any more.
  for shape, look in sorted(first, key=first.get):
    total = first[shape, look]
    for blob in blobs[1:]:
      if total >= best[2] * len(blobs):
        break
      total += turned(blob, shape, look).residual
    if total < best[2] * len(blobs):
      best = (shape, look, float(total / len(blobs)))
  return best


def poses(blobs: list[Blob], shape: str, look: str) -> list[Fit]:
  """Where the blobs [n] of a track are, how large and how turned.

  Args:
    blobs: of one track.
    shape: a key of vocabulary.SHAPES, or NONE.
    look: of its material.
  """
  if shape in ("digit", NONE):  # as they are
    return [Fit(0.0, 0.0, b.area, b.pixels) for b in blobs]
  return [turned(b, shape, look) for b in blobs]


def turns(fits: list[Fit], shape: str, look: str) -> np.ndarray:
  """Angle since the first fit, float64 [n]; nan where the shape has none.

  From one to the next it is the least that the symmetry allows.
  """
  if shape not in SYMMETRY:
    return np.full(len(fits), np.nan)
  raw = np.unwrap([f.angle for f in fits], period=_period(shape, look))
  return raw - raw[0]


def _picture(shape, look, y, x, radius, angle) -> np.ndarray:
  """Chroma of a candidate as a share of its colour's, float32 [A, h, w]."""
  cover = shapes.cover(shape, y, x, radius, angle)
  white, black = shapes.shade(look, shape, cover, y, x, radius, angle)
  for part in (white, black):
    if part is not None:
      cover = cover * (1 - part)
  return cover


def _digit(blobs: list[Blob], side: int) -> int:
  """The class that most frames vote for."""
  sizes = tuple(2 * size / nouns.UNITS for size in scenes.DIGIT_SIZES)
  views = [digits_oracle.view(_centred(b, side)).ravel() for b in blobs]
  classifier = digits_oracle.classifier(side, sizes)
  return int(classifier.decision_function(views).sum(0).argmax())


def _centred(blob: Blob, side: int) -> np.ndarray:
  """The blob's ink in the middle of a square frame [side, side]."""
  cover = blob.cover[:side, :side]
  ink = np.where(cover > digits_oracle.FAINT, cover, 0)
  before = [(side - n) // 2 for n in ink.shape]
  after = [side - n - b for n, b in zip(ink.shape, before)]
  return np.pad(ink, tuple(zip(before, after)))
