"""What was read against the truth: one number per clip and attribute.

Captions say what is there and not where, so bodies are matched to tracks by
what they are: the assignment with the most attributes right. A body that no
track is matched to has nothing right; a track that no body explains costs the
count, and debris is a score of its own.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

from sora_jax.data.world import captions, nouns
from sora_jax.data.world.motions import reach
from sora_jax.evaluators.oracle import motion, physics
from sora_jax.evaluators.oracle.nouns import Shot, Track
from sora_jax.evaluators.oracle.read import Reading

ALIKE = 1.25  # ratio of radii up to which two shots show one character
FLUID = 10  # grains that make one


def attributes(reading: Reading, state: nouns.State) -> dict[str, float]:
  """How much of what a caption can say is right, each in 0..1.

  Only what applies to the clip is there: "cuts" (1 if the shots begin where
  they should), "count", "motion", "background", "camera", "camera_direction",
  and the means over bodies of "colour", "shape", "size", "digit", "direction",
  "speed", "becomes", "grows"; "identity" is the share of cuts across which one
  character stays the same. "binding" is 1 if every body has all of its own
  right, "all" if everything is. "debris" is the unexplained share of colour.
  """
  found: dict[str, list[float]] = {}
  starts = [int(s) for s in state.start]
  read_starts = [shot.start for shot in reading.shots]
  if len(starts) > 1 or len(read_starts) > 1:
    found["cuts"] = [float(read_starts == starts)]
  stops = (*starts[1:], len(state.zoom))
  for start, stop, shot in zip(starts, stops, state.shots, strict=True):
    index = _overlapping(reading.shots, start, stop)
    scored = _scene(
      shot.scene, reading.shots[index], reading.motions[index], len(state.zoom)
    )
    for name, value in scored.items():
      found.setdefault(name, []).append(value)
  if len(starts) > 1:
    found["identity"] = _identity(reading)
  out = {name: float(np.mean(values)) for name, values in found.items()}
  out["all"] = float(min(out.values()) == 1)
  debris = np.concatenate([shot.debris for shot in reading.shots])
  return out | {"debris": float(debris.mean())}


def _overlapping(shots: tuple[Shot, ...], start: int, stop: int) -> int:
  """The shot that shares most frames with [start, stop)."""
  shared = [min(s.stop, stop) - max(s.start, start) for s in shots]
  return int(np.argmax(shared))


def _scene(
  scene: nouns.Scene, shot: Shot, told: motion.Motion, frames: int
) -> dict[str, float]:
  out = {"background": shot.ground.kind == captions.background(scene)}
  if frames > 1:
    out["camera"] = shot.view.kind == scene.camera.kind
    out["motion"] = told.kind == scene.motion
    to = captions.camera_direction(scene.camera)
    if to:
      out["camera_direction"] = shot.view.direction == to
  if scene.grains:
    out["count"] = shot.grains >= FLUID and not shot.tracks
    out["colour"] = shot.grain_colour == scene.grains[0].colour
    return {k: float(v) for k, v in out.items()}
  out["count"] = len(shot.tracks) == len(scene.bodies) and not shot.grains
  return {k: float(v) for k, v in out.items()} | _bodies(scene, shot, told)


def _bodies(scene, shot, told) -> dict[str, float]:
  truth = [_said(body) for body in scene.bodies]
  seen = [_seen(t, m) for t, m in zip(shot.tracks, told.tracks, strict=True)]
  right = np.zeros((len(truth), len(seen)))
  for i, said in enumerate(truth):
    for j, one in enumerate(seen):
      right[i, j] = np.mean([one[k] == v for k, v in said.items()])
  partner = dict(zip(*linear_sum_assignment(-right), strict=True))
  found: dict[str, list[float]] = {}
  for i, said in enumerate(truth):
    one = seen[partner[i]] if i in partner else {}
    for name, value in said.items():
      found.setdefault(name, []).append(float(one.get(name) == value))
  out = {name: float(np.mean(values)) for name, values in found.items()}
  return out | {"binding": float(min(out.values()) == 1)}


def _said(body: nouns.Body) -> dict[str, object]:
  """What a caption can say of a body."""
  out: dict[str, object] = {"colour": body.colour, "shape": body.shape}
  if body.shape == "digit":
    out["digit"] = body.digit
  else:
    out["size"] = captions.size(body)
  for name in ("direction", "speed", "becomes"):
    if getattr(body, name):
      out[name] = getattr(body, name)
  if body.growth != 1:
    out["grows"] = "grows" if body.growth > 1 else "shrinks"
  return out


def _seen(track: Track, moving: motion.Moving) -> dict[str, object]:
  return {
    "colour": track.colour,
    "shape": track.shape,
    "digit": track.digit,
    "size": moving.size,
    "direction": moving.direction,
    "speed": moving.speed,
    "becomes": track.becomes,
    "grows": moving.grows,
  }


def _identity(reading: Reading) -> list[float]:
  """For every cut that was read: is the first character still the same?"""
  heroes = []
  for shot, told in zip(reading.shots, reading.motions, strict=True):
    if not shot.tracks:
      heroes.append(None)
      continue
    track, moving = shot.tracks[0], told.tracks[0]
    heroes.append((track.colour, track.shape, float(np.median(moving.radius))))
  return [
    float(
      a is not None
      and b is not None
      and a[:2] == b[:2]
      and 1 / ALIKE < a[2] / b[2] < ALIKE
    )
    for a, b in itertools.pairwise(heroes)
  ] or [0.0]


def laws(reading: Reading, state: nouns.State) -> dict[str, float]:
  """How far the motion is from the world's, for a clip of one shot.

  For what continues a given clip, so bodies are matched to tracks by place.
  "position" is the mean distance from the truth, units, and "velocity" the
  velocity error, units/s (Kang et al. 2024); "energy" and "momentum" are the
  relative drifts over a collision, "penetration" the deepest overlap in it,
  units; "events" is the error of impact times, seconds, "missed" the share of
  impacts that were not seen; "returns" the share of frames that show a body
  again after it was hidden. nan where a law does not apply, or nothing is seen.
  """
  shot, told = reading.shots[0], reading.motions[0]
  scene = state.shots[0].scene
  truth = state.position - state.centre[0]  # the tracks' origin
  found, velocity = _matched(told, truth, reading.fps)
  out = {
    "position": physics.mean(np.linalg.norm(found - truth, axis=-1)),
    "velocity": physics.mean(
      np.array(
        [
          physics.velocity_error(velocity[:, i], state.velocity[:, i])
          for i in range(truth.shape[1])
        ]
      )
    ),
    **dict.fromkeys(("energy", "momentum", "penetration"), np.nan),
    **dict.fromkeys(("events", "missed", "returns"), np.nan),
  }
  if scene.motion == "collision":
    mass = np.array([body.radius**2 for body in scene.bodies])
    out["energy"] = physics.energy_error(velocity, mass)
    out["momentum"] = physics.momentum_error(velocity, mass)
    out["penetration"] = physics.penetration(
      found[:, 0], found[:, 1], scene.bodies[0].radius, scene.bodies[1].radius
    )
  if state.events:
    times = np.array([event.time for event in state.events])
    seen = np.array([event.time for event in told.events])
    out["events"] = physics.collision_time_error(seen, times)
    out["missed"] = max(0.0, 1 - len(seen) / len(times))
  if scene.motion == "occlusion":
    hidden = _hidden(scene, state)
    place = np.full(truth[:, 0].shape, np.nan)
    for track in shot.tracks[:1]:
      place[track.frames] = physics.places(
        track, shot.view, reading.height, reading.width
      )
    back = physics.permanence(place, truth[:, 0], hidden, reading.fps)
    out["returns"] = back.share
  return out


def _matched(told: motion.Motion, truth: np.ndarray, fps: float):
  """Position and velocity [T, N, 2] of the tracks nearest to the bodies."""
  found, velocity = np.full((2, *truth.shape), np.nan)
  frames = [np.rint(m.times * fps).astype(int) for m in told.tracks]
  far = [
    [
      physics.mean(np.linalg.norm(truth[f, i] - m.position, axis=-1))
      for m, f in pairs
    ]
    for pairs in [list(zip(told.tracks, frames, strict=True))]
    for i in range(truth.shape[1])
  ]
  shape = truth.shape[1], len(frames)  # either may be 0
  distance = np.nan_to_num(np.array(far).reshape(shape), nan=1e6)
  for i, j in zip(*linear_sum_assignment(distance), strict=True):
    found[frames[j], i] = told.tracks[j].position
    velocity[frames[j], i] = told.tracks[j].velocity
  return found, velocity


def _hidden(scene: nouns.Scene, state: nouns.State) -> np.ndarray:
  """bool [T]: is the first body wholly behind the wall?"""
  (wall,) = (w for w in scene.walls if w.front)
  _, _, left, right = reach(scene.bodies[0])
  x = state.position[:, 0, 1]
  low, high = wall.centre[1] - wall.half[1], wall.centre[1] + wall.half[1]
  return (x - left >= low) & (x + right <= high)
