"""What was read against the truth: one number per clip and attribute.

Captions say what is there and not where, so bodies are matched to tracks by
what they are: the assignment with the most attributes right. A body that no
track is matched to has nothing right; a track that no body explains costs the
count, and debris is a score of its own.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy

from sora_jax.data.world import captions, nouns
from sora_jax.evaluators.oracle import motion, physics
from sora_jax.evaluators.oracle.nouns import NONE, Shot, Track
from sora_jax.evaluators.oracle.read import Reading

ALIKE = 1.25  # ratio of radii up to which two shots show one character
FLUID = 10  # grains that make one
UNEXPLAINED = ("debris", "stains")  # scores that no caption says


def attributes(
  reading: Reading, state: nouns.State, said: bool = False
) -> dict[str, float]:
  """How much of what a caption can say is right, each in 0..1.

  Only what applies to the clip is there: "cuts" (1 if the shots begin where
  they should), "count", "motion", "background", "camera", "camera_direction",
  and the means over bodies of "colour", "shape", "size", "digit", "direction",
  "speed", "becomes", "grows"; "identity" is the share of cuts across which one
  character stays the same. "binding" is 1 if every body has all of its own
  right, "all" if everything is. "debris" is the share of the coloured area that
  nothing explains, "stains" that of plain and gradient backgrounds without
  walls or rods.

  Args:
    reading: of a clip.
    state: what it should show.
    said: whether only what the shots' own captions name is asked for: a short
      one leaves sizes, speeds, background and camera to whoever draws it.
  """
  found: dict[str, list[float]] = {}
  starts = [int(s) for s in state.start]
  read_starts = [shot.start for shot in reading.shots]
  if len(starts) > 1 or len(read_starts) > 1:
    found["cuts"] = [float(read_starts == starts)]
  for start, stop, shot in _spans(state):
    index = _overlapping(reading.shots, start, stop)
    scored = _scene(
      shot.scene,
      reading.shots[index],
      reading.motions[index],
      len(state.zoom),
      _unsaid(shot, said),
    )
    for name, value in scored.items():
      found.setdefault(name, []).append(value)
  if len(starts) > 1:
    found["identity"] = _identity(reading, state, said)
  out = {name: float(np.mean(values)) for name, values in found.items()}
  out["all"] = float(min(out.values()) == 1)
  debris = np.concatenate([shot.debris for shot in reading.shots])
  out["debris"] = float(debris.mean())
  stains = _stains(reading, state)
  return out | ({} if np.isnan(stains) else {"stains": stains})


def _stains(reading: Reading, state: nouns.State) -> float:
  """Mean over the shots whose background is smooth and has nothing on it."""
  found = []
  for start, stop, shot in _spans(state):
    scene = shot.scene
    smooth = scene.background.kind in ("plain", "gradient")
    if smooth and not (scene.walls or scene.rods):
      ground = reading.shots[_overlapping(reading.shots, start, stop)].ground
      lost = ground.kind == NONE  # so spoilt that it is nothing any more
      found.append(1.0 if lost else physics.mean(ground.stains))
  return physics.mean(np.array(found))


def _unsaid(shot: nouns.Shot, said: bool) -> frozenset[str]:
  """What is not asked for in a shot."""
  return captions.unsaid(shot.text, shot.scene) if said else frozenset()


def _spans(state: nouns.State):
  """(first frame, frame after the last, shot) of every shot."""
  starts = [int(s) for s in state.start]
  return zip(starts, (*starts[1:], len(state.zoom)), state.shots, strict=True)


def _overlapping(shots: tuple[Shot, ...], start: int, stop: int) -> int:
  """The shot that shares most frames with [start, stop)."""
  shared = [min(s.stop, stop) - max(s.start, start) for s in shots]
  return int(np.argmax(shared))


def _scene(
  scene: nouns.Scene,
  shot: Shot,
  told: motion.Motion,
  frames: int,
  unsaid: frozenset[str],
) -> dict[str, float]:
  out = {"background": shot.ground.kind == captions.background(scene)}
  if frames > 1:
    out["camera"] = shot.view.kind == scene.camera.kind
    out["motion"] = told.kind == scene.motion
    to = captions.camera_direction(scene.camera)
    if to:
      out["camera_direction"] = shot.view.direction == to
  out = {k: v for k, v in out.items() if k not in unsaid}
  if scene.grains:
    out["count"] = shot.grains >= FLUID and not shot.tracks
    out["colour"] = shot.grain_colour == scene.grains[0].colour
    return {k: float(v) for k, v in out.items()}
  out["count"] = len(shot.tracks) == len(scene.bodies) and not shot.grains
  return {k: float(v) for k, v in out.items()} | _bodies(
    scene, shot, told, unsaid
  )


def _bodies(scene, shot, told, unsaid) -> dict[str, float]:
  truth = [
    {k: v for k, v in _said(body).items() if k not in unsaid}
    for body in scene.bodies
  ]
  seen = [_seen(t, m) for t, m in zip(shot.tracks, told.tracks, strict=True)]
  right = np.zeros((len(truth), len(seen)))
  for i, wanted in enumerate(truth):
    for j, one in enumerate(seen):
      right[i, j] = np.mean([one[k] == v for k, v in wanted.items()])
  partner = dict(
    zip(*scipy.optimize.linear_sum_assignment(-right), strict=True)
  )
  found: dict[str, list[float]] = {}
  for i, wanted in enumerate(truth):
    one = seen[partner[i]] if i in partner else {}
    for name, value in wanted.items():
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


def _identity(reading: Reading, state: nouns.State, said: bool) -> list[float]:
  """For every cut that was read: is the first character still the same?

  Its size may change where the caption of either shot leaves it open.
  """
  heroes = []
  for shot, told in zip(reading.shots, reading.motions, strict=True):
    if not shot.tracks:
      heroes.append(None)
      continue
    track, moving = shot.tracks[0], told.tracks[0]
    middle = (shot.start + shot.stop - 1) // 2
    true = state.shots[int(np.searchsorted(state.start, middle, "right")) - 1]
    free = "size" in _unsaid(true, said)
    radius = float(np.median(moving.radius))
    heroes.append((track.colour, track.shape, radius, free))
  return [
    float(
      a is not None
      and b is not None
      and a[:2] == b[:2]
      and (a[3] or b[3] or 1 / ALIKE < a[2] / b[2] < ALIKE)
    )
    for a, b in itertools.pairwise(heroes)
  ] or [0.0]
