"""Attention that skips what its mask forbids, block by block.

Rows are cut into blocks of tokens. A block of queries meets only those blocks
of keys in which its mask allows something, with a running softmax, so that a
row of clips costs about the sum of the squares of their lengths, if the tokens
of a clip lie together. It is written in plain JAX: which blocks meet is data,
their number is the length of a loop, and nothing recompiles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sora_jax.models import running_softmax as softmax
from sora_jax.models.running_softmax import NEGATIVE
from sora_jax.types import Array


class Where(NamedTuple):
  """Segments int32 [..., L] and positions int32 [..., L, 3] of tokens."""

  segments: Array
  positions: Array


# (queries [..., i], keys [..., j]) -> bool [..., i, j]
Mask = Callable[[Where, Where], Array]


def same(a: Where, b: Where) -> Array:
  """Tokens of the same segment."""
  return a.segments[..., :, None] == b.segments[..., None, :]


class _Meetings(NamedTuple):
  """Which blocks of keys each of `n` blocks of queries meets.

  Attributes:
    blocks: int32 [n, m]: first those that it meets, as indices into all.
    count: int32 [n], how many these are.
  """

  blocks: Array
  count: Array


def attend(
  q: Array, k: Array, v: Array, where: Where, mask: Mask, block: int
) -> Array:
  """Softmax attention under a mask; padding (segment 0) gives and gets 0.

  Args:
    q: [R, L, N, K] queries; k and v alike.
    k: keys.
    v: values.
    where: of the tokens.
    mask: which token may look at which; symmetric.
    block: tokens in a block.

  Returns:
    [R, L, N, K].
  """
  length = q.shape[1]
  block = min(block, length)
  extra = -length % block

  def cut(x, axis):
    width = [(0, 0)] * x.ndim
    width[axis] = (0, extra)
    x = jnp.pad(x, width)
    rows, padded, *rest = x.shape
    return x.reshape(rows * (padded // block), block, *rest)

  where = Where(*(cut(x, 1) for x in where))
  q = q * q.shape[-1] ** -0.5
  blocks = [cut(x, 1).swapaxes(1, 2) for x in (q, k, v)]  # [n, N, b, K]
  meetings = _meetings(where, mask, len(q))
  out = _attend(mask, *blocks, where, meetings)  # [n, N, b, K]
  out = out.swapaxes(1, 2).reshape(len(q), -1, *q.shape[2:])
  return out[:, :length]


def _allowed(mask: Mask, a: Where, b: Where) -> Array:
  real = (a.segments > 0)[..., :, None] & (b.segments > 0)[..., None, :]
  return mask(a, b) & real


def _meetings(where: Where, mask: Mask, rows: int) -> _Meetings:
  n = len(where.segments)
  per_row = n // rows
  by_row = Where(*(x.reshape(rows, per_row, *x.shape[1:]) for x in where))

  def row(one: Where):  # [m, b] of one row
    def queries(block: Where):  # against every block of keys of its row
      return jax.vmap(lambda keys: _allowed(mask, block, keys).any())(one)

    return jax.lax.map(queries, one)  # [m, m]

  meet = jax.lax.map(row, by_row).reshape(n, per_row)
  first = jnp.arange(n) // per_row * per_row
  order = jnp.argsort(~meet, axis=-1, stable=True)
  return _Meetings(order + first[:, None], meet.sum(axis=-1))


def _scores(mask, q, k, where_q, where_k):
  """float32 [N, b, b], NEGATIVE where the mask forbids."""
  score = softmax.dot("nik,njk->nij", q, k)
  return jnp.where(_allowed(mask, where_q, where_k), score, NEGATIVE)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(mask, q, k, v, where, meetings):
  return _forward(mask, q, k, v, where, meetings)[0]


def _forward(mask, q, k, v, where, meetings):
  def queries(args):
    q, here, blocks, count = args

    def keys(i, sums):
      j = blocks[i]
      score = _scores(mask, q, k[j], here, Where(*(x[j] for x in where)))
      return softmax.merge(sums, score, v[j])

    sums = jax.lax.fori_loop(0, count, keys, softmax.begin(q))
    # The rest met nothing that it may look at.
    out, norm = softmax.finish(sums, (here.segments > 0)[:, None])
    return out.astype(v.dtype), norm

  out, norm = jax.lax.map(queries, (q, where, *meetings))
  return out, (q, k, v, where, meetings, out, norm)


def _backward(mask, saved, d_out):
  q, k, v, where, meetings, out, norm = saved
  mean = d_out.astype(jnp.float32) * out.astype(jnp.float32)
  mean = mean.sum(axis=-1, keepdims=True)

  def queries(carry, args):
    q, d_out, norm, mean, here, blocks, count = args

    def keys(i, carry):
      d_q, d_k, d_v = carry
      j = blocks[i]
      score = _scores(mask, q, k[j], here, Where(*(x[j] for x in where)))
      more = softmax.gradients(score, norm, mean, q, k[j], v[j], d_out)
      return d_q + more[0], d_k.at[j].add(more[1]), d_v.at[j].add(more[2])

    start = (jnp.zeros(q.shape, jnp.float32), *carry)
    d_q, *carry = jax.lax.fori_loop(0, count, keys, start)
    return tuple(carry), d_q

  carry = (jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32))
  inputs = (q, d_out, norm, mean, where, *meetings)
  (d_k, d_v), d_q = jax.lax.scan(queries, carry, inputs)
  given = (d.astype(x.dtype) for d, x in zip((d_q, d_k, d_v), (q, k, v)))
  return (*given, None, None)


_attend.defvjp(_forward, _backward)
