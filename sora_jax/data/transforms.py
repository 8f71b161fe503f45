"""Changes to one clip, chosen by name: pure functions of (clip, rng).

A transform never changes its input and returns it as it is where nothing is to
be done. What is cut from the video is cut from its shots and its sound, too.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from sora_jax.data import buckets
from sora_jax.types import Clip

Transform = Callable[[Clip, np.random.Generator], Clip]


def bucket(
  clip: Clip,
  rng: np.random.Generator,
  *,
  tokens: int,
  unit: tuple[int, int],
  scales: tuple[float, ...],
) -> Clip:
  """Scales a clip to cover the nearest size of `buckets.table`, and crops it.

  The aspect ratio is kept: what stands out of the size is cut off evenly on
  both sides. Scaling is antialiased (Lanczos).

  Args:
    clip: of any size.
    rng: draws the scale.
    tokens: cells of a latent frame at most.
    unit: height and width of a cell in pixels.
    scales: shares of the tokens, of which each clip gets one. Those that would
      enlarge it are left out, or all but the smallest where all would.
  """
  size = clip.video.shape[1:3]
  targets = sorted(
    buckets.nearest(size, _table(max(int(tokens * share), 1), tuple(unit)))
    for share in scales
  )
  fitting = [t for t in targets if all(n <= m for n, m in zip(t, size))]
  fitting = fitting or targets[:1]
  target = fitting[int(rng.integers(len(fitting)))]
  return cover(clip, rng, size=target)


def cover(
  clip: Clip, rng: np.random.Generator, *, size: tuple[int, int]
) -> Clip:
  """Scales a clip to cover (H, W), and crops it evenly on both sides."""
  del rng
  have = clip.video.shape[1:3]
  if have == tuple(size):
    return clip
  (height, width), (to_height, to_width) = have, size
  scale = max(to_height / height, to_width / width)
  # The part of the original that shows, as (left, top, right, bottom); rounding
  # must not push it outside.
  left = max(0.0, (width - to_width / scale) / 2)
  top = max(0.0, (height - to_height / scale) / 2)
  box = (left, top, width - left, height - top)
  video = _scaled(clip.video, tuple(size), box)
  return dataclasses.replace(clip, video=video, state=None)


def fit(clip: Clip, rng: np.random.Generator, *, size: tuple[int, int]) -> Clip:
  """Scales a clip down until it is inside (H, W); nothing is cut off."""
  del rng
  have = clip.video.shape[1:3]
  scale = min(1.0, *(n / m for n, m in zip(size, have)))
  target = tuple(max(1, round(scale * m)) for m in have)
  if target == have:
    return clip
  video = _scaled(clip.video, target)
  return dataclasses.replace(clip, video=video, state=None)


def trim(clip: Clip, rng: np.random.Generator, *, multiple: int) -> Clip:
  """Cuts the end to 1 + multiple * k frames, what a causal encoder takes."""
  del rng
  length = len(clip.video)
  return _span(clip, 0, length - (length - 1) % multiple)


def thin(clip: Clip, rng: np.random.Generator, *, most: int) -> Clip:
  """Keeps every k-th frame, k evenly from 1..most: faster motion.

  The clip lasts as long as before, with fewer frames a second.
  """
  step = int(rng.integers(1, most + 1))
  if step == 1:
    return clip
  video, text = clip.video[::step], clip.text
  if not isinstance(text, str):
    # A shot of which no frame is kept is gone; the next begins in its place.
    kept = {-(-begin // step): caption for begin, caption in text}
    text = tuple((b, c) for b, c in kept.items() if b < len(video))
  return dataclasses.replace(
    clip, video=video, fps=clip.fps / step, text=text, state=None
  )


def crop(
  clip: Clip,
  rng: np.random.Generator,
  *,
  frames: int,
  height: int,
  width: int,
  zoom: float,
) -> Clip:
  """Cuts a random block of at most this size; smaller clips stay smaller.

  Args:
    clip: of any size.
    rng: chooses.
    frames: of the block.
    height: of the result, pixels.
    width: of the result, pixels.
    zoom: the block is up to so many times as large on each side (log-uniform,
      and no larger than the clip), and scaled down; antialiased (Lanczos).
  """
  have, want = clip.video.shape[:3], (frames, height, width)
  room = min(n / m for n, m in zip(have[1:], want[1:]))
  scale = 1.0
  if min(room, zoom) > 1:
    scale = float(np.exp(rng.uniform(0.0, np.log(min(room, zoom)))))
  sides = (min(round(n * scale), m) for n, m in zip(want[1:], have[1:]))
  block = (frames, *sides)
  start, top, left = (
    int(rng.integers(max(0, n - m) + 1)) for n, m in zip(have, block)
  )
  clip = _span(clip, start, frames)
  video = clip.video[:, top : top + block[1], left : left + block[2]]
  if video.shape == clip.video.shape and scale == 1:
    return clip
  if scale > 1:
    video = _scaled(video, (height, width))
  return dataclasses.replace(clip, video=video, state=None)


def flip(clip: Clip, rng: np.random.Generator, *, probability: float) -> Clip:
  """Mirrors left and right, with this probability; the caption stays.

  Not for captions that name directions ("moves to the left") or written words:
  they become false.
  """
  if rng.random() >= probability:
    return clip
  return dataclasses.replace(clip, video=clip.video[:, :, ::-1], state=None)


def turn(clip: Clip, rng: np.random.Generator, *, probability: float) -> Clip:
  """Turns and mirrors space and time, with this probability.

  Rows, columns and frames are reversed, and rows swapped with columns where
  frames are square: sixteen ways. Not for what is captioned, for what falls, or
  for what sounds: captions, shots and sound stay as they were.
  """
  if rng.random() >= probability:
    return clip
  swap, *back = rng.random(4) < 0.5
  _, height, width, _ = clip.video.shape
  swap = swap and height == width
  video = clip.video.swapaxes(1, 2) if swap else clip.video
  video = video[tuple(slice(None, None, -1 if b else 1) for b in back)]
  return dataclasses.replace(clip, video=video, state=None)


def recolour(
  clip: Clip, rng: np.random.Generator, *, probability: float
) -> Clip:
  """Puts red, green and blue in another order, with this probability.

  Of few clips an autoencoder else learns the colours by heart, and breaks at
  others. Not for what is captioned: a red ball becomes a blue one.
  """
  if rng.random() >= probability:
    return clip
  order = np.array(_ORDERS[rng.integers(len(_ORDERS))])
  return dataclasses.replace(clip, video=clip.video[..., order], state=None)


# All orders of the channels but their own.
_ORDERS = tuple(itertools.permutations(range(3)))[1:]

TRANSFORMS = {
  "bucket": bucket,
  "cover": cover,
  "fit": fit,
  "trim": trim,
  "thin": thin,
  "crop": crop,
  "flip": flip,
  "turn": turn,
  "recolour": recolour,
}


def build(specs: Iterable[Mapping[str, Any]]) -> Transform:
  """One function that applies `{"name": key of TRANSFORMS, **kwargs}` in turn.

  Raises:
    ValueError: for an unknown name, or an unknown or missing argument.
  """
  steps = []
  for spec in specs:
    kwargs = dict(spec)
    name = kwargs.pop("name", None)
    if name not in TRANSFORMS:
      raise ValueError(
        f"unknown transform {name!r}, choose from {sorted(TRANSFORMS)}"
      )
    # Every transform takes the clip and the rng first.
    valid = list(inspect.signature(TRANSFORMS[name]).parameters)[2:]
    if set(kwargs) != set(valid):
      raise ValueError(
        f"transform {name!r} got {sorted(kwargs)}, it takes {sorted(valid)}"
      )
    steps.append(functools.partial(TRANSFORMS[name], **kwargs))
  # A partial, unlike a closure, can be sent to the loader's processes.
  return functools.partial(_apply, tuple(steps))


def _apply(
  steps: tuple[Transform, ...], clip: Clip, rng: np.random.Generator
) -> Clip:
  for step in steps:
    clip = step(clip, rng)
  return clip


_table = functools.lru_cache(buckets.table)


def _scaled(
  video: np.ndarray,
  size: tuple[int, int],
  box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """The part `box` (left, top, right, bottom) of all frames, at (H, W)."""
  return np.stack(
    [
      Image.fromarray(frame).resize(size[::-1], Image.Resampling.LANCZOS, box)
      for frame in video
    ]
  )


def _span(clip: Clip, start: int, frames: int) -> Clip:
  """Frames [start, start + frames) of a clip, with their captions and sound."""
  video = clip.video[start : start + frames]
  if len(video) == len(clip.video):
    return clip
  text, audio = clip.text, clip.audio
  if not isinstance(text, str):
    # The shot that is on at the start, and those that begin later.
    first = sum(begin <= start for begin, _ in text) - 1
    text = tuple(
      (max(0, begin - start), caption)
      for begin, caption in text[max(0, first) :]
      if begin < start + len(video)
    )
  if audio is not None:
    ends = np.array([start, start + len(video)]) / clip.fps * clip.rate
    audio = audio[slice(*ends.round().astype(int))]
  return dataclasses.replace(
    clip, video=video, text=text, audio=audio, state=None
  )
