"""Every attention variant against softmax attention in float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import attention
from sora_jax.models.attention import ATTENTION, WINDOW

# Rows: two clips and padding; three clips that fill it; nothing at all.
SEGMENTS = np.array(
  [
    [1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0],
    [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  ],
  np.int32,
)
CLIPS, HEADS, SIZE = 3, 2, 8
pytestmark = pytest.mark.usefixtures("small_blocks")
TOGETHER = ("tiled",)  # which want the tokens of a clip together


def inputs(seed=0, scale=1.5):
  rng = np.random.default_rng(seed)
  shape = (3, *SEGMENTS.shape, HEADS, SIZE)
  q, k, v = (scale * rng.normal(size=shape)).astype(np.float32)
  # Two frames of a height, far apart; and the last tokens are text.
  place = np.tile(np.arange(SEGMENTS.shape[1], dtype=np.int32), (3, 1))
  text = place > 9
  positions = np.stack([4 * (place % 2), place // 2, place % 3], axis=-1)
  positions[text] = np.stack([0 * place, -place, -place], axis=-1)[text]
  return q, k, v, SEGMENTS, positions


def attend(name):
  return functools.partial(ATTENTION[name], clips=CLIPS)


@functools.cache
def compiled(name):
  return jax.jit(attend(name))


def allowed(name, head, a, b):
  """May a token at `a` look at one at `b` of its clip?"""
  away = np.abs(a - b)
  if a[1] < 0 or b[1] < 0:
    return True
  if name == "window":
    return bool((away <= WINDOW).all())
  if name == "factorised":
    return away[0] == 0 if head < HEADS // 2 else not away[1:].any()
  return True


def exact(name, q, k, v, segments, positions):
  """Segment by segment, in float64."""
  q, k, v = (x.astype(np.float64) for x in (q, k, v))
  out = np.zeros_like(v)
  for r, row in enumerate(segments):
    for segment in set(row):
      at = np.flatnonzero(row == segment)
      for n in range(HEADS):
        score = q[r, at, n] @ k[r, at, n].T / np.sqrt(SIZE)
        places = positions[r, at]
        mask = [[allowed(name, n, a, b) for b in places] for a in places]
        score = np.where(mask, score, -np.inf)
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        out[r, at, n] = weight @ v[r, at, n]
  return out


@pytest.mark.parametrize("name", ATTENTION)
def test_equals_the_definition(name):
  q, k, v, segments, positions = inputs()
  out = np.asarray(compiled(name)(q, k, v, segments, positions))
  real = segments > 0
  assert out.shape == q.shape and out.dtype == np.float32
  expected = exact(name, q, k, v, segments, positions)
  np.testing.assert_allclose(out[real], expected[real], atol=2e-6)


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("name", ATTENTION)
def test_no_leak_between_segments_nor_from_padding(name, segment):
  q, k, v, segments, positions = inputs()
  before = np.asarray(compiled(name)(q, k, v, segments, positions))
  changed = segments == segment
  for x, y in zip((q, k, v), inputs(1, 30.0)):
    x[changed] = y[changed]
  after = np.asarray(compiled(name)(q, k, v, segments, positions))
  others = (segments > 0) & ~changed
  np.testing.assert_allclose(after[others], before[others], atol=1e-6)
  if segment:  # what padding says is nobody's business
    assert np.abs(after[changed] - before[changed]).max() > 1


@pytest.mark.parametrize("name", ATTENTION)
def test_gradients_are_finite_and_do_not_leak(name):
  q, k, v, segments, positions = inputs(scale=20.0)

  def total(qkv, kept):
    out = attend(name)(*qkv, segments, positions)
    return (jnp.square(out) * kept[..., None, None]).sum()

  grad = jax.jit(jax.grad(total))
  for kept in (segments == 1, segments >= 0):
    for g in grad((q, k, v), kept.astype(np.float32)):
      assert np.isfinite(g).all()
      np.testing.assert_allclose(np.asarray(g)[~kept], 0, atol=1e-6)
  assert np.isfinite(compiled(name)(q, k, v, segments, positions)).all()


@pytest.mark.parametrize("name", ATTENTION)
def test_order_of_the_row_does_not_matter(name):
  """Or it is refused, as far as data can be: by no number at all."""
  args = inputs()
  order = np.random.default_rng(2).permutation(SEGMENTS.shape[1])
  out = np.asarray(compiled(name)(*args))
  moved = np.asarray(compiled(name)(*(x[:, order] for x in args)))
  real = SEGMENTS > 0
  if name in TOGETHER:
    assert np.isnan(moved[:2]).all() and np.isfinite(moved[2]).all()
    return
  np.testing.assert_allclose(
    moved[real[:, order]], out[:, order][real[:, order]], atol=2e-6
  )


@pytest.mark.parametrize("name", ATTENTION)
def test_bfloat16(name):
  q, k, v, segments, positions = inputs()
  half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
  out = compiled(name)(*half, segments, positions)
  assert out.dtype == jnp.bfloat16
  real = segments > 0
  expected = exact(name, q, k, v, segments, positions)
  error = np.asarray(out, np.float32) - expected
  assert np.abs(error[real]).max() < 0.1


def test_fewer_pairs_are_other_functions():
  """Else the tests above would say nothing of the masks."""
  args = inputs()
  whole = np.asarray(compiled("full")(*args))[SEGMENTS > 0]
  for name in ("window", "factorised"):
    part = np.asarray(compiled(name)(*args))[SEGMENTS > 0]
    assert np.abs(part - whole).max() > 0.1


def test_spans():
  start, size, together = attention.spans(jnp.asarray(SEGMENTS), CLIPS)
  np.testing.assert_array_equal(start, [[0, 5, 0], [0, 1, 5], [0, 0, 0]])
  np.testing.assert_array_equal(size, [[5, 3, 0], [1, 4, 7], [0, 0, 0]])
  assert together.all()


@pytest.mark.parametrize(
  ("row", "together"),
  [
    ([1, 1, 0, 2, 0, 3], True),  # clips whose captions were dropped
    ([0, 2, 2, 0, 3, 3], True),
    ([1, 1, 2, 1, 3, 3], False),
    ([1, 1, 0, 1, 2, 3], False),
    ([2, 2, 1, 1, 3, 3], False),
    ([3, 3, 0, 0, 1, 1], False),
    ([1, 2, 3, 4, 4, 4], False),  # one more than CLIPS
  ],
)
def test_spans_of_clips_in_pieces_or_out_of_order(row, together):
  *_, found = attention.spans(jnp.asarray([row]), CLIPS)
  assert bool(found[0]) == together


def by_span(q, k, v, q_seqlen, kv_seqlen, q_offsets, kv_offsets, scale):
  """What cuDNN's kernel says that it does with what JAX makes of its arguments.

  Sequences lie in one array, each at its offset; what is in none is NaN, in the
  result and in the gradients.
  """
  packing = (q_seqlen, kv_seqlen, q_offsets, kv_offsets)
  rows, length, heads, size = q.shape
  for x, count in zip(packing, (CLIPS, CLIPS, CLIPS + 1, CLIPS + 1)):
    assert x.shape == (rows, count) and x.dtype == jnp.int32
  at = attention.cudnn._fix_seqlen_offsets(*packing, q, k)
  sizes, _, starts, _ = (np.asarray(x).ravel() for x in at)
  member = np.full(rows * length, -1)
  for i, (start, count) in enumerate(zip(starts // (heads * size), sizes)):
    member[start : start + count] = i
  mask = jnp.asarray((member[:, None] == member) & (member >= 0))
  hole = jnp.asarray(member < 0).reshape(rows, length, 1, 1)

  @jax.custom_vjp
  def read(x):  # not where the holes are
    return jnp.where(hole, 0, x).reshape(-1, heads, size)

  def unwritten(_, d):
    return (jnp.where(hole, jnp.nan, d.reshape(rows, length, heads, size)),)

  read.defvjp(lambda x: (read(x), ()), unwritten)
  q, k, v = read(q), read(k), read(v)
  score = jnp.where(mask, scale * jnp.einsum("ink,jnk->nij", q, k), -1e30)
  out = jnp.einsum("nij,jnk->ink", jax.nn.softmax(score), v)
  return jnp.where(hole, jnp.nan, out.reshape(rows, length, heads, size))


@pytest.fixture(name="kernel")
def kernel_fixture(monkeypatch):
  """cuDNN's needs a GPU: here is one that does what that says."""
  monkeypatch.setattr(attention, "_packs", lambda q: True)
  monkeypatch.setattr(attention.cudnn, "dot_product_attention", by_span)


def test_packed_asks_the_kernel_for_each_clip(kernel):
  q, k, v, segments, positions = inputs()
  out = attend("packed")(q, k, v, jnp.asarray(segments), positions)
  expected = exact("packed", q, k, v, segments, positions)
  expected *= (segments > 0)[..., None, None]
  np.testing.assert_allclose(out, expected, atol=2e-6)
  apart = jnp.asarray(segments).at[0, 0].set(2)
  wrong = np.asarray(attend("packed")(q, k, v, apart, positions))
  assert np.isnan(wrong[0]).all() and np.isfinite(wrong[1:]).all()


def test_gradients_of_packed_are_those_of_full(kernel):
  q, k, v, segments, positions = inputs()

  def gradients(name):
    def total(qkv):
      out = attend(name)(*qkv, jnp.asarray(segments), positions)
      return (jnp.square(out) * (segments > 0)[..., None, None]).sum()

    return jax.grad(total)((q, k, v))

  for one, other in zip(gradients("packed"), gradients("full")):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_one_clip_a_row_needs_no_packing(kernel):
  q, k, v, segments, positions = inputs()
  args = (q, k, v, (segments == 1).astype(np.int32), positions)
  out = ATTENTION["packed"](*args, clips=1)
  np.testing.assert_array_equal(out, ATTENTION["library"](*args, clips=1))
