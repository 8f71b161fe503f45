"""Every attention variant against softmax attention in float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models.attention import ATTENTION

# Rows: two clips and padding; three clips that fill it; nothing at all.
SEGMENTS = np.array(
  [
    [1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0],
    [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  ],
  np.int32,
)
HEADS, SIZE = 2, 8


def inputs(seed=0, scale=1.5):
  rng = np.random.default_rng(seed)
  shape = (3, *SEGMENTS.shape, HEADS, SIZE)
  q, k, v = (scale * rng.normal(size=shape)).astype(np.float32)
  # Distinct in every segment, as a clip's tokens are.
  place = np.tile(np.arange(SEGMENTS.shape[1], dtype=np.int32), (3, 1))
  positions = np.stack([place, place, place], axis=-1)
  return q, k, v, SEGMENTS, positions


@functools.cache
def compiled(name):
  return jax.jit(ATTENTION[name])


def exact(q, k, v, segments):
  """Segment by segment, in float64."""
  q, k, v = (x.astype(np.float64) for x in (q, k, v))
  out = np.zeros_like(v)
  for r, row in enumerate(segments):
    for segment in set(row):
      at = np.flatnonzero(row == segment)
      for n in range(HEADS):
        score = q[r, at, n] @ k[r, at, n].T / np.sqrt(SIZE)
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
  expected = exact(q, k, v, segments)
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
  assert np.abs(after[changed] - before[changed]).max() > 1


@pytest.mark.parametrize("name", ATTENTION)
def test_gradients_are_finite_and_do_not_leak(name):
  q, k, v, segments, positions = inputs(scale=20.0)

  def total(qkv, kept):
    out = ATTENTION[name](*qkv, segments, positions)
    return (jnp.square(out) * kept[..., None, None]).sum()

  grad = jax.jit(jax.grad(total))
  for kept in (segments == 1, segments >= 0):
    for g in grad((q, k, v), kept.astype(np.float32)):
      assert np.isfinite(g).all()
      np.testing.assert_allclose(np.asarray(g)[~kept], 0, atol=1e-6)
  assert np.isfinite(compiled(name)(q, k, v, segments, positions)).all()


@pytest.mark.parametrize("name", ATTENTION)
def test_order_of_the_row_does_not_matter(name):
  args = inputs()
  order = np.random.default_rng(2).permutation(SEGMENTS.shape[1])
  out = np.asarray(compiled(name)(*args))
  moved = np.asarray(compiled(name)(*(x[:, order] for x in args)))
  real = SEGMENTS > 0
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
  error = np.asarray(out, np.float32) - exact(q, k, v, segments)
  assert np.abs(error[real]).max() < 0.1
