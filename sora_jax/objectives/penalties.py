"""What a reconstruction pays for its error, error = decoded - original.

The tables map an error [B, T, H, W, 3] in -2..2 and a mask [B, T, H, W, 1], 1
where there is data, to a `Mean`. RECONSTRUCTION is what is minimised; TERMS may
be added to it with a weight, for what a mean over pixels does not mind: blur,
and flicker.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from sora_jax.types import Array, Mean

SCALES = 3  # halvings at which details are compared
BYTE = (2 / 255) ** 2 / 12  # mean error^2 of rounding to bytes


def l1(error: Array, mask: Array) -> Mean:
  """|error|."""
  return Mean.of(jnp.abs(error), mask)


def l2(error: Array, mask: Array) -> Mean:
  """error^2: what PSNR counts."""
  return Mean.of(jnp.square(error), mask)


def psnr(error: Array, mask: Array) -> Mean:
  """log(1 + mean error^2 / BYTE) of every frame: less a mean of PSNRs.

  The likelihood of a decoder whose variance is each frame's own (after Rybkin
  et al. 2021, "Simple and effective VAE training with calibrated decoders"):
  l2 would learn from the hardest frames alone.
  """
  weights = jnp.broadcast_to(mask, error.shape)
  count = weights.sum((2, 3, 4))
  squared = jnp.where(weights > 0, jnp.square(error), 0).sum((2, 3, 4))
  mean = squared / jnp.maximum(count, 1)
  return Mean.of(jnp.log1p(mean / BYTE), count > 0)


def gradient(error: Array, mask: Array) -> Mean:
  """|difference of neighbours' errors|, in space, at several scales.

  Edges that are soft or in the wrong place pay, a wrong tone does not.
  """
  total = Mean.of(jnp.zeros(1), jnp.zeros(1))
  for _ in range(SCALES):
    for axis in (2, 3):
      total |= _change(error, mask, axis)
    if error.shape[2] % 2 or error.shape[3] % 2:
      break
    error, mask = _halved(error).mean(-1), _halved(mask).min(-1)
  return total


def wavelet(error: Array, mask: Array) -> Mean:
  """|details| of the error's orthonormal Haar transform in space (Haar 1910).

  Of a square of errors a b / c d the details are (a - b + c - d) / 2,
  (a + b - c - d) / 2 and (a - b - c + d) / 2, and (a + b + c + d) / 2 goes on
  to the next scale.
  """
  total = Mean.of(jnp.zeros(1), jnp.zeros(1))
  for _ in range(SCALES):
    if error.shape[2] % 2 or error.shape[3] % 2:
      break
    a, b, c, d = jnp.moveaxis(_halved(error), -1, 0)
    mask = _halved(mask).min(-1)
    for detail in (a - b + c - d, a + b - c - d, a - b - c + d):
      total |= Mean.of(jnp.abs(detail) / 2, mask)
    error = (a + b + c + d) / 2
  return total


def temporal(error: Array, mask: Array) -> Mean:
  """|change of the error from frame to frame|: flicker and judder pay."""
  return _change(error, mask, 1)


RECONSTRUCTION: dict[str, Callable[[Array, Array], Mean]] = {
  "l1": l1,
  "l2": l2,
  "psnr": psnr,
}
TERMS: dict[str, Callable[[Array, Array], Mean]] = {
  "gradient": gradient,
  "wavelet": wavelet,
  "temporal": temporal,
}


def _change(error: Array, mask: Array, axis: int) -> Mean:
  """Mean |difference along an axis| where both neighbours are data."""
  low = [slice(None)] * 5
  low[axis] = slice(None, -1)
  high = [slice(None)] * 5
  high[axis] = slice(1, None)
  low, high = tuple(low), tuple(high)
  return Mean.of(
    jnp.abs(error[high] - error[low]), jnp.minimum(mask[high], mask[low])
  )


def _halved(x: Array) -> Array:
  """[B, T, H, W, C] -> [B, T, H / 2, W / 2, C, 4]: squares of 2 x 2 pixels."""
  b, t, h, w, c = x.shape
  x = x.reshape(b, t, h // 2, 2, w // 2, 2, c)
  return jnp.moveaxis(x, (3, 5), (5, 6)).reshape(b, t, h // 2, w // 2, c, 4)
