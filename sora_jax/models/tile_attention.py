"""Attention of packed clips, each for itself, in tiles that begin with it.

A clip is one tile of the smallest size that holds it. Longer ones are several
tiles of one size, which meet in pairs with a running softmax (Milakov &
Gimelshein 2018; Dao et al. 2022). So a row costs about the sum of the squares
of its clips' lengths, in matrices that are large enough to occupy a CPU, and
memory does not grow with the square of any. Written in plain JAX: where clips
lie is data, how many tiles there are is the length of a loop, and nothing
recompiles; but every size of tile is compiled, and takes its time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sora_jax.types import Array

NEGATIVE = -1e30  # finite, so that no row of scores is all -inf

_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


class _Tiles(NamedTuple):
  """Tiles of queries of one size.

  Attributes:
    row: int32 [j], that each lies in.
    at: int32 [j], its first token.
    start: int32 [j], the first token of its clip.
    stop: int32 [j], the first token after its clip.
    count: int32 [], how many of these there are; the rest says nothing.
  """

  row: Array
  at: Array
  start: Array
  stop: Array
  count: Array


def attend(
  q: Array,
  k: Array,
  v: Array,
  start: Array,
  size: Array,
  tiles: Sequence[int],
  several: int,
) -> Array:
  """Softmax attention within clips; padding gives and gets 0.

  Args:
    q: [R, L, N, K] queries; k and v alike.
    k: keys.
    v: values.
    start: int32 [R, M], the first token of each clip.
    size: int32 [R, M], its tokens, which lie together; 0 if it is not there.
    tiles: sizes in tokens, from small to large, of clips that are one tile.
    several: that of longer ones; no more than the largest tile.

  Returns:
    [R, L, N, K].
  """
  length = q.shape[1]
  tiles = tuple(dict.fromkeys(min(tile, length) for tile in tiles))
  # The last tile of a clip may reach beyond its row.
  width = ((0, 0), (0, 0), (0, tiles[-1]), (0, 0))
  q, k, v = (
    jnp.pad(x.swapaxes(1, 2), width) for x in (q * q.shape[-1] ** -0.5, k, v)
  )
  flat = start.reshape(-1), size.reshape(-1)
  kinds = [
    _listed(*flat, jnp.where((size > below) & (size <= tile), 1, 0), tile, 0)
    for below, tile in zip((0, *tiles), tiles)
  ]
  if length > tiles[-1]:
    number = jnp.where(size > tiles[-1], -(-size // several), 0)
    kinds.append(_listed(*flat, number, several, length // several))
    tiles += (several,)
  out = _attend(tiles, q, k, v, kinds)
  return out[:, :, :length].swapaxes(1, 2)


def _listed(start, size, number, tile, more) -> _Tiles:
  """The tiles of clips [R * M] of which each has a `number` [R, M].

  Together they are at most one for each clip, and `more` for each row.
  """
  rows, clips = number.shape
  number = number.reshape(-1)
  end = jnp.cumsum(number)
  index = jnp.arange(rows * (clips + more))
  clip = jnp.searchsorted(end, index, side="right")
  clip = jnp.minimum(clip, rows * clips - 1)  # behind the last
  start, size = start[clip], size[clip]
  at = start + (index - (end - number)[clip]) * tile
  return _Tiles(clip // clips, at, start, start + size, end[-1])


def _cut(x: Array, row: Array, at: Array, tile: int) -> Array:
  """[N, tile, K] of [R, N, L, K]."""
  sizes = (1, x.shape[1], tile, x.shape[3])
  return jax.lax.dynamic_slice(x, (row, 0, at, 0), sizes)[0]


def _add(x: Array, row: Array, at: Array, more: Array) -> Array:
  """x with [N, tile, K] added in its place."""
  more = _cut(x, row, at, more.shape[1]) + more
  return jax.lax.dynamic_update_slice(x, more[None], (row, 0, at, 0))


def _scores(q: Array, k: Array, at: Array, stop: Array) -> Array:
  """float32 [N, tile, tile], NEGATIVE for keys behind the clip."""
  score = _dot("nik,njk->nij", q, k)
  return jnp.where(at + jnp.arange(k.shape[1]) < stop, score, NEGATIVE)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(tiles, q, k, v, kinds):
  return _forward(tiles, q, k, v, kinds)[0]


def _forward(tiles, q, k, v, kinds):
  def queries(tile, kind, i, carry):
    row, at, start, stop = (x[i] for x in kind[:4])
    own = _cut(q, row, at, tile)

    def keys(j, carry):
      top, total, out = carry
      place = start + j * tile
      score = _scores(own, _cut(k, row, place, tile), place, stop)
      new = jnp.maximum(top, score.max(axis=-1, keepdims=True))
      weight = jnp.exp(score - new)
      shrink = jnp.exp(top - new)
      values = _cut(v, row, place, tile)
      more = _dot("nij,njk->nik", weight.astype(v.dtype), values)
      total = total * shrink + weight.sum(axis=-1, keepdims=True)
      return new, total, out * shrink + more

    begin = (
      jnp.full((*own.shape[:2], 1), NEGATIVE, jnp.float32),
      jnp.zeros((*own.shape[:2], 1), jnp.float32),
      jnp.zeros(own.shape, jnp.float32),
    )
    count = -((start - stop) // tile)  # rounded up
    top, total, out = jax.lax.fori_loop(0, count, keys, begin)
    inside = (at + jnp.arange(tile) < stop)[:, None]
    new = out / total, top + jnp.log(total)
    return tuple(
      _add(x, row, at, jnp.where(inside, y, 0)) for x, y in zip(carry, new)
    )

  carry = (
    jnp.zeros(q.shape, jnp.float32),
    jnp.zeros((*q.shape[:3], 1), jnp.float32),
  )
  for tile, kind in zip(tiles, kinds):
    body = functools.partial(queries, tile, kind)
    carry = jax.lax.fori_loop(0, kind.count, body, carry)
  out, norm = carry
  return out.astype(v.dtype), (q, k, v, kinds, out, norm)


def _backward(tiles, saved, d_out):
  q, k, v, kinds, out, norm = saved
  # What the softmax's gradient takes off every score of a query.
  mean = (d_out.astype(jnp.float32) * out).sum(axis=-1, keepdims=True)

  def queries(tile, kind, i, carry):
    row, at, start, stop = (x[i] for x in kind[:4])
    inside = (at + jnp.arange(tile) < stop)[:, None]
    own, d_own, top, less = (
      _cut(x, row, at, tile) for x in (q, d_out, norm, mean)
    )
    # Of what lies behind the clip no weight is left.
    top, d_own = jnp.where(inside, top, -NEGATIVE), jnp.where(inside, d_own, 0)

    def keys(j, carry):
      d_q, d_k, d_v = carry
      place = start + j * tile
      there = _cut(k, row, place, tile)
      weight = jnp.exp(_scores(own, there, place, stop) - top)
      d_weight = _dot("nik,njk->nij", d_own, _cut(v, row, place, tile))
      d_score = (weight * (d_weight - less)).astype(q.dtype)
      d_q += _dot("nij,njk->nik", d_score, there)
      d_k = _add(d_k, row, place, _dot("nij,nik->njk", d_score, own))
      weight = weight.astype(v.dtype)
      d_v = _add(d_v, row, place, _dot("nij,nik->njk", weight, d_own))
      return d_q, d_k, d_v

    d_q, *rest = carry
    count = -((start - stop) // tile)
    begin = (jnp.zeros(own.shape, jnp.float32), *rest)
    new, *rest = jax.lax.fori_loop(0, count, keys, begin)
    return _add(d_q, row, at, new), *rest

  carry = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
  for tile, kind in zip(tiles, kinds):
    body = functools.partial(queries, tile, kind)
    carry = jax.lax.fori_loop(0, kind.count, body, carry)
  return *(d.astype(x.dtype) for d, x in zip(carry, (q, k, v))), None


_attend.defvjp(_forward, _backward)
