"""A small learned text encoder: token ids -> vectors for joint attention."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.types import Array
from sora_jax.utils import axes


class TextBlock(nn.Module):
  """Pre-norm transformer block."""

  heads: int
  mlp: int
  attention: str
  clips: int
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, x: Array, place: layers.Place) -> Array:
    x = axes.constrain(x, "rows", "length", None)
    attend = layers.Attention(
      self.heads,
      self.attention,
      self.clips,
      self.dtype,
      self.matmul,
      name="attention",
    )
    x = x + attend(layers.RMSNorm("embed")(x), place)
    perceptron = layers.Mlp(self.mlp, self.dtype, self.matmul, name="mlp")
    return x + perceptron(layers.RMSNorm("embed")(x))


class TextEncoder(nn.Module):
  """Embedding and `depth` bidirectional blocks within each caption.

  Attributes:
    vocab_size: number of token ids.
    width: of the embedding and the blocks.
    depth: number of blocks; 0 gives a bag of embedded tokens.
    heads: attention heads.
    attention: key of ATTENTION.
    clips: the most captions of a row.
    rope_base: base of the rotary frequencies.
    dtype: of the activations.
    matmul: that the operands of matmuls are rounded to; None for `dtype`.
  """

  vocab_size: int
  width: int
  depth: int
  heads: int
  attention: str
  clips: int
  rope_base: float
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, ids: Array, positions: Array, segments: Array) -> Array:
    """ids int32 [R, S], positions [R, S, 3], segments [R, S] -> [R, S, D].

    The captions of a row lie one after another, as the packers put them.
    """
    table = self.param(
      "embedding",
      nn.with_logical_partitioning(
        nn.initializers.normal(1.0), ("vocab", "embed")
      ),
      (self.vocab_size, self.width),
    )
    table = axes.gathered(table, ("vocab", "embed"))
    x = jnp.take(table, ids, axis=0).astype(self.dtype)  # [R, S, D]
    x = axes.constrain(x, "rows", None, None)
    place = layers.place(
      positions, segments, self.width, self.heads, self.rope_base
    )
    for i in range(self.depth):
      x = TextBlock(
        self.heads,
        4 * self.width,
        self.attention,
        self.clips,
        self.dtype,
        self.matmul,
        name=f"block_{i}",
      )(x, place)
    x = axes.constrain(x, "rows", None, None)
    return layers.RMSNorm("embed", name="norm")(x)
