"""Patches: a bijection whose order agrees with its coordinates."""

import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.packing import patchify

SIZE = (6, 4, 8)
PATCHES = [(1, 1, 1), (1, 2, 2), (2, 2, 1), (3, 1, 4), (6, 4, 8)]


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("patch", PATCHES)
def test_unpatchify_inverts_patchify(patch, lead, xp):
  shape = (*lead, *SIZE, 5)
  z = xp.asarray(np.random.default_rng(0).normal(size=shape))
  tokens = patchify.patchify(z, patch)
  count = np.prod(patchify.grid(shape, patch))
  assert tokens.shape == (*lead, count, np.prod(patch) * 5)
  assert isinstance(tokens, type(z))
  back = patchify.unpatchify(tokens, SIZE, patch)
  np.testing.assert_array_equal(back, z)


@pytest.mark.parametrize("patch", PATCHES)
def test_positions_agree_with_patch_order(patch):
  # An array that holds its own coordinates: each token must lie where its
  # position says, with all of its cells.
  cells = np.moveaxis(np.indices(SIZE), 0, -1)  # [t, h, w, 3]
  tokens = patchify.patchify(cells, patch)
  tokens = tokens.reshape(len(tokens), -1, 3)  # [n, cells, 3]
  positions = patchify.positions(SIZE, patch)
  assert positions.dtype == np.int32
  expected = np.broadcast_to(positions[:, None], tokens.shape)
  np.testing.assert_array_equal(tokens // patch, expected)
  np.testing.assert_array_equal(tokens[:, 0], positions * patch)
  assert len(np.unique(positions, axis=0)) == len(positions)


def test_time_is_slowest():
  positions = patchify.positions((3, 2, 2), (1, 1, 1))
  assert (np.diff(positions[:, 0]) >= 0).all()


def test_text_never_collides_with_video():
  video = {tuple(p) for p in patchify.positions((4, 3, 3), (1, 1, 1))}
  seen = set()
  for time in range(4):
    text = patchify.text_positions(7, time)
    assert text.dtype == np.int32
    assert (text[:, 0] == time).all()
    seen |= {tuple(p) for p in text}
  assert len(seen) == 4 * 7  # every word of every shot has its own place
  assert not seen & video


@pytest.mark.parametrize("axis, name", enumerate("thw"))
def test_indivisible_size_is_an_error(axis, name):
  size, patch = [4, 4, 4], [1, 1, 1]
  size[axis], patch[axis] = 7, 3
  with pytest.raises(ValueError, match=f"axis {name} has 7 .* 3"):
    patchify.patchify(np.zeros((*size, 2)), tuple(patch))
  with pytest.raises(ValueError, match=f"axis {name} has 7 .* 3"):
    patchify.positions(tuple(size), tuple(patch))
