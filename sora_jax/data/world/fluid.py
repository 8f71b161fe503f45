"""A heap of many small discs: a granular stand-in for a liquid.

It is no fluid dynamics: nothing makes pressure but discs that touch. They have
no friction, cohesion or bounce, so that a block of them collapses, sloshes,
levels out and comes to rest as a poured liquid does to the eye, with voids
between the grains.

Position-based dynamics (Mueller et al. 2007, "Position based dynamics"): a step
moves every grain on as if it were alone, pushes overlapping ones apart and
those outside back in, a few times over, and takes the new velocity from where
the grain ended up. The pushes of one sweep are all found first and then
averaged per grain (Macklin et al. 2014, "Unified particle physics for
real-time applications"), so the order of the grains does not matter.

Only elementwise float64 and sums in a fixed order (bincount) are used, which
round alike on every machine; the step does not depend on any frame rate.
"""

from __future__ import annotations

import math

import numpy as np

from sora_jax.data.world import nouns

GRAVITY = 10.0  # units per second squared
RATE = 120  # steps per second
COUNTS = (20, 80)  # least and most grains

_SWEEPS = 3  # over all contacts, per step
_EAGER = 1.2  # over-relaxation of the averaged pushes
_DAMPING = 2.0  # of a grain that touches others, per second
_REFRESH = 3  # steps between two searches for pairs that may touch
_SKIN = 0.2  # units between two grains that may touch before the next search
_GAP = 1.04  # distance of the block's grains, diameters

Box = tuple[tuple[float, float], tuple[float, float]]


def block(
  rng: np.random.Generator, count: int, radius: float, vessel: Box
) -> np.ndarray:
  """Centres (y, x) of a block of grains within a vessel, float64 [count, 2].

  The block is a slightly jittered square grid, half to three
  quarters as wide as the vessel, or wider where that is too high for it, and
  hangs less than halfway up from the floor.

  Args:
    rng: draws the block's width and place.
    count: of grains, 20..80.
    radius: of a grain, units, > 0.
    vessel: ((top, left), (bottom, right)) of its inside, units.

  Raises:
    ValueError: for a count or radius out of range, and for grains that would
      not fit into the vessel.
  """
  (top, left), (bottom, right) = vessel
  if not COUNTS[0] <= count <= COUNTS[1]:
    raise ValueError(
      f"count={count} grains; valid are {COUNTS[0]}..{COUNTS[1]}."
    )
  if not 0 < radius < math.inf:
    raise ValueError(f"radius={radius}: it must be > 0 and finite.")
  if not all(map(math.isfinite, (top, left, bottom, right))):
    raise ValueError(f"vessel={vessel}: its sides must be finite.")
  pitch = 2 * radius * _GAP
  broad = math.floor((right - left) / pitch)  # grains in the vessel's width
  high = math.floor((bottom - top) / pitch)
  if min(broad, high) < 1 or broad * high < count:
    raise ValueError(
      f"A vessel of {bottom - top:.3g} x {right - left:.3g} units cannot hold "
      f"a block of {count} grains of radius {radius}; "
      "enlarge it, or take fewer or smaller grains."
    )
  least = max(math.ceil(broad / 2), math.ceil(count / high))
  columns = int(rng.integers(least, max(least, broad * 3 // 4) + 1))
  rows = math.ceil(count / columns)
  row, column = np.divmod(np.arange(count), columns)
  lift = rng.uniform(0, 0.4) * (bottom - top - rows * pitch)
  shift = rng.uniform(0, right - left - columns * pitch)
  # Too little for an overlap, enough that no grain balances on another one.
  jitter = rng.uniform(-0.5, 0.5, (count, 2)) * (_GAP - 1) * radius
  y = bottom - lift - (row + 0.5) * pitch
  x = left + shift + (column + 0.5) * pitch
  return np.stack([y, x], -1) + jitter


def settle(
  rng: np.random.Generator,
  count: int,
  radius: float,
  vessel: Box,
  seconds: float,
) -> tuple[nouns.Path, ...]:
  """The paths of grains that fall as a block and settle in a vessel.

  After two seconds a vessel of a few units is about level, after four its
  grains rest, with overlaps of less than a tenth of their diameter. Centres are
  inside the vessel at every step; in between, where a grain hits a wall, its
  smooth path goes a few hundredths of the radius too far.

  Args:
    rng: draws the block.
    count: of grains, 20..80.
    radius: of a grain, units, > 0.
    vessel: ((top, left), (bottom, right)) of its inside, units; it is open at
      the top, and its sides go on above it.
    seconds: how long, > 0.

  Raises:
    ValueError: for arguments out of range and for grains that do not fit.
  """
  if not 0 < seconds < math.inf:
    raise ValueError(f"seconds={seconds}: it must be > 0 and finite.")
  start = block(rng, count, radius, vessel)
  # The gradient at the end is one-sided: one step more leaves it outside.
  steps = math.ceil(seconds * RATE) + 2
  centres = _trajectory(start, radius, vessel, steps)  # [S, count, 2]
  times = np.arange(len(centres)) / RATE
  return tuple(nouns.Path.through(times, centres[:, k]) for k in range(count))


def _trajectory(
  start: np.ndarray, radius: float, vessel: Box, steps: int
) -> np.ndarray:
  """Centres at all steps, [steps + 1, count, 2]."""
  (_, left), (bottom, right) = vessel
  low = np.array([[-np.inf], [left + radius]])
  high = np.array([[bottom - radius], [right - radius]])
  pull = np.array([[GRAVITY / RATE**2], [0.0]])
  before = at = np.ascontiguousarray(start.T)  # [2, count]
  contacts = np.zeros(at.shape[1])  # of each grain
  path = [at]
  for step in range(steps):
    if step % _REFRESH == 0:
      pairs = _near(at, 2 * radius + _SKIN)
    # In free fall nothing slows a grain down.
    keep = 1 - _DAMPING / RATE * np.minimum(contacts, 1.0)
    after = at + (at - before) * keep + pull
    before = at
    at, contacts = _separate(after, *pairs, 2 * radius, low, high)
    path.append(at)
  return np.stack(path).transpose(0, 2, 1)


def _near(at: np.ndarray, reach: float) -> tuple[np.ndarray, ...]:
  """The pairs of grains within reach: the first ones, the second ones, both."""
  y, x = at
  dy, dx = y[:, None] - y, x[:, None] - x
  first, second = (dy * dy + dx * dx < reach * reach).nonzero()
  once = first < second
  first, second = first[once], second[once]
  return first, second, np.concatenate([first, second])


def _separate(
  at: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
  both: np.ndarray,
  diameter: float,
  low: np.ndarray,
  high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Centres [2, count] pushed apart and back in, and contacts per grain."""
  count = at.shape[1]
  for _ in range(_SWEEPS):
    y, x = d = at[:, first] - at[:, second]
    distance = np.sqrt(y * y + x * x)
    overlap = np.maximum(diameter - distance, 0.0)
    touch = np.sign(overlap)
    push = d * (overlap / distance * 0.5)
    sums = [
      np.bincount(both, np.concatenate(halves), count)
      for halves in ((push[0], -push[0]), (push[1], -push[1]), (touch, touch))
    ]
    share = _EAGER / np.maximum(sums[2], _EAGER)
    at = at + np.stack(sums[:2]) * share
    at = np.minimum(np.maximum(at, low), high)
  return at, sums[2]
