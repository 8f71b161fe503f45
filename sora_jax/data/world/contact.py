"""When and where things touch.

Times are seconds from now, infinite for never; lengths are in units. Discs that
fall alike meet at the root of a quadratic. Where only one of them falls the
polynomial is a quartic, and the roots of its derivatives, found from the last
one up, enclose its own, which bisection then brings to the last bit.

On a line, a body on the left of another touches it when the centres are

  max_y f(y) + g(y)

apart, where f and g are how far the two reach to the side in the row y. The
maximum is in the row of a corner, or where an edge is the tangent of a disc.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from sora_jax.data.world import vocabulary

_APPROACH = 1e-12  # slower ones are rounding errors of bodies that part
_ROW = 1e-9  # rows closer than this are the same

Vector = tuple[float, float]  # (y, x)
Outline = tuple[str, float]  # a key of vocabulary.SHAPES, and the radius


def wall(gap: float, speed: float, pull: float) -> float:
  """Time to a wall.

  Args:
    gap: distance of the wall; what rounding left below 0 counts as 0.
    speed: towards the wall, units per second.
    pull: acceleration towards the wall, units per second squared.
  """
  if gap == math.inf:
    return math.inf
  gap = max(gap, 0.0)  # rounding
  under = speed * speed + 2 * pull * gap
  if pull > 0:
    root = math.sqrt(under)
    if speed < 0:  # away at first
      return (root - speed) / pull
    return 2 * gap / (root + speed) if gap else 0.0
  if speed <= 0 or under < 0:
    return math.inf
  return 2 * gap / (speed + math.sqrt(under))


def discs(d: Vector, u: Vector, distance: float) -> float:
  """Time to the contact of two bodies whose relative motion is uniform.

  Args:
    d: from one's centre to the other's.
    u: its rate of change, units per second.
    distance: of the centres at contact.
  """
  (dy, dx), (uy, ux) = d, u
  approach = dy * uy + dx * ux
  if approach > -_APPROACH:
    return math.inf
  outside = max(dy * dy + dx * dx - distance * distance, 0.0)
  under = approach * approach - (uy * uy + ux * ux) * outside
  return outside / (math.sqrt(under) - approach) if under >= 0 else math.inf


def falling_discs(
  d: Vector, u: Vector, fall: float, distance: float, within: float
) -> float:
  """As `discs`, for a relative acceleration `fall` down, `within` seconds."""
  (dy, dx), (uy, ux) = d, u
  polynomial = (
    dy * dy + dx * dx - distance * distance,
    2 * (dy * uy + dx * ux),
    uy * uy + ux * ux + dy * fall,
    uy * fall,
    fall * fall / 4,
  )
  f = _horner(polynomial)
  knots = [0.0, *_roots(_derivative(polynomial), within), within]
  for low, high in itertools.pairwise(knots):  # f is monotone in between
    if f(high) < min(f(low), 0.0):
      return low if f(low) <= 0 else _bisect(f, low, high)
  return math.inf


def _corners(shape: str) -> tuple[Vector, ...] | None:
  """Of the outline at radius 1; None for the disc."""
  if shape != "digit":
    return vocabulary.SHAPES[shape]
  up, down, left, right = vocabulary.extents(shape)
  return (-up, -left), (-up, right), (down, right), (down, -left)


def half_width(outline: Outline, y: float) -> float:
  """How far an upright shape reaches to either side in the row y; else -inf.

  Args:
    outline: a shape; all are their own mirror images. A digit's is the box of
      its extents, since handwriting differs.
    y: below the centre of mass, units.
  """
  shape, radius = outline
  corners = _corners(shape)
  if corners is None:
    under = radius * radius - y * y
    return math.sqrt(under) if under >= 0 else -math.inf
  y, widest = y / radius, -math.inf
  for (y0, x0), (y1, x1) in zip(corners, (*corners[1:], corners[0])):
    if abs(y1 - y0) <= _ROW:
      if abs(y - y0) <= _ROW:
        widest = max(widest, x0, x1)
    elif min(y0, y1) - _ROW <= y <= max(y0, y1) + _ROW:
      share = min(max((y - y0) / (y1 - y0), 0.0), 1.0)
      widest = max(widest, x0 + (x1 - x0) * share)
  return widest * radius


def outlines(a: Outline, b: Outline, below: float) -> tuple[float, float]:
  """How far apart the centres of two bodies on a line are when they touch.

  Args:
    a: one body.
    b: the other one, on either side.
    below: how far b's centre is below a's.

  Returns:
    The distance along x, -inf if they pass above each other, and the row where
    they touch, from a's centre down (the middle one of several).
  """
  rows = [*_rows(a, b), *(below + row for row in _rows(b, a))]
  if all(_corners(shape) is None for shape, _ in (a, b)):
    rows.append(below * a[1] / (a[1] + b[1]))  # on the line of centres
  sums = [half_width(a, row) + half_width(b, row - below) for row in rows]
  most = max(sums)
  touching = [row for row, s in zip(rows, sums) if s >= most - _ROW]
  return most, (min(touching) + max(touching)) / 2


def _rows(outline: Outline, other: Outline) -> list[float]:
  """The rows of an outline where it may touch the other one."""
  (shape, radius), corners = outline, _corners(other[0])
  own = _corners(shape)
  if own is not None:
    return [radius * y for y, _ in own]
  rows = [-radius, 0.0, radius]
  if corners is not None:
    for (y0, x0), (y1, x1) in zip(corners, (*corners[1:], corners[0])):
      dy, dx = y1 - y0, x1 - x0
      sign = 1.0 if dy > 0 else -1.0
      rows.append(sign * radius * dx / math.sqrt(dy * dy + dx * dx))
  return rows


def _horner(polynomial: Sequence[float]) -> Callable[[float], float]:
  def f(s: float) -> float:
    value = 0.0
    for coefficient in reversed(polynomial):
      value = value * s + coefficient
    return value

  return f


def _derivative(polynomial: Sequence[float]) -> tuple[float, ...]:
  return tuple(k * c for k, c in enumerate(polynomial))[1:]


def _roots(polynomial: Sequence[float], end: float) -> list[float]:
  """Where a polynomial changes its sign in (0, end), ascending."""
  if len(polynomial) == 1:
    return []
  knots = [0.0, *_roots(_derivative(polynomial), end), end]
  f = _horner(polynomial)
  return [
    _bisect(f, low, high)
    for low, high in itertools.pairwise(knots)
    if (f(low) > 0) != (f(high) > 0)
  ]


def _bisect(f: Callable[[float], float], low: float, high: float) -> float:
  """The last float before f changes its sign between low and high."""
  sign = f(low) > 0
  while True:
    middle = (low + high) / 2
    if not low < middle < high:
      return low
    low, high = (middle, high) if (f(middle) > 0) == sign else (low, middle)
