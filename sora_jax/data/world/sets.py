"""The sets of the world and its splits: what may be drawn for a scene.

A set is a row of SETS: which motions, shapes, cameras and so on. A split says
what is held out: seeds, digit images, combinations of attributes, ranges of
parameters, or wordings.
"""

from __future__ import annotations

import dataclasses

from sora_jax.data.world import vocabulary

SPLITS = (
  "train",
  "test",  # other seeds and other digit images
  "test_combinations",  # bodies of combinations that no other split shows
  "test_parameters",  # sizes or speeds out of the training ranges
  "test_paraphrases",  # wordings that no training caption has
)
SOLID = ("disc", "square", "triangle", "star")


@dataclasses.dataclass(frozen=True)
class Rules:
  """What a set draws from.

  Attributes:
    motions: keys of motions.MOTIONS.
    shapes: keys of vocabulary.SHAPES.
    bodies: (fewest, most) in a scene.
    shots: (fewest, most) in a clip, as far as they fit; see scenes.SHORTEST.
    cameras: keys of vocabulary.CAMERAS.
    backgrounds: keys of vocabulary.BACKGROUNDS.
    materials: keys of vocabulary.MATERIALS.
    elastic: bounces and collisions lose no energy.
  """

  motions: tuple[str, ...]
  shapes: tuple[str, ...] = SOLID
  bodies: tuple[int, int] = (1, 1)
  shots: tuple[int, int] = (1, 1)
  cameras: tuple[str, ...] = ("still",)
  backgrounds: tuple[str, ...] = ("plain",)
  materials: tuple[str, ...] = ("rubber",)
  elastic: bool = False


SETS: dict[str, Rules] = {
  # One thing, one motion: the first thing to learn.
  "simple": Rules(motions=("rest", "uniform")),
  "motion": Rules(
    motions=("uniform", "bounce", "collision"),
    shapes=("disc", "square", "triangle"),
    bodies=(1, 2),
    elastic=True,
  ),
  "composition": Rules(
    motions=("rest", "uniform", "bounce", "spin", "grow", "recolour"),
    bodies=(1, 2),
    backgrounds=vocabulary.BACKGROUNDS,
  ),
  "digits": Rules(motions=("rest", "uniform"), shapes=("digit",)),
  "phenomena": Rules(
    motions=(
      "pendulum",
      "spin",
      "fluid",
      "occlusion",
      "grow",
      "recolour",
    ),
    backgrounds=vocabulary.BACKGROUNDS,
    materials=tuple(vocabulary.MATERIALS),
  ),
  "camera": Rules(
    motions=("rest", "uniform"),
    cameras=vocabulary.CAMERAS,
    backgrounds=("checker", "textured"),
  ),
  "shots": Rules(
    motions=("rest", "uniform", "spin"),
    shots=(2, 4),
    backgrounds=vocabulary.BACKGROUNDS,
  ),
  "sound": Rules(
    motions=("bounce", "collision"),
    bodies=(1, 3),
    shapes=("disc", "square"),
    backgrounds=vocabulary.BACKGROUNDS,
    materials=tuple(vocabulary.MATERIALS),
  ),
}


def held_out(
  colour: str, shape: str, size: str, motion: str, background: str
) -> bool:
  """Whether only "test_combinations" shows this combination: one in five.

  Every attribute, and every pair of them, is still seen in training.
  """
  tables = (
    (vocabulary.COLOURS, colour),
    (vocabulary.SHAPES, shape),
    (vocabulary.SIZES, size),
    (MOTION_ORDER, motion),
    ((*vocabulary.TONES, *vocabulary.BACKGROUNDS[1:]), background),
  )
  # Digits have no size word; they count as the first.
  numbers = [list(t).index(v) if v in t else 0 for t, v in tables]
  return sum(numbers) % 5 == 4


# Fixed here, because the split must not move when a motion is added.
MOTION_ORDER = (
  "rest",
  "uniform",
  "bounce",
  "collision",
  "pendulum",
  "spin",
  "grow",
  "recolour",
  "occlusion",
  "fluid",
)
