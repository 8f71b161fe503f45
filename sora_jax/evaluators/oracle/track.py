"""Coloured things through a shot: one track for each body.

Blobs of a frame are matched to tracks by where those should be now, by area
and by hue, at the least total cost (Kuhn 1955, "The Hungarian method").
A track without a blob waits, so what passes behind a wall or fades through grey
stays one thing. Two tracks of one hue that touch are one blob: it is cut across
the line between them where each side has its track's area. What is seen too
rarely to be a thing is debris.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy

from sora_jax.data.world import nouns
from sora_jax.data.world.vocabulary import COLOURS
from sora_jax.evaluators.oracle import segment, shape
from sora_jax.evaluators.oracle.nouns import NONE, Track
from sora_jax.evaluators.oracle.segment import Blob

GRAIN = 0.4  # radius of a fluid's disc, units
GRAINS = 8.0  # of one colour are a fluid, by their area
APART = 5  # of them seen one by one, at least
GATE = 3.5  # units: the furthest step; a bounce reverses a fall within one
AREA = 1.0  # units that a factor e in area costs, at most twice
HUE = 0.5  # units that another hue costs
HEAP = 24.0  # grains that have more area than any digit
LEAST = 0.3  # share of a shot's frames in which a thing is seen
DIP = 0.92  # share of its area: what is smaller for a while is partly hidden
STROKE = 0.8  # units between the parts of a digit, at most
RIGID = 0.3  # units by which they move against each other, at most
ONE = 1.3  # ratio by which their areas change against each other, at most
REST = 0.6  # share of a body's area: parts that have less are half hidden
TINY = 0.05  # units squared: what is smaller is a speck
COLOUR_NAMES = tuple(COLOURS)


@dataclasses.dataclass
class _Open:
  """A track that is being made: the frames and blobs so far."""

  frames: list[int]
  blobs: list[Blob]

  def place(self, frame: int) -> np.ndarray:
    """Where it would be at constant velocity, [2] pixels."""
    last = self.blobs[-1].pixels
    if len(self.frames) == 1:
      return last
    step = (last - self.blobs[-2].pixels) / (self.frames[-1] - self.frames[-2])
    return last + step * (frame - self.frames[-1])


def tracks(
  video: np.ndarray,
) -> tuple[tuple[Track, ...], int, str, np.ndarray]:
  """What moves through a shot.

  A track's area is nan in frames in which it is partly hidden: where the area
  is below both an earlier and a later one, or the frame's edge cuts it off. Its
  centre there is that of the part that is seen.

  Args:
    video: uint8 [T, H, W, 3] of one shot.

  Returns:
    tracks, the longest first; the number of grains and their colour (0 and
    NONE without a fluid); and debris, float64 [T]: the coloured area of each
    frame that none of them explains, as a share of that of the mean frame.

  Raises:
    ValueError: for a video of another shape or type.
  """
  if video.ndim != 4 or video.shape[-1] != 3 or not len(video):
    raise ValueError(
      f"Shot of shape {video.shape}: give uint8 [T, H, W, 3] with T >= 1."
    )
  if video.dtype != np.uint8:
    raise ValueError(f"Shot of type {video.dtype}: give uint8 [T, H, W, 3].")
  side = min(video.shape[1:3])
  unit = side / nouns.UNITS
  cover = segment.coverage(video)
  found = [segment.blobs(frame) for frame in cover]
  total = np.array([sum(b.area for b in frame) for frame in found])
  grains, hue = _grains(found, unit)
  if grains:
    found = [[b for b in frame if b.hue != hue] for frame in found]
    grown = np.array([sum(b.area for b in frame) for frame in found])
    kept = total - grown
  else:
    kept = np.zeros(len(video))
  least = 1 if len(video) == 1 else max(2, int(np.ceil(LEAST * len(video))))
  linked = _link(found, unit, video.shape[1:3])
  linked = _joined([t for t in linked if len(t.frames) >= least], side)
  for track in linked:
    kept[track.frames] += [b.area for b in track.blobs]
  made = [_track(track, len(video), side) for track in linked]
  made.sort(key=lambda t: -len(t.frames))
  # Of the mean frame, or the last speck before a wall would be all of its own.
  debris = np.maximum(total - kept, 0) / max(total.mean(), 1e-9)
  colour = COLOUR_NAMES[hue] if grains else NONE
  return tuple(made), grains, colour, debris


def _grains(found: list[list[Blob]], unit: float) -> tuple[int, int]:
  """Number of a fluid's grains and their hue; (0, -1) without a fluid.

  They are seen one by one, or as a heap that is no shape and too large for a
  digit.
  """
  grain = np.pi * (GRAIN * unit) ** 2
  for hue in range(len(COLOURS)):
    own = [[b for b in frame if b.hue == hue] for frame in found]
    areas = [[b.area / grain for b in frame] for frame in own]
    count = float(np.median([sum(a) for a in areas]))
    if count < GRAINS:
      continue
    single = max(sum(0.5 < a < 1.6 for a in frame) for frame in areas)
    if single >= APART:
      return round(count), hue
    largest = [max(frame, key=lambda b: b.area) for frame in own if frame]
    middle = largest[len(largest) // 2]
    if count > HEAP and shape.solid([middle])[2] > shape.POOR:
      return round(count), hue
  return 0, -1


def _link(found: list[list[Blob]], unit: float, size) -> list[_Open]:
  """All tracks through the blobs of every frame."""
  tracks: list[_Open] = []
  for frame, now in enumerate(found):
    now = _gathered([b for b in now if b.area > TINY * unit**2], tracks, unit)
    now = _parted(now, tracks, frame, size)
    cost = np.array([[_cost(t, b, frame, unit) for b in now] for t in tracks])
    taken = set()
    if cost.size:
      # What is too far is dearer than everything, and dropped below.
      rows, columns = scipy.optimize.linear_sum_assignment(
        np.minimum(cost, 1e3)
      )
      for i, j in zip(rows, columns):
        if np.isfinite(cost[i, j]):
          tracks[i].frames.append(frame)
          tracks[i].blobs.append(now[j])
          taken.add(j)
    tracks += [_Open([frame], [b]) for j, b in enumerate(now) if j not in taken]
  return tracks


def _cost(track: _Open, blob: Blob, frame: int, unit: float) -> float:
  """Units of distance that it costs to call a blob the track's next one."""
  wait = frame - track.frames[-1]
  far = min(
    np.linalg.norm(blob.pixels - place)
    for place in (track.place(frame), track.blobs[-1].pixels)
  )
  if far / unit > GATE * min(wait, 2):
    return np.inf
  ratio = abs(np.log(blob.area / _whole(track)))
  other = blob.hue != track.blobs[-1].hue
  # A short track is less of a promise than a long one.
  return far / unit + AREA * min(ratio, 2.0) + HUE * other + 0.02 * wait


def _whole(track: _Open) -> float:
  """Its area of late, not hidden: pixels squared."""
  return max(b.area for b in track.blobs[-3:])


def _gathered(now, tracks, unit: float) -> list[Blob]:
  """The blobs, with what a wall leaves to be seen of one body made one.

  Tips of a star that stand out on either side of it are neighbours of one hue,
  and much less than a body that was seen whole before. A torn body, whose parts
  are all there, is not mended.
  """
  for one, other in itertools.combinations(now, 2):
    least = (one.area + other.area) / REST
    if (
      one.hue == other.hue
      and _gap(one, other) < STROKE * unit
      and any(t.blobs[-1].hue == one.hue and _whole(t) > least for t in tracks)
    ):
      rest = [b for b in now if b is not one and b is not other]
      return _gathered([*rest, segment.union(one, other)], tracks, unit)
  return now


def _parted(now, tracks, frame, size) -> list[Blob]:
  """The blobs, with those that are several touching tracks cut apart."""
  out = []
  for blob in now:
    inside = [
      t
      for t in tracks
      if t.frames[-1] >= frame - 2
      and t.blobs[-1].hue == blob.hue
      and _near(t, blob, frame)
      and not any(_same(t, b) for b in now if b is not blob)
    ]
    whole = sum(_whole(t) for t in inside)
    if len(inside) > 1 and 0.75 < blob.area / whole < 1.35:
      out += _cut(blob, inside, size)
    else:
      out.append(blob)
  return out


def _near(track: _Open, blob: Blob, frame: int) -> bool:
  """Whether the blob lies where the track should be by now."""
  radius = np.sqrt(_whole(track) / np.pi)
  low = np.array(blob.corner)
  high = low + blob.cover.shape
  return any(
    bool(((p > low - radius) & (p < high + radius)).all())
    for p in (track.place(frame), track.blobs[-1].pixels)
  )


def _same(track: _Open, blob: Blob) -> bool:
  """Whether another blob is by itself all that the track is."""
  last = track.blobs[-1]
  near = np.linalg.norm(blob.pixels - last.pixels) < 2 * np.sqrt(last.area)
  return (
    near and blob.hue == last.hue and 0.8 < blob.area / _whole(track) < 1.25
  )


def _cut(blob: Blob, inside: list[_Open], size) -> list[Blob]:
  """A blob cut across the line along which its tracks lie, by their areas."""
  places = np.array([t.blobs[-1].pixels for t in inside])
  axis = places[-1] - places[0]
  axis = axis / max(np.linalg.norm(axis), 1e-9)
  order = np.argsort(places @ axis)
  share = np.cumsum([_whole(inside[k]) for k in order])
  share = np.concatenate([[0.0], share / share[-1]]) * blob.area
  y, x = np.indices(blob.cover.shape)
  line = (y * axis[0] + x * axis[1]).ravel()
  rank = np.argsort(line, kind="stable")
  mass = np.zeros(line.size)
  mass[rank] = np.cumsum(blob.cover.ravel()[rank])  # up to and with the pixel
  mass = mass.reshape(blob.cover.shape)
  parts = []
  for low, high in itertools.pairwise(share):
    # A pixel on the cut belongs to both sides, each by its share.
    part = np.clip(mass, low, high) - np.clip(mass - blob.cover, low, high)
    parts.append(segment.blob(blob.hue, part, blob.corner, size))
  return parts


def _joined(tracks: list[_Open], side: int) -> list[_Open]:
  """The tracks, with the parts of a digit that do not touch made one."""
  out: list[_Open] = []
  for track in tracks:
    for k, other in enumerate(out):
      both = _together(track, other, side / nouns.UNITS)
      if both and shape.read(both.blobs, side)[0] == "digit":
        out[k] = both
        break
    else:
      out.append(track)
  return out


def _together(one: _Open, other: _Open, unit: float) -> _Open | None:
  """Two tracks as one, or None if they do not keep close side by side."""
  shared = sorted(set(one.frames) & set(other.frames))
  if len(shared) < 0.8 * max(len(one.frames), len(other.frames)):
    return None
  pairs = [
    tuple(t.blobs[t.frames.index(frame)] for t in (one, other))
    for frame in shared
  ]
  if any(a.hue != b.hue or _gap(a, b) > STROKE * unit for a, b in pairs):
    return None
  apart = np.array([a.pixels - b.pixels for a, b in pairs])
  ratio = np.array([a.area / b.area for a, b in pairs])
  if np.ptp(apart, 0).max() > RIGID * unit or np.ptp(np.log(ratio)) > np.log(
    ONE
  ):
    return None
  return _Open(shared, [segment.union(a, b) for a, b in pairs])


def _gap(a: Blob, b: Blob) -> float:
  """Pixels between the boxes of two blobs, on the axis where they are apart."""
  low = np.maximum(a.corner, b.corner)
  ends = (np.array(c.corner) + c.cover.shape for c in (a, b))
  return float((low - np.minimum(*ends)).max())


def _track(track: _Open, count: int, side: int) -> Track:
  """What a track's blobs in a shot of `count` frames are together."""
  blobs = track.blobs
  hidden = _hidden(track)
  colour, becomes = _colours(track)
  if becomes:  # in between its chroma is not that of any colour
    hidden |= np.abs(np.array(track.frames) / (count - 1) - 0.5) < 1 / 6
  seen = [b for b, h in zip(blobs, hidden) if not h] or blobs
  kind, digit, look, residual = shape.read(seen, side)
  poses = shape.poses(blobs, kind, look)
  area = np.array([pose.area for pose in poses])
  area[hidden] = np.nan
  pixels = np.array(
    [b.pixels if h else pose.pixels for b, h, pose in zip(blobs, hidden, poses)]
  )
  return Track(
    frames=np.array(track.frames, np.int64),
    pixels=pixels,
    area=area,
    colour=colour,
    becomes=becomes,
    shape=kind,
    digit=digit,
    angle=shape.turns(poses, kind, look),
    fit=residual,
  )


def _hidden(track: _Open) -> np.ndarray:
  """In which frames it is partly hidden, bool [n]."""
  frames = np.array(track.frames)
  area = np.zeros(frames[-1] - frames[0] + 1)  # 0 where it is not seen at all
  area[frames - frames[0]] = [b.area for b in track.blobs]
  before = np.maximum.accumulate(area)
  after = np.maximum.accumulate(area[::-1])[::-1]
  dips = area < DIP * np.minimum(before, after)
  cut = np.array([b.outside for b in track.blobs])
  return dips[frames - frames[0]] | cut


def _colours(track: _Open) -> tuple[str, str]:
  """The hue of a track's first and of its last third, NONE if the same."""
  count = max(1, len(track.blobs) // 3)
  ends = [
    np.bincount([b.hue for b in part], weights=[b.area for b in part]).argmax()
    for part in (track.blobs[:count], track.blobs[-count:])
  ]
  first, last = (COLOUR_NAMES[k] for k in ends)
  return first, last if last != first else NONE
