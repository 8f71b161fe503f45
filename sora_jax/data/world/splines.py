"""Anti-aliased interpolation of a grid of cells with quadratic B-splines.

With the B-spline k stretched to a cell, a grid g shows in the pixel (y, x) as

  m[y, x] = sum_ij k(y - y_i) g[i, j] k(x - x_j) = (By g Bx^T)[y, x],

two small matrix products a frame, of the bases that this module makes.
"""

from __future__ import annotations

import numpy as np


def basis(
  pixels: np.ndarray, cells: np.ndarray, cell: np.ndarray
) -> np.ndarray:
  """The share of each cell in each pixel on one axis, float64 [T, n, cells].

  The shares of a pixel sum to 1 where cells are a pixel or more, and to 1
  within two percent where they are less.

  Args:
    pixels: [T, n] middles of the pixels, pixels.
    cells: [cells] or [T, cells] middles of the cells, pixels.
    cell: scalar or [T, 1, 1] side of a cell, pixels.
  """
  # A kernel narrower than a pixel would alias, so it stops shrinking there.
  scale = np.maximum(cell, 1.0)
  offset = (pixels[:, :, None] - cells[..., None, :]) / scale
  return _spline(offset) * (cell / scale)


def _spline(x: np.ndarray) -> np.ndarray:
  """Quadratic B-spline with support (-1.5, 1.5)."""
  x = np.abs(x)
  tail = np.maximum(1.5 - x, 0) ** 2 / 2
  return np.where(x < 0.5, 0.75 - x * x, tail)
