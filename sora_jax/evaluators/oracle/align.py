"""How one frame of a background lies on another: a shift and a scale.

A pixel p of a frame, from the frame's middle, shows what the other frame, the
key, shows at d + r p. Whole pixels of d are found by the least mean squared
difference over all small shifts (correlations of the masked frames, after
Padfield 2012, "Masked object registration in the Fourier domain"); then d and r
by robust least squares on the pixels themselves (Lucas and Kanade 1981), so
that against one key there is no drift.
"""

from __future__ import annotations

import numpy as np
import scipy

LEAST = 0.05  # share of the frame that must be seen in both
NEAR = 0.1  # how much worse a match may be, in the mean, to be the nearer one
NOISE = 9.0  # mean squared difference of equal pixels, grey levels
ROBUST = 6.0  # grey levels from which on a pixel counts less
POINTS = 5000  # pixels that are fitted


def shift(
  key: np.ndarray,
  frame: np.ndarray,
  seen_key: np.ndarray,
  seen: np.ndarray,
  reach: int,
) -> np.ndarray:
  """The best whole-pixel shift d with frame[p] = key[p + d], int64 [2].

  Periodic pictures match more than once; of about equal matches the smaller
  shift is taken.

  Args:
    key: [H, W] grey.
    frame: [H, W] grey.
    seen_key: bool [H, W], pixels of the key that count.
    seen: bool [H, W], of the frame.
    reach: largest shift along an axis, pixels.
  """
  middle = frame[seen].mean() if seen.any() else 0.0
  a, b = seen_key.astype(np.float64), seen.astype(np.float64)
  x, y = (key - middle) * a, (frame - middle) * b
  low = np.array(frame.shape) - 1 - reach
  window = tuple(slice(v, v + 2 * reach + 1) for v in low)

  def at(x, y):
    return scipy.signal.correlate(x, y, method="fft")[window]

  count = at(a, b)
  error = at(x * x, b) - 2 * at(x, y) + at(a, y * y)
  cost = np.maximum(error, 0) / np.maximum(count, 1) + NOISE
  lags = np.arange(-reach, reach + 1)
  far = (lags[:, None] ** 2 + lags**2) / max(reach, 1) ** 2
  cost = np.where(count < LEAST * seen.size, np.inf, cost * (1 + NEAR * far))
  if not np.isfinite(cost).any():
    return np.zeros(2, np.int64)
  return np.array(np.unravel_index(cost.argmin(), cost.shape)) - reach


def refine(
  key: np.ndarray,
  frame: np.ndarray,
  seen_key: np.ndarray,
  seen: np.ndarray,
  start: np.ndarray,
) -> np.ndarray:
  """The pose (d_y, d_x, log r) of a frame on its key, float64 [3].

  Args:
    key: [H, W] grey, smooth enough to be interpolated.
    frame: [H, W] grey.
    seen_key: bool [H, W], pixels of the key that count.
    seen: bool [H, W], of the frame.
    start: [3] pose within half a detail's size of the right one; it is returned
      where too little is seen in both.
  """
  middle = (np.array(frame.shape)[:, None] - 1) / 2
  rows = np.argwhere(seen)
  rows = rows[:: 1 + len(rows) // POINTS]
  points = rows.T - middle  # [2, n]
  inside = _sample(seen_key.astype(np.float32), points, start, middle) > 0.99
  if inside.sum() < LEAST * seen.size * len(rows) / max(seen.sum(), 1):
    return np.array(start, np.float64)
  points, rows = points[:, inside], rows[inside]
  values = frame[rows[:, 0], rows[:, 1]]
  slopes = np.gradient(key)
  unit = np.array([1, 1, 1 / middle.max()])  # a pixel at the frame's edge

  def error(step):
    return _sample(key, points, step * unit, middle) - values

  def slope(step):
    down, right = (_sample(g, points, step * unit, middle) for g in slopes)
    grown = np.exp(step[2] * unit[2]) * (down * points[0] + right * points[1])
    return np.stack([down, right, grown * unit[2]], 1)

  found = scipy.optimize.least_squares(
    error,
    start / unit,
    slope,
    loss="soft_l1",
    f_scale=ROBUST,
    xtol=1e-4,
    ftol=1e-4,
    max_nfev=20,
  )
  return found.x * unit


def _sample(picture, points, pose, middle):
  """The key at d + r p, [n]; 0 outside of it for a mask, else the edge."""
  places = pose[:2, None] + np.exp(pose[2]) * points + middle
  outside = "constant" if picture.dtype == np.float32 else "nearest"
  return scipy.ndimage.map_coordinates(picture, places, order=1, mode=outside)
