"""Packing token sequences into rows of a fixed length, and unpacking them.

NaViT's patch n' pack (Dehghani et al., 2023): several clips share one row and
are told apart by their segment number. Training rows are packed by grain's own
packer; this file packs for sampling, where every length is known beforehand,
so the layout is a static plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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

  @property
  def segments(self) -> np.ndarray:
    """int32 [R, L]: 1.. for clips, 0 for padding."""
    out = np.zeros((self.rows, self.length), np.int32)
    for s in self.slots:
      out[s.row, s.start : s.start + s.length] = s.segment
    return out


def plan(lengths: Sequence[int], row: int, most: int | None = None) -> Layout:
  """First-fit decreasing: which row and place each sequence gets.

  Args:
    lengths: tokens of each sequence, each at least 1.
    row: tokens in a row.
    most: the most sequences that a row may hold; None for no limit.

  Raises:
    ValueError: if a sequence is longer than a row.
  """
  used: list[tuple[int, int]] = []  # (tokens, sequences) in each row
  slots: dict[int, Slot] = {}
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    n = lengths[i]
    if n > row:
      raise ValueError(
        f"clip {i} has {n} tokens and a row holds {row}: raise the row length "
        "(`row`), or ask for a shorter or smaller clip"
      )
    for r, (tokens, count) in enumerate(used):
      if tokens + n <= row and (most is None or count < most):
        break
    else:
      r, (tokens, count) = len(used), (0, 0)
      used.append((0, 0))
    slots[i] = Slot(r, tokens, n, count + 1)
    used[r] = (tokens + n, count + 1)
  return Layout(len(used), row, tuple(slots[i] for i in range(len(lengths))))


def like(layout: Layout, lengths: Sequence[int], row: int) -> Layout:
  """A layout of other lengths with the rows and segments of `layout`.

  This is how a second modality rides along: segment s stays clip s.
  """
  used = [0] * layout.rows
  slots = []
  for slot, n in zip(layout.slots, lengths):
    start, used[slot.row] = used[slot.row], used[slot.row] + n
    if used[slot.row] > row:
      raise ValueError(
        f"the {used[slot.row]} tokens that ride in row {slot.row} exceed its "
        f"{row}: raise the row length of that stream"
      )
    slots.append(Slot(slot.row, start, n, slot.segment))
  return Layout(layout.rows, row, tuple(slots))


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
