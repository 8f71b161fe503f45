"""Gathers with gradients of their own have the gradients that they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import layers

SEGMENTS = np.array([[2, 0, 1, 2, 1, 0], [1, 1, 2, 2, 3, 3]], np.int32)


def test_clip_by_clip_and_back():
  order, back = layers.clip_by_clip(SEGMENTS)
  there = layers.reorder(SEGMENTS, order)
  assert there.tolist() == [[1, 1, 2, 2, 0, 0], [1, 1, 2, 2, 3, 3]]
  # Stable: tokens of a clip keep their order.
  assert order[0].tolist() == [2, 4, 0, 3, 1, 5]
  np.testing.assert_array_equal(layers.reorder(there, back), SEGMENTS)


def gradients(fn, x, weight):
  return jax.grad(lambda x: (fn(x) * weight).sum())(x)


def test_permute_has_the_gradient_of_a_gather():
  rng = np.random.default_rng(0)
  x, weight = rng.normal(size=(2, 2, 6, 3)).astype(np.float32)
  order, back = layers.clip_by_clip(SEGMENTS)
  plain = gradients(lambda x: layers.reorder(x, order), x, weight)
  own = gradients(lambda x: layers.permute(x, order, back), x, weight)
  np.testing.assert_allclose(own, plain)


def test_gather_has_the_gradient_of_a_gather():
  rng = np.random.default_rng(0)
  values = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32)
  level = rng.integers(0, 4, (2, 6))
  weight = rng.normal(size=(2, 6, 3)).astype(np.float32)
  plain = gradients(lambda x: layers.reorder(x, level), values, weight)
  own = gradients(lambda x: layers.gather(x, level), values, weight)
  np.testing.assert_allclose(own, plain, atol=1e-6)
  assert layers.gather(values, level)[1, 2].tolist() == (
    values[1, level[1, 2]].tolist()
  )


@pytest.mark.parametrize("shape", [(40,), (4, 10), (2, 2, 10)])
def test_matmul_and_gradients_round_operands_and_sum_in_float32(shape):
  rng = np.random.default_rng(0)
  x, w, d = (
    rng.normal(size=s).astype(np.float32)
    for s in ((*shape, 300), (300, 7), (*shape, 7))
  )
  out, back = jax.vjp(lambda x, w: layers.matmul(x, w, jnp.bfloat16), x, w)
  d_x, d_w = back(d)

  def rounded(a):  # float64, with bfloat16's values
    return np.asarray(jnp.asarray(a).astype(jnp.bfloat16)).astype(np.float64)

  def flat(a):
    return a.reshape(-1, a.shape[-1])

  x, w, d = (rounded(a) for a in (x, w, d))
  for found, true in (
    (out, x @ w),
    (d_x, d @ w.T),
    (d_w, flat(x).T @ flat(d)),
  ):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, true, atol=1e-4)


def test_tubes_look_along_time_at_their_own_place_first():
  """One of three heads, of 5 x 4 x 4 patches of two cells, beside words."""
  place = np.stack(np.meshgrid(range(5), range(4), range(4), indexing="ij"), -1)
  words = [[0, -2, i] for i in range(20)]
  positions = np.concatenate([place.reshape(-1, 3) * (1, 2, 2), words])
  found = []

  def weights(q, k, v, segments, positions, clips):
    del segments, positions, clips
    score = jnp.einsum("rink,rjnk->rnij", q, k) * q.shape[-1] ** -0.5
    found.append(jax.nn.softmax(score)[0, :, :80])  # [N, patches, L]
    return v

  segments = jnp.ones((1, 100), jnp.int32)
  where = layers.place(jnp.asarray(positions[None]), segments, 192, 3, 100.0)
  x = jax.random.normal(jax.random.key(0), (1, 100, 192))
  attend = layers.Attention(3, "weights", 1, jnp.float32, tubes=1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(layers.ATTENTION, "weights", weights)
    attend.init_with_output(jax.random.key(1), x, where)
  same = (positions[:80, None, 1:] == positions[None, :, 1:]).all(-1)
  tube, *others = (np.asarray(found[0]) * same).sum(-1)  # [N, patches]
  assert tube.min() > 0.4 and tube.mean() > 0.6
  assert np.mean(others) < 0.1  # five of a hundred
  # At every time alike: the five weights are of one size.
  of_one = np.asarray(found[0][0])[same].reshape(80, 5)
  assert (of_one.max(1) < 5 * of_one.min(1)).mean() > 0.9
