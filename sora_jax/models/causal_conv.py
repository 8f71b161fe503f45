"""Convolution that is causal in time, whole or in chunks.

Frame i of the result depends on frames <= i only; before the first frame the
first frame is repeated, so that an image is a clip that stands still.

Two kinds. A full one has a kernel over (time, height, width). A factored one
is (2 + 1)-D: a convolution in space, then a causal one in time written as one
matmul over the last `temporal` frames.

With `matmul` the operands of both are rounded to it, and sums are float32. The
convolution is then a sum of matmuls, one for each row of the kernel: CPUs that
multiply bfloat16 several times as fast as float32 do so in matmuls alone.

A clip may come in chunks. Applied with the collection `STREAM` mutable, every
module leaves there the last frames that it saw, and finds `before` the next
chunk what it left; chunked and whole are then the same computation.
"""

from __future__ import annotations

import functools
import itertools
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rounded(x: Array, kernel: Array, dtype: Any) -> Array:
  """The same of float32 x, operands rounded to `dtype`, sums float32.

  By matmuls, which is for CPUs: accelerators convolve bfloat16 activations as
  fast as they multiply. Both gradients are made likewise; that of x is the
  convolution of the result's with the kernel turned round.
  """
  return _rounded(x, kernel, dtype)[0]


def _beside(x: Array, kernel: Array, dtype: Any) -> Array:
  """What a row of the kernel sees of x: [B, T, h + kh - 1, w, kw * C]."""
  _, kh, kw, *_ = kernel.shape
  pad = [(0, 0), (0, 0), *((k // 2, k // 2) for k in (kh, kw)), (0, 0)]
  x, width = jnp.pad(x, pad), x.shape[3]
  # Rounded last: XLA copies float32 in larger pieces than bfloat16.
  return jnp.concatenate(
    [x[:, :, :, i : i + width] for i in range(kw)], axis=-1
  ).astype(dtype)


def _rows(seen: Array, kernel: Array) -> list[Array]:
  """The parts [B, t * h * w, kw * C] of `_beside` by the kernel's rows."""
  kt, kh, *_ = kernel.shape
  t, h = seen.shape[1] - kt + 1, seen.shape[2] - kh + 1
  return [
    seen[:, i : i + t, j : j + h].reshape(len(seen), -1, seen.shape[-1])
    for i, j in itertools.product(range(kt), range(kh))
  ]


def _rounded(x, kernel, dtype):
  seen, low = _beside(x, kernel, dtype), kernel.astype(dtype)
  kt, kh, kw, channels, features = kernel.shape
  dot = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
  taps = low.reshape(kt * kh, kw * channels, features)
  # All neighbours side by side are one matmul (im2col), whose operand takes
  # longer to copy than these few to sum.
  out = sum(
    dot(row.reshape(-1, row.shape[-1]), tap)
    for row, tap in zip(_rows(seen, kernel), taps)
  )
  size = (x.shape[1] - kt + 1, *x.shape[2:4])
  return out.reshape(len(x), *size, features), (seen, low)


def _rounded_gradients(dtype, saved, d):
  seen, kernel = saved
  flat = d.astype(dtype).reshape(len(d), -1, d.shape[-1])
  rows = [layers.outer(row, flat) for row in _rows(seen, kernel)]
  d_kernel = jnp.stack(rows).reshape(kernel.shape)
  reach = len(kernel) - 1
  d = jnp.pad(d, [(0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)])
  turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
  return _rounded(d, turned, dtype)[0], d_kernel


rounded.defvjp(_rounded, _rounded_gradients)


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
    matmul: that operands are rounded to, whatever the lowering; None for
      `dtype`.
  """

  features: int
  spatial: int
  temporal: int
  factored: bool
  lowering: str
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = x.astype(self.dtype)
    if not self.factored:
      size = (self.temporal, self.spatial, self.spatial)
      x = before(self, x, self.temporal - 1)
      x = self._convolved(x, self._kernel("kernel", size, x))
      bias = self.param(
        "bias",
        nn.with_logical_partitioning(layers.zeros, ("mlp",)),
        (self.features,),
      )
      return x + bias.astype(self.dtype)
    kernel = self._kernel("spatial", (self.spatial,) * 2, x)
    x = self._convolved(x, kernel[None])
    if self.temporal > 1:
      t, x = x.shape[1], before(self, x, self.temporal - 1)
      taps = [x[:, i : i + t] for i in range(self.temporal)]
      x = jnp.concatenate(taps, axis=-1)  # [B, t, h, w, temporal * C]
    # One matmul either way: it also mixes channels after the one in space.
    dense = functools.partial(
      layers.Dense, dtype=self.dtype, matmul=self.matmul
    )
    return dense(self.features, ("mlp", "embed"), name="temporal")(x)

  def _convolved(self, x: Array, kernel: Array) -> Array:
    if self.matmul not in (None, self.dtype):
      return rounded(x, kernel, self.matmul).astype(self.dtype)
    if len(kernel) == 1:
      return _plane(x, kernel[0])
    return LOWERINGS[self.lowering](x, kernel)

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
    matmul: that operands are rounded to; None for `dtype`.
  """

  conv: Callable[..., CausalConv]
  dtype: Any
  matmul: Any = None

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
      matmul=self.matmul,
      name="out",
    )(h)
