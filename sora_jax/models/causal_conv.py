"""Convolution that is causal in time, whole or in chunks.

Frame i of the result depends on frames <= i only; before the first frame the
first frame is repeated, so that an image is a clip that stands still.

Two kinds. A full one has a kernel over (time, height, width). A factored one
is (2 + 1)-D: a convolution in space, then a causal one in time written as one
matmul over the last `temporal` frames.

A clip may come in chunks. Applied with the collection `STREAM` mutable, every
module leaves there the last frames that it saw, and finds `before` the next
chunk what it left; chunked and whole are then the same computation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.types import Array

STREAM = "stream"  # collection of past frames, carried from chunk to chunk


def past(x: Array, frames: int) -> Array:
  """[B, t, ...] -> [B, t + frames, ...]: the first frame repeated in front."""
  return jnp.concatenate([jnp.repeat(x[:, :1], frames, axis=1), x], axis=1)


def before(module: nn.Module, x: Array, count: int) -> Array:
  """x [B, t, ...] with the `count` frames in front that came before it.

  They are the last that the module saw of the chunk before; at the start of a
  clip, and where no collection STREAM is carried, the first frame repeated.

  Args:
    module: whose frames they are; calls this once.
    x: frames of this chunk.
    count: frames before.
  """
  if not count:
    return x
  if module.is_initializing() or not module.is_mutable_collection(STREAM):
    return past(x, count)
  if module.has_variable(STREAM, "past"):
    x = jnp.concatenate([module.get_variable(STREAM, "past"), x], axis=1)
  else:
    x = past(x, count)
  module.put_variable(STREAM, "past", x[:, -count:])
  return x


def volume(x: Array, kernel: Array) -> Array:
  """One 3-D convolution: what accelerators are built for."""
  space = [(n // 2, n // 2) for n in kernel.shape[1:3]]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(1, 1, 1),
    padding=[(0, 0), *space],
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )


def frames(x: Array, kernel: Array) -> Array:
  """The same as a sum of 2-D convolutions, which XLA does fast on the CPU."""
  taps = len(kernel)
  count = x.shape[1] - taps + 1
  parts = [_plane(x[:, i : i + count], kernel[i]) for i in range(taps)]
  return sum(parts[1:], parts[0])


def fastest(x: Array, kernel: Array) -> Array:
  """`frames` on the CPU, `volume` elsewhere."""
  chosen = frames if jax.default_backend() == "cpu" else volume
  return chosen(x, kernel)


# name -> (x [B, t + kt - 1, h, w, C], kernel [kt, k, k, C, F]) -> [B, t, h, w,
# F]: valid in time, zero padded in space. The same numbers, other programs.
LOWERINGS: dict[str, Callable[[Array, Array], Array]] = {
  "volume": volume,
  "frames": frames,
  "fastest": fastest,
}


class CausalConv(nn.Module):
  """Convolution over [B, t, h, w, C], same size out.

  Attributes:
    features: channels of the result.
    spatial: odd kernel size over h and w, zero padded.
    temporal: kernel size over t, reaching back only.
    factored: (2 + 1)-D instead of a full kernel.
    lowering: key of LOWERINGS, of a full kernel.
    dtype: of the computation.
  """

  features: int
  spatial: int
  temporal: int
  factored: bool
  lowering: str
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = x.astype(self.dtype)
    if not self.factored:
      size = (self.temporal, self.spatial, self.spatial)
      x = before(self, x, self.temporal - 1)
      x = LOWERINGS[self.lowering](x, self._kernel("kernel", size, x))
      bias = self.param(
        "bias",
        nn.with_logical_partitioning(layers.zeros, ("mlp",)),
        (self.features,),
      )
      return x + bias.astype(self.dtype)
    x = _plane(x, self._kernel("spatial", (self.spatial,) * 2, x))
    if self.temporal > 1:
      t, x = x.shape[1], before(self, x, self.temporal - 1)
      taps = [x[:, i : i + t] for i in range(self.temporal)]
      x = jnp.concatenate(taps, axis=-1)  # [B, t, h, w, temporal * C]
    # One matmul either way: it also mixes channels after the one in space.
    return layers.Dense(
      self.features, ("mlp", "embed"), dtype=self.dtype, name="temporal"
    )(x)

  def _kernel(self, name: str, size: tuple[int, ...], x: Array) -> Array:
    axes = (*(None for _ in size), "embed", "mlp")
    kernel = self.param(
      name,
      nn.with_logical_partitioning(nn.initializers.lecun_normal(), axes),
      (*size, x.shape[-1], self.features),
    )
    return kernel.astype(self.dtype)


def _plane(x: Array, kernel: Array) -> Array:
  """2-D convolution of every frame of [B, t, h, w, C], zero padded."""
  b, t, h, w, c = x.shape
  flat = jax.lax.conv_general_dilated(
    x.reshape(b * t, h, w, c),
    kernel,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return flat.reshape(b, t, h, w, -1)


class ResBlock(nn.Module):
  """Pre-norm residual block: norm, causal conv, GELU, projection.

  Attributes:
    conv: makes the convolution from (features, name=...).
    dtype: of the computation.
  """

  conv: Callable[..., CausalConv]
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = layers.RMSNorm("embed", name="norm")(x)
    h = self.conv(x.shape[-1], name="conv")(h)
    h = jax.nn.gelu(h, approximate=True)
    return x + layers.Dense(
      x.shape[-1],
      ("mlp", "embed"),
      init=nn.initializers.normal(1e-2),
      dtype=self.dtype,
      name="out",
    )(h)
