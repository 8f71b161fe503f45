"""Attention in tiles of a clip equals attention over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import attention, tile_attention

TILES = (4, 8)
CLIPS = 5
# Clips of each row of 50: below, at and above the tiles; several of the largest
# ones up to the row's end; one that is all; few and padding; none.
LENGTHS = ((3, 4, 5, 8, 30), (50,), (9, 17, 1), ())


def case(lengths=LENGTHS):
  """(q, k, v, segments) of rows in which clips lie one behind the other."""
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, len(lengths), 50, 2, 8)).astype(np.float32)
  segments = np.zeros((len(lengths), 50), np.int32)
  for row, own in zip(segments, lengths):
    row[: sum(own)] = np.repeat(1 + np.arange(len(own)), own)
  return q, k, v, segments


def tiled(q, k, v, segments, tiles=TILES):
  start, size, _ = attention.spans(segments, CLIPS)
  return tile_attention.attend(q, k, v, start, size, tiles)


def dense(q, k, v, segments):
  """The definition; padding gets 0."""
  out = attention.full(q, k, v, segments, None, CLIPS)
  return jnp.where((segments > 0)[..., None, None], out, 0)


@pytest.mark.parametrize("tiles", [(4, 8), (8,), (16, 50), (64,), (3, 100)])
def test_equals_attention_with_its_gradients(tiles):
  *qkv, segments = case()
  weight = np.random.default_rng(1).normal(size=qkv[0].shape)

  def loss(attend):
    def total(qkv):
      out = attend(*qkv)
      return (out * weight.astype(np.float32)).sum(), out

    return jax.jit(jax.value_and_grad(total, has_aux=True))

  (_, ours), grads = loss(lambda *x: tiled(*x, segments, tiles))(qkv)
  (_, wanted), exact = loss(lambda *x: dense(*x, segments))(qkv)
  np.testing.assert_allclose(ours, wanted, atol=2e-6)
  for a, b in zip(grads, exact):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_other_clips_and_padding_do_not_matter():
  """However large they are: tiles reach beyond their clips."""
  q, k, v, segments = case()
  mine = segments[0] == 2
  before = np.asarray(tiled(q, k, v, segments))[0, mine]
  for x in (q, k, v):
    x[0, ~mine] = 1e30
  np.testing.assert_array_equal(tiled(q, k, v, segments)[0, mine], before)


def test_each_clip_has_the_smallest_tile_that_holds_it():
  """Its cost is the number of pairs of tiles."""
  *_, segments = case()
  start, size, _ = attention.spans(segments, CLIPS)
  small = tile_attention._of_size(start, size, 0, 4, False, 50)
  large = tile_attention._of_size(start, size, 4, 8, True, 50)
  # Row 0: 3 and 4 tokens; then 5, 8 and 30 in 1 + 1 + 4 tiles, by hand.
  assert int(small.count) == 2 + 0 + 1
  assert int(large.count) == (1 + 1 + 4) + 7 + (2 + 3)
  count = int(large.count)
  place = list(zip(np.asarray(large.row)[:count], np.asarray(large.at)[:count]))
  assert place[:6] == [(0, 7), (0, 12), (0, 20), (0, 28), (0, 36), (0, 44)]
  assert place[6:8] == [(1, 0), (1, 8)]
  assert len(set(place)) == count <= len(large.row)


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
