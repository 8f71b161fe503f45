"""Convolution that is causal in time, factorised as (2 + 1)-D.

A 3x3 convolution in space, then a causal one in time written as one matmul
over the last `temporal` frames. Frame i of the result depends on frames <= i
only; before the first frame, the first frame is repeated, so that an image is
a clip that stands still.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.types import Array


def past(x: Array, frames: int) -> Array:
  """[B, t, ...] -> [B, t + frames, ...]: the first frame repeated in front."""
  return jnp.concatenate([jnp.repeat(x[:, :1], frames, axis=1), x], axis=1)


class CausalConv(nn.Module):
  """Convolution over [B, t, h, w, C], same size out.

  Attributes:
    features: channels of the result.
    spatial: odd kernel size over h and w, zero padded.
    temporal: kernel size over t, reaching back only.
    dtype: of the computation.
  """

  features: int
  spatial: int
  temporal: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    b, t, h, w, c = x.shape
    kernel = self.param(
      "spatial",
      nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), (None, None, "embed", "mlp")
      ),
      (self.spatial, self.spatial, c, self.features),
    )
    flat = x.reshape(b * t, h, w, c).astype(self.dtype)
    flat = jax.lax.conv_general_dilated(
      flat,
      kernel.astype(self.dtype),
      window_strides=(1, 1),
      padding="SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = flat.reshape(b, t, h, w, self.features)
    if self.temporal > 1:
      padded = past(x, self.temporal - 1)
      taps = [padded[:, i : i + t] for i in range(self.temporal)]
      x = jnp.concatenate(taps, axis=-1)  # [B, t, h, w, temporal * C]
    # One matmul either way: it also mixes channels after the 3x3.
    return layers.Dense(
      self.features, ("mlp", "embed"), dtype=self.dtype, name="temporal"
    )(x)


class ResBlock(nn.Module):
  """Pre-norm residual block: norm, causal conv, GELU, projection."""

  spatial: int
  temporal: int
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = layers.RMSNorm("embed", name="norm")(x)
    h = CausalConv(
      x.shape[-1], self.spatial, self.temporal, self.dtype, name="conv"
    )(h)
    h = jax.nn.gelu(h, approximate=True)
    return x + layers.Dense(
      x.shape[-1],
      ("mlp", "embed"),
      init=nn.initializers.normal(1e-2),
      dtype=self.dtype,
      name="out",
    )(h)
