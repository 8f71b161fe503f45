"""Attention in tiles of a clip equals attention over all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import attention, tile_attention

TILES, SEVERAL = (4, 8), 8
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


def tiled(q, k, v, segments, tiles=TILES, several=SEVERAL):
  start, size, _ = attention.spans(segments, CLIPS)
  return tile_attention.attend(q, k, v, start, size, tiles, several)


def dense(q, k, v, segments):
  """The definition; padding gets 0."""
  out = attention.full(q, k, v, segments, None, CLIPS)
  return jnp.where((segments > 0)[..., None, None], out, 0)


@pytest.mark.parametrize(
  "tiles, several", [((4, 8), 8), ((8,), 3), ((16, 50), 16), ((3, 100), 7)]
)
def test_equals_attention_with_its_gradients(tiles, several):
  *qkv, segments = case()
  weight = np.random.default_rng(1).normal(size=qkv[0].shape)

  def loss(attend):
    def total(qkv):
      out = attend(*qkv)
      return (out * weight.astype(np.float32)).sum(), out

    return jax.jit(jax.value_and_grad(total, has_aux=True))

  (_, ours), grads = loss(lambda *x: tiled(*x, segments, tiles, several))(qkv)
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


def test_each_clip_has_the_smallest_tile_that_holds_it(monkeypatch):
  """Its cost is the number of pairs of tiles."""
  *qkv, segments = case()
  found = {}

  def spy(tiles, q, k, v, kinds):
    found.update(enumerate(zip(tiles, kinds)))
    return q

  monkeypatch.setattr(tile_attention, "_attend", spy)
  tiled(*qkv, segments)
  (four, small), (eight, large), (several, long) = found.values()
  assert (four, eight, several) == (4, 8, SEVERAL)
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
