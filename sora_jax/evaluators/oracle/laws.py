"""How far motion is from what the world's laws make of it.

For videos that continue a given one: bodies are matched to tracks by place, and
what is compared are paths. So the dumb baseline that extrapolates in straight
lines is judged by the same function as a generated video.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

from sora_jax.data.world import nouns
from sora_jax.data.world.motions import reach
from sora_jax.evaluators.oracle import physics
from sora_jax.evaluators.oracle.read import Reading

FAR = 1e6  # units: between a body and a track that have no frame in common
NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Paths:
  """Where the N bodies of a clip of one shot are, by frame.

  Attributes:
    position: float64 [T, N, 2] units, in the world of the clip's `State`; nan
      where a body is not seen.
    velocity: float64 [T, N, 2] units per second; nan where it is not seen
      whole.
    impacts: float64 [k] times, seconds.
  """

  position: np.ndarray
  velocity: np.ndarray
  impacts: np.ndarray


def followed(reading: Reading, state: nouns.State) -> Paths:
  """The paths of the tracks that are nearest to the bodies of the truth."""
  shot, told = reading.shots[0], reading.motions[0]
  frames, count = state.position.shape[:2]
  position, velocity = np.full((2, len(told.tracks), frames, 2), np.nan)
  for k, (track, moving) in enumerate(
    zip(shot.tracks, told.tracks, strict=True)
  ):
    place = physics.places(track, shot.view, reading.height, reading.width)
    position[k, track.frames] = place + state.centre[0]  # the tracks' origin
    whole = np.rint(moving.times * reading.fps).astype(int)
    position[k, whole] = moving.position + state.centre[0]
    velocity[k, whole] = moving.velocity
  pairs = itertools.product(range(count), range(len(position)))
  far = [
    physics.mean(np.linalg.norm(position[k] - state.position[:, i], axis=-1))
    for i, k in pairs
  ]
  far = np.nan_to_num(np.reshape(far, (count, len(position))), nan=FAR)
  own = np.full((2, frames, count, 2), np.nan)
  for i, k in zip(*linear_sum_assignment(far), strict=True):
    own[:, :, i] = position[k], velocity[k]
  return Paths(*own, np.array([event.time for event in told.events]))


def extrapolated(state: nouns.State, start: int, fps: float) -> Paths:
  """The truth before frame `start`, then straight on at constant velocity.

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
    position: mean distance from the truth, units.
    velocity: mean velocity error, units/s (Kang et al. 2024).
    energy: error of the kinetic energy that a collision leaves, as a share of
      the energy before it.
    momentum: drift of the momentum over a collision, a share likewise.
    penetration: the deepest overlap of two bodies in a collision, by the discs
      of their areas, beyond that of the truth (which is 0 for discs), units.
    events: mean error of the times of impacts, seconds.
    missed: share of the impacts that have no counterpart.
    returns: share of the frames after a body was hidden that show it again.
    Each is nan where a law does not apply, or nothing is seen.
  """
  part = slice(start, None)
  hidden = _hidden(state)
  clear = np.isfinite(state.position).all(-1) & ~hidden
  seen = np.isfinite(paths.position).all(-1)
  whole = np.isfinite(paths.velocity).all(-1)
  away = np.linalg.norm(paths.position - state.position, axis=-1)
  wrong = np.linalg.norm(paths.velocity - state.velocity, axis=-1)
  out = {
    "seen": physics.mean(seen[part][clear[part]].astype(float)),
    "position": physics.mean(away[part][whole[part]]),
    "velocity": physics.mean(wrong[part]),
  }
  out |= dict.fromkeys(("energy", "momentum", "penetration"), NAN)
  if state.shots[0].scene.motion == "collision":
    out |= _collision(paths, state, part)
  out |= _impacts(paths.impacts, state, max(start - 1, 0) / fps)
  out["returns"] = NAN
  if hidden[part].any():
    back = physics.permanence(
      paths.position[:, 0], state.position[:, 0], hidden[:, 0], fps
    )
    out["returns"] = back.share
  return out


def _collision(
  paths: Paths, state: nouns.State, part: slice
) -> dict[str, float]:
  """What happens to bodies that meet."""
  radius = np.array([body.radius for body in state.shots[0].scene.bodies])
  mass = radius**2
  depth = [
    _depth(place[part], radius) for place in (paths.position, state.position)
  ]
  return {
    "energy": physics.energy_error(paths.velocity, state.velocity, mass),
    "momentum": physics.momentum_error(paths.velocity, mass),
    "penetration": max(depth[0] - depth[1], 0.0) if depth[0] >= 0 else NAN,
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


def _hidden(state: nouns.State) -> np.ndarray:
  """In which frames a body is wholly behind a wall, bool [T, N]."""
  scene = state.shots[0].scene
  out = np.zeros(state.position.shape[:2], bool)
  for i, body in enumerate(scene.bodies):
    _, _, left, right = reach(body)
    x = state.position[:, i, 1]
    for wall in (w for w in scene.walls if w.front):
      low, high = wall.centre[1] - wall.half[1], wall.centre[1] + wall.half[1]
      out[:, i] |= (x - left >= low) & (x + right <= high)
  return out
