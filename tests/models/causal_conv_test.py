"""Causal convolution: its lowerings agree, and chunks are the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models.causal_conv import (
  LOWERINGS,
  STREAM,
  CausalConv,
  rounded,
  volume,
)
from tests.conftest import filled, in_chunks


def make(factored=False, lowering="volume", temporal=3, spatial=3, matmul=None):
  conv = CausalConv(
    5, spatial, temporal, factored, lowering, jnp.float32, matmul
  )
  x = jnp.asarray(
    np.random.default_rng(0).standard_normal((2, 7, 6, 8, 4)), jnp.float32
  )
  params = filled(jax.eval_shape(conv.init, jax.random.key(0), x)["params"])
  return conv, {"params": params}, x


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("temporal, spatial", [(1, 3), (2, 1), (3, 3), (4, 5)])
def test_a_lowering_is_the_convolution_by_hand(lowering, temporal, spatial):
  rng = np.random.default_rng(1)
  x = rng.standard_normal((1, 3 + temporal - 1, 4, 5, 2))
  kernel = rng.standard_normal((temporal, spatial, spatial, 2, 3))
  half = spatial // 2
  wide = np.pad(x, [(0, 0), (0, 0), (half, half), (half, half), (0, 0)])
  expected = np.zeros((1, 3, 4, 5, 3))
  for t, i, k in np.ndindex(3, 4, 5):
    cut = wide[0, t : t + temporal, i : i + spatial, k : k + spatial]
    expected[0, t, i, k] = np.einsum("tijc,tijcf->f", cut, kernel)
  found = LOWERINGS[lowering](jnp.float32(x), jnp.float32(kernel))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_lowerings_agree_with_gradients(lowering):
  conv, variables, x = make()
  other = make(lowering=lowering)[0]

  def loss(module, variables, x):
    return jnp.square(module.apply(variables, x)).mean()

  for a, b in zip(
    jax.tree.leaves(jax.grad(loss, (1, 2))(conv, variables, x)),
    jax.tree.leaves(jax.grad(loss, (1, 2))(other, variables, x)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("temporal, spatial", [(1, 3), (2, 1), (3, 3), (4, 5)])
def test_by_matmuls_operands_are_rounded_and_sums_float32(temporal, spatial):
  rng = np.random.default_rng(2)
  x, kernel, d = (
    rng.standard_normal(size).astype(np.float32)
    for size in (
      (2, 3 + temporal - 1, 4, 5, 6),
      (temporal, spatial, spatial, 6, 3),
      (2, 3, 4, 5, 3),
    )
  )
  own, back = jax.vjp(lambda x, k: rounded(x, k, jnp.bfloat16), x, kernel)

  def low(a):
    return jnp.asarray(a).astype(jnp.bfloat16).astype(jnp.float32)

  exact, exactly_back = jax.vjp(volume, low(x), low(kernel))
  for found, true in zip(
    (own, *back(d)), (exact, *exactly_back(low(d))), strict=True
  ):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, true, atol=1e-4)


@pytest.mark.parametrize("factored", [True, False])
def test_bfloat16_operands_change_little_and_the_right_ones_nothing(factored):
  conv, variables, x = make(factored)
  exact = conv.apply(variables, x)
  same = make(factored, matmul=jnp.float32)[0].apply(variables, x)
  np.testing.assert_array_equal(same, exact)
  near = make(factored, matmul=jnp.bfloat16)[0].apply(variables, x)
  error = np.sqrt(np.mean((near - exact) ** 2) / np.mean(exact**2))
  assert near.dtype == jnp.float32 and 0 < error < 0.01


@pytest.mark.parametrize("matmul", [None, jnp.bfloat16])
@pytest.mark.parametrize("temporal", [1, 2, 4])
@pytest.mark.parametrize("factored", [True, False])
def test_chunks_are_the_whole(factored, temporal, matmul):
  conv, variables, x = make(factored, "frames", temporal, matmul=matmul)
  whole = conv.apply(variables, x)
  for sizes in ((7,), (1,) * 7, (3, 1, 2, 1), (1, 6)):
    parts = in_chunks(conv, variables, x, sizes)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_without_the_collection_nothing_is_carried():
  conv, variables, x = make()
  _, state = conv.apply(variables, x, mutable=[STREAM])
  assert jax.tree.leaves(state)
  again = conv.apply(variables, x)
  np.testing.assert_array_equal(conv.apply({**variables, **state}, x), again)
  fresh = conv.init(jax.random.key(0), x)
  assert set(fresh) == {"params"}
