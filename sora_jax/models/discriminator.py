"""Is a patch of video real? The second player of the autoencoder's training.

A patch discriminator (Isola et al. 2017, "Image-to-image translation with
conditional adversarial networks") in space and time: strided 3-D convolutions
halve height and width at each level, and time at all but the first, so that an
image is judged too. Each number of the result judges what its cell has seen.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.types import Array


class Discriminator(nn.Module):
  """Logits of patches; positive for real.

  Attributes:
    width: channels of the first level; they double at each.
    depth: levels, >= 1.
    dtype: of the computation; parameters are float32.
  """

  width: int
  depth: int
  dtype: Any

  @nn.compact
  def __call__(self, video: Array) -> Array:
    """Judges float video [B, T, H, W, 3] in -1..1: float32 [B, t, h, w]."""
    x = video.astype(self.dtype)
    for level in range(self.depth):
      x = self._conv(
        self.width * 2**level,
        strides=(1 if level == 0 else 2, 2, 2),
        name=f"down_{level}",
      )(x)
      if level:  # the first sees the pixels as they are
        x = layers.RMSNorm("embed", name=f"norm_{level}")(x)
      x = jax.nn.leaky_relu(x, 0.2)
    x = self._conv(1, strides=(1, 1, 1), name="out")(x)
    return x[..., 0].astype(jnp.float32)

  def _conv(self, features: int, strides: tuple[int, ...], name: str):
    axes = (None, None, None, "embed", "mlp" if features > 1 else None)
    return nn.Conv(
      features,
      kernel_size=(3, 4, 4) if features > 1 else (3, 3, 3),
      strides=strides,
      padding="SAME",
      dtype=self.dtype,
      kernel_init=nn.with_logical_partitioning(
        nn.initializers.lecun_normal(), axes
      ),
      bias_init=nn.with_logical_partitioning(layers.zeros, axes[-1:]),
      name=name,
    )
