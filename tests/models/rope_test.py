"""Rotary positions: only differences count, on each axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import rope

HEAD, BASE = 16, 100.0


def rotated(x, positions):
  return rope.rotate(x, rope.table(positions, x.shape[-1], BASE))


def vectors():
  x = jax.random.normal(jax.random.key(0), (2, 1, 5, 3, HEAD))
  at = jax.random.randint(jax.random.key(1), (2, 1, 5, 3), -9, 9)
  return x, at


def products(q, k):
  return jnp.einsum("rink,rjnk->rnij", q, k)


@pytest.mark.parametrize("axis", range(3))
def test_only_differences_count(axis):
  (q, k), (at_q, at_k) = vectors()
  move = jnp.zeros(3, jnp.int32).at[axis].set(7)
  before = products(rotated(q, at_q), rotated(k, at_k))
  both = products(rotated(q, at_q + move), rotated(k, at_k + move))
  one = products(rotated(q, at_q + move), rotated(k, at_k))
  np.testing.assert_allclose(both, before, atol=1e-4)
  assert jnp.abs(one - before).max() > 0.5


def test_axes_rotate_pairs_of_their_own():
  x, at = vectors()
  x, at = x[0], at[0]
  moved = []
  for axis in range(3):
    move = jnp.zeros(3, jnp.int32).at[axis].set(3)
    difference = rotated(x, at + move) != rotated(x, at)
    moved.append(np.asarray(difference.any(axis=(0, 1, 2))))
  assert all(m.any() for m in moved)
  np.testing.assert_array_equal(np.sum(moved, axis=0), np.ones(HEAD))


def test_norm_is_kept_and_the_origin_is_still():
  x, at = vectors()
  x, at = x[0], at[0]
  np.testing.assert_allclose(
    jnp.linalg.norm(rotated(x, at), axis=-1),
    jnp.linalg.norm(x, axis=-1),
    rtol=1e-5,
  )
  np.testing.assert_array_equal(rotated(x, 0 * at), x)


@pytest.mark.parametrize("head", [2, 4, 6, 8, 10, 64, 128])
def test_split_uses_every_pair(head):
  parts = rope.split(head)
  assert sum(parts) == head // 2
  assert min(parts) >= (1 if head >= 8 else 0)
  assert rope.angles(jnp.ones((1, 2, 3)), head, BASE).shape[-1] == head // 2


def test_odd_head_is_an_error():
  with pytest.raises(ValueError, match="head_dim=7 is odd"):
    rope.angles(jnp.zeros((1, 2, 3)), 7, BASE)


def test_keeps_the_type():
  x, at = vectors()
  assert rotated(x[0].astype(jnp.bfloat16), at[0]).dtype == jnp.bfloat16
