"""Attention over packed rows: the table ATTENTION.

Every entry maps (q, k, v) [R, L, N, K], segments [R, L], positions [R, L, 3]
and `clips`, the most clips of a row, to [R, L, N, K]. A token attends to the
tokens of its own segment, one of 1 to `clips`. Padding (segment 0) is finite
and reaches nobody. Softmax is in float32.

A dense mask computes what it forbids, so "full" and "library" are for rows of
one clip or few; of many, "tiled" is for CPUs and "packed" for GPUs. Both want
the tokens of a clip together and clips in order, as the models have them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.gpu import attention as gpu
from jax.experimental.pallas.ops.tpu import splash_attention as tpu

from sora_jax.models import block_attention, tile_attention
from sora_jax.models.block_attention import Mask, Where
from sora_jax.models.running_softmax import NEGATIVE
from sora_jax.types import Array

try:  # not public: what is public of it takes no offsets
  from jax._src.cudnn import fused_attention_stablehlo as cudnn
except ImportError:
  cudnn = None

BLOCK = 48  # tokens; on two cores faster than 32, 64, 96 and 128
# Of "tiled": tokens of a clip of one tile, and of the tiles of longer ones. On
# two cores faster than fewer sizes, which would compile sooner.
CLIP_TILES = (48, 64, 96, 128, 192, 256, 384)
LONG_TILE = 192
WINDOW = (2, 4, 4)  # patches that "window" looks away in (t, h, w)
TILE = 128  # tokens of the kernels' blocks
HALF = (jnp.bfloat16, jnp.float16)  # what cuDNN's kernels take


def _allowed(segments: Array, positions: Array) -> Array:
  """bool [R, 1, L, L]: may token i look at token j?"""
  where = Where(segments, positions)
  return block_attention.same(where, where)[:, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dot(spec: str, a: Array, b: Array) -> Array:
  """einsum of two operands of one format with float32 sums, and so backwards.

  JAX alone would multiply a float32 gradient with the operands, in float32.
  """
  return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _dot_gradients(spec, saved, d):
  a, b = saved
  (one, other), out = spec.split("->")[0].split(","), spec.split("->")[1]
  d = d.astype(a.dtype)
  return (
    _dot(f"{out},{other}->{one}", d, b).astype(a.dtype),
    _dot(f"{one},{out}->{other}", a, d).astype(b.dtype),
  )


_dot.defvjp(lambda spec, a, b: (_dot(spec, a, b), (a, b)), _dot_gradients)


def full(q, k, v, segments, positions, clips):
  """All heads and all pairs at once: the plain definition.

  Heads come first and the sum of the weights divides last: on two cores 1.5
  times as fast, forwards, as the softmax of einsums over [R, L, N, K].
  """
  del clips
  q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
  score = _dot("rnik,rnjk->rnij", q, k)
  score = jnp.where(_allowed(segments, positions), score, NEGATIVE)
  top = jax.lax.stop_gradient(score.max(axis=-1, keepdims=True))
  weight = jnp.exp(score - top)
  total = weight.sum(axis=-1)[..., None]
  out = _dot("rnij,rnjk->rnik", weight.astype(v.dtype), v) / total
  return out.astype(v.dtype).swapaxes(1, 2)


def library(q, k, v, segments, positions, clips):
  """`jax.nn.dot_product_attention`: cuDNN's kernel where that has one."""
  del clips
  mask = _allowed(segments, positions)
  even = q.shape[1] % 2 == 0  # or its gradient takes no mask
  fused = even and _fused(q)
  return jax.nn.dot_product_attention(
    q, k, v, mask=mask, implementation="cudnn" if fused else "xla"
  )


def packed(q, k, v, segments, positions, clips):
  """cuDNN's kernel for packed sequences: each clip for itself, and no mask.

  Where there is none (no GPU since Hopper, not in half precision, heads that
  are no multiple of 8 or beyond 256, one clip a row) it is "library". Rows come
  out as NaN whose clips lie in pieces, out of order or beyond `clips`.
  """
  if clips == 1 or not _packs(q):
    return library(q, k, v, segments, positions, clips)
  start, size, together = spans(segments, clips)
  there = size > 0
  # -1 is a clip that is not there: JAX leaves these out. There is one offset
  # more than clips, which says nothing.
  size = jnp.where(there, size, -1)
  offsets = jnp.where(there, start, -1)
  offsets = jnp.pad(offsets, ((0, 0), (0, 1)), constant_values=-1)
  real = segments[..., None, None] > 0
  # The kernel writes nothing for padding, and so no gradient either.
  q, k, v = (jnp.where(real, x, 0) for x in (q, k, v))
  out = cudnn.dot_product_attention(
    q,
    k,
    v,
    q_seqlen=size,
    kv_seqlen=size,
    q_offsets=offsets,
    kv_offsets=offsets,
    scale=q.shape[-1] ** -0.5,
  )
  out = jnp.where(real, out, 0)
  return jnp.where(together[:, None, None, None], out, jnp.nan)


def _fused(q: Array) -> bool:
  """Does cuDNN have a kernel for these?"""
  if not cudnn or jax.default_backend() != "gpu" or q.dtype not in HALF:
    return False
  most = 256 if cudnn.check_compute_capability("9.0") else 128
  fits = q.shape[-1] % 8 == 0 and q.shape[-1] <= most
  return fits and cudnn.check_compute_capability("8.0")


def _packs(q: Array) -> bool:
  """Does it have one for packed sequences? Offsets are 32-bit numbers."""
  hopper = _fused(q) and cudnn.check_compute_capability("9.0")
  return hopper and q.size < 2**31


def spans(segments: Array, clips: int) -> tuple[Array, Array, Array]:
  """Where the clips 1 to M of rows [R, L] lie.

  Returns:
    first token and number of tokens, int32 [R, M], 0 of clips that are not
    there; and bool [R]: are these all, in order, and each in one piece?
  """
  member = segments[..., None] == jnp.arange(1, clips + 1)  # [R, L, M]
  size = member.sum(axis=1, dtype=jnp.int32)
  start = member.argmax(axis=1).astype(jnp.int32)
  last = (member * jnp.arange(segments.shape[1])[:, None]).max(axis=1)
  whole = (size == 0) | (last - start + 1 == size)
  ordered = (size == 0) | (start == jax.lax.cummax(start, axis=1))
  together = (whole & ordered).all(axis=1) & (segments <= clips).all(axis=1)
  return start, size, together


def blocks(q, k, v, segments, positions, clips):
  """Only blocks of tokens that share a clip, which may lie in pieces."""
  del clips
  where = Where(segments, positions)
  return block_attention.attend(q, k, v, where, block_attention.same, BLOCK)


def tiled(q, k, v, segments, positions, clips):
  """Each clip for itself: for rows of many clips, on a CPU.

  Rows come out as NaN whose clips lie in pieces, out of order or beyond
  `clips`.
  """
  del positions
  start, size, together = spans(segments, clips)
  out = tile_attention.attend(q, k, v, start, size, CLIP_TILES, LONG_TILE)
  return jnp.where(together[:, None, None, None], out, jnp.nan)


def _tiles(x: Array) -> Array:
  """[R, L, ...] with L padded to a multiple of TILE by zeros."""
  extra = -x.shape[1] % TILE
  return jnp.pad(x, [(0, 0), (0, extra)] + [(0, 0)] * (x.ndim - 2))


def _interpreted(platform: str) -> bool:
  """Kernels of a device that is not here run in Pallas's interpreter."""
  return jax.default_backend() != platform


def flash(q, k, v, segments, positions, clips):
  """Pallas's kernel for GPUs: memory does not grow with L squared."""
  del positions, clips
  out = gpu.mha(
    *(_tiles(x) for x in (q, k, v, segments)),
    sm_scale=q.shape[-1] ** -0.5,
    interpret=_interpreted("gpu"),
  )
  return out[:, : q.shape[1]]


def splash(q, k, v, segments, positions, clips):
  """Pallas's splash attention for TPUs."""
  del positions, clips
  length, heads = q.shape[1:3]
  q, k, v = (_tiles(x).swapaxes(1, 2) for x in (q, k, v))  # [R, N, L, K]
  segments = _tiles(segments)
  everything = tpu.FullMask((q.shape[2], k.shape[2]))
  kernel = tpu.make_splash_mha_single_device(
    tpu.MultiHeadMask([everything] * heads),
    interpret=_interpreted("tpu"),
  )
  ids = tpu.SegmentIds(segments, segments)
  out = jax.vmap(kernel)(q * q.shape[-1] ** -0.5, k, v, segment_ids=ids)
  return out.swapaxes(1, 2)[:, :length]


# Fewer pairs ------------------------------------------------------------------


def _words(where: Where) -> Array:
  """Text tokens: they lie at negative h, and see and are seen by all."""
  return where.positions[..., 1] < 0


def _near(reach: tuple[int | None, ...]) -> Mask:
  """Tokens of the same clip at most `reach` patches away along (t, h, w)."""

  def mask(a: Where, b: Where) -> Array:
    allowed = jnp.bool_(True)
    for axis, most in enumerate(reach):
      if most is not None:
        x, y = a.positions[..., axis], b.positions[..., axis]
        allowed &= abs(x[..., :, None] - y[..., None, :]) <= most
    text = _words(a)[..., :, None] | _words(b)[..., None, :]
    return block_attention.same(a, b) & (allowed | text)

  return mask


def window(q, k, v, segments, positions, clips):
  """Local: tokens at most WINDOW patches away, and the text."""
  del clips
  where = Where(segments, positions)
  return block_attention.attend(q, k, v, where, _near(WINDOW), BLOCK)


def factorised(q, k, v, segments, positions, clips):
  """Half of the heads look within a frame, half along time.

  Factorised dot-product attention (Arnab et al. 2021, "ViViT", model 4); all
  see the text.
  """
  del clips
  where, half = Where(segments, positions), q.shape[2] // 2
  parts = []
  for reach, heads in (
    ((0, None, None), slice(None, half)),
    ((None, 0, 0), slice(half, None)),
  ):
    some = (x[:, :, heads] for x in (q, k, v))
    parts.append(block_attention.attend(*some, where, _near(reach), BLOCK))
  return jnp.concatenate(parts, axis=2)


# One function, computed in several ways: a checkpoint of one serves the others.
EXACT: dict[str, Callable[..., Array]] = {
  "full": full,
  "library": library,
  "packed": packed,
  "blocks": blocks,
  "tiled": tiled,
  "flash": flash,
  "splash": splash,
}

# Other models, which allow less: for ablations.
ATTENTION: dict[str, Callable[..., Array]] = EXACT | {
  "window": window,
  "factorised": factorised,
}
