"""Batches for training, by grain: deterministic, random access, resumable.

`clips` gives padded batches of pixels to the autoencoder; a function of LAYOUTS
gives rows of latent patches to the transformer: `packed` through grain's own
packer, `bucketed` what those do who cannot pack. All are endless, shuffled anew
every epoch, and their iterators save and restore their exact place.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence

import grain
import numpy as np
from absl import flags

from sora_jax.data.latents import Item, Latents
from sora_jax.data.words import Words
from sora_jax.packing import pack, patchify
from sora_jax.types import Clip


@dataclasses.dataclass(frozen=True)
class Rows:
  """The shape of packed batches; of bucketed ones, about how much they hold.

  Attributes:
    rows: R, over all shares.
    length: L, video tokens in a row.
    text: S, text tokens in a row.
    clips: M, the most clips in a row.
    bins: rows that the packer fills at once; more wastes less.
    layout: one of LAYOUTS.
  """

  rows: int
  length: int
  text: int
  clips: int
  bins: int
  layout: str = "packed"


Share = tuple[int, int]  # which part of the data, of how many
WHOLE: Share = (0, 1)
AHEAD = 2**26  # bytes of clips that a process may have ready


def _part(dataset: grain.MapDataset, share: Share) -> grain.MapDataset:
  """A share of a shuffled data set."""
  return dataset[share[0] :: share[1]]


def _threads(count: int) -> grain.ReadOptions:
  return grain.ReadOptions(num_threads=count, prefetch_buffer_size=4 * count)


def _apart(
  dataset: grain.IterDataset, workers: int, ahead: int = 2
) -> grain.IterDataset:
  """The same, read by so many other processes, which take turns.

  Threads share an interpreter, and so about one core: of clips that are drawn
  or decoded that is a few hundred a second.

  Args:
    dataset: what each of them reads a part of.
    workers: how many; 0 for none.
    ahead: elements that each may have ready. As they take turns, one that is
      slow with an element stops those that have no more room.
  """
  if not workers:
    return dataset
  if not flags.FLAGS.is_parsed():  # grain has some, which notebooks never parse
    flags.FLAGS.mark_as_parsed()
  options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=ahead)
  return dataset.mp_prefetch(options)


def pad(clip: Clip, size: tuple[int, int, int]) -> dict[str, np.ndarray]:
  """A clip in the corner of a box [T, H, W]: the last pixels repeated.

  Returns:
    video uint8 [T, H, W, 3], and mask bool [T, H, W], true where it is real.
  """
  shape = clip.video.shape[:3]
  if any(n > m for n, m in zip(shape, size)):
    raise ValueError(
      f"{clip.key}: a clip of {shape} does not fit the batch's {size} "
      "(T, H, W): add a `crop` transform, or raise the size"
    )
  width = [(0, m - n) for n, m in zip(shape, size)]
  return {
    "video": np.pad(clip.video, [*width, (0, 0)], mode="edge"),
    "mask": np.pad(np.ones(shape, bool), width),
  }


def clips(
  source: Sequence[Clip | None],
  transform: Callable[[Clip, np.random.Generator], Clip],
  size: tuple[int, int, int],
  batch: int,
  seed: int,
  threads: int,
  share: Share = WHOLE,
  workers: int = 0,
) -> grain.IterDataset:
  """Endless batches {video [B, T, H, W, 3], mask [B, T, H, W]}.

  Args:
    source: clips; items that are None (undecodable, reported by the source)
      are passed over.
    transform: the same clip and generator state give the same result.
    size: (T, H, W) to which clips are padded.
    batch: B over all shares.
    seed: of shuffling and transforms.
    threads: readers.
    share: of the clips and of the batch.
    workers: processes of so many readers, each of whole batches; 0: this one.
  """

  def prepare(clip: Clip | None, rng: np.random.Generator):
    return None if clip is None else pad(transform(clip, rng), size)

  dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  dataset = _part(dataset.random_map(prepare), share)
  dataset = dataset.to_iter_dataset(_threads(threads)).batch(
    batch // share[1], drop_remainder=True
  )
  return _apart(dataset, workers)


class Prepared(Sequence):
  """Clips of a split, each transformed with a generator of its own index.

  Decoding video costs more than a small model's train step, so what fits is
  kept in memory.

  Args:
    source: clips, None where one cannot be decoded.
    transform: what every clip goes through.
    memory: bytes of pixels to keep, first come, first kept.
  """

  def __init__(
    self,
    source: Sequence[Clip | None],
    transform: Callable[[Clip, np.random.Generator], Clip],
    memory: int,
  ):
    self._source, self._transform, self._room = source, transform, memory
    self._kept: dict[int, Clip] = {}

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Clip | None:
    if index in self._kept:
      return self._kept[index]
    clip = self._source[index]
    if clip is None:
      return None
    clip = self._transform(clip, np.random.default_rng(index))
    if clip.video.nbytes <= self._room:
      self._room -= clip.video.nbytes
      self._kept[index] = clip
    return clip


def ordered(
  source: Prepared,
  threads: int,
  share: Share = WHOLE,
  workers: int = 0,
  size: int = AHEAD,
) -> grain.IterDataset:
  """Every clip once, in order; those that cannot be decoded are left out.

  Args:
    source: clips.
    threads: readers.
    share: of the clips.
    workers: processes of so many readers; 0: this one.
    size: bytes of the largest clip, of which each worker holds AHEAD.
  """
  dataset = _part(grain.MapDataset.source(source), share)
  # Some clips take fifty times as long to draw or decode as others.
  ahead = min(max(2, AHEAD // size), 64)
  return _apart(dataset.to_iter_dataset(_threads(threads)), workers, ahead)


def tokens(
  item: Item, patch: patchify.Patch, words: Words
) -> dict[str, np.ndarray]:
  """Latents and text of one clip as sequences with coordinates.

  The coordinates are called `*_at`, because grain's packer gives the name
  `*_positions` to something of its own.
  """
  ids, at = words(item.text)
  size = item.latents.shape[:3]
  return {
    "video": patchify.patchify(item.latents, patch).astype(np.float32),
    "video_at": patchify.positions(size, patch),
    "text": ids,
    "text_at": at,
  }


def rows_of(
  sequences: Sequence[dict[str, np.ndarray]], rows: Rows
) -> dict[str, np.ndarray]:
  """Packs the `tokens` of a few clips into as many rows as they need.

  Returns:
    one batch in the form of `packed`, in a fixed order: for validation.
  """
  video, text = pack.plan(
    [len(s["video"]) for s in sequences],
    rows.length,
    rows.clips,
    [len(s["text"]) for s in sequences],
    rows.text,
  )
  out = {}
  for name, layout in (("video", video), ("text", text)):
    out[name] = pack.pack([s[name] for s in sequences], layout)
    at = [s[f"{name}_at"] for s in sequences]
    out[f"{name}_positions"] = pack.pack(at, layout)
    out[f"{name}_segments"] = layout.segments
  return out


def packed(
  latents: Latents,
  patch: patchify.Patch,
  words: Words,
  rows: Rows,
  seed: int,
  threads: int,
  share: Share = WHOLE,
  workers: int = 0,
) -> grain.IterDataset:
  """Endless packed batches for the transformer: a share of their rows.

  Each of the `workers` packs whole batches of a share of its own.

  Returns batches of video [R, L, P], text [R, S], and `*_positions` [R, ., 3]
  and `*_segments` [R, .] of each; segment s is the same clip in both.
  """

  def prepare(item: Item):
    return tokens(item, patch, words)

  def rename(row):
    out = {}
    for name in ("video", "text"):
      out[name] = row[name]
      out[f"{name}_positions"] = row[f"{name}_at"]
      out[f"{name}_segments"] = row[f"{name}_segment_ids"].astype(np.int32)
    return out

  lengths = {
    "video": rows.length,
    "video_at": rows.length,
    "text": rows.text,
    "text_at": rows.text,
  }
  dataset = grain.MapDataset.source(latents).seed(seed).shuffle().repeat()
  dataset = _part(dataset, share).map(prepare)
  dataset = dataset.to_iter_dataset(_threads(threads))
  dataset = grain.experimental.FirstFitPackIterDataset(
    dataset,
    length_struct=lengths,
    num_packing_bins=rows.bins,
    max_sequences_per_bin=rows.clips,
    seed=seed,
  )
  dataset = dataset.map(rename)
  dataset = dataset.batch(rows.rows // share[1], drop_remainder=True)
  return _apart(dataset, workers)


def unit(rows: int) -> int:
  """The largest power of two that divides the rows of a batch."""
  return rows & -rows


def bucketed(
  latents: Latents,
  patch: patchify.Patch,
  words: Words,
  rows: Rows,
  seed: int,
  threads: int,
  share: Share = WHOLE,
  workers: int = 0,
) -> grain.IterDataset:
  """Endless batches of one clip a row, all clips of a batch of one length.

  No place for video is left empty, and the training step is compiled for every
  length. Batches hold at most as many places for video as those of `packed`,
  and more than half as many, and come from each length so often that all clips
  are seen alike. All latents are read first, to see how long they are.

  Returns batches in the form of `packed`, with R and L of their own; R is a
  multiple of `unit(rows.rows)`, over which shares and meshes must divide.
  """
  members: dict[int, list[int]] = collections.defaultdict(list)
  for i in range(len(latents)):
    members[math.prod(patchify.grid(latents[i].latents.shape, patch))].append(i)
  parts, weights, step = [], [], unit(rows.rows)
  for length, some in sorted(members.items()):
    shape = dataclasses.replace(rows, length=length, clips=1)

    def prepare(index: int, shape: Rows = shape):
      alone = rows_of([tokens(latents[index], patch, words)], shape)
      return {name: row[0] for name, row in alone.items()}

    count = step * max(rows.rows * rows.length // length // step, 1)
    part = grain.MapDataset.source(some).seed(seed).shuffle().repeat()
    part = _part(part, share).map(prepare)
    parts.append(part.batch(count // share[1], drop_remainder=True))
    weights.append(len(some) / count)
  dataset = grain.MapDataset.mix(parts, weights)
  return _apart(dataset.to_iter_dataset(_threads(threads)), workers)


# What puts the clips of a latent cache into batches for the transformer.
LAYOUTS = {"packed": packed, "bucketed": bucketed}


def row_of(
  shapes: dict[str, int], patch: patchify.Patch, length: int
) -> tuple[int, int]:
  """(most latent frames of a clip in patches, tokens of the whole set).

  Args:
    shapes: clips by latent shape "txhxwxc", from the cache's manifest.
    patch: patch size.
    length: L.

  Raises:
    ValueError: if a clip is longer than a row.
  """
  frames, total = 1, 0
  for shape, count in shapes.items():
    cells = tuple(int(n) for n in shape.split("x"))
    sides = patchify.grid(cells, patch)
    n = math.prod(sides)
    if n > length:
      raise ValueError(
        f"clips of {shape} latents have {n} tokens and a row holds {length}: "
        "raise dit.rows.length, or lower tokens or data.frames"
      )
    frames, total = max(frames, sides[0]), total + n * count
  return frames, total
