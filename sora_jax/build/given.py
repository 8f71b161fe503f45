"""What a request starts from: the user's pictures and videos, ready to use."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sora_jax.build.data import cell
from sora_jax.data import buckets, transforms
from sora_jax.sampling.request import Size
from sora_jax.types import Clip
from sora_jax.utils import logs, media

FILES = ("source", "target", "mask")
ALL = ("interpolate", "frames")  # take a file's frames for what they are
BEGIN = ("edit", "inpaint", "outpaint")  # take as much as is made
CROPPED = 0.05  # share of a picture from which on its loss is said
ROOM = 0.75  # of each side, for what is outpainted in its own aspect ratio
ROUNDED = 0.02  # of a frame rate: containers round the times of frames

Box = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class _File:
  """A file's video uint8 [T, h, w, 3] as it is used, and what it was."""

  path: Path
  video: np.ndarray
  fps: float
  pixels: Box


def given(
  config: ConfigDict, asked: dict[str, Any], size: Size, told: bool
) -> tuple[dict[str, Any], Size]:
  """A request's fields with pixels instead of paths, and its size.

  A source decides the size's aspect ratio, unless that is told, within the
  pixels of the config's (`buckets.fitting`), but for `outpaint`; target and
  mask take the source's. What stands out is cut off on both sides.

  Args:
    config: of a run.
    asked: fields of a request; those of FILES are paths, pixels or nothing.
    size: (T, H, W).
    told: whether the size is this request's own, and not every one's.

  Raises:
    ValueError: for a file that cannot be read, or does not fit the others.
  """
  asked, task, found = dict(asked), asked["task"], {}
  box, fixed = size[1:], told
  for name in FILES:
    value = asked[name]
    if isinstance(value, (str, os.PathLike)):
      asked[name] = None
      if str(value):
        # What a mask does not show is not to be made anew.
        backdrop = 0 if name == "mask" else 255
        found[name] = _read(config, Path(value), task, box, fixed, backdrop)
        asked[name] = found[name].video
    if name == "source" and asked[name] is not None and task != "outpaint":
      box, fixed = asked[name].shape[1:3], True  # the others are as large
  asked["paths"] = {name: str(file.path) for name, file in found.items()}
  if "mask" in found:
    asked["mask"] = asked["mask"].mean(axis=-1) > 127.5
    _check_mask(found)
  if asked["source"] is None:
    return asked, size
  if task == "interpolate" and "source" in found:
    asked["source"], frames = _denser(config, found["source"])
    if told and size[0] != frames:
      raise ValueError(
        f"task 'interpolate' makes {frames} frames of the source at sample.fps="
        f"{config.sample.fps:g}, and size={size} asks for {size[0]}"
      )
    size = (frames, *size[1:])
  elif task in BEGIN and (have := len(asked["source"])) > size[0]:
    _say(
      f"sample: task {task!r} takes the first {size[0]} frames of the source's "
      f"{have}, since sample.size asks for so many"
    )
    if asked["mask"] is not None and len(asked["mask"]) == have:
      asked["mask"] = asked["mask"][: size[0]]
  if task != "outpaint" and not told:
    size = (size[0], *asked["source"].shape[1:3])
  return asked, size


def _read(
  config: ConfigDict,
  path: Path,
  task: str,
  box: Box,
  told: bool,
  backdrop: int,
) -> _File:
  """A file in the box if that is told, or in its own aspect ratio.

  What is to be outpainted fits into the box with room to spare.
  """
  if not path.is_file():
    raise ValueError(f"{path} is not a file")
  rate = None if task in ALL else config.sample.fps
  video, fps = media.read(path, fps=rate, backdrop=backdrop)
  clip, rng = Clip(video, fps, "", str(path)), np.random.default_rng(0)
  if task == "outpaint":
    scaled = _scaled("fit", box)
  elif told:
    scaled = _scaled("cover", box)
  else:
    scaled = _scaled("cover", _own(config, video.shape[1:3], box))
  out, pixels = scaled(clip, rng).video, video.shape[1:3]
  if task != "outpaint":
    _say_cropped(path, pixels, out.shape[1:3])
  elif out.shape[1:3] == tuple(box):  # nothing would be left to make
    room = tuple(round(ROOM * n) for n in box)
    out = _scaled("fit", room)(clip, rng).video
  return _File(path, out, fps, pixels)


@functools.lru_cache
def _say(text: str) -> None:
  """Once, however many prompts share a source."""
  logs.say(text)


def _scaled(name: str, size: tuple[int, int]) -> transforms.Transform:
  return transforms.build([{"name": name, "size": tuple(size)}])


def _own(config: ConfigDict, have: Box, box: Box) -> Box:
  """The size for a picture of so many pixels, about as large as the box."""
  unit = cell(config)
  budget = max(math.prod(n // u for n, u in zip(box, unit)), 1)
  size = buckets.fitting(have, budget, unit)
  if size != tuple(box):
    _say(
      f"sample: what is given has {have[0]}x{have[1]} pixels, so the video has "
      f"{size[0]}x{size[1]}, and not sample.size's {box[0]}x{box[1]}"
    )
  return size


def _say_cropped(path: Path, have: Box, shown: Box) -> None:
  if (lost := buckets.lost(have, shown)) > CROPPED:
    _say(
      f"sample: {lost:.0%} of {path} ({have[0]}x{have[1]} pixels) stand out "
      f"of {shown[0]}x{shown[1]} and are cut off"
    )


def _check_mask(found: dict[str, _File]) -> None:
  """Refuses a mask that would be cut otherwise than its source."""
  mask = found["mask"]
  if "source" in found and mask.pixels != found["source"].pixels:
    have, wanted = (
      "x".join(map(str, file.pixels)) for file in (mask, found["source"])
    )
    raise ValueError(
      f"the mask {mask.path} has {have} pixels and the source {wanted}: give "
      "one of the source's size"
    )


def _denser(config: ConfigDict, file: _File) -> tuple[np.ndarray, int]:
  """The frames of a file that are interpolated, and how many are made."""
  fps, rate, have = config.sample.fps, file.fps, len(file.video)
  steps = round(fps / rate)
  if steps < 2 or abs(fps / rate - steps) > ROUNDED * steps:
    raise ValueError(
      f"task 'interpolate' raises the {rate:g} frames a second of {file.path} "
      f"to sample.fps={fps:g}, which must be a multiple of it: set that to "
      f"{2 * rate:g}"
    )
  # A clip has 1 + ct k frames.
  every = config.autoencoder.model.compression[0]
  every //= math.gcd(every, steps)
  count = 1 + (have - 1) // every * every
  if count < 2:
    raise ValueError(
      f"task 'interpolate' takes 1 + {every}k frames at sample.fps={fps:g}, "
      f"and {file.path} has {have}: give at least {1 + every}"
    )
  if count < have:
    _say(
      f"sample: task 'interpolate' takes the first {count} frames of "
      f"{file.path}, which has {have}: it takes 1 + {every}k"
    )
  return file.video[:count], 1 + steps * (count - 1)
