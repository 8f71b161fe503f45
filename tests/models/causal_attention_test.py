"""Causal attention: as far back as it says, and chunks are the whole."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models.causal_attention import CausalAttention, TransformerBlock
from tests.conftest import filled, in_chunks

FRAMES = 6


def make(kind=CausalAttention, reach=1):
  block = kind(2, reach, jnp.float32)
  x = np.random.default_rng(0).standard_normal((1, FRAMES, 3, 4, 16))
  x = x.astype(np.float32)
  init = jax.eval_shape(block.init, jax.random.key(0), x)["params"]
  return block, {"params": filled(nn.meta.unbox(init))}, x


@pytest.mark.parametrize("kind", [CausalAttention, TransformerBlock])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_a_place_is_seen_by_all_of_as_many_frames(kind, reach):
  block, variables, x = make(kind, reach)
  before = block.apply(variables, x)
  x[:, 1, 0, 0] += 1.0
  moved = np.abs(block.apply(variables, x) - before).max(-1)[0]  # [t, h, w]
  assert (moved[1 : 1 + reach] > 0).all()  # everywhere in these
  np.testing.assert_array_equal(moved[0], 0)
  np.testing.assert_array_equal(moved[1 + reach :], 0)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_chunks_are_the_whole(reach):
  block, variables, x = make(TransformerBlock, reach)
  whole = block.apply(variables, x)
  for sizes in ((1,) * FRAMES, (3, 1, 2), (1, 5)):
    parts = in_chunks(block, variables, x, sizes)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_it_is_softmax_attention_in_double_precision():
  """By hand, with the rotations as the rotary embedding defines them."""
  block, variables, x = make(reach=2)
  found = block.apply(variables, x)
  p = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])

  def norm(v, scale):
    return v / np.sqrt(np.square(v).mean(-1, keepdims=True) + 1e-6) * scale

  _, t, h, w, width = x.shape
  h_in = norm(x.astype(np.float64), p["norm"]["scale"])
  qkv = h_in @ p["qkv"]["kernel"] + p["qkv"]["bias"]
  qkv = qkv.reshape(t, h * w, 3, 2, width // 2)
  places = np.indices((2, h, w)).reshape(3, -1).T
  # Four pairs a head: one turns with time, one with height, two with width.
  turns = np.stack(
    [places[:, 0], places[:, 1], places[:, 2], places[:, 2] / 10], axis=1
  )

  def rotated(v, turns):
    a, b = v[..., :4], v[..., 4:]
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

  expected = np.zeros((t, h, w, width))
  for i in range(t):
    q, k, v = (
      qkv[i, :, 0],
      *(
        np.concatenate([qkv[max(i - 1, 0), :, j], qkv[i, :, j]]) for j in (1, 2)
      ),
    )
    q = rotated(norm(q, p["q_norm"]["scale"]), turns[h * w :])
    k = rotated(norm(k, p["k_norm"]["scale"]), turns)
    score = np.einsum("ink,jnk->nij", q, k) / np.sqrt(width // 2)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    out = np.einsum("nij,jnk->ink", weight, v).reshape(h, w, width)
    expected[i] = x[0, i] + out @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_heads_that_do_not_divide_the_width():
  block = CausalAttention(3, 1, jnp.float32)
  with pytest.raises(ValueError, match="width 16 is no multiple of 3 heads"):
    block.init(jax.random.key(0), jnp.zeros((1, 1, 2, 2, 16)))
