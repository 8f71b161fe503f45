"""Packing: nothing lost, nothing shared, and the limits kept."""

import numpy as np
import pytest

from sora_jax.packing import pack

ROW = 16


def random_lengths(seed):
  rng = np.random.default_rng(seed)
  return [int(n) for n in rng.integers(1, ROW + 1, rng.integers(1, 20))]


def plan(lengths, most=99):
  """The first layout, with captions too short to stand in the way."""
  return pack.plan(lengths, ROW, most, [1] * len(lengths), 99)[0]


def owners(layout):
  """How many slots claim each token [R, L]."""
  count = np.zeros((layout.rows, layout.length), int)
  for s in layout.slots:
    assert s.start >= 0 and s.start + s.length <= layout.length
    count[s.row, s.start : s.start + s.length] += 1
  return count


@pytest.mark.parametrize("most", [99, 1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_plan(seed, most):
  lengths = random_lengths(seed)
  layout = plan(lengths, most)
  count = owners(layout)
  assert count.max() == 1
  assert count.sum() == sum(lengths)
  assert [s.length for s in layout.slots] == lengths
  segments = layout.segments
  np.testing.assert_array_equal(segments > 0, count == 1)
  for row in segments:
    clips = set(row) - {0}
    assert clips == set(range(1, len(clips) + 1))
    assert len(clips) >= 1
    assert len(clips) <= most


@pytest.mark.parametrize("seed", range(8))
def test_round_trip(seed):
  lengths = random_lengths(seed)
  rng = np.random.default_rng(seed)
  sequences = [rng.normal(size=(n, 2, 3)).astype(np.float32) for n in lengths]
  layout = plan(lengths)
  rows = pack.pack(sequences, layout)
  assert rows.shape == (layout.rows, ROW, 2, 3)
  assert rows.dtype == np.float32
  assert not rows[layout.segments == 0].any()
  for x, y in zip(pack.unpack(rows, layout), sequences, strict=True):
    np.testing.assert_array_equal(x, y)


def test_first_fit_decreasing_fills_rows():
  assert plan([3, 13, 8, 8]).rows == 2
  assert plan([ROW] * 3).rows == 3


def test_too_long_is_an_error():
  with pytest.raises(ValueError, match=f"clip 1 has {ROW + 1} .* {ROW}"):
    plan([3, ROW + 1])


@pytest.mark.parametrize("seed", range(8))
def test_both_streams_share_rows_and_segments(seed):
  lengths = random_lengths(seed)
  rng = np.random.default_rng(seed)
  riders = [int(n) for n in rng.integers(1, 9, len(lengths))]
  layout, other = pack.plan(lengths, ROW, 3, riders, 10)
  assert (other.rows, other.length) == (layout.rows, 10)
  for a, b, n in zip(layout.slots, other.slots, riders, strict=True):
    assert (a.row, a.segment, n) == (b.row, b.segment, b.length)
  assert owners(other).max() == 1
  for a, b in zip(layout.segments, other.segments, strict=True):
    assert set(a) - {0} == set(b) - {0}


def test_long_captions_open_a_row():
  lengths, riders = [2, 2, 2, 2], [6, 6, 6, 6]
  assert pack.plan(lengths, ROW, 9, riders, 24)[0].rows == 1
  assert pack.plan(lengths, ROW, 9, riders, 12)[0].rows == 2
  with pytest.raises(ValueError, match=r"clip 0 has 6 text tokens .* 5"):
    pack.plan(lengths, ROW, 9, riders, 5)


def test_counts_are_of_what_the_layouts_hold():
  rng = np.random.default_rng(0)
  lengths = [int(n) for n in rng.integers(3, 40, 12)]
  riders = [int(n) for n in rng.integers(1, 9, 12)]
  video, text = pack.plan(lengths, 64, 4, riders, 20)
  batch = {"video_segments": video.segments, "text_segments": text.segments}
  assert pack.counts(batch) == {
    "clips": 12,
    "tokens": sum(lengths) + sum(riders),
    "places": video.rows * (64 + 20),
  }


@pytest.mark.parametrize("most", [1, 2, 8, 20, 64, 128])
def test_few_shapes_hold_any_number_with_little_room_to_spare(most):
  counts = range(1, most + 1)
  found = [pack.filled(count, most) for count in counts]
  assert found[0] == 1 and found[-1] == most and found == sorted(found)
  assert len(set(found)) <= 8 + 4
  for count, holds in zip(counts, found):
    assert count <= holds <= most
    assert holds - count < min(count, -(-most // 8))
