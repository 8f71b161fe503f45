"""Captions of scenes from their ground truth.

Three lengths: "short" names objects and what they do, "medium" adds sizes and
the background, "long" adds speeds, materials, camera and sounds. Every phrase
has paraphrases; the last of each is held out of all splits but one, so that a
split of captions exists whose wording was never trained on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sora_jax.data.sources import digits
from sora_jax.data.world.nouns import Body, Camera, Scene
from sora_jax.data.world.vocabulary import DIRECTIONS, SIZES, SPEEDS, TONES

LENGTHS = ("short", "medium", "long")
# Paraphrases; the last one is held out.
NOUNS = {
  "disc": ("disc", "ball", "circle"),
  "square": ("square", "box", "block"),
  "triangle": ("triangle", "wedge", "three-cornered shape"),
  "star": ("star", "five-pointed star", "pentagram"),
}
VERBS = {
  "rest": ("lies still", "stays where it is", "does not move"),
  "uniform": ("moves {direction}", "goes {direction}", "travels {direction}"),
  "bounce": (
    "falls and bounces",
    "drops to the floor and bounces",
    "hits the ground and jumps up again",
  ),
  "collision": ("collide", "bump into each other", "crash into one another"),
  "pendulum": (
    "swings on a rod",
    "swings like a pendulum",
    "hangs from a rod and sways",
  ),
  "spin": ("spins {direction}", "turns {direction}", "rotates {direction}"),
  "grow": ("grows", "gets bigger", "becomes larger"),
  "shrink": ("shrinks", "gets smaller", "becomes tiny"),
  "recolour": ("turns {becomes}", "becomes {becomes}", "fades to {becomes}"),
  "occlusion": (
    "moves {direction} behind a wall and comes out again",
    "passes behind a wall on its way {direction}",
    "vanishes behind a wall, going {direction}, and reappears",
  ),
}
FLUID = (
  "many small {colour} discs fall into a vessel",
  "small {colour} balls pour into a vessel like water",
  "a heap of little {colour} discs tumbles into a vessel",
)
PLACES = (
  "on a {} background",
  "before a {} background",
  "in front of a {} backdrop",
)
CAMERA = {
  "still": ("the camera is still", "a static camera", "the view is fixed"),
  "pan": (
    "the camera pans {direction}",
    "the camera moves {direction}",
    "the view glides {direction}",
  ),
  "zoom": (
    "the camera zooms {direction}",
    "zooming {direction}",
    "the view closes {direction}",
  ),
  "follow": (
    "the camera follows it",
    "the camera moves along with it",
    "it stays in the middle of the view",
  ),
  "shake": ("the camera shakes", "a shaky camera", "the view trembles"),
}
CAMERA["tilt"] = tuple(t.replace("pans", "tilts") for t in CAMERA["pan"])
SOUNDS = {
  "rubber": ("dull thuds", "soft thuds", "muffled bumps"),
  "wood": ("wooden knocks", "dry knocks", "woody taps"),
  "metal": ("metallic clangs", "ringing clangs", "bright metal pings"),
}
GROUNDS = {
  "gradient": ("gradient", "shaded", "graded"),
  "checker": ("checkered", "chessboard", "squared"),
  "textured": ("textured", "cloudy", "mottled"),
}
FORMS = 3  # paraphrases of every phrase, the held-out one included

Pick = Callable[[tuple[str, ...]], str]


def picker(rng: np.random.Generator, held_out: bool) -> Pick:
  """Chooses among paraphrases: the held-out one, or one of the others."""
  if held_out:
    return lambda forms: forms[-1]
  return lambda forms: forms[rng.integers(len(forms) - 1)]


def background(scene: Scene) -> str:
  """The word for the background: its tone if it is plain, else its kind."""
  found = scene.background
  if found.kind != "plain":
    return found.kind
  return min(TONES, key=lambda word: abs(TONES[word] - found.tones[0]))


def size(body: Body) -> str:
  """The word for its size, by the nearer range; "" for digits."""
  if body.shape == "digit":
    return ""
  middle = (SIZES["small"][1] + SIZES["large"][0]) / 2
  return "small" if body.radius < middle else "large"


def camera_direction(camera: Camera) -> str:
  """Where a pan, tilt or zoom goes; "" for other cameras."""
  if camera.kind == "zoom":
    return "in" if camera.rate > 1 else "out"
  if camera.kind not in ("pan", "tilt"):
    return ""
  dot = {
    word: sum(a * b for a, b in zip(camera.velocity, to))
    for word, to in DIRECTIONS.items()
  }
  return max(dot, key=dot.get)


def unsaid(text: str, scene: Scene) -> frozenset[str]:
  """What a caption of the scene leaves open, of what not all captions name.

  Some of "background", "camera", "camera_direction", "size" and "speed".
  Everything else that a caption can say, each of them says.
  """
  words = text.replace(",", " ").split()
  direction = camera_direction(scene.camera)
  views = [f.format(direction=direction) for f in CAMERA[scene.camera.kind]]
  named = {
    "background": any(form.split()[-1] in words for form in PLACES),
    "camera": any(view in text for view in views),
    "size": bool(SIZES.keys() & words),
    "speed": bool(SPEEDS.keys() & words),
  }
  named["camera_direction"] = named["camera"]
  return frozenset(name for name, told in named.items() if not told)


def write(scene: Scene, length: str, pick: Pick, sound: bool = False) -> str:
  """The caption of a scene.

  Args:
    scene: with its ground truth.
    length: one of LENGTHS.
    pick: chooses paraphrases, from `picker`.
    sound: whether the clip has sound, which long captions then name.
  """
  if scene.grains:
    text = pick(FLUID).format(colour=scene.grains[0].colour)
  else:
    text = _action(scene, length, pick)
  if length == "short":
    return text
  ground = background(scene)
  ground = pick(GROUNDS[ground]) if ground in GROUNDS else ground
  parts = [f"{text} {pick(PLACES).format(ground)}"]
  moving = scene.camera.kind != "still"
  if scene.seconds and (moving or length == "long"):
    parts.append(
      pick(CAMERA[scene.camera.kind]).format(
        direction=camera_direction(scene.camera)
      )
    )
  if length == "long" and sound and scene.events:
    parts.append(_sounds(scene, pick))
  return ", ".join(parts)


def _action(scene: Scene, length: str, pick: Pick) -> str:
  """Who does what."""
  subjects = [_subject(body, length, pick) for body in scene.bodies]
  if not scene.seconds:  # an image shows no motion
    return " and ".join(subjects)
  if scene.motion == "collision":
    *most, last = subjects
    return f"{', '.join(most)} and {last} {pick(VERBS['collision'])}"
  return " and ".join(
    f"{subject} {_verb(scene.motion, body, length, pick)}"
    for subject, body in zip(subjects, scene.bodies)
  )


def _subject(body: Body, length: str, pick: Pick) -> str:
  if body.shape == "digit":
    return f"a {body.colour} {digits.WORDS[body.digit]}"
  words = [body.colour, pick(NOUNS[body.shape])]
  if length == "long":
    words.insert(1, body.material)
  if length != "short":
    words.insert(0, size(body))
  return "a " + " ".join(words)


def _verb(motion: str, body: Body, length: str, pick: Pick) -> str:
  if motion == "grow" and body.growth < 1:
    motion = "shrink"
  text = pick(VERBS[motion]).format(
    direction=body.direction, becomes=body.becomes
  )
  return f"{text} {body.speed}" if length == "long" and body.speed else text


def _sounds(scene: Scene, pick: Pick) -> str:
  struck = sorted(
    {scene.bodies[i].material for e in scene.events for i in e.bodies}
  )
  return "with " + " and ".join(pick(SOUNDS[m]) for m in struck)
