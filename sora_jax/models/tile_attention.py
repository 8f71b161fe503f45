"""Attention of packed clips, each for itself, in tiles that begin with it.

A clip is one tile of the smallest size that holds it. Longer ones are several
tiles of one size, which meet in pairs with a running softmax. So a row costs
about the sum of the squares of its clips' lengths (of lengths rounded up to
their tiles), in matrices that are large enough to occupy a CPU, and memory does
not grow with the square of any. Written in plain JAX: where clips lie is data,
how many tiles there are is the length of a loop, and nothing recompiles; but
every size of tile is compiled, and takes its time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sora_jax.models import running_softmax as softmax
from sora_jax.models.running_softmax import NEGATIVE
from sora_jax.types import Array


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
  long_tile: int,
) -> Array:
  """Softmax attention within clips; padding gives and gets 0.

  Args:
    q: [R, L, N, K] queries; k and v alike.
    k: keys.
    v: values.
    start: int32 [R, M], the first token of each clip.
    size: int32 [R, M], its tokens, which lie together and in no other clip; 0
      if it is not there.
    tiles: sizes in tokens, from small to large, of clips that are one tile.
    long_tile: that of longer ones.

  Returns:
    [R, L, N, K].
  """
  length = q.shape[1]
  tiles = tuple(dict.fromkeys(min(tile, length) for tile in tiles))
  ranges = list(zip((0, *tiles), tiles))
  # How far the last tile of a clip may reach beyond its row.
  beyond = max(tile - below - 1 for below, tile in ranges)
  flat = start.reshape(-1), size.reshape(-1)
  kinds = [
    _listed(*flat, (size > below) & (size <= tile), tile, 0)
    for below, tile in ranges
  ]
  if length > tiles[-1]:
    number = jnp.where(size > tiles[-1], -(-size // long_tile), 0)
    kinds.append(_listed(*flat, number, long_tile, length // long_tile))
    beyond = max(beyond, long_tile - 1)
  q, k, v = (
    jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, beyond), (0, 0)))
    for x in (q * q.shape[-1] ** -0.5, k, v)
  )
  out = _attend((tiles, long_tile), q, k, v, kinds)
  return out[:, :, :length].swapaxes(1, 2)


def _listed(start, size, number, tile, extra) -> _Tiles:
  """The tiles of clips [R * M] of which each has a `number` [R, M].

  Together they are at most one for each clip, and `extra` for each row.
  """
  rows, clips = number.shape
  number = number.reshape(-1).astype(jnp.int32)
  end = jnp.cumsum(number)
  index = jnp.arange(rows * (clips + extra))
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
  score = softmax.dot("nik,njk->nij", q, k)
  return jnp.where(at + jnp.arange(k.shape[1]) < stop, score, NEGATIVE)


def _inside(at: Array, stop: Array, tile: int) -> Array:
  """bool [tile, 1]: which of a tile's tokens are of its clip."""
  return (at + jnp.arange(tile) < stop)[:, None]


def _over_keys(start, stop, tile, alone, body, carry):
  """`carry` after `body(place, carry)` for every tile of keys of a clip."""
  if alone:  # no loop to compile
    return body(start, carry)

  def keys(j, carry):
    return body(start + j * tile, carry)

  return jax.lax.fori_loop(0, -((start - stop) // tile), keys, carry)


def _over_kinds(tiles, kinds, body, carry):
  """`carry` after body(tile, alone, kind, i, carry) for every tile."""
  sizes, long_tile = tiles
  # There is one kind more if clips can be longer than the sizes.
  for i, kind in enumerate(kinds):
    alone = i < len(sizes)
    tile = sizes[i] if alone else long_tile
    one = functools.partial(body, tile, alone, kind)
    carry = jax.lax.fori_loop(0, kind.count, one, carry)
  return carry


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(tiles, q, k, v, kinds):
  return _forward(tiles, q, k, v, kinds)[0]


def _forward(tiles, q, k, v, kinds):
  def queries(tile, alone, kind, i, carry):
    row, at, start, stop = (x[i] for x in kind[:4])
    own = _cut(q, row, at, tile)

    def keys(place, sums):
      score = _scores(own, _cut(k, row, place, tile), place, stop)
      return softmax.merge(sums, score, _cut(v, row, place, tile))

    sums = _over_keys(start, stop, tile, alone, keys, softmax.begin(own))
    inside = _inside(at, stop, tile)
    new = softmax.finish(sums, inside)
    return tuple(
      _add(x, row, at, jnp.where(inside, y, 0)) for x, y in zip(carry, new)
    )

  carry = (
    jnp.zeros(q.shape, jnp.float32),
    jnp.zeros((*q.shape[:3], 1), jnp.float32),
  )
  carry = _over_kinds(tiles, kinds, queries, carry)
  out, norm = carry
  return out.astype(v.dtype), (q, k, v, kinds, out, norm)


def _backward(tiles, saved, d_out):
  q, k, v, kinds, out, norm = saved
  mean = (d_out.astype(jnp.float32) * out).sum(axis=-1, keepdims=True)

  def queries(tile, alone, kind, i, carry):
    row, at, start, stop = (x[i] for x in kind[:4])
    inside = _inside(at, stop, tile)
    own, d_own, log, less = (
      _cut(x, row, at, tile) for x in (q, d_out, norm, mean)
    )
    own, d_own = (jnp.where(inside, x, 0) for x in (own, d_own))
    log = jnp.where(inside, log, -NEGATIVE)  # of the rest no weight is left

    def keys(place, carry):
      d_q, d_k, d_v = carry
      there, values = (_cut(x, row, place, tile) for x in (k, v))
      score = _scores(own, there, place, stop)
      more = softmax.gradients(score, log, less, own, there, values, d_own)
      d_k = _add(d_k, row, place, more[1])
      return d_q + more[0], d_k, _add(d_v, row, place, more[2])

    d_q, *rest = carry
    begin = (jnp.zeros(own.shape, jnp.float32), *rest)
    new, *rest = _over_keys(start, stop, tile, alone, keys, begin)
    return _add(d_q, row, at, new), *rest

  carry = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
  carry = _over_kinds(tiles, kinds, queries, carry)
  return *(d.astype(x.dtype) for d, x in zip(carry, (q, k, v))), None


_attend.defvjp(_forward, _backward)
