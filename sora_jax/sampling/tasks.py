"""Sampling tasks as data: what is known before the sampler starts.

A task maps (size, channels, source) to a Canvas of one clip: `size` is the
(t, h, w) of the latents to make, `source` the normalised latents of what the
user gave, or None. The sampler knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sora_jax.types import Array, Canvas

Size = tuple[int, int, int]


def _blank(size: Size, channels: int) -> tuple[np.ndarray, np.ndarray]:
  known = np.zeros((1, *size, channels), np.float32)
  return known, np.zeros((1, *size, 1), np.float32)


def _source(task: str, size: Size, source: Array | None, least: int):
  if source is None:
    raise ValueError(
      f"task {task!r} needs a source: set sample.source to a picture or video"
    )
  t, h, w = source.shape[1:4]
  if (h, w) != size[1:]:
    raise ValueError(
      f"task {task!r}: the source is {h}x{w} latent cells, the output "
      f"{size[1]}x{size[2]}: ask for the source's size"
    )
  if least >= size[0]:
    raise ValueError(
      f"task {task!r} keeps {least} latent frames of {size[0]}, so nothing is "
      "left to make: ask for more frames"
    )
  if t < least:
    raise ValueError(
      f"task {task!r} needs a source of at least {least} latent frames; "
      f"this one has {t}"
    )
  return source


def t2v(size: Size, channels: int, source: Array | None) -> Canvas:
  """Text to video: nothing is known."""
  del source
  return Canvas(*_blank(size, channels))


def t2i(size: Size, channels: int, source: Array | None) -> Canvas:
  """Text to image: a clip of one frame."""
  del source
  if size[0] != 1:
    raise ValueError(
      f"task 't2i' makes one frame, but {size[0]} latent frames were asked "
      "for: use size (1, H, W)"
    )
  return Canvas(*_blank(size, channels))


def i2v(size: Size, channels: int, source: Array | None) -> Canvas:
  """Animate a picture: the first frame is known."""
  return extend(size, channels, source, keep=KEPT["i2v"], task="i2v")


def extend(
  size: Size,
  channels: int,
  source: Array | None,
  keep: int = 2,
  task: str = "extend",
) -> Canvas:
  """Continue a video: its first `keep` latent frames are known."""
  source = _source(task, size, source, keep)
  known, mask = _blank(size, channels)
  known[:, :keep], mask[:, :keep] = source[:, :keep], 1
  return Canvas(known, mask)


def interpolate(size: Size, channels: int, source: Array | None) -> Canvas:
  """Fill in between: the first and the last latent frame are known."""
  source = _source("interpolate", size, source, 2)
  known, mask = _blank(size, channels)
  known[:, 0], mask[:, 0] = source[:, 0], 1
  known[:, -1], mask[:, -1] = source[:, -1], 1
  return Canvas(known, mask)


TASKS: dict[str, Callable[..., Canvas]] = {
  "t2v": t2v,
  "t2i": t2i,
  "i2v": i2v,
  "extend": extend,
  "interpolate": interpolate,
}
# Latent frames that a task keeps of what the user gives.
KEPT = {"i2v": 1, "extend": 2, "interpolate": 2}


def given(task: str, compression: int) -> int:
  """Frames of its source that a task keeps from the beginning on.

  Args:
    task: key of KEPT that keeps the beginning: "i2v" or "extend".
    compression: of time, frames per latent frame after the first.
  """
  return 1 + (KEPT[task] - 1) * compression
