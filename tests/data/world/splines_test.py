"""Bases: a partition of unity that keeps places."""

import numpy as np
import pytest

from sora_jax.data.world import splines

PIXELS = np.arange(30)[None] + 0.37


@pytest.mark.parametrize("cell", [1.0, 1.3, 2.6])
def test_shares_sum_to_one_and_keep_straight_lines(cell):
  cells = np.arange(-5, 40) * cell
  basis = splines.basis(PIXELS, cells, cell)
  assert basis.min() >= 0
  np.testing.assert_allclose(basis.sum(-1), 1)
  np.testing.assert_allclose(basis @ cells, PIXELS, atol=1e-12)


@pytest.mark.parametrize("cell", [0.2, 0.5, 0.7, 0.9])
def test_fine_cells_sum_to_one_within_two_percent(cell):
  basis = splines.basis(PIXELS, np.arange(-9, 200) * cell, cell)
  np.testing.assert_allclose(basis.sum(-1), 1, atol=0.021)


def test_each_frame_has_its_own_cells():
  cell = np.array([0.6, 2.0])
  cells = np.arange(20) * cell[:, None]
  both = splines.basis(PIXELS.repeat(2, 0), cells, cell[:, None, None])
  for k in range(2):
    alone = splines.basis(PIXELS, cells[k], cell[k])
    np.testing.assert_array_equal(both[k], alone[0])
