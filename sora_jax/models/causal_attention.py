"""Self-attention that is causal in time, whole or in chunks.

A frame looks at all places of itself and of the frames just before it. Before
the first frame the first frame is repeated, and chunks carry what was seen, as
in `causal_conv`.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers, rope
from sora_jax.models.causal_conv import before
from sora_jax.types import Array

BASE = 100.0  # of the rotations


class CausalAttention(nn.Module):
  """Pre-norm residual attention over [B, t, h, w, C], same size out.

  Attributes:
    heads: that the channels are split into.
    frames: that a frame looks at, itself included.
    dtype: of the computation.
    matmul: that operands of the projections are rounded to; None for `dtype`.
  """

  heads: int
  frames: int
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    b, t, h, w, width = x.shape
    if width % self.heads:
      raise ValueError(f"width {width} is no multiple of {self.heads} heads")
    each = width // self.heads
    dense = functools.partial(
      layers.Dense, dtype=self.dtype, matmul=self.matmul
    )
    qkv = dense(3 * width, ("embed", "heads"), name="qkv")(
      layers.RMSNorm("embed", name="norm")(x)
    )
    qkv = qkv.reshape(b, t, h * w, 3, self.heads, each)
    q, k, v = (qkv[:, :, :, i] for i in range(3))  # [b, t, h w, heads, each]
    q = layers.RMSNorm(name="q_norm")(q)
    k = layers.RMSNorm(name="k_norm")(k)
    kv = before(self, jnp.stack([k, v], axis=2), self.frames - 1)
    windows = [kv[:, i : i + t] for i in range(self.frames)]
    kv = jnp.stack(windows, axis=3)  # [b, t, 2, frames, h w, heads, each]
    k, v = (
      kv[:, :, i].reshape(b * t, self.frames * h * w, self.heads, each)
      for i in range(2)
    )
    # Times count from the window's start, so a chunk knows them without its
    # place in the clip.
    places = jnp.indices((self.frames, h, w), jnp.int32).reshape(3, -1).T
    rotation = rope.table(places[None], each, BASE)
    q = q.reshape(b * t, h * w, self.heads, each)
    q = rope.rotate(q, rotation[:, :, -h * w :])  # the last frame's
    out = jax.nn.dot_product_attention(q, rope.rotate(k, rotation), v)
    out = out.reshape(x.shape)
    return x + dense(width, ("heads", "embed"), name="out")(out)


class TransformerBlock(nn.Module):
  """Attention, then a perceptron of four times the width.

  Attributes:
    heads: of the attention.
    frames: that it reaches over.
    dtype: of the computation.
    matmul: that operands are rounded to; None for `dtype`.
  """

  heads: int
  frames: int
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    attention = CausalAttention(
      self.heads, self.frames, self.dtype, self.matmul, name="attention"
    )
    x = attention(x)
    h = layers.RMSNorm("embed", name="norm")(x)
    hidden = 4 * x.shape[-1]
    return x + layers.Mlp(hidden, self.dtype, self.matmul, name="mlp")(h)
