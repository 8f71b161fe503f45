"""Attention in tiles of a clip equals attention over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import attention, tile_attention

TILES, LONG = (4, 8), 8
CLIPS = 5
# Clips of rows of 50: below, at and above the tiles, up to the row's end; one
# clip that is all; few and padding; none.
LENGTHS = ((3, 4, 5, 8, 30), (50,), (9, 17, 1), ())


def case(lengths=LENGTHS):
  """(q, k, v, segments) of rows in which clips lie one behind the other."""
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, len(lengths), 50, 2, 8)).astype(np.float32)
  segments = np.zeros((len(lengths), 50), np.int32)
  for row, own in zip(segments, lengths):
    row[: sum(own)] = np.repeat(1 + np.arange(len(own)), own)
  return q, k, v, segments


def tiled(q, k, v, segments, tiles=TILES, long_tile=LONG):
  start, size, _ = attention.spans(segments, CLIPS)
  return tile_attention.attend(q, k, v, start, size, tiles, long_tile)


def dense(q, k, v, segments):
  """The definition; padding gets 0."""
  out = attention.full(q, k, v, segments, None, CLIPS)
  return jnp.where((segments > 0)[..., None, None], out, 0)


@pytest.mark.parametrize(
  "tiles, long_tile", [((4, 8), 8), ((8,), 3), ((16, 50), 16), ((3, 100), 7)]
)
def test_equals_attention_with_its_gradients(tiles, long_tile):
  *qkv, segments = case()
  weight = np.random.default_rng(1).normal(size=qkv[0].shape)

  def loss(attend):
    def total(qkv):
      out = attend(*qkv)
      return (out * weight.astype(np.float32)).sum(), out

    return jax.jit(jax.value_and_grad(total, has_aux=True))

  (_, ours), grads = loss(lambda *x: tiled(*x, segments, tiles, long_tile))(qkv)
  (_, wanted), exact = loss(lambda *x: dense(*x, segments))(qkv)
  np.testing.assert_allclose(ours, wanted, atol=2e-6)
  for a, b in zip(grads, exact):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
  "row, clip", [(0, 1), (0, 2), (0, 3), (0, 5), (2, 2), (2, 3)]
)
def test_other_clips_and_padding_do_not_matter(row, clip):
  """However large it is what they say: tiles reach beyond their clips."""
  *qkv, segments = case()
  mine = segments[row] == clip

  def found(qkv):
    def total(qkv):
      out = tiled(*qkv, segments)[row, mine]
      return jnp.square(out).sum(), out

    (_, out), grads = jax.value_and_grad(total, has_aux=True)(qkv)
    return out, *(g[row, mine] for g in grads)

  before = found(qkv)
  for x in qkv:
    x[row, ~mine] = 1e12
  for a, b in zip(found(qkv), before):
    np.testing.assert_array_equal(a, b)


def test_each_clip_has_the_smallest_tile_that_holds_it(monkeypatch):
  """Its cost is the number of pairs of tiles."""
  *qkv, segments = case()
  found = {}

  def spy(tiles, q, k, v, kinds):
    found.update(tiles=tiles, kinds=kinds)
    return q

  monkeypatch.setattr(tile_attention, "_attend", spy)
  tiled(*qkv, segments)
  assert found["tiles"] == (TILES, LONG)
  small, large, long = found["kinds"]
  # Clips of 3 and 4 tokens, and of 1; of 5 and 8; of 30, 50, 9 and 17: by hand.
  assert [int(kind.count) for kind in (small, large, long)] == [3, 2, 4 + 7 + 5]
  places = list(zip(np.asarray(long.row), np.asarray(long.at)))
  assert places[:4] == [(0, 20), (0, 28), (0, 36), (0, 44)]
  assert places[4:6] == [(1, 0), (1, 8)]
  assert len(set(places[:16])) == 16 <= len(places)


def test_where_clips_lie_is_data():
  """Other lengths do not compile again."""
  attend = jax.jit(tiled)
  for lengths in (LENGTHS, LENGTHS[::-1]):
    out = attend(*case(lengths))
    np.testing.assert_allclose(out, dense(*case(lengths)), atol=2e-6)
  assert attend._cache_size() == 1


def test_clips_in_pieces_are_not_a_number():
  q, k, v, segments = case()
  segments[1, 20:30] = 2
  out = attention.tiled(q, k, v, segments, None, CLIPS)
  assert np.isnan(out[1]).all()
  assert np.isfinite(out[np.array([0, 2, 3])]).all()
