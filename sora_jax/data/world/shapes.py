"""How much of each pixel a body covers, and how its material shades it.

Everything is a sum over the two axes of a window of pixels, prepared in float64
on the axes and combined in float32, in which such sums are exact to the bit on
every machine. With u the distance to an edge in pixels, positive inside,

  r(u) = 1/2 + v - v |v| / 2,  v = clip(u, -1, 1),

is the edge seen through a triangle two pixels wide. Its spectrum has double
zeros where pixels alias, so centroids follow sub-pixel motion to a hundredth of
a pixel; a ramp one pixel wide errs by five times that.

  disc     r(R - d): d from the centre.
  polygon  prod_k r(u_k) over the lines of its edges. As r is symmetric about
           its line, the product keeps the area of a corner, where the least of
           the u_k would add to it.
  star     a pentagram is where at most one of its five lines is violated: the
           same, with prod_k r_k + sum_i (1 - r_i) prod_{k != i} r_k.
  digit    (By g Bx^T) with the bases of splines.py, about the centre of mass
           of its ink.

Curvature and nearby corners still change the area of small shapes. So they are
drawn with the radius that gives them the area of the disc of their own; what is
too small for that is drawn one pixel large and as much fainter.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from sora_jax.data.world import splines, vocabulary

GRID = 20  # cells of a glyph's side
CELLS = 8.0  # of them in the radius of its body
# Pixels that the soft edge adds: 1 / sin of half of the sharpest corner.
EDGE = {"disc": 1.0, "square": 1.5, "triangle": 2.0, "star": 3.3}
SHEEN = 0.35  # share of white in the middle of a sheen
BAND = 0.6  # half of the width of a sheen, radii
RIM = (0.8, 0.3)  # where a rim starts, share of the radius; how dark it is


def reach(shape: str, radius: float) -> float:
  """How far from its centre a body may colour pixels, pixels.

  Args:
    shape: a key of vocabulary.SHAPES.
    radius: pixels, >= 1.
  """
  if shape == "digit":
    return (GRID + 1) / CELLS * radius + 1.5  # wherever the glyph's ink is
  return _farthest(shape) * radius + EDGE[shape]


def cover(
  shape: str,
  y: np.ndarray,
  x: np.ndarray,
  radius: np.ndarray,
  angle: np.ndarray,
) -> np.ndarray:
  """Coverage in [0, 1] by any shape but a digit, float32 [T, h, w].

  Args:
    shape: a key of vocabulary.SHAPES.
    y: [T, h] middles of the pixels below the body's centre, pixels.
    x: [T, w] middles of the pixels right of it, pixels.
    radius: [T], pixels.
    angle: [T], radians, clockwise on screen.
  """
  drawn, seen = _calibration(shape)
  large = np.maximum(radius, seen[0])
  formal = large + np.interp(large, seen, drawn - seen)
  covered = _raw(shape, y, x, formal, angle)
  if radius.min() < seen[0]:
    fainter = (radius / large) ** 2
    covered *= fainter.astype(np.float32)[:, None, None]
  return covered


def glyph_cover(
  glyph: np.ndarray, y: np.ndarray, x: np.ndarray, radius: np.ndarray
) -> np.ndarray:
  """Coverage in [0, 1] by a glyph [GRID, GRID], float32 [T, h, w].

  The glyph's centre of mass is the body's; the rest is as in `cover`.
  """
  cell = (radius / CELLS)[:, None]
  glyph = glyph.astype(np.float64)
  bases = []
  for axis, pixels in enumerate((y, x)):
    ink = glyph.sum(1 - axis)
    cells = np.arange(GRID) - ink @ np.arange(GRID) / ink.sum()
    bases.append(splines.basis(pixels, cells * cell, cell[:, :, None]))
  covered = bases[0] @ glyph @ bases[1].transpose(0, 2, 1)
  # Cells finer than a pixel may sum to a little more than 1.
  return np.minimum(covered, 1.0).astype(np.float32)


def line_cover(
  y: np.ndarray, x: np.ndarray, along: np.ndarray, half: np.ndarray
) -> np.ndarray:
  """Coverage in [0, 1] by a line with round ends, float32 [T, h, w].

  Args:
    y: [T, h] middles of the pixels below the line's start, pixels.
    x: [T, w] middles of the pixels right of it, pixels.
    along: [T, 2] from its start to its end, pixels.
    half: [T] half of its thickness, pixels.
  """
  length = np.maximum((along**2).sum(1, keepdims=True), 1e-12)
  down, right = (along / length).T[:, :, None]  # [T, 1]
  share = _sum(y * down, x * right)  # of the way to the end
  np.clip(share, 0, 1, out=share)
  dy, dx = along.T.astype(np.float32)[:, :, None, None]
  distance = (y.astype(np.float32)[:, :, None] - share * dy) ** 2
  distance += (x.astype(np.float32)[:, None, :] - share * dx) ** 2
  np.sqrt(distance, out=distance)
  half = half.astype(np.float32)[:, None, None]
  # One edge less the other: right for lines thinner than a pixel, too.
  return _edge(half - distance) - _edge(-half - distance)


def shade(
  look: str,
  shape: str,
  covered: np.ndarray,
  y: np.ndarray,
  x: np.ndarray,
  radius: np.ndarray,
  angle: np.ndarray,
) -> tuple[np.ndarray | None, np.ndarray | None]:
  """The shares of white and of black that a material's look adds.

  Both go towards grey, so that the hue stays. A sheen is a soft band through
  the body's centre, on its diagonal. A rim is what the same shape, smaller,
  leaves free; a digit's strokes are too thin for it, so theirs is where the
  ink is thin.

  Args:
    look: "plain", "sheen" or "rim".
    shape: a key of vocabulary.SHAPES.
    covered: [T, h, w] of `cover` or `glyph_cover`.
    y: as in `cover`, and so are x, radius and angle.

  Returns:
    white and black, each float32 [T, h, w] in [0, 1] or None.
  """
  if look == "sheen":
    down, right = _turned(np.sqrt(0.5), np.sqrt(0.5), angle[:, None])
    across = 1 / (BAND * np.maximum(radius, 1.0)[:, None])
    band = _sum(y * down * across, x * right * across)
    band *= band
    np.subtract(1, band, out=band)
    np.maximum(band, 0, out=band)
    band *= band
    band *= np.float32(SHEEN)
    return band, None
  if look == "rim":
    start, dark = RIM
    inner = (
      covered if shape == "digit" else cover(shape, y, x, start * radius, angle)
    )
    return None, np.float32(dark) * (1 - inner)
  return None, None


def _farthest(shape: str) -> float:
  """Distance of a shape's farthest point from its centre, radii."""
  corners = vocabulary.SHAPES[shape]
  return 1.0 if corners is None else max(math.hypot(*c) for c in corners)


@functools.cache
def _lines(shape: str) -> np.ndarray:
  """The lines of a polygon's edges: [E, 3] of outward (y, x) and distance."""
  corners = np.array(vocabulary.SHAPES[shape])
  along = np.roll(corners, -1, 0) - corners
  outward = np.stack([-along[:, 1], along[:, 0]], 1)
  outward /= np.sqrt((outward**2).sum(1, keepdims=True))
  lines = np.column_stack([outward, (outward * corners).sum(1)])
  # Edges of a star lie in pairs on one line: every second edge has them all.
  return lines[::2] if shape == "star" else lines


@functools.cache
def _calibration(shape: str) -> tuple[np.ndarray, np.ndarray]:
  """Radii of the formulas, and of the discs of the areas that come of them."""
  drawn = np.geomspace(1.0, 16.0, 33)
  seen = []
  for radius in drawn:
    half = reach(shape, radius)
    axis = np.linspace(-half, half, 128)[None]
    covered = _raw(shape, axis, axis, np.array([radius]), np.zeros(1))
    pixel = axis[0, 1] - axis[0, 0]
    seen.append(np.sqrt(covered.sum(dtype=np.float64) / np.pi) * pixel)
  return drawn, np.array(seen)


def _raw(shape, y, x, radius, angle):
  """Coverage by the formulas above, float32 [T, h, w]."""
  radius, angle = radius[:, None], angle[:, None]
  if shape == "disc":
    inside = _sum(y * y, x * x)
    np.sqrt(inside, out=inside)
    return _edge(radius.astype(np.float32)[:, :, None] - inside)
  none, one = None, None  # the shares of a pixel that so many lines cut off
  for down, right, distance in _lines(shape):
    down, right = _turned(down, right, angle)
    inside = _edge(_sum(-y * down, distance * radius - x * right))
    if none is None:
      none, one = inside, 1 - inside
      continue
    if shape == "star":
      one *= inside
      one += none * (1 - inside)
    none *= inside
  return none + one if shape == "star" else none


def _turned(down, right, angle):
  """The direction (y, x) turned clockwise on screen."""
  sin, cos = np.sin(angle), np.cos(angle)
  return down * cos + right * sin, right * cos - down * sin


def _edge(inside: np.ndarray) -> np.ndarray:
  """r(u) of pixels `inside` an edge, in their place."""
  np.maximum(inside, -1, out=inside)
  np.minimum(inside, 1, out=inside)
  bend = np.abs(inside)
  bend *= np.float32(-0.5)
  bend += 1
  inside *= bend
  inside += np.float32(0.5)
  return inside


def _sum(y: np.ndarray, x: np.ndarray) -> np.ndarray:
  """y + x, float32 [T, h, w] of [T, h] and [T, w]."""
  return y.astype(np.float32)[:, :, None] + x.astype(np.float32)[:, None, :]
