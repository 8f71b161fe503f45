"""Exact impacts of a few bodies by event-driven dynamics.

Between impacts every body flies on a parabola, so the time of the next impact
is the root of a polynomial and nothing is time-stepped (Alder & Wainwright
1959, "Studies in molecular dynamics"):

  wall     q + v s + a s^2 / 2 = edge, the earliest root that leaves the box;
  discs    |d + u s|^2 = (r + r')^2: all fall alike, so they close in steadily;
  resting  |d + u s + w s^2 / 2|^2 = (r + r')^2: only one of the two falls.

An impact with closing speed c along the normal n and restitution e gives both
bodies the impulse j n with j = (1 + e) c / (1/m + 1/m'). Bodies neither turn
nor rub. Floats only see + - * / and sqrt, which round alike everywhere, since
the chaos of collisions would amplify a last bit.

It is made for bodies that fly and meet. A pile under gravity may take more than
`LIMIT` impacts, which is an error; two exceptions make that rare:

  rest       a bounce off the floor slower than `REST` does not happen: the body
             slides on along the floor, which from then on also bears what falls
             on it, so that it only gives way sideways or upwards.
  sustained  a pair that meets again within `SUSTAINED`, slower than `REST`,
             does so elastically (Luding & McNamara 1998, "How to handle the
             inelastic collapse of a dissipative hard-sphere gas with the TC
             model"), and hops on a body at rest last `HOP` or longer. Under a
             gravity of 10 they are a thousandth of a unit high.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from sora_jax.data.world import contact, nouns, vocabulary

REST = 0.15  # least speed of a bounce off the floor, units per second
SUSTAINED = 0.03  # seconds
HOP = 0.01  # seconds
CREEP = 0.02  # least speed of an event, and of a bounce at restitution 1
SLACK = 1e-9  # overlap, in units, that passes for touching
MOST = 8  # bodies
LIMIT = 2000  # impacts, of all kinds

Edges = tuple[float, float, float, float]  # top, left, bottom, right
_TOP, _LEFT, _BOTTOM, _RIGHT = range(4)


@dataclasses.dataclass(frozen=True)
class Puck:
  """A body that slides, falls and bounces, upright; its mass is radius^2.

  Attributes:
    position: (y, x) of the centre of mass at time 0, units.
    velocity: (y, x) at time 0, units per second.
    radius: of the disc that has its area, units, > 0.
    shape: a key of vocabulary.SHAPES.
    restitution: of a bounce, 0..1; of a collision, the smaller of the two.
  """

  position: tuple[float, float]
  velocity: tuple[float, float]
  radius: float
  shape: str = "disc"
  restitution: float = 1.0


def simulate(
  bodies: Sequence[Puck],
  seconds: float,
  gravity: float = 0.0,
  box: Sequence[Sequence[float | None]] | None = None,
  collide: bool = True,
  line: bool = False,
) -> tuple[tuple[nouns.Path, ...], tuple[nouns.Event, ...]]:
  """The paths of bodies that bounce and collide, exact at any time.

  Args:
    bodies: 1..8, inside the box and apart from each other (touching is fine).
    seconds: how long, > 0. Paths go on beyond it as if nothing were hit.
    gravity: downwards on all bodies, units per second squared, >= 0.
    box: walls ((top, left), (bottom, right)), units; None or infinite for a
      side without one.
    collide: bodies hit each other; else they pass through each other.
    line: bodies, of any shape, only move along x and push along x, from when
      their upright outlines touch; else only discs collide.

  Returns:
    A path per body, with a new piece at each of its impacts, and the impacts in
    the order of time; of simultaneous ones the lowest indices come first.
    Impacts slower than `CREEP`, and sustained ones, change the path but are no
    events.

  Raises:
    ValueError: for bodies that overlap, stick out of the box, leave their line
      or are no discs but would collide in two dimensions; for a radius,
      duration, gravity, restitution or shape that is out of range; for a pile
      that comes to more than `LIMIT` impacts.
  """
  edges = _edges(box)
  _check_world(bodies, seconds, gravity)
  for index, body in enumerate(bodies):
    _check_body(index, body, edges)
  if line:
    _check_line(bodies, gravity)
  elif collide:
    _check_discs(bodies)
  world = _World(bodies, float(seconds), float(gravity), edges, line)
  if collide:
    world.pair_up()
  events = world.run()
  return tuple(body.path() for body in world.bodies), events


class _Body:
  """A body's current piece of path: its state at `time`, and all before."""

  def __init__(self, puck: Puck, pull: float):
    self.y, self.x = map(float, puck.position)
    self.vy, self.vx = map(float, puck.velocity)
    self.pull, self.time = pull, 0.0
    self.resting = False
    self.radius = float(puck.radius)
    self.mass = self.radius * self.radius
    self.restitution = float(puck.restitution)
    self.reach = _reach(puck)
    self.outline = puck.shape, self.radius
    self.pieces: list[tuple[float, ...]] = []
    self.record()

  def record(self) -> None:
    # Of several impacts at one time only what comes out of them has a duration.
    if self.pieces and self.pieces[-1][0] == self.time:
      self.pieces.pop()
    state = (self.time, self.y, self.x, self.vy, self.vx, self.pull)
    self.pieces.append(state)

  def at(self, time: float) -> tuple[float, float, float, float]:
    """Position (y, x) and velocity (y, x)."""
    s = time - self.time
    y = self.y + self.vy * s + self.pull * s * s / 2
    return y, self.x + self.vx * s, self.vy + self.pull * s, self.vx

  def advance(self, time: float) -> None:
    self.y, self.x, self.vy, self.vx = self.at(time)
    self.time = time

  def path(self) -> nouns.Path:
    table = np.array(self.pieces)  # [S, 6]
    fall = np.zeros((len(table), 2))
    fall[:, 0] = table[:, 5]
    return nouns.Path(
      table[:, 0].copy(), table[:, 1:3].copy(), table[:, 3:5].copy(), fall
    )


class _World:
  """The bodies, and when each next hits a wall (i,) or another one (i, j)."""

  def __init__(
    self,
    pucks: Sequence[Puck],
    seconds: float,
    gravity: float,
    edges: Edges,
    line: bool,
  ):
    self.bodies = [_Body(puck, gravity) for puck in pucks]
    self.seconds, self.gravity = seconds, gravity
    self.edges, self.line = edges, line
    self.due: dict[tuple[int, ...], float] = {}
    self.side = [0] * len(pucks)  # that (i,) is due to hit
    # Of a pair: the centres' distance at contact, and on a line its row y.
    self.touch: dict[tuple[int, int], tuple[float, float]] = {}
    self.last: dict[tuple[int, ...], float] = {}  # when a pair last met
    self.events: list[nouns.Event] = []
    for index in range(len(pucks)):
      self._next_wall(index)

  def pair_up(self) -> None:
    """Lets bodies collide; ValueError for those that overlap."""
    for i, j in itertools.combinations(range(len(self.bodies)), 2):
      a, b = self.bodies[i], self.bodies[j]
      dy, dx = b.y - a.y, b.x - a.x
      if self.line:
        distance, row = contact.outlines(a.outline, b.outline, dy)
        gap, row = abs(dx) - distance, row + a.y
      else:
        distance, row = a.radius + b.radius, 0.0
        gap = math.sqrt(dy * dy + dx * dx) - distance
      if gap < -SLACK:
        raise ValueError(
          f"Bodies {i} and {j} overlap by {-gap:.3g} units at the start; move "
          "them apart."
        )
      if gap < math.inf:  # else they pass above each other
        self.touch[i, j] = distance, row
        self._next_meeting(i, j, 0.0)

  def run(self) -> tuple[nouns.Event, ...]:
    now = 0.0
    for _ in range(LIMIT):
      time, who = min((time, who) for who, time in self.due.items())
      if time > self.seconds:
        return tuple(self.events)
      now = max(now, time)
      for index in who:
        self.bodies[index].advance(now)
      if len(who) == 1:
        self._bounce(who[0], now)
      else:
        self._impact(*who, now)
      for index in who:
        self.bodies[index].record()
        self._next_wall(index)
      for pair in self.touch:
        if pair[0] in who or pair[1] in who:
          self._next_meeting(*pair, now)
    raise ValueError(
      f"{LIMIT} impacts by {now:.3f} of {self.seconds} seconds: the bodies "
      "pile up or rattle; use fewer, a larger box or collide=False."
    )

  def _next_wall(self, index: int) -> None:
    """Finds the wall that a body hits next, from the start of its piece."""
    b, e = self.bodies[index], self.edges
    flights = (
      contact.wall(b.y - b.reach[_TOP] - e[_TOP], -b.vy, -b.pull),
      contact.wall(b.x - b.reach[_LEFT] - e[_LEFT], -b.vx, 0.0),
      contact.wall(e[_BOTTOM] - b.reach[_BOTTOM] - b.y, b.vy, b.pull),
      contact.wall(e[_RIGHT] - b.reach[_RIGHT] - b.x, b.vx, 0.0),
    )
    soonest = min(flights)
    self.side[index] = flights.index(soonest)
    self.due[index,] = b.time + soonest

  def _next_meeting(self, i: int, j: int, now: float) -> None:
    """Finds when two bodies collide next, if nothing else happens."""
    a, b = self.bodies[i], self.bodies[j]
    ay, ax, avy, avx = a.at(now)
    by, bx, bvy, bvx = b.at(now)
    dx, ux = bx - ax, bvx - avx
    dy, uy = (0.0, 0.0) if self.line else (by - ay, bvy - avy)
    distance, _ = self.touch[i, j]
    if a.pull != b.pull:
      left = self.seconds - now
      fall = b.pull - a.pull
      s = contact.falling_discs((dy, dx), (uy, ux), fall, distance, left)
    else:
      s = contact.discs((dy, dx), (uy, ux), distance)
    self.due[i, j] = now + s

  def _again(self, key: tuple[int, ...], now: float) -> bool:
    """Whether the two met just before; notes that they meet now."""
    before, self.last[key] = self.last.setdefault(key, -math.inf), now
    return now - before < SUSTAINED

  def _report(self, time, kind, bodies, position, speed, sustained) -> None:
    if speed >= CREEP and not sustained:
      self.events.append(nouns.Event(time, kind, bodies, position, speed))

  def _bounce(self, index: int, now: float) -> None:
    """Reflects a body off the wall that it is due to hit."""
    b, side = self.bodies[index], self.side[index]
    level = side in (_TOP, _BOTTOM)
    sign = 1.0 if side in (_BOTTOM, _RIGHT) else -1.0
    speed = sign * (b.vy if level else b.vx)
    wall = self.edges[side]
    floor = side == _BOTTOM and self.gravity > 0
    again = self._again((index, -1 - side), now) and speed < REST and not floor
    rebound = (1.0 if again else b.restitution) * speed
    if floor and rebound < (REST if b.restitution < 1 else CREEP):
      rebound, b.resting, b.pull = 0.0, True, 0.0
    if level:
      b.y, b.vy = wall - sign * b.reach[side], -sign * rebound
      place = (wall, b.x)
    else:
      b.x, b.vx = wall - sign * b.reach[side], -sign * rebound
      # Where it would touch its own copy, it is widest.
      place = (b.y + contact.outlines(b.outline, b.outline, 0.0)[1], wall)
    self._report(now, "wall", (index,), place, speed, again)

  def _impact(self, i: int, j: int, now: float) -> None:
    """Exchanges the impulse of two bodies that touch."""
    a, b = self.bodies[i], self.bodies[j]
    dy, dx = (0.0 if self.line else b.y - a.y), b.x - a.x
    distance = math.sqrt(dy * dy + dx * dx)
    ny, nx = dy / distance, dx / distance
    closing = (a.vy - b.vy) * ny + (a.vx - b.vx) * nx
    again = self._again((i, j), now) and closing < REST
    restitution = 1.0 if again else min(a.restitution, b.restitution)
    rebound = restitution * closing
    if a.pull != b.pull:
      rebound = max(rebound, HOP * self.gravity / 2)
    # What the floor bears cannot be pushed down.
    fixed_a, fixed_b = a.resting and ny < 0, b.resting and ny > 0
    give_a = (nx * nx if fixed_a else 1.0) / a.mass
    give_b = (nx * nx if fixed_b else 1.0) / b.mass
    impulse = (closing + rebound) / (give_a + give_b)
    for body, push, fixed in ((a, -impulse, fixed_a), (b, impulse, fixed_b)):
      body.vx += push * nx / body.mass
      if not fixed:
        body.vy += push * ny / body.mass
      if body.resting and body.vy != 0:
        body.resting, body.pull = False, self.gravity
    place = a.y + a.radius * ny, a.x + a.radius * nx
    if self.line:
      row = self.touch[i, j][1]
      place = row, a.x + nx * contact.half_width(a.outline, row - a.y)
    self._report(now, "bodies", (i, j), place, closing, again)


def _reach(puck: Puck) -> tuple[float, ...]:
  """How far the body reaches to the top, left, bottom and right, units."""
  up, down, left, right = vocabulary.extents(puck.shape)
  return tuple(float(puck.radius) * k for k in (up, left, down, right))


def _edges(box: Sequence[Sequence[float | None]] | None) -> Edges:
  (top, left), (bottom, right) = box or ((None, None), (None, None))
  low = [-math.inf if edge is None else float(edge) for edge in (top, left)]
  high = [math.inf if edge is None else float(edge) for edge in (bottom, right)]
  return low[0], low[1], high[0], high[1]


def _check_world(
  bodies: Sequence[Puck], seconds: float, gravity: float
) -> None:
  if not 1 <= len(bodies) <= MOST:
    raise ValueError(f"{len(bodies)} bodies; valid are 1..{MOST}.")
  if not 0 < seconds < math.inf:
    raise ValueError(f"seconds={seconds}: it must be > 0 and finite.")
  if not 0 <= gravity < math.inf:
    raise ValueError(
      f"gravity={gravity}: it pulls down, so it must be >= 0 and finite."
    )


def _check_body(index: int, body: Puck, edges: Edges) -> None:
  where = f"Body {index}"
  if body.shape not in vocabulary.SHAPES:
    shapes = ", ".join(vocabulary.SHAPES)
    raise ValueError(
      f"{where} has the shape {body.shape!r}; use one of {shapes}."
    )
  if not 0 < body.radius < math.inf:
    raise ValueError(f"{where} has radius={body.radius}; it must be > 0.")
  if not 0 <= body.restitution <= 1:
    raise ValueError(
      f"{where} has restitution={body.restitution}; valid are 0..1."
    )
  if not all(map(math.isfinite, (*body.position, *body.velocity))):
    raise ValueError(
      f"{where} is at {body.position} with the velocity {body.velocity}; both "
      "must be finite."
    )
  y, x = body.position
  up, left, down, right = _reach(body)
  for name, out in zip(
    ("top", "left", "bottom", "right"),
    (
      edges[_TOP] - (y - up),
      edges[_LEFT] - (x - left),
      y + down - edges[_BOTTOM],
      x + right - edges[_RIGHT],
    ),
  ):
    if out > SLACK:
      raise ValueError(
        f"{where} sticks out of the box's {name} by {out:.3g} units; move it "
        "in, shrink it or enlarge the box."
      )


def _check_line(bodies: Sequence[Puck], gravity: float) -> None:
  for index, body in enumerate(bodies):
    if body.velocity[0] != 0 or gravity != 0:
      raise ValueError(
        f"Body {index} leaves its line (velocity {body.velocity}, gravity "
        f"{gravity}); with line=True nothing may move along y."
      )


def _check_discs(bodies: Sequence[Puck]) -> None:
  for index, body in enumerate(bodies):
    if len(bodies) > 1 and body.shape != "disc":
      raise ValueError(
        f"Body {index} is a {body.shape}, and only discs collide in two "
        "dimensions; use discs, line=True or collide=False."
      )
