"""Is a patch of video real? The second player of the autoencoder's training.

A patch discriminator (Isola et al. 2017, "Image-to-image translation with
conditional adversarial networks") in space and time: strided 3-D convolutions
halve height and width at each level, and time at all but the first; an image is
judged too. Each number of the result judges what its cell has seen.

It has no norm: on flat areas a norm divides by almost nothing, and the penalty
on its gradient would see nothing else.
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
    axes = (None, None, None, "embed", "mlp")
    for level, strides in enumerate(self._strides()):
      x = _conv(
        self.width * 2**level,
        (3, 4, 4),
        axes,
        strides=strides,
        dtype=self.dtype,
        name=f"down_{level}",
      )(x)
      x = jax.nn.leaky_relu(x, 0.2)
    axes = (None, None, None, "embed", None)
    x = _conv(1, (3, 3, 3), axes, dtype=self.dtype, name="out")(x)
    return x[..., 0].astype(jnp.float32)

  def seen(self, mask: Array) -> Array:
    """1 for logits whose own cell has data by a mask [B, T, H, W, 1], else 0.

    Returns:
      float32 [B, t, h, w], the shape of the logits.
    """
    x = mask[..., 0].astype(jnp.float32)
    for strides in self._strides():
      window = (1, *strides)
      x = jax.lax.reduce_window(x, 0.0, jax.lax.max, window, window, "SAME")
    return x

  def _strides(self) -> list[tuple[int, int, int]]:
    return [(1 if level == 0 else 2, 2, 2) for level in range(self.depth)]


def _conv(features: int, kernel: tuple[int, ...], axes, **options) -> nn.Conv:
  return nn.Conv(
    features,
    kernel_size=kernel,
    padding="SAME",
    kernel_init=nn.with_logical_partitioning(
      nn.initializers.lecun_normal(), axes
    ),
    bias_init=nn.with_logical_partitioning(layers.zeros, axes[-1:]),
    **options,
  )
