"""Several sources as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sora_jax.types import Clip, Source


class Mixture:
  """The clips of several sources, spread evenly: so is every beginning of it.

  An epoch sees every part as often as its `repeat` says, which is how a small
  folder is weighed against an endless generator; a repeated clip is read, and
  cached as latents, each time, and has the same key. Keys carry the part's name
  in front: "real/dog.mp4@2.000".
  """

  def __init__(
    self, frames: int, parts: Mapping[str, Source], repeat: Mapping[str, int]
  ):
    """Takes sources that are open.

    Args:
      frames: the most frames that a clip of any part has.
      parts: sources by name.
      repeat: of some parts, how often "train" holds each of their clips, >= 1;
        the other parts, and all other splits, hold them once.

    Raises:
      ValueError: without parts, or for a `repeat` of what is no part.
    """
    del frames  # read by those who look at the config alone
    if not parts:
      raise ValueError("a mixture needs at least one part in data.parts")
    if wrong := sorted(set(repeat) - set(parts)):
      raise ValueError(f"repeat names {wrong}; the parts are {sorted(parts)}")
    if wrong := sorted(k for k, v in repeat.items() if v < 1):
      raise ValueError(f"repeat of {wrong} must be >= 1")
    self._parts, self._repeat = dict(parts), dict(repeat)

  @property
  def skipped(self) -> dict[str, str]:
    """What each part leaves out, and why."""
    return {
      f"{name}/{key}": reason
      for name, part in self._parts.items()
      for key, reason in part.skipped.items()
    }

  def fingerprint(self) -> str:
    """Those of the parts."""
    return " ".join(part.fingerprint() for part in self._parts.values())

  def clips(self, split: str) -> Sequence[Clip | None]:
    """The clips of a split; every part must have it.

    Raises:
      ValueError: naming the part that has no such split.
    """
    found = []
    for name, part in self._parts.items():
      try:
        clips = part.clips(split)
      except ValueError as error:
        raise ValueError(f"data.parts.{name}: {error}") from error
      times = self._repeat.get(name, 1) if split == "train" else 1
      found.append((name, clips, times))
    return _Clips(tuple(found))


@dataclasses.dataclass(frozen=True)
class _Clips(Sequence):
  parts: tuple[tuple[str, Sequence[Clip | None], int], ...]

  def __post_init__(self):
    counts = [len(clips) * times for _, clips, times in self.parts]
    # Clip i of n of a part has its place at (i + 1/2) / n of the whole.
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in counts])
    order = np.argsort(at, kind="stable")
    part = np.repeat(np.arange(len(counts)), counts)[order]
    first = np.cumsum([0, *counts[:-1]])
    object.__setattr__(self, "_part", part.astype(np.int32))
    object.__setattr__(self, "_item", order - first[part])

  def __len__(self) -> int:
    return len(self._part)

  def __getitem__(self, index: int) -> Clip | None:
    if not 0 <= index < len(self):
      raise IndexError(f"clip {index}: valid are 0..{len(self) - 1}")
    name, clips, _ = self.parts[self._part[index]]
    clip = clips[int(self._item[index]) % len(clips)]
    if clip is None:
      return None
    return dataclasses.replace(clip, key=f"{name}/{clip.key}")
