"""Attention part by part: a softmax that runs over keys, and its gradients.

Milakov & Gimelshein 2018; Dao et al. 2022. Sums are float32, and products have
the operands' format.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp

from sora_jax.types import Array

NEGATIVE = -1e30  # finite, so that no row of scores is all -inf

Sums = tuple[Array, Array, Array]

dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def begin(q: Array) -> Sums:
  """Of queries [..., I, K] that have met no key.

  Returns:
    float32: the largest score [..., I, 1], the sum of the weights and that of
    the weighted values [..., I, K], both over exp(the largest score).
  """
  top = jnp.full((*q.shape[:-1], 1), NEGATIVE, jnp.float32)
  return top, jnp.zeros_like(top), jnp.zeros(q.shape, jnp.float32)


def merge(sums: Sums, score: Array, v: Array) -> Sums:
  """With more keys, of scores float32 [..., I, J] and values [..., J, K]."""
  top, total, out = sums
  new = jnp.maximum(top, score.max(axis=-1, keepdims=True))
  # Where all so far is forbidden this is 1, and shrinks to 0 later.
  weight = jnp.exp(score - new)
  shrink = jnp.exp(top - new)
  more = dot("...ij,...jk->...ik", weight.astype(v.dtype), v)
  total = total * shrink + weight.sum(axis=-1, keepdims=True)
  return new, total, out * shrink + more


def finish(sums: Sums, real: Array) -> tuple[Array, Array]:
  """The attention [..., I, K], and the logarithm of all weights [..., I, 1].

  Where `real` is False they are 0 and so large that no weight is left.
  """
  top, total, out = sums
  norm = jnp.where(real, top + jnp.log(total), -NEGATIVE)
  return jnp.where(real, out / total, 0), norm


def gradients(
  score: Array,
  norm: Array,
  mean: Array,
  q: Array,
  k: Array,
  v: Array,
  d_out: Array,
) -> tuple[Array, Array, Array]:
  """Of queries, keys and values, float32, by these pairs.

  Args:
    score: float32 [..., I, J].
    norm: [..., I, 1], see `finish`.
    mean: [..., I, 1], what the softmax's gradient takes off every score of a
      query: sum(d_out * out).
    q: [..., I, K].
    k: [..., J, K].
    v: [..., J, K].
    d_out: [..., I, K].
  """
  weight = jnp.exp(score - norm)
  d_weight = dot("...ik,...jk->...ij", d_out, v)
  d_score = (weight * (d_weight - mean)).astype(q.dtype)
  return (
    dot("...ij,...jk->...ik", d_score, k),
    dot("...ij,...ik->...jk", d_score, q),
    dot("...ij,...ik->...jk", weight.astype(v.dtype), d_out),
  )
