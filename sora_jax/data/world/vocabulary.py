"""What there is in the world: shapes, colours, materials, sizes, speeds.

Tables only. Every shape has the area of the disc of its radius, so size and
mass mean the same for all. Ranges in distribution and out of it are those of
Kang et al. 2024 ("How far is video generation from world model"), in a world of
ten units; the gaps between named ranges keep every word decidable.
"""

from __future__ import annotations

import dataclasses
import math

# RGB; hues far apart, so that blur and shading keep them apart.
COLOURS = {
  "red": (230, 30, 30),
  "yellow": (235, 220, 30),
  "green": (30, 190, 40),
  "cyan": (30, 210, 220),
  "blue": (50, 70, 250),
  "magenta": (220, 40, 220),
}

# Corners of a polygon with its centre of mass in (0, 0), as (y, x), for area
# pi; None for what is no polygon. Upright: a triangle stands on its base.
_SIDE = math.sqrt(4 * math.pi / math.sqrt(3))  # of the triangle
_HALF = math.sqrt(math.pi) / 2  # of the square's side
_POINT = math.sqrt(math.pi / (5 * math.sin(math.pi / 5) * 0.3819660112501051))
SHAPES: dict[str, tuple[tuple[float, float], ...] | None] = {
  "disc": None,
  "square": (
    (-_HALF, -_HALF),
    (-_HALF, _HALF),
    (_HALF, _HALF),
    (_HALF, -_HALF),
  ),
  "triangle": (
    (-_SIDE / math.sqrt(3), 0.0),
    (_SIDE / math.sqrt(12), _SIDE / 2),
    (_SIDE / math.sqrt(12), -_SIDE / 2),
  ),
  # A pentagram: the points' circle is 1 / 0.382 times the notches'.
  "star": tuple(
    (
      -_POINT * (1.0, 0.3819660112501051)[k % 2] * math.cos(math.pi * k / 5),
      _POINT * (1.0, 0.3819660112501051)[k % 2] * math.sin(math.pi * k / 5),
    )
    for k in range(10)
  ),
  "digit": None,
}


@dataclasses.dataclass(frozen=True)
class Material:
  """How a thing looks, bounces and sounds.

  Attributes:
    restitution: of a bounce; of a collision, the smaller of the two.
    pitch: Hz of the first partial at radius 1; it goes as 1 / radius.
    partials: (frequency ratio, relative amplitude) of its sound.
    decay: seconds in which the sound falls to 1/e.
    look: "plain", "sheen" (a bright band) or "rim" (a darker edge).
  """

  restitution: float
  pitch: float
  partials: tuple[tuple[float, float], ...]
  decay: float
  look: str


MATERIALS = {
  "rubber": Material(0.9, 180.0, ((1.0, 1.0), (2.0, 0.15)), 0.05, "plain"),
  "wood": Material(0.7, 420.0, ((1.0, 1.0), (2.57, 0.3)), 0.07, "rim"),
  "metal": Material(
    0.8, 950.0, ((1.0, 1.0), (2.76, 0.4), (5.4, 0.2)), 0.25, "sheen"
  ),
}

BACKGROUNDS = ("plain", "gradient", "checker", "textured")
TONES = {"black": 16, "gray": 128, "white": 236}  # of plain backgrounds
CAMERAS = ("still", "pan", "tilt", "zoom", "follow", "shake")

Range = tuple[float, float]
SIZES: dict[str, Range] = {"small": (0.7, 0.9), "large": (1.15, 1.4)}
SPEEDS: dict[str, Range] = {"slowly": (1.0, 1.8), "fast": (2.8, 4.0)}
# Out of distribution: held out of every training split.
HELD_OUT_SIZES: tuple[Range, ...] = ((0.3, 0.6), (1.5, 2.0))
HELD_OUT_SPEEDS: tuple[Range, ...] = ((0.0, 0.8), (4.5, 6.0))

DIRECTIONS = {  # as (down, right)
  "left": (0.0, -1.0),
  "right": (0.0, 1.0),
  "up": (-1.0, 0.0),
  "down": (1.0, 0.0),
}


def extents(shape: str) -> tuple[float, float, float, float]:
  """How far an upright shape of radius 1 reaches (up, down, left, right)."""
  corners = SHAPES[shape]
  if corners is None:
    # The widest handwriting, from its centre of mass.
    return (1.42,) * 4 if shape == "digit" else (1.0,) * 4
  ys, xs = zip(*corners)
  return (-min(ys), max(ys), -min(xs), max(xs))
