"""Frame metrics and the statistics that go with every reported number.

PSNR here is the mean over frames of each frame's PSNR on 8-bit RGB:

  PSNR = 10 log10(255^2 / MSE),  MSE over the frame's pixels and channels.

The PSNR of a clip's mean MSE is another number, up to 1.3 dB away.
"""

from __future__ import annotations

from collections.abc import Callable

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import scipy

BEST_PSNR = 100.0  # dB of identical frames, so that means stay finite
SSIM_WINDOW = 11  # pixels


def frame_psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """PSNR of each frame of two clips, dB in 0..`BEST_PSNR`, float64 [T]."""
  _check_clips(a, b)
  error = np.mean((a.astype(np.float64) - b) ** 2, axis=(1, 2, 3))  # [T]
  least = 255**2 / 10 ** (BEST_PSNR / 10)
  return 10 * np.log10(255**2 / np.maximum(error, least))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Mean over frames of the PSNR of two clips, uint8 [T, H, W, 3], in dB."""
  return float(frame_psnr(a, b).mean())


def region_psnr(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> float:
  """PSNR in dB over the pixels of a region, mean over frames that have some.

  Args:
    a: uint8 [T, H, W, 3].
    b: the same.
    region: bool [T, H, W], not empty.
  """
  square = ((a.astype(np.float64) - b) ** 2).mean(axis=-1)  # [T, H, W]
  there = region.sum(axis=(1, 2))
  error = (square * region).sum(axis=(1, 2))[there > 0] / there[there > 0]
  least = 255**2 / 10 ** (BEST_PSNR / 10)
  return float(np.mean(10 * np.log10(255**2 / np.maximum(error, least))))


def frame_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Structural similarity of each frame, in -1..1, float32 [T].

  Wang et al. 2004 with a Gaussian window of 11 pixels, mean over channels.
  """
  _check_clips(a, b)
  for axis, name in ((1, "H"), (2, "W")):
    if a.shape[axis] < SSIM_WINDOW:
      raise ValueError(
        f"Axis {axis} ({name}) is {a.shape[axis]}; SSIM's window needs at "
        f"least {SSIM_WINDOW} pixels."
      )
  return np.asarray(_ssim(a, b))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
  """Mean over frames of the SSIM of two clips, uint8 [T, H, W, 3]."""
  return float(frame_ssim(a, b).mean())


def bootstrap(
  values: np.ndarray,
  statistic: Callable[[np.ndarray], float] = np.mean,
  samples: int = 1000,
  seed: int = 0,
  level: float = 0.95,
) -> tuple[float, float]:
  """Percentile bootstrap interval (low, high) of a statistic (Efron 1979).

  Args:
    values: [N, ...], one row per independent unit; clips, not frames.
    statistic: maps resampled rows [N, ...] to a number.
    samples: resamples, >= 1.
    seed: of the resampling; the same seed gives the same interval.
    level: share of such intervals that cover the truth, in (0, 1).
  """
  values = np.asarray(values)
  if not values.size:
    raise ValueError(f"No values to resample: shape {values.shape}.")
  if not 0 < level < 1:
    raise ValueError(f"Level {level} must lie in (0, 1), for example 0.95.")
  if samples < 1:
    raise ValueError(f"samples={samples} must be >= 1.")
  rng = np.random.default_rng(seed)
  picks = rng.integers(len(values), size=(samples, len(values)))
  drawn = [statistic(values[pick]) for pick in picks]
  low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
  """Fréchet distance of two sets of features, as Gaussians (Dowson & Landau).

  |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), which also finds
  two samples of one distribution apart, by what falls as 1 / N (Heusel et al.
  2017 use 50,000). Without N and that floor it says nothing.

  Args:
    a: [N, D], N >= 2.
    b: [M, D].
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
    raise ValueError(f"features of shapes {a.shape}, {b.shape}: need [N, D]")
  if min(len(a), len(b)) < 2:
    raise ValueError(f"{len(a)} and {len(b)} clips: need 2 of each")
  gap = np.square(a.mean(0) - b.mean(0)).sum()
  # With A, B the centred sets over sqrt(N - 1), the trace of the root is the
  # sum of the singular values of A B^T, or of what QR leaves of them: no root
  # of a matrix is needed.
  one, other = (
    np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), "r") for x in (a, b)
  )
  root = np.linalg.svd(one @ other.T, compute_uv=False).sum()
  return float(gap + np.square(one).sum() + np.square(other).sum() - 2 * root)


def paired_p(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
  """p-value of mean(a - b) > 0 against symmetry, by flipping pairs' signs.

  Exact up to 13 pairs, else from 9,999 random flips; never 0.

  Args:
    a: [N] scores, N >= 2.
    b: [N] scores of the same units in the same order.
    seed: of the random flips.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
    raise ValueError(
      f"Pairs of shapes {a.shape} and {b.shape}; both must be the same [N] "
      "with N >= 2."
    )
  test = scipy.stats.permutation_test(
    (a - b,),
    np.mean,
    permutation_type="samples",
    alternative="greater",
    rng=np.random.default_rng(seed),
  )
  return float(test.pvalue)


@jax.jit
def _ssim(a: jax.Array, b: jax.Array) -> jax.Array:
  return dm_pix.ssim(jnp.float32(a) / 255, jnp.float32(b) / 255)


def _check_clips(a: np.ndarray, b: np.ndarray) -> None:
  """Raises ValueError, naming the axis, unless both are the same uint8 clip."""
  for name, clip in (("first", a), ("second", b)):
    if clip.dtype != np.uint8:
      raise ValueError(f"The {name} clip is {clip.dtype}; it must be uint8.")
    if clip.ndim != 4:
      raise ValueError(
        f"The {name} clip has shape {clip.shape}; it must be [T, H, W, 3]."
      )
    if clip.shape[3] != 3:
      raise ValueError(
        f"Axis 3 (C) of the {name} clip is {clip.shape[3]}; it must be 3."
      )
  for axis, name in enumerate("THW"):
    if a.shape[axis] != b.shape[axis]:
      raise ValueError(
        f"Axis {axis} ({name}) differs: {a.shape[axis]} and {b.shape[axis]}."
      )
    if not a.shape[axis]:
      raise ValueError(f"Axis {axis} ({name}) is empty.")
