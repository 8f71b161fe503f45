"""Is a patch of video real? The second player of the autoencoder's training.

A patch discriminator (Isola et al. 2017, "Image-to-image translation with
conditional adversarial networks") in space and time: strided 3-D convolutions
halve height and width at each level, and time at all but the first; an image is
judged too. Each number of the result judges what its cell has seen.

It has no norm: on flat areas a norm divides by almost nothing, and the penalty
on its gradient would see nothing else.

That penalty takes gradients of gradients, and those of a strided convolution
are dilated ones, for which XLA has nothing but loops on CPUs: there it is a
matmul.
"""

from __future__ import annotations

import itertools
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
    for level, strides in enumerate(self._strides()):
      size = (3, 4, 4, self.width * 2**level)
      x = Conv(size, strides, "mlp", self.dtype, name=f"down_{level}")(x)
      x = jax.nn.leaky_relu(x, 0.2)
    x = Conv((3, 3, 3, 1), (1, 1, 1), None, self.dtype, name="out")(x)
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


class Conv(nn.Module):
  """Strided convolution over [B, T, H, W, C], padded to "SAME".

  Attributes:
    size: of the kernel in (t, h, w), and channels of the result.
    strides: in (t, h, w), at most the kernel's sizes.
    axis: logical name of the result's channels.
    dtype: of the computation.
  """

  size: tuple[int, int, int, int]
  strides: tuple[int, int, int]
  axis: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    *window, features = self.size
    axes = (None, None, None, "embed", self.axis)
    kernel = self.param(
      "kernel",
      nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
      (*window, x.shape[-1], features),
    )
    bias = self.param(
      "bias",
      nn.with_logical_partitioning(layers.zeros, (self.axis,)),
      (features,),
    )
    convolved = matmul if jax.default_backend() == "cpu" else volume
    x = convolved(x, kernel.astype(self.dtype), self.strides)
    return x + bias.astype(self.dtype)


def volume(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
  """One 3-D convolution: what accelerators are built for."""
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=strides,
    padding="SAME",
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )


def matmul(x: Array, kernel: Array, strides: tuple[int, ...]) -> Array:
  """The same: what a stride skips becomes channels, windows lie side by side.

  Args:
    x: [B, T, H, W, C].
    kernel: [kt, kh, kw, C, F].
    strides: at most the kernel's sizes.
  """
  sizes, window = x.shape[1:4], kernel.shape[:3]
  pads = jax.lax.padtype_to_pads(sizes, window, strides, "SAME")
  counts = [-(-n // s) for n, s in zip(sizes, strides)]  # of the result
  steps = [-(-k // s) for k, s in zip(window, strides)]  # strides in a window
  # Both up to whole strides; what the kernel gets is zero.
  high = [
    s * (n + g - 1) - size - low
    for s, n, g, size, (low, _) in zip(strides, counts, steps, sizes, pads)
  ]
  x = jnp.pad(x, [(0, 0), *((p[0], h) for p, h in zip(pads, high)), (0, 0)])
  more = [(0, s * g - k) for s, g, k in zip(strides, steps, window)]
  kernel = jnp.pad(kernel, [*more, (0, 0), (0, 0)])
  x = _to_channels(x, strides)
  kernel = jnp.moveaxis(kernel, -1, 0)  # the result's channels, as a batch
  kernel = _to_channels(kernel, strides).reshape(len(kernel), -1)
  parts = [
    x[:, i : i + counts[0], j : j + counts[1], k : k + counts[2]]
    for i, j, k in itertools.product(*map(range, steps))
  ]
  return jnp.concatenate(parts, axis=-1) @ kernel.T


def _to_channels(x: Array, strides: tuple[int, ...]) -> Array:
  """[B, T, H, W, C] -> [B, T / st, H / sh, W / sw, st * sh * sw * C]."""
  batch, *sizes, channels = x.shape
  t, h, w = (n // s for n, s in zip(sizes, strides))
  st, sh, sw = strides
  x = x.reshape(batch, t, st, h, sh, w, sw, channels)
  x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
  return x.reshape(batch, t, h, w, -1)
