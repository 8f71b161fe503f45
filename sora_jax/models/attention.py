"""Attention over packed rows: the table ATTENTION.

Every entry maps (q, k, v) [R, L, N, K], segments [R, L] and positions
[R, L, 3] to [R, L, N, K]. A token attends to the tokens of its own segment.
Padding (segment 0) attends to padding only, so that it stays finite and
reaches nobody. Softmax is in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.types import Array

NEGATIVE = -1e30  # finite, so that no row of scores is all -inf


def same_segment(segments: Array) -> Array:
  """bool [R, L, L]: may token i look at token j?"""
  return segments[:, :, None] == segments[:, None, :]


def full(q, k, v, segments, positions):
  """All heads at once: the plain definition."""
  del positions
  scale = q.shape[-1] ** -0.5
  score = jnp.einsum("rink,rjnk->rnij", q * scale, k).astype(jnp.float32)
  score = jnp.where(same_segment(segments)[:, None], score, NEGATIVE)
  weight = jax.nn.softmax(score, axis=-1).astype(v.dtype)
  return jnp.einsum("rnij,rjnk->rink", weight, v)


def by_head(q, k, v, segments, positions):
  """The same, one head after another: scores of one head stay in cache."""

  def head(qkv):
    one = [x[:, :, None] for x in qkv]  # [R, L, 1, K]
    return full(*one, segments, positions)[:, :, 0]

  heads_first = [jnp.moveaxis(x, 2, 0) for x in (q, k, v)]  # [N, R, L, K]
  return jnp.moveaxis(jax.lax.map(head, heads_first), 0, 2)


def library(q, k, v, segments, positions):
  """`jax.nn.dot_product_attention`, which picks a kernel by device."""
  del positions
  mask = same_segment(segments)[:, None]  # [R, 1, L, L]
  return jax.nn.dot_product_attention(q, k, v, mask=mask)


ATTENTION: dict[str, Callable[..., Array]] = {
  "full": full,
  "by_head": by_head,
  "library": library,
}
