"""Batches: whole clips in both streams, nothing lost, resumed exactly."""

import dataclasses
import functools
import itertools
from collections import Counter

import numpy as np
import pytest

from sora_jax.data import loader, tokenizer
from sora_jax.data.latents import Item
from sora_jax.data.words import Words
from sora_jax.packing import patchify
from sora_jax.types import Clip

PATCH, CELL = (1, 2, 2), 3
ROWS = loader.Rows(rows=2, length=16, text=40, clips=3, bins=4)
SHAPES = [(3, 4, 4), (1, 2, 4), (2, 2, 4), (4, 4, 4)]
CAPTIONS = ["a red three moves left", "blue", "", "a green eight"]
COUNT = 10


@functools.cache
def words():
  return Words(tokenizer.train(CAPTIONS * 3, 300), max_tokens=40, ct=4)


@functools.cache
def items():
  """Items that the first number of their first token tells apart."""
  rng = np.random.default_rng(0)
  out = []
  for i in range(COUNT):
    z = rng.normal(size=(*SHAPES[i % 4], CELL)).astype(np.float16)
    z.flat[0] = i
    out.append(Item(z, CAPTIONS[i * 3 % 4], f"clip {i}"))
  return out


def packed(source=None, rows=ROWS, seed=0, layout="packed", **rest):
  return loader.LAYOUTS[layout](
    source if source is not None else items(),
    patch=PATCH,
    words=words(),
    rows=rows,
    seed=seed,
    threads=1,
    **rest,
  )


def clips_of(batch):
  """What lies in a batch: index of the item, row, and its two segments."""
  found = []
  segments = {n: batch[f"{n}_segments"] for n in ("video", "text")}
  for row, both in enumerate(zip(segments["video"], segments["text"])):
    video, text = both
    numbers = sorted(set(video) - {0})
    # Clips count from 1 without gaps, and are the same in both streams.
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers == sorted(set(text) - {0})
    assert 1 <= len(numbers) <= ROWS.clips
    for number in numbers:
      at = [np.flatnonzero(s == number) for s in both]
      for place in at:
        assert (np.diff(place) == 1).all()
      found.append((int(batch["video"][row, at[0][0], 0]), row, *at))
  return found


def assert_whole(batch):
  """Every segment is exactly one item; returns which."""
  found = clips_of(batch)
  for index, row, video, text in found:
    item = items()[index]
    np.testing.assert_array_equal(
      batch["video"][row, video], patchify.patchify(item.latents, PATCH)
    )
    np.testing.assert_array_equal(
      batch["video_positions"][row, video],
      patchify.positions(item.latents.shape[:3], PATCH),
    )
    np.testing.assert_array_equal(
      batch["text"][row, text], words()(item.text)[0]
    )
    np.testing.assert_array_equal(
      batch["text_positions"][row, text], patchify.text_positions(len(text))
    )
  for name in ("video", "text"):
    empty = batch[f"{name}_segments"] == 0
    assert not batch[name][empty].any()
    assert not batch[f"{name}_positions"][empty].any()
  return [index for index, *_ in found]


def assert_equal(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("layout", loader.LAYOUTS)
def test_every_segment_is_a_whole_clip(layout):
  for batch in itertools.islice(packed(layout=layout), 8):
    if layout == "packed":
      assert batch["video"].shape == (2, 16, 12)
    assert batch["video"].dtype == np.float32
    for name in ("text", "video_segments", "text_segments", "video_positions"):
      assert batch[name].dtype == np.int32
    assert_whole(batch)


def test_nothing_is_lost_over_epochs():
  # The packer hands out all of its bins before it takes up more clips, so
  # whole rounds of bins hold what was read so far: no clip is ever two
  # epochs ahead of another.
  per_round = ROWS.bins // ROWS.rows
  seen = Counter()
  for n, batch in enumerate(itertools.islice(packed(), 12 * per_round)):
    seen.update(assert_whole(batch))
    if (n + 1) % per_round == 0:
      counts = [seen[i] for i in range(COUNT)]
      assert max(counts) - min(counts) <= 1
  assert min(seen.values()) >= 5


def test_fill_and_most_clips():
  small = [i for i in items() if i.latents.shape[0] == 1]  # 2 tokens each
  for batch in itertools.islice(packed(small), 4):
    assert {len(set(row) - {0}) for row in batch["video_segments"]} == {3}
  batches = list(itertools.islice(packed(), 20))
  fill = np.mean([b["video_segments"] > 0 for b in batches])
  assert fill > 0.7


def test_text_limits_a_row_too():
  rows = loader.Rows(rows=1, length=16, text=15, clips=3, bins=2)
  for batch in itertools.islice(packed(rows=rows), 10):
    assert batch["text"].shape == (1, 15)
    assert_whole(batch)


def test_buckets_are_full_and_as_frequent_as_their_clips():
  # Clips of 2, 4, 12 and 16 tokens, in batches of 32 places, or 24.
  seen, count = Counter(), 200
  for batch in itertools.islice(packed(layout="bucketed"), count):
    rows, length = batch["video_segments"].shape
    assert rows * length == (24 if length == 12 else 32) and rows % 2 == 0
    assert (batch["video_segments"] == 1).all()
    seen.update(assert_whole(batch))
  assert set(seen) == set(range(COUNT))
  mean = seen.total() / COUNT  # a batch has 16 clips of 2 tokens, 2 of 16
  assert max(abs(n - mean) for n in seen.values()) <= 8


def test_shares_of_buckets_are_parts_of_one_batch():
  whole = packed(layout="bucketed")
  parts = [packed(layout="bucketed", share=(i, 2)) for i in range(2)]
  for all_, *some in itertools.islice(zip(whole, *parts), 12):
    for i, part in enumerate(some):
      assert_equal(part, {name: x[i::2] for name, x in all_.items()})


@pytest.mark.parametrize("layout", loader.LAYOUTS)
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_resumes_exactly(after, layout):
  make = functools.partial(packed, layout=layout)
  run = iter(make())
  for _ in range(after):
    next(run)
  state = run.get_state()
  expected = [next(run) for _ in range(6)]
  resumed = iter(make())
  resumed.set_state(state)
  for batch in expected:
    assert_equal(next(resumed), batch)
  # And in place, backwards.
  run.set_state(state)
  assert_equal(next(run), expected[0])


def test_workers_pack_whole_clips_of_shares_of_their_own_and_resume():
  run = iter(packed(workers=2))
  turns = [[], []]
  for n in range(8):
    turns[n % 2].append(assert_whole(next(run)))
  seen = [Counter(i for batch in turn for i in batch) for turn in turns]
  both = seen[0] + seen[1]
  assert set(both) == set(range(COUNT))
  assert max(both.values()) - min(both.values()) <= 2
  state = run.get_state()
  expected = [next(run) for _ in range(4)]
  resumed = iter(packed(workers=2))
  resumed.set_state(state)
  for batch in expected:
    assert_equal(next(resumed), batch)


def test_seed_and_epoch_change_the_order():
  first, again, other = (
    [clips_of(b) for b in itertools.islice(packed(seed=s), 12)]
    for s in (0, 0, 1)
  )
  order = [
    [index for batch in run for index, *_ in batch]
    for run in (first, again, other)
  ]
  assert order[0] == order[1]
  assert order[0] != order[2]
  assert order[0][:COUNT] != order[0][COUNT : 2 * COUNT]


@pytest.mark.parametrize("shape", [(5, 4, 4), (1, 2, 34)])
def test_too_long_clip_is_an_error(shape):
  long = Item(np.zeros((*shape, CELL), np.float16), "", "long")
  with pytest.raises(ValueError, match=r"(?s)16.*(20|17)"):
    next(iter(packed([long])))
  text = "x".join(map(str, (*shape, CELL)))
  with pytest.raises(ValueError, match=f"{text} .* (20|17) tokens .* 16"):
    loader.row_of({"1x2x2x3": 5, text: 1}, PATCH, 16)
  with pytest.raises(ValueError, match=r"(20|17) tokens .* 16"):
    loader.rows_of([loader.tokens(long, PATCH, words())], ROWS)


def test_too_long_caption_is_an_error():
  item = Item(np.zeros((1, 2, 2, CELL), np.float16), "word " * 50, "")
  with pytest.raises(ValueError, match="max_tokens=8"):
    loader.tokens(item, PATCH, dataclasses.replace(words(), max_tokens=8))


def test_row_of():
  shapes = {"3x4x4x3": 2, "1x2x4x3": 5}
  assert loader.row_of(shapes, PATCH, 16) == (3, 2 * 12 + 5 * 2)


def test_rows_of_has_the_form_of_packed():
  sequences = [loader.tokens(i, PATCH, words()) for i in items()]
  rows = loader.rows_of(sequences, ROWS)
  assert sorted(assert_whole(rows)) == list(range(COUNT))
  other = next(iter(packed()))
  assert rows.keys() == other.keys()
  for name in rows:
    assert rows[name].shape[1:] == other[name].shape[1:]
    assert rows[name].dtype == other[name].dtype


def clip(i, size=(3, 4, 5)):
  video = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
  video.flat[0] = i
  return Clip(video, 8.0, f"caption {i}", f"key {i}")


class Damaged:
  """Clips of which every third cannot be decoded."""

  def __len__(self):
    return 9

  def __getitem__(self, index):
    return None if index % 3 == 1 else clip(index)


GOOD = {0, 2, 3, 5, 6, 8}


def keep(clip, rng):
  return clip


def pixels(transform=keep, **changes):
  return loader.clips(
    Damaged(),
    transform,
    **{"size": (3, 4, 5), "batch": 2, "seed": 0, "threads": 1, **changes},
  )


def test_pad():
  padded = loader.pad(clip(1, (2, 3, 4)), (3, 3, 6))
  video, mask = padded["video"], padded["mask"]
  assert video.shape == (3, 3, 6, 3) and mask.shape == (3, 3, 6)
  assert mask.dtype == bool and mask.sum() == 2 * 3 * 4
  assert mask[:2, :3, :4].all()
  np.testing.assert_array_equal(
    video[mask].reshape(2, 3, 4, 3), clip(1, (2, 3, 4)).video
  )
  np.testing.assert_array_equal(video[2], video[1])
  np.testing.assert_array_equal(video[:, :, 4], video[:, :, 3])


@pytest.mark.parametrize("size", [(2, 4, 5), (3, 3, 5), (3, 4, 4)])
def test_clip_that_does_not_fit_is_an_error(size):
  with pytest.raises(ValueError, match=r"key 7: .*\(3, 4, 5\) does not fit"):
    loader.pad(clip(7), size)


def test_clips_passes_over_what_cannot_be_decoded():
  batches = list(itertools.islice(pixels(), 9))
  seen = [int(v.flat[0]) for b in batches for v in b["video"]]
  for epoch in np.reshape(seen, (3, 6)):
    assert set(epoch) == GOOD  # each once
  assert not np.array_equal(seen[:6], seen[6:12])
  for batch in batches:
    assert batch["mask"].all() and batch["mask"].shape == (2, 3, 4, 5)
    for video in batch["video"]:
      np.testing.assert_array_equal(video, clip(int(video.flat[0])).video)


def test_clips_resume_exactly_with_random_transforms():
  def shifted(clip, rng):
    video = np.roll(clip.video, rng.integers(1, 100))
    return Clip(video, clip.fps, clip.text, clip.key)

  make = functools.partial(pixels, shifted, size=(4, 4, 5))
  run = iter(make())
  next(run), next(run)
  state = run.get_state()
  expected = [next(run) for _ in range(5)]
  resumed = iter(make())
  resumed.set_state(state)
  for batch in expected:
    assert_equal(next(resumed), batch)
  # The transform's randomness differs between epochs.
  videos = [
    v.tobytes() for b in itertools.islice(make(), 9) for v in b["video"]
  ]
  assert len(set(videos)) > 12


def jitter(clip, rng):
  video = clip.video + rng.integers(1, 3, dtype=np.uint8)
  return Clip(video, clip.fps, clip.text, clip.key)


@pytest.mark.parametrize("memory", [0, 10**6])
def test_ordered_gives_every_clip_once(memory):
  prepared = loader.Prepared(Damaged(), jitter, memory)
  runs = [list(loader.ordered(prepared, threads=2)) for _ in range(2)]
  assert [c.key for c in runs[0]] == [f"key {i}" for i in sorted(GOOD)]
  for a, b in zip(*runs, strict=True):
    np.testing.assert_array_equal(a.video, b.video)


def test_ordered_by_workers_is_as_it_was():
  prepared = loader.Prepared([clip(i) for i in range(7)], keep, 0)
  alone = list(loader.ordered(prepared, threads=1))
  apart = list(loader.ordered(prepared, threads=1, workers=2))
  assert [c.key for c in apart] == [c.key for c in alone]
  for a, b in zip(alone, apart):
    np.testing.assert_array_equal(a.video, b.video)
    assert a.text == b.text


def test_prepared_keeps_what_fits_in_memory():
  made = []

  def transform(clip, rng):
    made.append(clip.key)
    return jitter(clip, rng)

  fits_two = 2 * clip(0).video.nbytes
  prepared = loader.Prepared(Damaged(), transform, fits_two)
  first = [prepared[i] for i in range(len(prepared))]
  made.clear()
  second = [prepared[i] for i in range(len(prepared))]
  assert made == [f"key {i}" for i in sorted(GOOD)[2:]]
  for a, b in zip(first, second, strict=True):
    assert (a is None) == (b is None)
    if a is not None:
      np.testing.assert_array_equal(a.video, b.video)
