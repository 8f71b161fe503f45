"""How well motion keeps the laws of the world: errors of tracks, in its units.

Lengths are units (ten to the frame's shorter side), times seconds; all bodies
have one density, so a mass is an area. Every measure is a pure function of
arrays, and nan where it does not apply; `interval` aggregates over clips.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy

from sora_jax.data.world import camera
from sora_jax.evaluators import metrics
from sora_jax.evaluators.oracle import nouns

REST = 1e-3  # energy or momentum per mass below which nothing moves


@dataclasses.dataclass(frozen=True)
class Return:
  """How a body comes back after it was hidden; see `permanence`.

  Attributes:
    share: of the frames in which it is visible again, those that show it.
    delay: seconds by which it is seen again late; negative is early; nan if it
      never is.
    distance: mean from where it should be then, units; nan likewise.
  """

  share: float
  delay: float
  distance: float


def places(
  track: nouns.Track, view: nouns.View, height: int, width: int
) -> np.ndarray:
  """Where a track is in the world, float64 [n, 2] units.

  The origin is the middle of the view in the shot's first frame. In terms of
  the truth that is State.position - State.centre[shot's first frame].
  """
  frames = track.frames
  return camera.to_units(
    track.pixels, view.centre[frames], view.zoom[frames], height, width
  )


def velocity(position: np.ndarray, seconds: np.ndarray) -> np.ndarray:
  """Central differences of places [n, 2] at times [n]: [n, 2] units/s.

  (p[k+1] - p[k-1]) / (t[k+1] - t[k-1]) for even steps, one-sided at the ends;
  nan for fewer than two places.
  """
  if len(position) < 2:
    return np.full(np.shape(position), np.nan)
  return np.gradient(position, seconds, axis=0)


def velocity_error(found: np.ndarray, truth: np.ndarray) -> float:
  """mean_t |v_found - v_true|, units/s: Kang et al. 2024, on a line theirs.

  Args:
    found: [n, 2] velocities; rows with nan are left out.
    truth: [n, 2] in the same frames.
  """
  _check("velocity_error", found, truth)
  return mean(np.linalg.norm(np.subtract(found, truth), axis=-1))


def energy_error(
  velocity: np.ndarray,
  truth: np.ndarray,
  mass: np.ndarray,
  before: np.ndarray,
  after: np.ndarray,
) -> float:
  """|found - true change| of E = sum_i m_i |v_i|^2 / 2, as shares of E_before.

  The change is (E_after - E_before) / E_before, of medians over the frames that
  show all bodies. nan for bodies that were at rest, and if no such frame is
  left on either side.

  Args:
    velocity: [T, N, 2] units/s, nan where a body is not seen.
    truth: [T, N, 2] likewise; frames that `velocity` lacks are left out.
    mass: [N].
    before: bool [T], the frames before what may change the energy.
    after: bool [T], those after it.
  """
  _check("energy_error", velocity, truth)
  truth = np.where(np.isnan(velocity), np.nan, truth)

  def change(v):
    energy = (np.asarray(mass) * (np.asarray(v) ** 2).sum(-1)).sum(-1) / 2
    start, end = (_median(energy[part, None])[0] for part in (before, after))
    moved = start > REST * np.sum(mass)  # false also for nan
    return (end - start) / start if moved else np.nan

  return float(abs(change(velocity) - change(truth)))


def momentum_error(
  velocity: np.ndarray,
  mass: np.ndarray,
  before: np.ndarray,
  after: np.ndarray,
) -> float:
  """|P_after - P_before| / sum_i m_i |v_i,before| of P = sum_i m_i v_i.

  The sum below is no vector's, for the momenta of two bodies may cancel.
  Arguments and nan are those of `energy_error`.
  """
  mass = np.asarray(mass)
  total = (mass[:, None] * velocity).sum(1)  # [T, 2]
  size = (mass * np.linalg.norm(velocity, axis=-1)).sum(1)
  rows = np.column_stack([total, size])
  start, end = _median(rows[before]), _median(rows[after])
  if not start[2] > REST * mass.sum():
    return float("nan")
  return float(np.linalg.norm(end[:2] - start[:2]) / start[2])


def impacts(
  position: np.ndarray, seconds: np.ndarray, least: float = 1.0
) -> np.ndarray:
  """Times at which a path has a kink, ascending, [k] seconds.

  A jump J of the velocity at the time u after frame k, within a step h, leaves
  second differences J (h - u) at frame k and J u at frame k + 1, beyond those
  of gravity, which are the median's. So their sum tells J, and their shares u.

  Args:
    position: [n, 2] units, of one body.
    seconds: [n] evenly spaced.
    least: |J| of an impact, units/s.
  """
  if len(position) < 4:
    return np.zeros(0)
  bend = np.diff(position, 2, axis=0)
  bend = bend - np.median(bend, axis=0)  # [n - 2, 2], at frames 1 .. n - 2
  jump = bend[:-1] + bend[1:]
  step = seconds[1] - seconds[0]
  size = np.linalg.norm(jump, axis=1) / step
  # An impact close to a frame shows in two sums; the larger one is its own.
  around = np.pad(size, 1)
  peak = (size > around[:-2]) & (size >= around[2:]) & (size > least)
  at = np.flatnonzero(peak)
  part = (bend[at + 1] * jump[at]).sum(1) / (jump[at] ** 2).sum(1)
  return seconds[at + 1] + step * np.clip(part, 0, 1)


def collision_time_error(found: np.ndarray, truth: np.ndarray) -> float:
  """Mean |t_found - t_true| of the best pairs, seconds; nan without a pair.

  Each time is in one pair at most (the assignment of least total error); how
  many have none is for the caller to count.

  Args:
    found: [a] seconds.
    truth: [b] seconds.
  """
  cost = np.abs(np.subtract.outer(found, truth))
  rows, columns = scipy.optimize.linear_sum_assignment(cost)
  return mean(cost[rows, columns])


def penetration(
  a: np.ndarray, b: np.ndarray, radius_a: np.ndarray, radius_b: np.ndarray
) -> float:
  """max_t (r_a + r_b - |a - b|), at least 0: the deepest overlap, units.

  The discs have the bodies' areas, so for other shapes than discs it is what
  area alone tells. nan if the two are never seen together.

  Args:
    a: [n, 2] units, one row per frame; nan where it is not seen.
    b: [n, 2] likewise.
    radius_a: [n] or a number, units.
    radius_b: likewise.
  """
  _check("penetration", a, b)
  gap = np.linalg.norm(np.subtract(a, b), axis=-1)
  deep = np.add(radius_a, radius_b) - gap
  deep = deep[np.isfinite(deep)]
  return float(max(deep.max(), 0.0)) if deep.size else float("nan")


def permanence(
  found: np.ndarray, truth: np.ndarray, hidden: np.ndarray, fps: float
) -> Return:
  """Whether, when and where a body comes back after it was hidden.

  Args:
    found: [T, 2] units; nan where it is not seen.
    truth: [T, 2] where it should be.
    hidden: bool [T], frames in which it should not be seen.
    fps: frames per second.

  Returns:
    all nan if it is hidden in no frame, or until the end.
  """
  _check("permanence", found, truth)
  nan = float("nan")
  behind = np.flatnonzero(hidden)
  if not behind.size or behind[-1] == len(hidden) - 1:
    return Return(nan, nan, nan)
  after = slice(behind[-1] + 1, None)
  seen = np.isfinite(found).all(-1)
  # From the middle of its absence on, it may come too early.
  middle = (behind[0] + behind[-1]) // 2
  again = np.flatnonzero(seen[middle:])
  delay = (middle + again[0] - after.start) / fps if again.size else nan
  away = np.linalg.norm(np.subtract(found, truth), axis=-1)[after]
  return Return(float(seen[after].mean()), float(delay), mean(away))


def acceleration(position: np.ndarray, fps: float) -> float:
  """median_t |p[t+1] - 2 p[t] + p[t-1]| fps^2, units/s^2.

  0 for rest and for uniform motion, and 10 for a free fall; nan for fewer than
  three places.

  Args:
    position: [n, 2] units, in consecutive frames.
    fps: frames per second.
  """
  bend = np.linalg.norm(np.diff(position, 2, axis=0), axis=-1)
  return float(np.median(bend) * fps**2) if bend.size else float("nan")


def interval(scores: np.ndarray) -> tuple[float, float, float, int]:
  """Mean of clips' scores with its bootstrap interval (metrics.bootstrap).

  Args:
    scores: [clips]; nan where a measure does not apply.

  Returns:
    (mean, low, high, number of clips that count); nan, nan, nan, 0 for none.
  """
  scores = np.asarray(scores, np.float64)
  scores = scores[np.isfinite(scores)]
  if not scores.size:
    return (float("nan"),) * 3 + (0,)
  return (float(scores.mean()), *metrics.bootstrap(scores), len(scores))


def _median(rows: np.ndarray) -> np.ndarray:
  """Of the finite rows of [n, k]; nan without one."""
  finite = rows[np.isfinite(rows).all(1)]
  if not len(finite):
    return np.full(rows.shape[1], np.nan)
  return np.median(finite, axis=0)


def mean(values: np.ndarray) -> float:
  """The mean of the finite values, of any shape; nan for none."""
  values = values[np.isfinite(values)]
  return float(values.mean()) if values.size else float("nan")


def _check(name: str, a: np.ndarray, b: np.ndarray) -> None:
  if np.shape(a) != np.shape(b):
    raise ValueError(
      f"{name}: shapes {np.shape(a)} and {np.shape(b)} differ; give one row "
      "for each frame to both, nan where something is not seen."
    )
