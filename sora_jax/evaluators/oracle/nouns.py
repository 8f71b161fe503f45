"""What the oracle reads from pixels alone; it never sees a caption or a state.

Positions are pixels (y, x) on the frame, pixel k spanning [k, k + 1]; units are
those of data.world.nouns: ten to the frame's shorter side at zoom 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np

NONE = ""  # nothing that the world has a word for


@dataclasses.dataclass(frozen=True)
class Ground:
  """What is behind the objects of a shot.

  Attributes:
    kind: a key of vocabulary.TONES for a plain one, else "gradient", "checker"
      or "textured"; NONE if it is like nothing in the world.
    grey: float32 [T, H, W] the background's estimated grey value in every
      pixel, objects filled in.
    walls: bool [T, H, W] where a wall is seen, and no body before it.
    stains: float64 [T] share of the clean pixels that are not as the kind must
      be: noise, blotches, seams, and also walls and rods. nan where the kind
      does not tell (checkers and textures have edges of their own, NONE says
      nothing) and where hardly anything is clean.
  """

  kind: str
  grey: np.ndarray
  walls: np.ndarray
  stains: np.ndarray


@dataclasses.dataclass(frozen=True)
class View:
  """How the camera of a shot moves.

  Attributes:
    kind: a key of vocabulary.CAMERAS.
    direction: "left", "right", "up", "down", "in", "out", or NONE.
    centre: float64 [T, 2] displacement of the view's centre since the shot's
      first frame, units.
    zoom: float64 [T] relative to the shot's first frame.
  """

  kind: str
  direction: str
  centre: np.ndarray
  zoom: np.ndarray


@dataclasses.dataclass(frozen=True)
class Track:
  """One object through a shot.

  Attributes:
    frames: int64 [n] frames of the shot in which it is seen.
    pixels: float64 [n, 2] its centre of mass.
    area: float64 [n] pixels squared, nan in frames in which it is partly
      hidden: its centre is then that of the part that is seen.
    colour: a key of vocabulary.COLOURS, at first.
    becomes: the colour in the end, NONE if it is the same.
    shape: a key of vocabulary.SHAPES, or NONE.
    digit: its class, or -1.
    angle: float64 [n] radians clockwise since the first frame; nan where the
      shape does not tell.
    fit: residual of the shape's fit as a share of its area: torn or blurred
      things fit badly.
  """

  frames: np.ndarray
  pixels: np.ndarray
  area: np.ndarray
  colour: str
  becomes: str
  shape: str
  digit: int
  angle: np.ndarray
  fit: float


@dataclasses.dataclass(frozen=True)
class Shot:
  """One shot as it was read.

  Attributes:
    start: its first frame in the clip.
    stop: the frame after its last.
    ground: behind the objects.
    view: of the camera.
    tracks: of captioned objects, the longest first.
    grains: number of small discs of a fluid, 0 without one.
    grain_colour: their colour.
    debris: float64 [T] coloured area that no track explains, as a share of the
      coloured area of the shot's mean frame.
  """

  start: int
  stop: int
  ground: Ground
  view: View
  tracks: tuple[Track, ...]
  grains: int
  grain_colour: str
  debris: np.ndarray
