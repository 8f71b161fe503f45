"""How far motion is from what the world's laws make of it.

For videos that continue a given one: bodies are matched to tracks by place, and
what is compared are paths. So the dumb baseline that extrapolates in straight
lines is judged by the same function as a generated video.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy

from sora_jax.data.world import nouns
from sora_jax.data.world.motions import reach
from sora_jax.evaluators.oracle import physics
from sora_jax.evaluators.oracle.read import Reading

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Paths:
  """Where the N bodies of a clip of one shot are, by frame.

  Attributes:
    position: float64 [T, N, 2] units, in the world of the clip's `State`; nan
      where a body is not seen.
    velocity: float64 [T, N, 2] units per second; nan where it is not seen
      whole, unless it never is.
    impacts: float64 [k] times, seconds.
  """

  position: np.ndarray
  velocity: np.ndarray
  impacts: np.ndarray


def followed(reading: Reading, state: nouns.State) -> Paths:
  """The paths of the tracks that are nearest to the bodies of the truth.

  Only the first shot that was read counts: after a cut that should not be
  there, nothing is seen.
  """
  shot, told = reading.shots[0], reading.motions[0]
  frames, count = state.position.shape[:2]
  position, velocity = np.full((2, len(told.tracks), frames, 2), np.nan)
  for k, (track, moving) in enumerate(
    zip(shot.tracks, told.tracks, strict=True)
  ):
    place = physics.places(track, shot.view, reading.height, reading.width)
    position[k, track.frames] = place + state.centre[0]  # the tracks' origin
    whole = np.rint(moving.times * reading.fps).astype(int)
    velocity[k, whole] = moving.velocity
  pairs = itertools.product(range(count), range(len(position)))
  far = [
    physics.mean(np.linalg.norm(position[k] - state.position[:, i], axis=-1))
    for i, k in pairs
  ]
  far = np.reshape(far, (count, len(position)))  # either may be 0
  own = np.full((2, frames, count, 2), np.nan)
  for i, k in zip(*scipy.optimize.linear_sum_assignment(far), strict=True):
    own[:, :, i] = position[k], velocity[k]
  return Paths(*own, np.array([event.time for event in told.events]))


def held(paths: Paths, start: int) -> Paths:
  """The paths, with bodies that are lost from `start` on held where they were.

  Else a video that loses what is hard to show would have fewer errors than one
  that shows it: nothing seen is nothing wrong. A body that was never seen whole
  before has no place to be held at, and stays nan.
  """
  position, velocity = paths.position.copy(), paths.velocity.copy()
  for t in range(max(start, 1), len(position)):
    for i in range(position.shape[1]):
      if np.isnan(position[t, i]).any():
        position[t, i], velocity[t, i] = position[t - 1, i], 0.0
  return Paths(position, velocity, paths.impacts)


def extrapolated(state: nouns.State, start: int, fps: float) -> Paths:
  """The truth before frame `start`, then straight on at constant velocity.

  A baseline that is told the true velocity, also where one frame is given. Its
  bodies pass through each other and so keep energy and momentum: what tells on
  a collision is position, velocity and penetration.

  Args:
    state: of a clip of one shot.
    start: first frame that is not known, >= 1.
    fps: frames per second.
  """
  if start < 1:
    raise ValueError(f"extrapolated(start={start}): give at least one frame")
  position, velocity = state.position.copy(), state.velocity.copy()
  late = np.arange(len(position) - start + 1)[:, None, None] / fps
  position[start - 1 :] = position[start - 1] + velocity[start - 1] * late
  velocity[start - 1 :] = velocity[start - 1]
  times = [e.time for e in state.events if e.time <= (start - 1) / fps]
  return Paths(position, velocity, np.array(times))


def laws(
  paths: Paths, state: nouns.State, fps: float, start: int = 0
) -> dict[str, float]:
  """Errors of paths from frame `start` on, for a clip of one shot.

  Args:
    paths: of the video to judge.
    state: the truth.
    fps: frames per second.
    start: the first frame that was not given.

  Returns:
    seen: share of the frames that show a body, of those in which it is not
      hidden.
    position: mean distance from the truth, units, where it is seen whole, or
      held; see `held`.
    velocity: mean velocity error there, units/s (Kang et al. 2024).
    energy: error of the kinetic energy after the impacts of a collision, as a
      share of the energy before them.
    momentum: by how much the momentum is another one after them, as a share of
      the sum of its parts.
    penetration: the deepest overlap of two bodies in a collision, by the discs
      of their areas, beyond that of the truth (which is 0 for discs), units.
    events: mean error of the times of impacts, seconds.
    missed: share of the impacts that have no counterpart.
    returns: share of the frames after a body was hidden that show it again.
    Each is nan where a law does not apply, and the errors also for a body that
    is never seen.
  """
  part = slice(start, None)
  behind, mostly = _hidden(state)
  clear = np.isfinite(state.position).all(-1) & ~mostly
  seen = np.isfinite(paths.position).all(-1)
  kept = held(paths, start)
  # Seen whole, or lost where nothing hides it.
  told = np.isfinite(paths.velocity).all(-1) | (clear & ~seen)
  place, pace = (
    np.where(told[..., None], x, np.nan)[part]
    for x in (kept.position, kept.velocity)
  )
  since = max(start - 1, 0) / fps
  out = {
    "seen": physics.mean(seen[part][clear[part]].astype(float)),
    "position": physics.mean(
      np.linalg.norm(place - state.position[part], axis=-1)
    ),
    "velocity": physics.velocity_error(pace, state.velocity[part]),
    **dict.fromkeys(("penetration", "energy", "momentum"), NAN),
    **_impacts(paths.impacts, state, since),
    "returns": NAN,
  }
  if state.shots[0].scene.motion == "collision":
    out["penetration"] = _penetration(paths, state, part)
    out |= _conserved(kept, state, fps, since)
  if behind[part].any():
    back = physics.permanence(
      paths.position[:, 0], state.position[:, 0], behind[:, 0], fps
    )
    out["returns"] = back.share
  return out


def _penetration(paths: Paths, state: nouns.State, part: slice) -> float:
  """By how much bodies overlap more than they should."""
  radius = np.array([body.radius for body in state.shots[0].scene.bodies])
  found, truth = (
    _depth(place[part], radius) for place in (paths.position, state.position)
  )
  return max(found - truth, 0.0) if found >= 0 else NAN


def _conserved(
  paths: Paths, state: nouns.State, fps: float, since: float
) -> dict[str, float]:
  """Energy and momentum, unless some of the impacts were given."""
  struck = [event.time for event in state.events]
  if min(struck) <= since:
    return {}
  mass = np.array([body.radius**2 for body in state.shots[0].scene.bodies])
  times = np.arange(len(state.position)) / fps
  sides = times <= min(struck), times > max(struck)
  found = paths.velocity
  return {
    "energy": physics.energy_error(found, state.velocity, mass, *sides),
    "momentum": physics.momentum_error(found, mass, *sides),
  }


def _depth(position: np.ndarray, radius: np.ndarray) -> float:
  """The deepest overlap of any two bodies' discs; nan if none is ever seen."""
  deep = [
    physics.penetration(position[:, i], position[:, k], radius[i], radius[k])
    for i, k in itertools.combinations(range(len(radius)), 2)
  ]
  return max((d for d in deep if d == d), default=NAN)


def _impacts(
  found: np.ndarray, state: nouns.State, since: float
) -> dict[str, float]:
  """How well the impacts after a time are met."""
  truth = np.array([e.time for e in state.events if e.time > since])
  found = found[found > since]
  if not len(truth):
    return {"events": NAN, "missed": NAN}
  return {
    "events": physics.collision_time_error(found, truth),
    "missed": max(0.0, 1 - len(found) / len(truth)),
  }


def _hidden(state: nouns.State) -> tuple[np.ndarray, np.ndarray]:
  """In which frames a wall hides a body wholly, and at least half: [T, N]."""
  scene = state.shots[0].scene
  wholly, half = np.zeros((2, *state.position.shape[:2]), bool)
  for i, body in enumerate(scene.bodies):
    _, _, left, right = reach(body)
    x = state.position[:, i, 1]
    for wall in (w for w in scene.walls if w.front):
      low, high = wall.centre[1] - wall.half[1], wall.centre[1] + wall.half[1]
      wholly[:, i] |= (x - left >= low) & (x + right <= high)
      half[:, i] |= (x >= low) & (x <= high)
  return wholly, half
