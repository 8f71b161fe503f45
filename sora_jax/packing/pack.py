"""Packing token sequences into rows of a fixed length, and unpacking them.

NaViT's patch n' pack (Dehghani et al., 2023): several clips share one row and
are told apart by their segment number. Training rows are packed by grain's own
packer; this file packs for sampling, where every length is known beforehand,
so the layout is a static plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sora_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Slot:
  """Where one sequence lies: [row, start : start + length], as `segment`."""

  row: int
  start: int
  length: int
  segment: int


@dataclasses.dataclass(frozen=True)
class Layout:
  """A plan for `rows` rows of `length` tokens; slots in the order given."""

  rows: int
  length: int
  slots: tuple[Slot, ...]

  def part(self, start: int, rows: int) -> tuple[list[int], Layout]:
    """Which sequences lie in rows start..start + rows, and how there."""
    members = [
      i for i, s in enumerate(self.slots) if start <= s.row < start + rows
    ]
    slots = tuple(
      dataclasses.replace(self.slots[i], row=self.slots[i].row - start)
      for i in members
    )
    return members, Layout(rows, self.length, slots)

  def shorter(self, lengths: Sequence[int]) -> Layout:
    """The same places for sequences that are at most as long."""
    slots = tuple(
      dataclasses.replace(slot, length=n)
      for slot, n in zip(self.slots, lengths, strict=True)
    )
    return dataclasses.replace(self, slots=slots)

  @property
  def segments(self) -> np.ndarray:
    """int32 [R, L]: 1.. for clips, 0 for padding."""
    out = np.zeros((self.rows, self.length), np.int32)
    for s in self.slots:
      out[s.row, s.start : s.start + s.length] = s.segment
    return out


def plan(
  lengths: Sequence[int],
  row: int,
  most: int,
  riders: Sequence[int],
  riders_row: int,
) -> tuple[Layout, Layout]:
  """First-fit decreasing: which row and place each clip gets in two streams.

  Args:
    lengths: tokens of each clip, at least 1.
    row: tokens in a row.
    most: the most clips that a row may hold.
    riders: tokens of each clip in the second stream (its caption).
    riders_row: tokens in a row of the second stream.

  Returns:
    layouts of both streams: a clip has the same row and segment in both.

  Raises:
    ValueError: if a clip is longer than a row.
  """
  used: list[tuple[int, int, int]] = []  # tokens, riders, clips of each row
  slots: dict[int, tuple[Slot, Slot]] = {}
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    n, m = lengths[i], riders[i]
    for what, size, limit in (("", n, row), (" text", m, riders_row)):
      if size > limit:
        raise ValueError(
          f"clip {i} has {size}{what} tokens and a row holds {limit}: raise "
          "dit.rows.length or dit.rows.text, or ask for less"
        )
    for r, (tokens, text, count) in enumerate(used):  # noqa: B007
      fits = tokens + n <= row and text + m <= riders_row
      if fits and count < most:
        break
    else:
      r, (tokens, text, count) = len(used), (0, 0, 0)
      used.append((0, 0, 0))
    slots[i] = Slot(r, tokens, n, count + 1), Slot(r, text, m, count + 1)
    used[r] = (tokens + n, text + m, count + 1)
  ordered = [slots[i] for i in range(len(lengths))]
  first, second = zip(*ordered) if ordered else ((), ())
  return (
    Layout(len(used), row, tuple(first)),
    Layout(len(used), riders_row, tuple(second)),
  )


def pack(sequences: Sequence[Array], layout: Layout) -> np.ndarray:
  """Lays sequences [n_i, ...] into rows [R, L, ...], zeros elsewhere."""
  first = np.asarray(sequences[0])
  out = np.zeros((layout.rows, layout.length, *first.shape[1:]), first.dtype)
  for s, x in zip(layout.slots, sequences):
    out[s.row, s.start : s.start + s.length] = x
  return out


def unpack(rows: Array, layout: Layout) -> list[Array]:
  """Inverse of `pack`: the sequences, in the order of the plan."""
  return [rows[s.row, s.start : s.start + s.length] for s in layout.slots]


def counts(batch: Mapping[str, np.ndarray]) -> dict[str, int]:
  """What a packed batch holds.

  Returns:
    "clips"; the "tokens" of video and text that hold data, and the "places" for
    such, padding included.
  """
  streams = [batch[f"{name}_segments"] for name in ("video", "text")]
  return {
    "clips": int(streams[0].max(axis=1).sum()),
    "tokens": sum(int((segments > 0).sum()) for segments in streams),
    "places": sum(segments.size for segments in streams),
  }


def filled(count: int, most: int) -> int:
  """Hardly more than `count`, at most `most`: few shapes to compile.

  A power of two up to an eighth of `most`, or so many eighths.
  """
  step = -(-most // 8)
  return min(1 << (count - 1).bit_length(), -(-count // step) * step, most)
