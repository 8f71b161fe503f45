"""The nouns of the captioned physics world.

Units: lengths in units of which the frame's shorter side shows ten at zoom 1,
times in seconds from the clip's start, angles in radians, clockwise on screen.
Points are (y, x), down and right, with the stage's centre at (0, 0). A scene is
continuous in time: frames are samples of it, so one scene can be rendered at
any size and any frame rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

UNITS = 10.0  # that the frame's shorter side shows at zoom 1


@dataclasses.dataclass(frozen=True)
class Path:
  """A piecewise quadratic path: p + v s + a s^2 / 2, s seconds after a start.

  Attributes:
    starts: float64 [S] when each piece begins, ascending, the first at 0.
    position: float64 [S, 2] at the start of the piece.
    velocity: float64 [S, 2] there, units per second.
    acceleration: float64 [S, 2] of the piece, units per second squared.
  """

  starts: np.ndarray
  position: np.ndarray
  velocity: np.ndarray
  acceleration: np.ndarray

  @classmethod
  def of(cls, position, velocity=(0.0, 0.0), acceleration=(0.0, 0.0)) -> Path:
    """A path of one piece."""
    rows = (
      np.array([v], np.float64) for v in (position, velocity, acceleration)
    )
    return cls(np.zeros(1), *rows)

  @classmethod
  def through(cls, times: np.ndarray, position: np.ndarray) -> Path:
    """The path through positions [S, 2] at `times` [S], smooth in between.

    Args:
      times: ascending from 0, closely spaced.
      position: where it is then.
    """
    velocity = np.gradient(position, times, axis=0)
    step = np.diff(times)[:, None]
    # Each piece starts with the right velocity and ends at the next position.
    bend = 2 * (np.diff(position, axis=0) - velocity[:-1] * step) / step**2
    bend = np.concatenate([bend, np.zeros((1, 2))])
    return cls(times, position, velocity, bend)

  def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity [T, 2] at `times` [T]."""
    piece = np.searchsorted(self.starts, times, side="right") - 1
    piece = np.maximum(piece, 0)
    s = (times - self.starts[piece])[:, None]
    bend = self.acceleration[piece]
    velocity = self.velocity[piece] + bend * s
    return self.position[piece] + self.velocity[piece] * s + bend * s * s / 2, (
      velocity
    )


@dataclasses.dataclass(frozen=True)
class Body:
  """One object.

  Attributes:
    shape: a key of vocabulary.SHAPES.
    colour: a key of vocabulary.COLOURS.
    radius: of the disc that has the object's area, at time 0.
    material: a key of vocabulary.MATERIALS.
    path: of the centre of mass.
    glyph: for the shape "digit": index of its image in the split; else -1.
    digit: for the shape "digit": its class; else -1.
    angle: at time 0.
    spin: radians per second.
    growth: radius at the end of the shot over the radius at its start.
    becomes: the colour that it fades to in the middle third of the shot; ""
      keeps its own.
    direction: the word for where it goes, "" where the caption names none.
    speed: the word for how fast, "" likewise.
  """

  shape: str
  colour: str
  radius: float
  material: str
  path: Path
  glyph: int = -1
  digit: int = -1
  angle: float = 0.0
  spin: float = 0.0
  growth: float = 1.0
  becomes: str = ""
  direction: str = ""
  speed: str = ""


@dataclasses.dataclass(frozen=True)
class Wall:
  """An immovable axis-aligned rectangle of one grey tone.

  Attributes:
    centre: (y, x).
    half: half of its (height, width).
    tone: 0..255.
    front: drawn over the bodies (an occluder) instead of under them.
  """

  centre: tuple[float, float]
  half: tuple[float, float]
  tone: int
  front: bool = False


@dataclasses.dataclass(frozen=True)
class Rod:
  """A thin line from a fixed point to a body: what a pendulum hangs on.

  Attributes:
    pivot: (y, x).
    body: index of the body.
    tone: 0..255.
  """

  pivot: tuple[float, float]
  body: int
  tone: int


@dataclasses.dataclass(frozen=True)
class Background:
  """What is behind everything; it fills the plane, and is neutral in hue.

  Attributes:
    kind: a key of vocabulary.BACKGROUNDS.
    tones: grey values 0..255 of its dark and its bright parts; equal for one
      plain tone.
    seed: of textures.
  """

  kind: str
  tones: tuple[int, int]
  seed: int


@dataclasses.dataclass(frozen=True)
class Camera:
  """Where the camera looks: its centre and zoom over time.

  The view's centre is start + velocity t, plus the followed body's
  displacement, plus the shake; the zoom is rate ** t.

  Attributes:
    kind: a key of vocabulary.CAMERAS.
    start: (y, x) of the view's centre at time 0.
    velocity: units per second.
    rate: zoom after one second; above 1 things grow.
    follow: index of the body that stays where it is in the view, or -1.
    shake: amplitude, units.
    phase: (y, x) phases of the shake, radians.
  """

  kind: str = "still"
  start: tuple[float, float] = (0.0, 0.0)
  velocity: tuple[float, float] = (0.0, 0.0)
  rate: float = 1.0
  follow: int = -1
  shake: float = 0.0
  phase: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Event:
  """An impact.

  Attributes:
    time: seconds from the start of the clip.
    kind: "wall" or "bodies".
    bodies: indices of the one or two bodies.
    position: (y, x) of the contact.
    speed: closing speed along the normal, units per second.
  """

  time: float
  kind: str
  bodies: tuple[int, ...]
  position: tuple[float, float]
  speed: float


@dataclasses.dataclass(frozen=True)
class Scene:
  """What one shot shows; its own time starts at 0.

  Attributes:
    motion: a key of motions.MOTIONS.
    bodies: the captioned ones first; a fluid's many discs are `grains`.
    grains: uncaptioned small discs, as bodies.
    walls: floors, boxes, occluders, vessels.
    rods: of pendulums.
    background: behind everything.
    camera: how it is looked at.
    events: impacts, by time.
    seconds: length, for what changes over the whole of a shot.
  """

  motion: str
  bodies: tuple[Body, ...]
  background: Background
  camera: Camera
  seconds: float
  walls: tuple[Wall, ...] = ()
  rods: tuple[Rod, ...] = ()
  grains: tuple[Body, ...] = ()
  events: tuple[Event, ...] = ()


@dataclasses.dataclass(frozen=True)
class Shot:
  """A scene in a clip, from `start` seconds on, with its own caption."""

  start: float
  scene: Scene
  text: str


@dataclasses.dataclass(frozen=True)
class State:
  """The ground truth of a rendered clip, by frame.

  N is the most bodies of any shot; what is not there is nan.

  Attributes:
    shots: the clip's shots.
    start: int64 [shots] first frame of each.
    position: float64 [T, N, 2] of the bodies, units.
    velocity: float64 [T, N, 2] units per second.
    radius: float64 [T, N] units.
    angle: float64 [T, N].
    centre: float64 [T, 2] of the view, units.
    zoom: float64 [T].
    pixels: float64 [T, N, 2] positions (y, x) on the frame, pixels; pixel k
      spans [k, k + 1].
    events: impacts of all shots, times from the start of the clip.
  """

  shots: tuple[Shot, ...]
  start: np.ndarray
  position: np.ndarray
  velocity: np.ndarray
  radius: np.ndarray
  angle: np.ndarray
  centre: np.ndarray
  zoom: np.ndarray
  pixels: np.ndarray
  events: tuple[Event, ...]


def stage(height: int, width: int) -> tuple[float, float]:
  """(height, width) in units of what a frame of this size shows at zoom 1."""
  short = min(height, width)
  return UNITS * height / short, UNITS * width / short


def merged(parts: Sequence[Event]) -> tuple[Event, ...]:
  """Events in the order of time."""
  return tuple(sorted(parts, key=lambda e: (e.time, e.bodies)))
