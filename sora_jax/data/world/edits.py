"""Edits of scenes, with the truth of what an edited clip should look like.

An edit is a row of EDITS: another scene that differs from the first in one
thing, or None where it has nothing to change. Motions stay as they were, so
every pixel that differs between the two renders is what the edit is about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from sora_jax.data.world import captions, vocabulary
from sora_jax.data.world.nouns import Background, Scene, Shot, State
from sora_jax.data.world.render import render
from sora_jax.types import Clip


def recolour(scene: Scene, rng: np.random.Generator) -> Scene | None:
  """The first body has another colour, that no body has or turns to."""
  if not scene.bodies:
    return None
  taken = {word for b in scene.bodies for word in (b.colour, b.becomes)}
  free = [word for word in vocabulary.COLOURS if word not in taken]
  colour = free[rng.integers(len(free))]
  first = dataclasses.replace(scene.bodies[0], colour=colour)
  return dataclasses.replace(scene, bodies=(first, *scene.bodies[1:]))


def remove(scene: Scene, rng: np.random.Generator) -> Scene | None:
  """The last of several bodies was never there; none if any two touch."""
  del rng
  touched = any(len(event.bodies) > 1 for event in scene.events)
  last = len(scene.bodies) - 1
  if last < 1 or touched or any(rod.body == last for rod in scene.rods):
    return None
  if scene.camera.follow == last:
    return None
  events = tuple(e for e in scene.events if last not in e.bodies)
  return dataclasses.replace(scene, bodies=scene.bodies[:-1], events=events)


def background(scene: Scene, rng: np.random.Generator) -> Scene | None:
  """A plain background of another tone; none that would hide the camera."""
  if scene.camera.kind != "still":
    return None
  words = [w for w in vocabulary.TONES if w != captions.background(scene)]
  tone = vocabulary.TONES[words[rng.integers(len(words))]]
  plain = Background("plain", (tone, tone), scene.background.seed)
  return dataclasses.replace(scene, background=plain)


EDITS: dict[str, Callable[[Scene, np.random.Generator], Scene | None]] = {
  "recolour": recolour,
  "remove": remove,
  "background": background,
}


def edited(clip: Clip, name: str, seed: int) -> Clip | None:
  """What an edit of a clip of the world should give, with its caption.

  Args:
    clip: of the source "world", with its ground truth.
    name: key of EDITS.
    seed: of the choice of colour, tone and wording.

  Returns:
    The clip with another video, caption and state and without sound; None for
    several shots, for digits (whose images the clip does not carry), and where
    there is nothing to edit.
  """
  state: State = clip.state
  shot = state.shots[0]
  digits = any(body.shape == "digit" for body in shot.scene.bodies)
  if len(state.shots) > 1 or digits:
    return None
  rng = np.random.default_rng(seed)
  scene = EDITS[name](shot.scene, rng)
  if scene is None:
    return None
  frames, height, width = clip.video.shape[:3]
  text = captions.write(scene, "medium", captions.picker(rng, held_out=False))
  bodies = len(scene.bodies)
  parts = ("position", "velocity", "radius", "angle", "pixels")
  return dataclasses.replace(
    clip,
    video=render(scene, np.arange(frames) / clip.fps, height, width),
    text=text,
    audio=None,
    rate=0,
    state=dataclasses.replace(
      state,
      shots=(Shot(0.0, scene, text),),
      events=scene.events,
      **{part: getattr(state, part)[:, :bodies] for part in parts},
    ),
  )
