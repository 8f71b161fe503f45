"""Attention by blocks equals attention, and meets only what it must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import attention, block_attention
from sora_jax.models.block_attention import Where

BLOCK = 8
LENGTHS = ((13, 8, 1, 20), (50,), (3, 4))  # clips of each row of 50


def case(shuffled):
  """(q, k, v), and where: rows of clips of several blocks, and padding."""
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, 3, 50, 2, 8)).astype(np.float32)
  segments = np.zeros((3, 50), np.int32)
  for row, lengths in zip(segments, LENGTHS):
    clips = np.repeat(1 + np.arange(len(lengths)), lengths)
    row[: len(clips)] = clips
    if shuffled:
      rng.shuffle(row)
  positions = rng.integers(-1, 4, (3, 50, 3), np.int32)
  return (q, k, v), Where(segments, positions)


def dense(q, k, v, where, mask):
  """The definition, over all pairs."""
  real = where.segments > 0
  allowed = mask(where, where) & real[:, :, None] & real[:, None, :]
  score = jnp.einsum("rink,rjnk->rnij", q, k) / np.sqrt(q.shape[-1])
  score = jnp.where(allowed[:, None], score, -1e30)
  out = jnp.einsum("rnij,rjnk->rink", jax.nn.softmax(score, axis=-1), v)
  return jnp.where(real[..., None, None], out, 0)


MASKS = {
  "same": block_attention.same,
  "window": attention._near((1, 2, 2)),
  "frame": attention._near((0, None, None)),
}


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_equals_attention_with_its_gradients(name, shuffled):
  qkv, where = case(shuffled)
  mask = MASKS[name]
  weight = np.random.default_rng(1).normal(size=qkv[0].shape)

  def blocks(q, k, v):
    return block_attention.attend(q, k, v, where, mask, BLOCK)

  def loss(fn):
    return jax.jit(
      jax.value_and_grad(
        lambda qkv: (fn(*qkv) * weight.astype(np.float32)).sum()
      )
    )

  ours, ours_grad = loss(blocks)(qkv)
  wanted, wanted_grad = loss(lambda *qkv: dense(*qkv, where, mask))(qkv)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)
  for a, b in zip(ours_grad, wanted_grad):
    np.testing.assert_allclose(a, b, atol=1e-5)
  np.testing.assert_allclose(blocks(*qkv), dense(*qkv, where, mask), atol=2e-6)


def test_one_block_is_a_block_too():
  (q, k, v), where = case(False)
  few = [x[:, :5] for x in (q, k, v)]
  where = Where(*(x[:, :5] for x in where))
  out = block_attention.attend(*few, where, MASKS["same"], BLOCK)
  np.testing.assert_allclose(out, dense(*few, where, MASKS["same"]), atol=2e-6)


def test_blocks_meet_where_they_share_a_clip():
  """Its cost is the number of meetings; clips lie together."""
  _, where = case(False)
  cut = Where(
    *(np.pad(x, [(0, 0), (0, 6)] + [(0, 0)] * (x.ndim - 2)) for x in where)
  )
  cut = Where(*(x.reshape(21, BLOCK, *x.shape[2:]) for x in cut))
  found = block_attention._meetings(cut, MASKS["same"], rows=3)
  count = np.asarray(found.count).reshape(3, 7)
  # Row 0: clips at 0-12, 13-20, 21, 22-41, then padding: by hand.
  assert count[0].tolist() == [2, 3, 5, 4, 4, 4, 0]
  assert count[1].tolist() == [7] * 7
  assert count[2].tolist() == [1] + [0] * 6
  for row in range(3):
    for block in range(7):
      met = np.asarray(found.blocks)[7 * row + block][: count[row, block]]
      assert all(met // 7 == row)  # never those of another row


def test_what_meets_is_data():
  """Other segments do not compile again."""
  fn = jax.jit(
    lambda q, k, v, where: block_attention.attend(
      q, k, v, where, MASKS["same"], BLOCK
    )
  )
  for shuffled in (False, True):
    qkv, where = case(shuffled)
    fn(*qkv, where)
  assert fn._cache_size() == 1
