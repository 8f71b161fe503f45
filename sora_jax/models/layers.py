"""Building blocks of the transformers, with logical axis names on weights.

Activations have the dtype `dtype`; parameters stay float32, and norms, softmax
and the sines and cosines of noise levels are computed in float32. The operands
of matmuls are rounded to `matmul`, and their sums are float32: where a device
multiplies bfloat16 faster, and does all else best in float32 (CPUs with AMX),
the two differ.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import ad_checkpoint

from sora_jax.models import rope
from sora_jax.models.attention import ATTENTION
from sora_jax.types import Array
from sora_jax.utils import axes

xavier = nn.initializers.xavier_uniform()
zeros = nn.initializers.zeros_init()

TUBE = 2.5  # of a bias, where what it is added to has a variance of a half
OPERAND = "operand"  # checkpoint_name of what `matmul` keeps of x


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Array, w: Array, dtype: Any) -> Array:
  """float32 x [..., D] @ w [D, F], operands rounded to `dtype`, sums float32.

  So are both gradients, which JAX alone would multiply in mixed formats.
  """
  return _matmul(x, w, dtype)[0]


def _matmul(x, w, dtype):
  # Named, for remat to keep it: half of x, and at hand to be transposed.
  x = ad_checkpoint.checkpoint_name(x.astype(dtype), OPERAND)
  w = w.astype(dtype)
  return jnp.matmul(x, w, preferred_element_type=jnp.float32), (x, w)


def _matmul_gradients(dtype, saved, d):
  x, w = saved
  d = d.astype(dtype)
  d_x = jnp.einsum("...f,df->...d", d, w, preferred_element_type=jnp.float32)
  return d_x, outer(x, d)


def outer(x: Array, d: Array) -> Array:
  """float32 sums of x [..., N, D] times d [..., N, F] over all but D and F.

  The gradient of a weight, of operands of one format. XLA multiplies bfloat16
  on CPUs at a fifth of the pace if they have two axes, and transposes the first
  for longer than it multiplies: the narrower comes first.
  """
  x, d = (a.reshape(-1, *a.shape[-2:]) for a in (x, d))
  if x.shape[-1] > d.shape[-1]:
    return jax.lax.optimization_barrier(outer(d, x)).T
  return jnp.einsum("bnd,bnf->df", x, d, preferred_element_type=jnp.float32)


matmul.defvjp(_matmul, _matmul_gradients)


class Dense(nn.Module):
  """x W + b on the flattened leading axes: one large matmul.

  On two cores that was 1.4 times as fast, with gradients, as x W + b as it is.

  Attributes:
    features: size of the last axis of the result.
    axes: logical names of the weight's two axes.
    init: initialiser of the weight.
    dtype: of the result.
    matmul: that operands are rounded to; None for `dtype`.
    bias: initialiser of the bias.
  """

  features: int
  axes: tuple[str | None, str | None]
  init: Callable = xavier
  dtype: Any = jnp.float32
  matmul: Any = None
  bias: Callable = zeros

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param(
      "kernel",
      nn.with_logical_partitioning(self.init, self.axes),
      (x.shape[-1], self.features),
    )
    bias = self.param(
      "bias",
      nn.with_logical_partitioning(self.bias, self.axes[1:]),
      (self.features,),
    )
    kernel = axes.gathered(kernel.astype(self.dtype), self.axes)
    bias = axes.gathered(bias.astype(self.dtype), self.axes[1:])
    x = x.astype(self.dtype)
    dot = jnp.matmul
    if self.matmul not in (None, self.dtype):
      dot = functools.partial(matmul, dtype=self.matmul)
    if axes.spread("length"):  # flat, it would have to be gathered
      return (dot(x, kernel) + bias).astype(self.dtype)
    out = dot(x.reshape(-1, x.shape[-1]), kernel) + bias
    out = out.astype(self.dtype)
    return out.reshape(*x.shape[:-1], self.features)


class RMSNorm(nn.Module):
  """Root-mean-square norm over the last axis, in float32."""

  axis: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param(
      "scale",
      nn.with_logical_partitioning(nn.initializers.ones_init(), (self.axis,)),
      (x.shape[-1],),
    )
    f = x.astype(jnp.float32)
    f = f * jax.lax.rsqrt(jnp.mean(f * f, axis=-1, keepdims=True) + 1e-6)
    return (f * scale).astype(x.dtype)


def layer_norm(x: Array) -> Array:
  """Layer norm without parameters (adaLN brings its own), in float32."""
  f = x.astype(jnp.float32)
  f = f - f.mean(axis=-1, keepdims=True)
  f = f * jax.lax.rsqrt(jnp.mean(f * f, axis=-1, keepdims=True) + 1e-6)
  return f.astype(x.dtype)


@struct.dataclass
class Place:
  """Where tokens are, as attention needs it; the same for all blocks.

  Attributes:
    positions: int32 [R, L, 3].
    segments: int32 [R, L].
    rotation: float32 [2, R, L, head_dim / 2], from `rope.table`.
  """

  positions: Array
  segments: Array
  rotation: Array


def place(
  positions: Array, segments: Array, width: int, heads: int, base: float
) -> Place:
  """The `Place` of tokens for heads of width / heads numbers."""
  if width % heads:
    raise ValueError(f"width {width} is no multiple of {heads} heads")
  rotation = rope.table(positions, width // heads, base)
  return Place(
    axes.constrain(positions, "rows", None, None),
    axes.constrain(segments, "rows", None),
    axes.constrain(rotation, None, "rows", None, None),
  )


def clip_by_clip(segments: Array) -> tuple[Array, Array]:
  """The order int32 [R, L] of tokens by clip, padding last; and its inverse."""
  segments = axes.constrain(segments, "rows", None)
  last = jnp.where(segments > 0, segments, jnp.iinfo(jnp.int32).max)
  order = jnp.argsort(last, axis=1, stable=True)
  order = axes.constrain(order, "rows", None)
  return order, axes.constrain(jnp.argsort(order, axis=1), "rows", None)


def reorder(x: Array, at: Array) -> Array:
  """x [R, K, ...] at indices [R, L] -> [R, L, ...]."""
  return jax.vmap(lambda row, i: row[i])(x, at)


@jax.custom_vjp
def permute(x: Array, order: Array, back: Array) -> Array:
  """`reorder` by a permutation whose inverse is known.

  The gradient is then a gather, as the function is; it would be a scatter.
  """
  del back
  return reorder(x, order)


permute.defvjp(
  lambda x, order, back: (reorder(x, order), back),
  lambda back, d: (reorder(d, back), None, None),
)


class Attention(nn.Module):
  """Multi-head self-attention with QK-norm and 3-axis rotary positions.

  Attributes:
    heads: that the width is cut into.
    kind: key of ATTENTION.
    clips: the most clips of a row.
    dtype: of the activations.
    matmul: that operands are rounded to; None for `dtype`.
    tubes: how many heads at first look along time, at their own place.
  """

  heads: int
  kind: str
  clips: int
  dtype: Any
  matmul: Any = None
  tubes: int = 0

  @nn.compact
  def __call__(self, x: Array, place: Place) -> Array:
    width = x.shape[-1]
    dense = functools.partial(Dense, dtype=self.dtype, matmul=self.matmul)
    bias = functools.partial(_tubes, self.heads, self.tubes)
    qkv = dense(3 * width, ("embed", "heads"), name="qkv", bias=bias)(x)
    # Head by head, so that heads can be cut over devices.
    qkv = qkv.reshape(*x.shape[:2], self.heads, 3, width // self.heads)
    # One exchange: some tokens of all heads for all tokens of some heads.
    qkv = axes.constrain(qkv, "rows", "length", "heads", None, None)
    qkv = axes.constrain(qkv, "rows", None, "attend", None, None)
    q, k, v = (qkv[:, :, :, i] for i in range(3))  # [R, L, N, K] each
    q, k = RMSNorm(name="q_norm")(q), RMSNorm(name="k_norm")(k)
    q, k = rope.rotate(q, place.rotation), rope.rotate(k, place.rotation)
    if self.matmul is not None:
      q, k, v = (x.astype(self.matmul) for x in (q, k, v))
    whole, row = ("rows", None, "attend", None), ("rows", None)
    attend = axes.locally(
      _attending(self.kind, self.clips),
      (whole, whole, whole, row, (*row, None)),
      whole,
    )
    out = attend(q, k, v, place.segments, place.positions)
    out = axes.constrain(out, "rows", "length", "heads", None)
    out = out.reshape(x.shape)
    return dense(width, ("heads", "embed"), name="out")(out)


@functools.cache  # JAX traces one function once
def _attending(kind: str, clips: int) -> Callable[..., Array]:
  return functools.partial(ATTENTION[kind], clips=clips)


def _tubes(heads: int, tubes: int, rng, shape, dtype=jnp.float32) -> Array:
  """The first biases of queries, keys and values, [heads * 3 * head_dim].

  A query and a key that share a constant attend by their distance alone, most
  at none: sum_i cos(distance_i * frequency_i). With one in the fastest rotary
  pairs of h and w, and none in those of t, a head begins by looking at its own
  place at all times (compare Trockman & Kolter 2023, "Mimetic initialization of
  self-attention layers"). Learning to copy a known frame, or to average what
  stands still, takes it from there.
  """
  del rng
  bias = np.zeros((heads, 3, shape[0] // (3 * heads)), np.float32)
  pairs = bias.shape[-1] // 2
  t, h, w = rope.split(2 * pairs)
  for start, count in ((t, h), (t + h, w)):
    fast = np.arange(start, start + -(-count // 3))
    bias[:tubes, :2, fast] = bias[:tubes, :2, pairs + fast] = TUBE
  return jnp.asarray(bias.reshape(shape), dtype)


class Mlp(nn.Module):
  """Two-layer perceptron with GELU."""

  hidden: int
  dtype: Any
  matmul: Any = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    dense = functools.partial(Dense, dtype=self.dtype, matmul=self.matmul)
    h = dense(self.hidden, ("embed", "mlp"), name="up")(x)
    h = axes.constrain(h, "rows", "length", "mlp")
    h = jax.nn.gelu(h, approximate=True)
    return dense(x.shape[-1], ("mlp", "embed"), name="down")(h)


def time_features(time: Array, size: int) -> Array:
  """Sinusoidal features [..., size] of times in [0, 1], in float32."""
  frequency = jnp.exp(-math.log(10_000) * jnp.arange(size // 2) / (size // 2))
  angle = 1000 * time[..., None].astype(jnp.float32) * frequency
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class LevelEmbedding(nn.Module):
  """Noise levels [R, K] -> [R, K, D]: computed once per distinct level."""

  width: int
  dtype: Any

  @nn.compact
  def __call__(self, levels: Array) -> Array:
    x = time_features(levels, 256)
    x = Dense(self.width, (None, "embed"), dtype=self.dtype, name="in")(x)
    x = jax.nn.silu(x)
    return Dense(self.width, ("embed", None), dtype=self.dtype, name="out")(x)


@jax.custom_vjp
def gather(by_level: Array, level: Array) -> Array:
  """Values [R, K, F] at each token's level [R, L] -> [R, L, F].

  Its gradient is a one-hot matmul: K is small, and a scatter took longer on the
  CPU than the rest of the block.
  """
  return reorder(by_level, level)


def _gathered(by_level, level):
  return reorder(by_level, level), (level, by_level)


def _ungather(saved, d):
  level, by_level = saved
  chosen = jax.nn.one_hot(level, by_level.shape[1], dtype=d.dtype)
  # Highest: a sum must not round its terms, whatever matmuls do elsewhere.
  return jnp.einsum("rlk,rlf->rkf", chosen, d, precision="highest"), None


gather.defvjp(_gathered, _ungather)
