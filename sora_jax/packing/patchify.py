"""Latents <-> tokens with coordinates: the only reshape gymnastics we have.

A latent clip [t, h, w, c] is cut into spacetime patches of (pt, ph, pw) cells.
Each patch becomes one token of P = pt * ph * pw * c numbers, with the integer
coordinates of the patch in units of patches. Works on NumPy and JAX arrays.
"""

from __future__ import annotations

import math

import numpy as np

from sora_jax.types import Array

Patch = tuple[int, int, int]


def grid(shape: tuple[int, ...], patch: Patch) -> tuple[int, int, int]:
  """Patches per axis of latents [..., t, h, w, c].

  Raises:
    ValueError: if an axis is not a multiple of its patch size.
  """
  size = shape[-4:-1]
  for axis, n, p in zip("thw", size, patch):
    if n % p:
      raise ValueError(
        f"latent axis {axis} has {n} cells, which is no multiple of the patch "
        f"size {p}: choose a clip size that divides, or another `patch`"
      )
  return tuple(n // p for n, p in zip(size, patch))


def tokens(size: tuple[int, int, int], patch: Patch) -> int:
  """Tokens of latents (t, h, w); raises as `grid` does."""
  return math.prod(grid((*size, 1), patch))


def patchify(z: Array, patch: Patch) -> Array:
  """Cuts latents [..., t, h, w, c] into tokens [..., n, P], t slowest."""
  (nt, nh, nw), (pt, ph, pw) = grid(z.shape, patch), patch
  *lead, c = (*z.shape[:-4], z.shape[-1])
  k = len(lead)
  x = z.reshape(*lead, nt, pt, nh, ph, nw, pw, c)
  order = (0, 2, 4, 1, 3, 5, 6)  # nt nh nw pt ph pw c
  x = x.transpose(*range(k), *(k + i for i in order))
  return x.reshape(*lead, nt * nh * nw, pt * ph * pw * c)  # [..., n, P]


def unpatchify(
  tokens: Array, size: tuple[int, int, int], patch: Patch
) -> Array:
  """Inverse of `patchify`: tokens [..., n, P] -> latents [..., t, h, w, c].

  Args:
    tokens: [..., n, P] in the order that `patchify` gives.
    size: (t, h, w) of the latents.
    patch: (pt, ph, pw).
  """
  nt, nh, nw = grid((*size, 1), patch)
  pt, ph, pw = patch
  lead, k = tokens.shape[:-2], tokens.ndim - 2
  c = tokens.shape[-1] // math.prod(patch)
  x = tokens.reshape(*lead, nt, nh, nw, pt, ph, pw, c)
  order = (0, 3, 1, 4, 2, 5, 6)  # nt pt nh ph nw pw c
  x = x.transpose(*range(k), *(k + i for i in order))
  return x.reshape(*lead, *size, c)


def positions(size: tuple[int, int, int], patch: Patch) -> np.ndarray:
  """Coordinates int32 [n, 3] = (t, h, w) of each token, in patches."""
  cells = np.indices(grid((*size, 1), patch), dtype=np.int32)
  return np.ascontiguousarray(cells.reshape(3, -1).T)


def text_positions(length: int, time: int = 0) -> np.ndarray:
  """Coordinates int32 [S, 3] of text tokens that describe latent time `time`.

  Text lies on the negative diagonal of the plane of its time, where no patch
  ever is, so that rotary attention sees its order and its shot.
  """
  order = -1 - np.arange(length, dtype=np.int32)
  return np.stack([np.full(length, time, np.int32), order, order], axis=-1)
