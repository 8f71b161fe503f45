"""What sources that make their clips share: checks, and access by index."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import ClassVar

import numpy as np


class Generated:
  """Base of a `types.Source` that is a pure function of its arguments.

  A subclass is a frozen dataclass with at least these fields: count and
  test_count (clips of "train" and of each other split), frames, height, width,
  fps and seed.
  """

  splits: ClassVar[tuple[str, ...]]
  min_side: ClassVar[int]  # pixels

  def __post_init__(self):
    least = {"count": 1, "test_count": 1, "frames": 1, "seed": 0}
    least |= {"height": self.min_side, "width": self.min_side}
    name = type(self).__name__
    for field, low in least.items():
      value = getattr(self, field)
      if value < low:
        raise ValueError(f"{name}({field}={value}): {field} must be >= {low}.")
    if not self.fps > 0:
      raise ValueError(f"{name}(fps={self.fps}): fps must be > 0.")

  @property
  def skipped(self) -> dict[str, str]:
    """Nothing is ever left out."""
    return {}

  def fingerprint(self) -> str:
    """Empty: the arguments say it all."""
    return ""


class GeneratedClips(Sequence):
  """Random access to the clips of one split; stateless and picklable."""

  def __init__(self, config: Generated, split: str):
    check_split(split, config.splits)
    self.config = config
    self.split = split

  def __len__(self) -> int:
    train = self.split == "train"
    return self.config.count if train else self.config.test_count

  def check(self, index: int) -> int:
    """The index as an int; IndexError beyond the split's end."""
    index = operator.index(index)
    if not 0 <= index < len(self):
      raise IndexError(
        f"Clip {index} of split {self.split!r}: valid are 0..{len(self) - 1}."
      )
    return index

  def seed(self, index: int) -> tuple[int, int, int]:
    """Of all that is random in clip `index`."""
    return self.config.seed, self.config.splits.index(self.split), index

  def rng(self, index: int) -> np.random.Generator:
    """A fresh generator of clip `index`."""
    return np.random.default_rng(self.seed(index))


def check_split(split: str, splits: Sequence[str]) -> None:
  """Raises a ValueError that names the valid splits."""
  if split not in splits:
    raise ValueError(f"No split {split!r}; use {', '.join(splits)}.")
