"""Draws scenes and clips of a set: a pure function of a random generator.

What is drawn is kept only if everything that a caption says of it can be seen:
no captioned body leaves the view or overlaps another at any time. Otherwise the
whole scene is drawn again, so that what is kept is the set's distribution given
that it can be seen.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from sora_jax.data.sources import digits
from sora_jax.data.world import camera as camera_lib
from sora_jax.data.world import captions, motions, sets
from sora_jax.data.world.moments import radius as radius_at
from sora_jax.data.world.nouns import (
  UNITS,
  Background,
  Body,
  Camera,
  Path,
  Scene,
  Shot,
)
from sora_jax.data.world.vocabulary import (
  COLOURS,
  DIRECTIONS,
  HELD_OUT_SIZES,
  HELD_OUT_SPEEDS,
  SIZES,
  SPEEDS,
  TONES,
)

TRIES = 1200  # draws after which a scene is called impossible
LAYOUTS = 8  # tries of a clip's shots: a few heroes fit no next one
SHORTEST = 0.6  # mean length of shots from which a clip has fewer, seconds
UNEVEN = 0.3  # how much shots differ in length
PATIENCE = 150  # draws for one motion and camera before others are drawn
LOOKS = 33  # times at which visibility is checked
DIGIT_SIZES = (1.4, 1.8)  # half the height of a digit, units
SHAKE = (0.15, 0.3)  # amplitude, units
DRIFT = 0.5  # units that a body moves in a view that pans, at least
PAN = (1.0, 2.0)  # units per second
ZOOM = (1.15, 1.35)  # per second, or its inverse


class Impossible(ValueError):
  """A scene could not be shown in any of many draws."""


@dataclasses.dataclass(frozen=True)
class Draw:
  """What scenes are drawn for.

  Attributes:
    name: key of sets.SETS.
    split: one of sets.SPLITS.
    stage: (height, width) that the frame shows at zoom 1, units.
    seconds: length of the clip.
    motion: the only one to draw, "" for all of the set.
  """

  name: str
  split: str
  stage: tuple[float, float]
  seconds: float
  motion: str = ""

  @property
  def rules(self) -> sets.Rules:
    """The set's."""
    return sets.SETS[self.name]

  @property
  def handwriting(self) -> str:
    """The split of the digits' images: all but "train" show others."""
    return "train" if self.split == "train" else "test"


def check(draw: Draw) -> None:
  """Tries every motion of a set, in shots of the least length.

  Raises:
    Impossible: for one that cannot be shown, naming it; else a set would
      silently become another one at such a length.
    ValueError: if so many shots do not fit.
  """
  count = _shots(draw)[1]
  seconds = draw.seconds / count * (1 if count == 1 else 1 - UNEVEN)
  for motion in draw.rules.motions if draw.seconds else ("rest",):
    rng = np.random.default_rng(0)
    scene(rng, dataclasses.replace(draw, seconds=seconds, motion=motion))


def shots(rng: np.random.Generator, draw: Draw, length: str, sound: bool):
  """The shots of a clip: tuple of Shot.

  Args:
    rng: generator of this clip.
    draw: what for.
    length: of captions, one of captions.LENGTHS.
    sound: whether captions may name sounds.

  Raises:
    Impossible: if a scene cannot be shown, in LAYOUTS layouts of a clip of
      several shots, naming the set.
    ValueError: if so many shots do not fit into the clip.
  """
  tries = LAYOUTS if draw.rules.shots[1] > 1 else 1
  for _ in range(tries - 1):
    try:
      return _drawn(rng, draw, length, sound)
    except Impossible:
      continue
  return _drawn(rng, draw, length, sound)


def _drawn(rng, draw: Draw, length: str, sound: bool) -> tuple[Shot, ...]:
  """A clip's shots, with cuts at new times."""
  low, high = _shots(draw)
  count = int(rng.integers(low, high + 1))
  # Cuts near equal shares, so that every shot is long enough to be seen.
  share = 1 + rng.uniform(-UNEVEN / 2, UNEVEN / 2, count)
  ends = np.cumsum(share / share.sum()) * draw.seconds
  starts = np.concatenate([[0.0], ends[:-1]])
  pick = captions.picker(rng, draw.split == "test_paraphrases")
  out: list[Shot] = []
  hero = None
  for start, end in zip(starts, ends):
    part = dataclasses.replace(draw, seconds=float(end - start))
    before = out[-1].scene.background if out else None
    made = scene(rng, part, hero, before)
    if made.bodies:
      hero = made.bodies[0]
    text = captions.write(made, length, pick, sound)
    out.append(Shot(float(start), made, text))
  return tuple(out)


def _shots(draw: Draw) -> tuple[int, int]:
  """(fewest, most) shots that a clip of this length has."""
  low, high = draw.rules.shots
  if not draw.seconds:
    return 1, 1
  fit = max(int(draw.seconds / SHORTEST), 1)
  if fit < low:
    raise ValueError(
      f"{low} shots of the set {draw.name!r} do not fit into "
      f"{draw.seconds:.2f} s: take {low * SHORTEST} s or more"
    )
  return low, min(high, fit)


def scene(
  rng: np.random.Generator,
  draw: Draw,
  hero: Body | None = None,
  before: Background | None = None,
) -> Scene:
  """One scene; with `hero`, its first body is that one, elsewhere than before.

  Raises:
    Impossible: if none can be shown after many draws.
  """
  for attempt in range(TRIES):
    # Kept for a while, or the hard ones would be rare.
    if attempt % PATIENCE == 0:
      motion = _choose(rng, draw.rules.motions) if draw.seconds else "rest"
      kind = _choose(rng, draw.rules.cameras) if draw.seconds else "still"
    found = _attempt(rng, draw, hero, draw.motion or motion, kind)
    if found is not None and (
      before is None or not _alike(found.background, before)
    ):
      return found
  raise Impossible(
    f"no scene {draw.motion!r} of the set {draw.name!r} (split "
    f"{draw.split!r}) can be shown in {draw.seconds:.2f} s: in {TRIES} draws "
    "something left the frame, overlapped or hardly moved. Take frames / fps "
    "of 1 to 3 seconds a shot"
  )


def _alike(a: Background, b: Background) -> bool:
  """Whether a cut between two backgrounds would be hard to see."""
  return a.kind == b.kind and abs(a.tones[0] - b.tones[0]) < 50


def _attempt(
  rng, draw: Draw, hero: Body | None, motion: str, kind: str
) -> Scene | None:
  rules = draw.rules
  ground = _background(rng, rules)
  low, high = rules.bodies
  count = int(rng.integers(low, high + 1))
  odd = _odd(rng, draw)
  bodies = [_body(rng, draw, odd) for _ in range(count)]
  if hero is not None:
    own = ("path", "spin", "growth", "becomes", "direction", "speed")
    fresh = {k: getattr(bodies[0], k) for k in own}
    bodies[0] = dataclasses.replace(hero, **fresh)
  if len({(b.colour, b.shape) for b in bodies}) < len(bodies):
    return None  # captions could not tell them apart
  room = motions.Room(
    half=(draw.stage[0] / 2, draw.stage[1] / 2),
    seconds=draw.seconds,
    speeds=_speeds(odd),
    elastic=rules.elastic,
  )
  play = motions.MOTIONS[motion](rng, bodies, room)
  if play is None:
    return None
  camera = _camera(rng, draw, play, kind)
  if camera is None or not _drifts(camera, play, draw.seconds):
    return None
  made = Scene(
    motion=motion,
    background=ground,
    camera=camera,
    seconds=draw.seconds,
    **{f.name: getattr(play, f.name) for f in dataclasses.fields(play)},
  )
  if not _belongs(made, draw) or not visible(made, draw.stage):
    return None
  return made


def _choose(rng, options):
  return options[rng.integers(len(options))]


def _odd(rng, draw: Draw) -> tuple[bool, bool]:
  """Whether (size, speed) are out of the training ranges."""
  if draw.split != "test_parameters":
    return (False, False)
  return ((True, False), (False, True), (True, True))[rng.integers(3)]


def _speeds(odd: tuple[bool, bool]):
  if not odd[1]:
    return tuple((word, *limits) for word, limits in SPEEDS.items())
  return tuple((word, *limits) for word, limits in zip(SPEEDS, HELD_OUT_SPEEDS))


def _body(rng, draw: Draw, odd: tuple[bool, bool]) -> Body:
  rules = draw.rules
  shape = _choose(rng, rules.shapes)
  ranges = HELD_OUT_SIZES if odd[0] else tuple(SIZES.values())
  limits = DIGIT_SIZES if shape == "digit" else _choose(rng, ranges)
  glyph, digit = -1, -1
  if shape == "digit":
    labels = digits.glyphs(draw.handwriting)[1]
    digit = int(rng.integers(10))
    glyph = int(_choose(rng, np.flatnonzero(labels == digit)))
  return Body(
    shape=shape,
    colour=_choose(rng, tuple(COLOURS)),
    radius=float(rng.uniform(*limits)),
    material=_choose(rng, rules.materials),
    path=Path.of((0.0, 0.0)),
    glyph=glyph,
    digit=digit,
  )


def _background(rng, rules: sets.Rules) -> Background:
  kind = _choose(rng, rules.backgrounds)
  seed = int(rng.integers(2**31))
  if kind == "plain":
    tone = TONES[_choose(rng, tuple(TONES))]
    return Background(kind, (tone, tone), seed)
  dark = int(rng.integers(60, 150))
  return Background(kind, (dark, dark + 50), seed)


def _camera(rng, draw: Draw, play: motions.Play, kind: str) -> Camera | None:
  if kind == "follow" and not any(b.direction for b in play.bodies):
    return None  # there is nothing to follow
  if kind in ("pan", "tilt"):
    words = ("left", "right") if kind == "pan" else ("up", "down")
    to, speed = DIRECTIONS[_choose(rng, words)], float(rng.uniform(*PAN))
    velocity = (to[0] * speed, to[1] * speed)
    middle = draw.seconds / 2  # it looks at the stage's middle half-way
    start = (-velocity[0] * middle, -velocity[1] * middle)
    return Camera(kind, start=start, velocity=velocity)
  if kind == "zoom":
    rate = float(rng.uniform(*ZOOM))
    return Camera(kind, rate=rate if rng.integers(2) else 1 / rate)
  if kind == "follow":
    return Camera(kind, follow=0)
  if kind == "shake":
    phase = tuple(float(p) for p in rng.uniform(0, 2 * np.pi, 2))
    return Camera(kind, shake=float(rng.uniform(*SHAKE)), phase=phase)
  return Camera()


def _drifts(camera: Camera, play: motions.Play, seconds: float) -> bool:
  """Whether bodies visibly move in a view that pans or tilts.

  One that moves along with the camera would make it look like one that follows.
  """
  if camera.kind not in ("pan", "tilt"):
    return True
  velocity = [
    b.path.velocity[0] - np.array(camera.velocity) for b in play.bodies
  ]
  return all(np.linalg.norm(v) * seconds > DRIFT for v in velocity)


def _belongs(made: Scene, draw: Draw) -> bool:
  """Whether the split may show these combinations of attributes.

  "test_combinations" shows only those that are held out, other splits none.
  """
  ground = captions.background(made)
  found = [
    sets.held_out(
      b.colour, b.shape, captions.size(b) or "small", made.motion, ground
    )
    for b in made.bodies or made.grains[:1]
  ]
  if draw.split == "test_combinations":
    return all(found)
  return not any(found)


def visible(made: Scene, stage: tuple[float, float]) -> bool:
  """Whether all captioned bodies stay in view and apart at all times."""
  times = np.linspace(0.0, made.seconds, LOOKS if made.seconds else 1)
  centre, zoom = camera_lib.view(made.camera, made, times)
  boxes = []
  for body in made.bodies:
    # Reach is of the largest radius; scale it to the radius of each time.
    largest = body.radius * max(1.0, body.growth)
    scale = radius_at(body, times, made.seconds) / largest
    up, down, left, right = (s * scale for s in motions.reach(body))
    place = body.path.at(times)[0]
    boxes.append(
      np.stack(
        [
          place[:, 0] - up,
          place[:, 0] + down,
          place[:, 1] - left,
          place[:, 1] + right,
        ],
        axis=1,
      )
    )
  half = np.array(stage) / 2
  for box in boxes:
    seen = (box - np.repeat(centre, 2, axis=1)) * zoom[:, None]
    if (np.abs(seen) > np.repeat(half, 2) - 0.05).any():
      return False
  if made.motion == "collision":  # these touch, and never overlap
    return True
  return not any(_crossing(a, b) for a, b in itertools.combinations(boxes, 2))


def _crossing(a: np.ndarray, b: np.ndarray) -> bool:
  """Whether two moving boxes [T, 4] ever come closer than a gap."""
  gap = 0.02 * UNITS
  apart = (
    (a[:, 1] + gap < b[:, 0])
    | (b[:, 1] + gap < a[:, 0])
    | (a[:, 3] + gap < b[:, 2])
    | (b[:, 3] + gap < a[:, 2])
  )
  return not apart.all()
