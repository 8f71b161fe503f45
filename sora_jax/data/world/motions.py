"""What bodies do: the table MOTIONS, each entry a way to set a scene going.

An entry maps (rng, bodies, room) to a `Play`, or to None where this draw cannot
be shown: what leaves the frame, overlaps, or moves too little to be told from
rest. Who draws then draws again; nothing is clamped, so ranges stay what they
say they are, given that the scene can be seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from sora_jax.data.world import collide, fluid, pendulum
from sora_jax.data.world.nouns import Body, Event, Path, Rod, Wall
from sora_jax.data.world.vocabulary import (
  COLOURS,
  DIRECTIONS,
  MATERIALS,
  extents,
)

GRAVITY = 10.0  # units per second squared
MARGIN = 0.15  # units between a body and the frame's edge
LEAST = 0.7  # units: less travel than this is no motion that a caption names
TONE = 90  # of walls and rods
FLOOR = 0.5  # height of a floor, units


@dataclasses.dataclass(frozen=True)
class Room:
  """Where and for how long a scene plays.

  Attributes:
    half: half of the (height, width) that the camera shows, units.
    seconds: length of the shot; 0 for an image.
    speeds: named ranges of speeds that may be drawn, units per second.
    elastic: restitution is 1, whatever the material.
  """

  half: tuple[float, float]
  seconds: float
  speeds: tuple[tuple[str, float, float], ...]
  elastic: bool = False

  def restitution(self, body: Body) -> float:
    """Of a body's bounces."""
    return 1.0 if self.elastic else MATERIALS[body.material].restitution


@dataclasses.dataclass(frozen=True)
class Play:
  """What a motion makes of the bodies; see nouns.Scene."""

  bodies: tuple[Body, ...]
  walls: tuple[Wall, ...] = ()
  rods: tuple[Rod, ...] = ()
  grains: tuple[Body, ...] = ()
  events: tuple[Event, ...] = ()


def reach(body: Body) -> tuple[float, float, float, float]:
  """How far a body ever reaches from its centre (up, down, left, right)."""
  radius = body.radius * max(1.0, body.growth)
  up, down, left, right = extents(body.shape)
  if body.spin:
    up = down = left = right = max(math.hypot(up, left), math.hypot(down, left))
  return up * radius, down * radius, left * radius, right * radius


def _span(body: Body, room: Room, axis: int, travel: float = 0.0):
  """(low, high) of where a body may start on an axis, or None."""
  before, after = reach(body)[2 * axis : 2 * axis + 2]
  low = -room.half[axis] + MARGIN + before - min(travel, 0.0)
  high = room.half[axis] - MARGIN - after - max(travel, 0.0)
  return (low, high) if low < high else None


def _place(rng, body: Body, room: Room, travel=(0.0, 0.0)):
  """A start (y, x) from which a body that travels so far stays inside."""
  spans = [_span(body, room, axis, travel[axis]) for axis in (0, 1)]
  if None in spans:
    return None
  return tuple(float(rng.uniform(*span)) for span in spans)


def _moving(body: Body, path: Path, **changes) -> Body:
  return dataclasses.replace(body, path=path, **changes)


def _speed(rng, room: Room) -> tuple[str, float]:
  word, low, high = room.speeds[rng.integers(len(room.speeds))]
  return word, float(rng.uniform(low, high))


def rest(rng, bodies, room: Room) -> Play | None:
  """Nothing moves."""
  placed = []
  for body in bodies:
    start = _place(rng, body, room)
    if start is None:
      return None
    placed.append(_moving(body, Path.of(start)))
  return Play(tuple(placed))


def uniform(rng, bodies, room: Room) -> Play | None:
  """Each body moves along an axis of the frame at constant speed."""
  moved = []
  for body in bodies:
    word = list(DIRECTIONS)[rng.integers(len(DIRECTIONS))]
    name, speed = _speed(rng, room)
    velocity = tuple(speed * d for d in DIRECTIONS[word])
    if speed * room.seconds < LEAST:
      return None
    start = _place(rng, body, room, tuple(v * room.seconds for v in velocity))
    if start is None:
      return None
    path = Path.of(start, velocity)
    moved.append(_moving(body, path, direction=word, speed=name))
  return Play(tuple(moved))


def bounce(rng, bodies, room: Room) -> Play | None:
  """Bodies fall side by side, hit the floor and bounce."""
  floor = room.half[0] - FLOOR
  pucks = []
  for body in bodies:
    start = _place(rng, body, room)
    below = floor - reach(body)[1]  # where its centre is when it lies
    if start is None or start[0] > below - 2.0:  # too low to be seen falling
      return None
    fall = math.sqrt(2 * (below - start[0]) / GRAVITY)
    if fall > 0.7 * room.seconds:
      return None
    pucks.append(_puck(body, start, (0.0, 0.0), room.restitution(body)))
  box = ((-math.inf, -math.inf), (floor, math.inf))
  paths, events = collide.simulate(
    pucks, room.seconds, gravity=GRAVITY, box=box, collide=False
  )
  wall = Wall((floor + FLOOR, 0.0), (FLOOR, 2 * room.half[1]), TONE)
  moved = tuple(_moving(b, p) for b, p in zip(bodies, paths))
  return Play(moved, walls=(wall,), events=events)


def _puck(body: Body, start, velocity, restitution: float) -> collide.Puck:
  return collide.Puck(
    position=start,
    velocity=velocity,
    radius=body.radius,
    shape=body.shape,
    restitution=restitution,
  )


def collision(rng, bodies, room: Room) -> Play | None:
  """Two or more bodies meet: discs in the plane, other shapes on a line."""
  if len(bodies) < 2:
    return None
  plane = all(body.shape == "disc" for body in bodies)
  height = float(rng.uniform(-0.3, 0.3)) * room.half[0]
  meeting = (
    height,
    float(rng.uniform(-0.2, 0.2)) * room.half[1],
  )
  when = float(rng.uniform(0.3, 0.6)) * room.seconds
  # Pairs come from opposite sides; a third and a fourth cross their way.
  turn = float(rng.uniform(0, 2 * math.pi)) if plane else 0.0
  pucks = []
  for k, body in enumerate(bodies):
    _, speed = _speed(rng, room)
    angle = turn + math.pi * k + (math.pi / 2 if k > 1 else 0.0)
    if not plane and k > 1:
      return None
    away = (math.sin(angle), math.cos(angle)) if plane else (0.0, (-1.0) ** k)
    # So far out that it touches the meeting point at that time.
    gap = speed * when + body.radius
    miss = float(rng.uniform(-0.4, 0.4)) * body.radius if plane else 0.0
    start = (
      meeting[0] + gap * away[0] + miss * away[1],
      meeting[1] + gap * away[1] - miss * away[0],
    )
    velocity = (-speed * away[0], -speed * away[1])
    pucks.append(_puck(body, start, velocity, room.restitution(body)))
  if _overlap(bodies, [p.position for p in pucks]):
    return None
  paths, events = collide.simulate(pucks, room.seconds, line=not plane)
  struck = {i for event in events for i in event.bodies}
  if len(struck) < len(bodies):
    return None
  if not 0.15 < events[0].time / room.seconds < 0.75:
    return None
  moved = tuple(_moving(b, p) for b, p in zip(bodies, paths))
  return Play(moved, events=events)


def _overlap(bodies, places) -> bool:
  """Whether two bodies touch, by the circles around them."""
  for i, (a, p) in enumerate(zip(bodies, places)):
    for b, q in zip(bodies[:i], places[:i]):
      far = max(reach(a)) + max(reach(b))
      if math.hypot(p[0] - q[0], p[1] - q[1]) < far + MARGIN:
        return True
  return False


def swing(rng, bodies, room: Room) -> Play | None:
  """One body hangs on a rod and swings."""
  if len(bodies) != 1:
    return None
  body = bodies[0]
  length = float(rng.uniform(3.0, 5.0))
  pivot = (
    -room.half[0] + float(rng.uniform(0.3, 1.0)),
    float(rng.uniform(-0.2, 0.2)) * room.half[1],
  )
  angle = float(rng.uniform(0.5, 1.1)) * (1 if rng.integers(2) else -1)
  path = pendulum.pendulum(pivot, length, angle, GRAVITY, room.seconds)
  return Play((_moving(body, path),), rods=(Rod(pivot, 0, TONE),))


def spin(rng, bodies, room: Room) -> Play | None:
  """Bodies with corners turn on the spot."""
  turned = []
  for body in bodies:
    if body.shape not in ("square", "triangle", "star"):
      return None
    word = ("clockwise", "counterclockwise")[rng.integers(2)]
    # At 8 frames/s less than half of what looks the same again (a star's
    # 72 degrees), or the eye could not tell the direction.
    rate = float(rng.uniform(0.9, 1.8)) * (1 if word == "clockwise" else -1)
    if abs(rate) * room.seconds < 0.5:
      return None
    body = dataclasses.replace(body, spin=rate, direction=word)
    start = _place(rng, body, room)
    if start is None:
      return None
    turned.append(_moving(body, Path.of(start)))
  return Play(tuple(turned))


def grow(rng, bodies, room: Room) -> Play | None:
  """Bodies grow or shrink where they are."""
  return rest(
    rng,
    [
      dataclasses.replace(
        body,
        growth=float(rng.uniform(1.6, 2.0)) ** (1 if rng.integers(2) else -1),
      )
      for body in bodies
    ],
    room,
  )


def recolour(rng, bodies, room: Room) -> Play | None:
  """Bodies change their colour."""
  changed = []
  for body in bodies:
    others = [c for c in COLOURS if c != body.colour]
    other = others[rng.integers(len(others))]
    changed.append(dataclasses.replace(body, becomes=other))
  return rest(rng, changed, room)


def occlusion(rng, bodies, room: Room) -> Play | None:
  """One body passes behind a wall and comes out again."""
  if len(bodies) != 1:
    return None
  body = bodies[0]
  word = ("left", "right")[rng.integers(2)]
  name, speed = _speed(rng, room)
  velocity = tuple(speed * d for d in DIRECTIONS[word])
  travel = velocity[1] * room.seconds
  start = _place(rng, body, room, (0.0, travel))
  if start is None:
    return None
  broad = reach(body)[2] + reach(body)[3]
  half = float(rng.uniform(0.55, 0.8)) * broad  # hidden whole for a while
  if abs(travel) < 2 * half + 1.2 * broad:  # and seen before and after
    return None
  centre = start[1] + travel / 2
  wall = Wall((0.0, centre), (2 * room.half[0], half), TONE, front=True)
  moved = _moving(body, Path.of(start, velocity), direction=word, speed=name)
  return Play((moved,), walls=(wall,))


def heap(rng, bodies, room: Room) -> Play | None:
  """Many small discs fall into a vessel and settle, like a liquid."""
  if len(bodies) != 1 or room.seconds == 0:
    return None
  vessel = ((-room.half[0] + 0.5, -3.5), (room.half[0] - 1.0, 3.5))
  paths = fluid.settle(rng, 40, 0.4, vessel, room.seconds)
  (top, left), (bottom, right) = vessel
  middle, high = (top + bottom) / 2 + 1.5, (bottom - top) / 2 - 1.5
  thick = 0.2
  walls = (
    Wall((bottom + thick, 0.0), (thick, right + 2 * thick), TONE),
    Wall((middle + thick, left - thick), (high + thick, thick), TONE),
    Wall((middle + thick, right + thick), (high + thick, thick), TONE),
  )
  grain = dataclasses.replace(bodies[0], shape="disc", radius=0.4)
  grains = tuple(_moving(grain, path) for path in paths)
  return Play((), walls=walls, grains=grains)


MOTIONS: dict[str, Callable[..., Play | None]] = {
  "rest": rest,
  "uniform": uniform,
  "bounce": bounce,
  "collision": collision,
  "pendulum": swing,
  "spin": spin,
  "grow": grow,
  "recolour": recolour,
  "occlusion": occlusion,
  "fluid": heap,
}
