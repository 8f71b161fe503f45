"""What the tracks of a shot do, in the words of the world's captions.

Positions are taken to units with the camera's motion removed. Then the motions
are told apart by what only one of them has: grains, a new colour, a body that a
wall hides for a while; for what travels, the cheapest of four paths (a line;
lines with kinks at which bodies meet; falls with the world's gravity; an arc
around a pivot above); for what stays, how it turns and grows.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy

from sora_jax.data.world import camera, motions, nouns
from sora_jax.data.world.vocabulary import DIRECTIONS, SIZES, SPEEDS
from sora_jax.evaluators.oracle import pieces
from sora_jax.evaluators.oracle.nouns import NONE, Track, View

TRAVEL = 0.45  # units: less is no travel; the world's is motions.LEAST
TURN = 0.3  # radians: less is no turn; the world's is twice that
GROWTH = 1.25  # ratio of radii: less is no growth; the world's is 1.6
SAME = 1.5  # frames between two bodies' impacts that are one collision
ROD = (2.0, 7.0)  # lengths of a pendulum, units
JITTER = 0.3  # units squared: what is priced higher is no smooth path
REACH = 1.6  # touching bodies are nearer than this, sums of radii
SLOW, FAST = SPEEDS
SPEED = (SPEEDS[SLOW][1] + SPEEDS[FAST][0]) / 2  # units per second
SIZE = (SIZES["small"][1] + SIZES["large"][0]) / 2  # units


@dataclasses.dataclass(frozen=True)
class Moving:
  """What one track does.

  Attributes:
    times: float64 [n] seconds since the shot's start in which it is seen whole.
    position: float64 [n, 2] units, on the stage as the first frame shows it.
    velocity: float64 [n, 2] units per second.
    radius: float64 [n] of the disc of its area, units.
    direction: a key of vocabulary.DIRECTIONS, "clockwise", "counterclockwise",
      or NONE.
    speed: a key of vocabulary.SPEEDS for what travels in a line, else NONE.
    size: a key of vocabulary.SIZES by its size at first; NONE for a digit.
    grows: "grows", "shrinks" or NONE.
    rate: radians per second clockwise; nan where the shape does not tell.
  """

  times: np.ndarray
  position: np.ndarray
  velocity: np.ndarray
  radius: np.ndarray
  direction: str
  speed: str
  size: str
  grows: str
  rate: float


@dataclasses.dataclass(frozen=True)
class Motion:
  """What a shot shows.

  Attributes:
    kind: a key of motions.MOTIONS, NONE for what none of them explains.
    tracks: what each of the shot's tracks does.
    events: impacts by time; `bodies` index the tracks, times are seconds since
      the shot's start, positions are the middle between two bodies' centres or
      the one body's centre, and speeds are along the change of velocity.
  """

  kind: str
  tracks: tuple[Moving, ...]
  events: tuple[nouns.Event, ...]


@dataclasses.dataclass(frozen=True)
class _Seen:
  """A track in units: times [n], position [n, 2], radius [n], angle [n]."""

  times: np.ndarray
  position: np.ndarray
  radius: np.ndarray
  angle: np.ndarray


def classify(
  tracks: tuple[Track, ...],
  view: View,
  walls: np.ndarray,
  fps: float,
  grains: int = 0,
) -> Motion:
  """What the tracks of a shot do.

  Args:
    tracks: of the shot.
    view: of its camera.
    walls: bool [T, H, W] where walls are seen.
    fps: frames per second, > 0.
    grains: number of a fluid's grains.

  Raises:
    ValueError: if fps is not > 0.
  """
  if not fps > 0:
    raise ValueError(f"classify(fps={fps}): frames per second must be > 0.")
  seen = [_seen(t, view, *walls.shape[1:], fps) for t in tracks]
  straight = [pieces.cut(s.times, s.position, (0.0, 0.0)) for s in seen]
  falling = [
    pieces.cut(s.times, s.position, (motions.GRAVITY, 0.0)) for s in seen
  ]
  kind = _kind(tracks, seen, walls, straight, falling, grains)
  paths = falling if kind == "bounce" else straight
  if kind == "pendulum":
    paths = [_whole(s) for s in seen]
  if kind == "collision":
    events = _collisions(seen, paths, fps)
  elif kind == "bounce":
    events = _bounces(seen, paths)
  else:
    events = ()
  told = tuple(
    _moving(track, one, path, kind)
    for track, one, path in zip(tracks, seen, paths)
  )
  return Motion(kind=kind, tracks=told, events=events)


def _seen(track: Track, view: View, height, width, fps) -> _Seen:
  """The track in units, where it is seen whole (or at all, if never whole)."""
  keep = np.isfinite(track.area)
  if not keep.any():
    keep[:] = True
  frames = track.frames[keep]
  zoom = view.zoom[frames]
  position = camera.to_units(
    track.pixels[keep], view.centre[frames], zoom, height, width
  )
  scale = camera.per_unit(zoom, height, width)
  area = np.nan_to_num(track.area[keep], nan=0.0)
  return _Seen(
    times=frames / fps,
    position=position,
    radius=np.sqrt(area / np.pi) / scale,
    angle=track.angle[keep],
  )


def _kind(tracks, seen, walls, straight, falling, grains) -> str:
  """The shot's motion."""
  if grains:
    return "fluid"
  if not tracks:
    return NONE
  if any(track.becomes for track in tracks):
    return "recolour"
  if not any(_travels(s) for s in seen):
    if any(_turns(s) for s in seen):
      return "spin"
    return "grow" if any(_grown(s) for s in seen) else "rest"
  if any(_was_hidden(t, walls) for t in tracks):
    return "occlusion"
  costs = {
    "uniform": sum(_whole(s).cost for s in seen),
    "bounce": _sum(falling),
  }
  if len(seen) > 1:
    costs["collision"] = _sum(straight)
  if len(seen) == 1:
    costs["pendulum"] = _arc(seen[0])
  kind = min(costs, key=costs.get)
  # A fit that no path of the world comes near to is none of its motions.
  count = sum(len(s.times) for s in seen)
  limit = 0.005 * count + sum(
    3 * min(pieces.price(s.position), JITTER) for s in seen
  )
  return kind if costs[kind] < limit else NONE


def _sum(paths) -> float:
  """Cost of all paths; inf if one is so cut up that it would fit anything."""
  for path in paths:
    if len(path.spans) > 1 + path.spans[-1][1] // 4:
      return np.inf
  return sum(path.cost for path in paths)


def _travels(seen: _Seen) -> bool:
  return bool(np.ptp(_smooth(seen.position), 0).max() > TRAVEL)


def _smooth(x: np.ndarray) -> np.ndarray:
  """Means of neighbours, or x where there are too few."""
  return (x[:-2] + x[1:-1] + x[2:]) / 3 if len(x) > 6 else x


def _turns(seen: _Seen) -> bool:
  return len(seen.angle) > 1 and abs(_trend(seen.times, seen.angle)) > TURN


def _trend(times: np.ndarray, x: np.ndarray) -> float:
  """How much x rises on its line from the first to the last time, or nan."""
  if len(times) < 2 or not np.isfinite(x).all():
    return np.nan
  return float(np.polyfit(times, x, 1)[0] * (times[-1] - times[0]))


def _grown(seen: _Seen) -> float:
  """The logarithm of its growth where that is enough to see, else 0."""
  if len(seen.times) < 2 or not seen.radius.all():
    return 0.0
  rise = _trend(seen.times, np.log(seen.radius))
  return rise if abs(rise) > np.log(GROWTH) else 0.0


def _was_hidden(track: Track, walls: np.ndarray) -> bool:
  """Whether a wall hides it between frames in which it is seen whole.

  What is gone or smaller for a while where no wall is seen only flickers.
  """
  whole = np.isfinite(track.area)
  if not whole.any():
    return False
  known, places = track.frames[whole], track.pixels[whole]
  within = np.setdiff1d(np.arange(known[0], known[-1]), known)
  # What passes behind a wall goes straight on.
  y, x = (np.interp(within, known, side).astype(int) for side in places.T)
  return bool(walls[within, y, x].any())


def _whole(seen: _Seen) -> pieces.Pieces:
  """The path as a single straight piece."""
  return pieces.single(seen.times, seen.position, (0.0, 0.0))


def _arc(seen: _Seen) -> float:
  """Cost of the path as a swing on an arc around a pivot above it."""
  position = seen.position
  if len(position) < 5:
    return np.inf

  def miss(pivot):
    distance = np.linalg.norm(position - pivot[:2], axis=1)
    return distance - pivot[2]

  middle = position.mean(0)
  start = (middle[0] - 4.0, middle[1], 4.0)
  limits = (
    (middle[0] - 20.0, middle[1] - 20.0, ROD[0]),
    (middle[0] + 20.0, middle[1] + 20.0, ROD[1]),
  )
  found = scipy.optimize.least_squares(miss, start, bounds=limits)
  if found.x[0] > position[:, 0].min():
    return np.inf
  # Along the arc it must swing as the world's gravity makes it: nearly a sine,
  # slower the wider it swings (the period's first correction, by 1 + A^2 / 16).
  down, right = (position - found.x[:2]).T
  angle = np.arctan2(right, down)
  wide = 1 + np.abs(angle).max() ** 2 / 16
  phase = seen.times * np.sqrt(motions.GRAVITY / found.x[2]) / wide
  waves = np.stack([np.cos(phase), np.sin(phase)], 1)
  swing = found.x[2] * angle
  miss_swing = swing - waves @ np.linalg.lstsq(waves, swing, rcond=None)[0]
  error = 2 * found.cost + miss_swing @ miss_swing
  return float(error + 1.5 * pieces.price(position))


def _collisions(seen, paths, fps) -> tuple[nouns.Event, ...]:
  """Impacts of two bodies whose velocities change at the same time."""
  kinks = [
    (time, k, piece, change)
    for k, (s, path) in enumerate(zip(seen, paths))
    for time, piece, change in pieces.impacts(path, s.times)
  ]
  events = []
  for a, b in itertools.combinations(kinks, 2):
    if a[1] == b[1] or abs(a[0] - b[0]) * fps > SAME:
      continue
    time = float((a[0] * a[3] + b[0] * b[3]) / (a[3] + b[3]))
    places, turns = [], []
    for _, k, piece, _ in (a, b):
      before = paths[k].velocity(time, piece - 1)
      places.append(paths[k].offsets[piece - 1] + before * time)
      turns.append((before, paths[k].velocity(time, piece)))
    apart = places[1] - places[0]
    far = float(np.linalg.norm(apart))
    touch = sum(float(np.median(seen[k].radius)) for k in (a[1], b[1]))
    if not 0 < far < REACH * touch:
      continue
    closing = (turns[0][0] - turns[1][0]) @ apart / far
    if closing > 0:
      events.append(
        nouns.Event(
          time=time,
          kind="bodies",
          bodies=tuple(sorted((a[1], b[1]))),
          position=tuple(float(v) for v in (places[0] + places[1]) / 2),
          speed=float(closing),
        )
      )
  return nouns.merged(events)


def _bounces(seen, paths) -> tuple[nouns.Event, ...]:
  """Impacts on the floor: downwards before, and upwards after."""
  events = []
  for k, (s, path) in enumerate(zip(seen, paths)):
    for time, piece, _ in pieces.impacts(path, s.times):
      before = path.velocity(time, piece - 1)
      place = path.offsets[piece - 1] + path.slopes[piece - 1] * time
      place = place + path.acceleration * time**2 / 2
      if before[0] > 0:
        events.append(
          nouns.Event(
            time=time,
            kind="wall",
            bodies=(k,),
            position=tuple(float(v) for v in place),
            speed=float(before[0]),
          )
        )
  return nouns.merged(events)


def _moving(track: Track, seen: _Seen, path, kind: str) -> Moving:
  """What a track does, in a shot of this kind of motion."""
  velocity = pieces.velocities(path, seen.times, seen.position)
  first = path.velocity(seen.times[0], 0)
  direction, speed = NONE, NONE
  if kind in ("uniform", "occlusion") and _travels(seen):
    speed = SLOW if np.linalg.norm(first) < SPEED else FAST
    direction = max(DIRECTIONS, key=lambda w: float(first @ DIRECTIONS[w]))
  if kind == "spin" and _turns(seen):
    clockwise = _trend(seen.times, seen.angle) > 0
    direction = "clockwise" if clockwise else "counterclockwise"
  rise = _grown(seen)
  size = "small" if seen.radius[0] < SIZE else "large"
  span = seen.times[-1] - seen.times[0]
  return Moving(
    times=seen.times,
    position=seen.position,
    velocity=velocity,
    radius=seen.radius,
    direction=direction,
    speed=speed,
    size=NONE if track.shape == "digit" else size,
    grows=("grows" if rise > 0 else "shrinks") if rise else NONE,
    rate=_trend(seen.times, seen.angle) / span if span else np.nan,
  )
