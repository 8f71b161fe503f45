"""Scenes to pictures: anti-aliased, at any size and at any times.

Painted from back to front: the background, walls, rods, grains, bodies in
their order, walls in front. Each layer is blended by what it covers of every
pixel, picture + cover * (colour - picture); all but the bodies is grey, so
blending changes the saturation of a body's edge and never its hue.

A frame depends on its own time alone, so a faster frame rate adds frames and
changes none. Where the camera is still, what stands still is painted once, and
a body is evaluated on a window around it that is as large in every frame.
"""

from __future__ import annotations

import itertools

import numpy as np

from sora_jax.data.world import background as backgrounds
from sora_jax.data.world import camera as cameras
from sora_jax.data.world import moments, nouns, shapes, vocabulary

LEAST = 8  # pixels of a side
ROD = 0.06  # half of a rod's thickness, units


def render(
  scene: nouns.Scene,
  times: np.ndarray,
  height: int,
  width: int,
  glyphs: np.ndarray | None = None,
) -> np.ndarray:
  """The frames of a scene, uint8 [T, H, W, 3].

  Args:
    scene: what to show.
    times: [T] seconds from the scene's start, T >= 1.
    height: H, pixels, >= 8.
    width: W, pixels, >= 8.
    glyphs: [n, GRID, GRID] ink in [0, 1] that the digits' `glyph` index.

  Raises:
    ValueError: for no times, a side below 8 pixels, a digit that is not in
      `glyphs` or turns, a rod without its body, and unknown words.
  """
  times = np.asarray(times, np.float64)
  _check(scene, times, height, width, glyphs)
  centre, zoom = cameras.view(scene.camera, scene, times)
  frame = _Frame(centre, zoom, height, width)
  plane = _backdrop(scene, frame)  # [T or 1, H, W]
  if scene.rods:
    plane = np.array(np.broadcast_to(plane, (len(times), height, width)))
    for rod in scene.rods:
      _rod(plane, rod, scene.bodies[rod.body], frame, times)
  picture = np.empty((3, len(times), height, width), np.float32)
  picture[:] = plane
  for _, alike in itertools.groupby((*scene.grains, *scene.bodies), _group):
    _bodies(picture, list(alike), scene.seconds, frame, times, glyphs)
  for wall in scene.walls:
    if wall.front:
      _wall(picture, wall, frame)
  picture += np.float32(0.5)  # to the nearest
  video = np.empty((len(times), height, width, 3), np.uint8)
  for channel in range(3):
    video[..., channel] = picture[channel]
  return video


class _Frame:
  """The view and the frame's size: everything that places things on it."""

  def __init__(self, centre, zoom, height, width):
    self.centre, self.zoom = centre, zoom
    self.height, self.width = height, width
    self.scale = cameras.per_unit(zoom, height, width)  # [T], pixels per unit
    self.still = not (np.ptp(centre, 0).any() or np.ptp(zoom))

  def first(self):
    """Of the first frame alone."""
    return _Frame(self.centre[:1], self.zoom[:1], self.height, self.width)

  def place(self, points):
    """Pixels [T, 2] of points [T or 1, 2]."""
    return cameras.to_pixels(
      points, self.centre, self.zoom, self.height, self.width
    )


def _check(scene, times, height, width, glyphs):
  for name, value in (("height", height), ("width", width)):
    if value < LEAST:
      raise ValueError(
        f"render({name}={value}): a frame has at least {LEAST} pixels "
        "on a side."
      )
  if times.ndim != 1 or not len(times):
    raise ValueError(
      f"render(times of shape {times.shape}): give the times of one frame or "
      "more, [T] with T >= 1."
    )
  for body in (*scene.grains, *scene.bodies):
    for what, word, table in (
      ("shape", body.shape, vocabulary.SHAPES),
      ("material", body.material, vocabulary.MATERIALS),
    ):
      if word not in table:
        raise ValueError(
          f"No {what} {word!r} in the world; use {', '.join(table)}."
        )
    if body.shape == "digit":
      _check_digit(body, 0 if glyphs is None else len(glyphs))
  for rod in scene.rods:
    if not 0 <= rod.body < len(scene.bodies):
      raise ValueError(
        f"Rod(body={rod.body}) in a scene of {len(scene.bodies)} bodies: use "
        "the index of one of them."
      )


def _check_digit(body, count):
  if not 0 <= body.glyph < count:
    raise ValueError(
      f"Body(shape='digit', glyph={body.glyph}) with {count} glyphs: give "
      "render the glyphs of its split, and an index into them."
    )
  if body.angle or body.spin:
    raise ValueError(
      f"Body(shape='digit', angle={body.angle}, spin={body.spin}): digits are "
      "drawn upright; use 0 for both."
    )


def _backdrop(scene, frame):
  """Background and the walls behind, float32 [T, H, W]; [1, H, W] if still."""
  if frame.still:
    frame = frame.first()
  y, x, pixel = cameras.axes(
    frame.centre, frame.zoom, frame.height, frame.width
  )
  plane = backgrounds.grey(scene.background, y, x, pixel)
  for wall in scene.walls:
    if not wall.front:
      _wall(plane, wall, frame)
  return plane


def _wall(picture, wall, frame):
  """Blends a rectangle into [..., T, H, W]: each pixel's exact share."""
  if frame.still:
    frame = frame.first()
  centre, half = np.array([wall.centre]), np.array([wall.half])
  low, high = frame.place(centre - half), frame.place(centre + half)  # [T, 2]
  shares, spans = [], []
  for axis, side in enumerate((frame.height, frame.width)):
    left = np.arange(side)
    inside = np.minimum(high[:, axis, None], left + 1)
    inside -= np.maximum(low[:, axis, None], left)
    np.clip(inside, 0, 1, out=inside)
    touched = np.flatnonzero(inside.any(0))
    if not len(touched):
      return
    spans.append(slice(touched[0], touched[-1] + 1))
    shares.append(inside[:, spans[-1]].astype(np.float32))
  cover = shares[0][:, :, None] * shares[1][:, None, :]
  part = picture[..., spans[0], spans[1]]
  part += cover * (np.float32(wall.tone) - part)


def _rod(plane, rod, body, frame, times):
  """Blends a line from the pivot to the body's centre into [T, H, W]."""
  start = frame.place(np.array([rod.pivot]))  # [T, 2]
  end = frame.place(body.path.at(times)[0])
  half = ROD * frame.scale
  reach = half.max() + 2
  ends = np.concatenate([start, end])
  low = np.maximum(np.floor(ends.min(0) - reach), 0).astype(int)
  high = np.maximum(np.ceil(ends.max(0) + reach), 0).astype(int)
  part = plane[:, low[0] : high[0], low[1] : high[1]]
  if not part.size:
    return
  y, x = (
    np.arange(low[k], low[k] + part.shape[1 + k]) + 0.5 - start[:, k, None]
    for k in (0, 1)
  )
  cover = shapes.line_cover(y, x, end - start, half)
  part += cover * (np.float32(rod.tone) - part)


def _group(body):
  """What bodies have in common that are drawn in one go."""
  return body.shape, body.material, body.glyph


def _bodies(picture, bodies, seconds, frame, times, glyphs):
  """Blends bodies of one `_group` into [3, T, H, W], in their order."""
  shape, material, glyph = _group(bodies[0])
  places = [frame.place(b.path.at(times)[0]) for b in bodies]
  places = np.concatenate(places)  # [n, 2], of every body at every time
  radius = [moments.radius(b, times, seconds) * frame.scale for b in bodies]
  radius = np.concatenate(radius)
  reach = shapes.reach(shape, max(radius.max(), 1.0))
  size = np.array([frame.height, frame.width])
  seen = ((places > -reach) & (places < size + reach)).all(1)
  if not seen.any():
    return
  places, radius = places[seen], radius[seen]
  angle = np.concatenate([moments.angle(b, times) for b in bodies])[seen]
  colour = [moments.colour(b, times, seconds) for b in bodies]
  colour = np.concatenate(colour)[seen].astype(np.float32)
  window = np.minimum(int(np.ceil(2 * reach)) + 1, size)
  corner = np.clip(np.floor(places - reach).astype(int), 0, size - window)
  y, x = (
    np.arange(window[k]) + 0.5 + (corner[:, k] - places[:, k])[:, None]
    for k in (0, 1)
  )
  if shape == "digit":
    cover = shapes.glyph_cover(glyphs[glyph], y, x, radius)
  else:
    cover = shapes.cover(shape, y, x, radius, angle)
  look = vocabulary.MATERIALS[material].look
  white, black = shapes.shade(look, shape, cover, y, x, radius, angle)
  ink = colour.T[:, :, None, None]  # [3, n, 1, 1]
  if white is not None:
    ink = ink + white * (255 - ink)
  if black is not None:
    ink = ink * (1 - black)
  ink = ink * cover  # [3, n, h, w]
  keep = np.subtract(1, cover, out=cover)
  when = np.tile(np.arange(len(times)), len(bodies))[seen]
  lows, highs = corner.tolist(), (corner + window).tolist()
  for k, (t, low, high) in enumerate(zip(when.tolist(), lows, highs)):
    part = picture[:, t, low[0] : high[0], low[1] : high[1]]
    part *= keep[k]
    part += ink[:, k]
