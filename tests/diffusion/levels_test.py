"""Patterns of noise levels: what is known, and who shares a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import levels as levels_lib
from sora_jax.packing import pack, patchify

# Two clips of several frames, then an image; and three tokens of padding.
SIZES = ((4, 2, 2), (2, 1, 3), (1, 2, 3))
IMAGE = 2
CLIPS, FRAMES, ROWS = 3, 5, 400


def times(rng, shape):
  return jax.random.uniform(rng, shape, minval=0.05)


@functools.cache
def rows():
  at = [patchify.positions(size, (1, 1, 1)) for size in SIZES]
  lengths = [len(p) for p in at]
  # In the order given, so that clip i has segment i + 1.
  starts = np.cumsum([0, *lengths])
  slots = tuple(
    pack.Slot(0, int(s), n, i + 1)
    for i, (s, n) in enumerate(zip(starts, lengths))
  )
  layout = pack.Layout(1, int(starts[-1]) + 3, slots)
  repeat = functools.partial(np.repeat, repeats=ROWS, axis=0)
  return repeat(pack.pack(at, layout)), repeat(layout.segments)


@jax.jit
def sample(rng, weights):
  positions, segments = rows()
  where = levels_lib.place(positions, segments, CLIPS)
  mixture = dict(zip(levels_lib.PATTERNS, weights, strict=True))
  return levels_lib.sample(rng, where, times, mixture, CLIPS, FRAMES)


def drawn(seed=0, **mixture):
  """(levels [R, K], level [R, L]) of a mixture of patterns."""
  weights = jnp.array([mixture.get(n, 0.0) for n in levels_lib.PATTERNS])
  return [np.asarray(x) for x in sample(jax.random.key(seed), weights)]


def of_clip(level, clip):
  """Levels [R, frames, tokens of a frame] of one clip."""
  _, segments = rows()
  return level[:, segments[0] == clip + 1].reshape(ROWS, SIZES[clip][0], -1)


def test_place():
  positions, segments = rows()
  where = levels_lib.place(positions, segments, CLIPS)
  np.testing.assert_array_equal(where.real, segments > 0)
  sizes = levels_lib.sizes(segments, CLIPS)
  for i, size in enumerate(SIZES):
    own = segments == i + 1
    assert (where.clip[own] == i).all()
    assert (where.last[own] == size[0] - 1).all()
    assert (sizes[:, i] == np.prod(size)).all()
    frame = np.asarray(where.frame)[own].reshape(ROWS, *size)
    np.testing.assert_array_equal(
      frame, np.broadcast_to(np.arange(size[0])[:, None, None], frame.shape)
    )


@pytest.mark.parametrize("name", levels_lib.PATTERNS)
def test_every_pattern(name):
  levels, level = drawn(**{name: 1.0})
  _, segments = rows()
  assert levels.shape == (ROWS, 1 + CLIPS * FRAMES)
  assert (levels[:, 0] == 0).all()
  assert (levels[:, 1:] > 0).all() and (levels <= 1).all()
  assert level.dtype == np.int32
  assert (level[segments == 0] == 0).all()
  assert level.min() >= 0 and level.max() < levels.shape[1]
  # A noisy token reads the entries of its own clip and nobody else's.
  noisy = level > 0
  np.testing.assert_array_equal(
    (level[noisy] - 1) // FRAMES, segments[noisy] - 1
  )
  _, per_frame = levels_lib.PATTERNS[name]
  for clip, _ in enumerate(SIZES):
    mine = of_clip(level, clip)
    assert (mine > 0).any(axis=(1, 2)).all()  # something to denoise
    for row in mine[:20]:
      shared = [set(f[f > 0]) for f in row]
      if per_frame:
        assert all(len(s) <= 1 for s in shared)
        used = [s for s in shared if s]
        assert len(set().union(*used)) == len(used)
      else:
        assert len(set().union(*shared)) == 1


@pytest.mark.parametrize("clip", range(CLIPS))
@pytest.mark.parametrize(
  "name, known",
  [
    ("clip", lambda frame, last: False),
    ("frames", lambda frame, last: False),
    ("first_frame", lambda frame, last: frame == 0),
    ("last_frame", lambda frame, last: frame == last),
  ],
)
def test_known_frames(name, known, clip):
  _, level = drawn(**{name: 1.0})
  mine, last = of_clip(level, clip), SIZES[clip][0] - 1
  for frame in range(last + 1):
    expected = known(frame, last) and clip != IMAGE
    assert ((mine[:, frame] == 0) == expected).all()


def test_prefix_is_of_every_length():
  _, level = drawn(prefix=1.0)
  for clip, (frames, *_) in enumerate(SIZES):
    known = of_clip(level, clip) == 0  # [R, frames, n]
    whole = known.all(axis=2)
    np.testing.assert_array_equal(whole, known.any(axis=2))
    assert (np.diff(whole.astype(int), axis=1) <= 0).all()
    lengths = whole.sum(axis=1)
    allowed = set(range(1, frames)) if clip != IMAGE else {0}
    assert set(lengths) == allowed
    for n in allowed:
      assert (lengths == n).mean() > 0.5 / len(allowed)


def test_mask_has_a_rate_of_its_own_in_every_clip():
  _, level = drawn(mask=1.0)
  rates = [
    (of_clip(level, clip) == 0).mean(axis=(1, 2)) for clip in range(CLIPS)
  ]
  assert abs(rates[0].mean() - 0.5) < 0.1
  assert rates[0].std() > 0.2  # one rate for all would give 0.13
  assert abs(np.corrcoef(rates[0], rates[1])[0, 1]) < 0.2


def test_mixture_frequencies():
  mixture = {"clip": 0.5, "first_frame": 0.3, "frames": 0.2}
  _, level = drawn(**mixture)
  counts = dict.fromkeys(mixture, 0)
  for clip in (0, 1):
    mine = of_clip(level, clip)
    known = mine == 0
    first = known[:, 0].all(axis=1) & ~known[:, 1:].any(axis=(1, 2))
    one = (mine == mine[:, :1, :1]).all(axis=(1, 2))
    many = ~known.any(axis=(1, 2)) & ~one
    counts["clip"] += (one & ~known.any(axis=(1, 2))).sum()
    counts["first_frame"] += first.sum()
    counts["frames"] += many.sum()
  assert sum(counts.values()) == 2 * ROWS
  for name, share in mixture.items():
    assert abs(counts[name] / (2 * ROWS) - share) < 0.06


def test_clips_of_a_row_are_independent():
  levels, level = drawn(clip=0.5, first_frame=0.5)
  known = [(of_clip(level, c) == 0).any(axis=(1, 2)) for c in (0, 1)]
  both = np.corrcoef(known[0], known[1])[0, 1]
  assert known[0].std() > 0 and abs(both) < 0.2
  time = np.take_along_axis(levels, level, axis=1)
  a, b = (of_clip(time, c)[:, -1, -1] for c in (0, 1))
  assert (a != b).all() and abs(np.corrcoef(a, b)[0, 1]) < 0.2


def test_depends_on_the_key_alone():
  first, again, other = (drawn(s, prefix=0.5, mask=0.5) for s in (0, 0, 1))
  for x, y, z in zip(first, again, other):
    np.testing.assert_array_equal(x, y)
    assert (x != z).any()


def test_unknown_pattern_is_an_error():
  positions, segments = rows()
  where = levels_lib.place(positions, segments, CLIPS)
  with pytest.raises(ValueError, match=r"nonsense.*first_frame"):
    levels_lib.sample(
      jax.random.key(0), where, times, {"nonsense": 1.0}, CLIPS, FRAMES
    )
