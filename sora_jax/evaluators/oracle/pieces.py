"""Paths as pieces between impacts: the least squares segmentation of a path.

Each piece is p + v t + g t^2 / 2 with a known acceleration g, fitted on its
own; where to cut is the exact minimum of squared error plus a price for every
piece, by dynamic programming (Bellman 1961). An impact is where two neighbours'
curves are closest, so its time is known to a fraction of a frame.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

PRICE = 0.02  # units squared: squared error that one more piece must save
NOISE = 12.0  # the same, in variances of the positions


@dataclasses.dataclass(frozen=True)
class Pieces:
  """A path cut into pieces.

  Attributes:
    spans: (first, end) of each piece, indices into the path's times.
    slopes: float64 [pieces, 2] velocity of each at time 0, units per second.
    offsets: float64 [pieces, 2] position of each at time 0, units.
    acceleration: float64 [2] of all, units per second squared.
    cost: squared error plus the pieces' prices, units squared.
  """

  spans: tuple[tuple[int, int], ...]
  slopes: np.ndarray
  offsets: np.ndarray
  acceleration: np.ndarray
  cost: float

  def velocity(self, time: float, piece: int) -> np.ndarray:
    """Of a piece at a time, units per second, [2]."""
    return self.slopes[piece] + self.acceleration * time


def price(points: np.ndarray) -> float:
  """What a piece costs for points [n, 2], by how noisy they are."""
  if len(points) < 4:
    return PRICE
  # Third differences of a smooth path are small; impacts touch few of them.
  noise = np.median(np.abs(np.diff(points, 3, axis=0)), axis=0)
  variance = (noise / 0.6745) ** 2 / 20
  return max(PRICE, NOISE * float(variance.sum()))


def cut(times: np.ndarray, points: np.ndarray, acceleration) -> Pieces:
  """The cheapest pieces for points [n, 2] at `times` [n], n >= 1."""
  acceleration = np.asarray(acceleration, np.float64)
  free = points - acceleration * times[:, None] ** 2 / 2
  each = price(points)
  best = [0.0]
  before = [0]
  for end in range(1, len(times) + 1):
    costs = [
      best[first] + each + _line(times[first:end], free[first:end])[2]
      for first in range(end)
    ]
    before.append(int(np.argmin(costs)))
    best.append(min(costs))
  spans = []
  end = len(times)
  while end:
    spans.append((before[end], end))
    end = before[end]
  return _fitted(times, free, tuple(reversed(spans)), acceleration, best[-1])


def single(times: np.ndarray, points: np.ndarray, acceleration) -> Pieces:
  """The points [n, 2] at `times` [n] as one piece."""
  acceleration = np.asarray(acceleration, np.float64)
  free = points - acceleration * times[:, None] ** 2 / 2
  cost = price(points) + _line(times, free)[2]
  return _fitted(times, free, ((0, len(times)),), acceleration, cost)


def _fitted(times, free, spans, acceleration, cost) -> Pieces:
  fits = [_line(times[a:b], free[a:b]) for a, b in spans]
  return Pieces(
    spans=spans,
    slopes=np.array([f[0] for f in fits]),
    offsets=np.array([f[1] for f in fits]),
    acceleration=acceleration,
    cost=cost,
  )


def impacts(found: Pieces, times: np.ndarray) -> list[tuple[float, int, float]]:
  """When each piece but the first begins: (time, piece, change of speed).

  A piece of one frame has no velocity of its own; its impact is put in the
  middle of the interval that it must lie in.
  """
  out = []
  for k, (one, other) in enumerate(itertools.pairwise(found.spans), 1):
    low, high = times[one[1] - 1], times[other[0]]
    turn = found.slopes[k] - found.slopes[k - 1]
    time = (low + high) / 2
    if min(one[1] - one[0], other[1] - other[0]) > 1 and turn.any():
      gap = found.offsets[k] - found.offsets[k - 1]
      time = float(np.clip(-(gap @ turn) / (turn @ turn), low, high))
    out.append((float(time), k, float(np.linalg.norm(turn))))
  return out


def velocities(
  found: Pieces, times: np.ndarray, points: np.ndarray
) -> np.ndarray:
  """Velocity at each time, float64 [n, 2], by local parabolas of a piece.

  A parabola is fitted to up to five frames of the same piece; to two, a line;
  a piece of one frame has the step from its neighbour.
  """
  out = np.zeros(points.shape)
  if len(times) == 1:
    return out
  for first, end in found.spans:
    if end - first == 1:
      first, end = max(first - 1, 0), min(end + (first == 0), len(times))
    for k in range(first, end):
      low = max(first, min(k - 2, end - 5))
      part = slice(low, min(low + 5, end))
      s = times[part] - times[k]
      degree = min(2, len(s) - 1)
      out[k] = np.polyfit(s, points[part], degree)[-2]
  return out


def _line(times: np.ndarray, points: np.ndarray):
  """Slope [2], offset [2] and squared error of the line through points."""
  middle, mean = times.mean(), points.mean(0)
  s, p = times - middle, points - mean
  spread = s @ s
  slope = s @ p / spread if spread else np.zeros(2)
  error = float(((p - s[:, None] * slope) ** 2).sum())
  return slope, mean - slope * middle, error
