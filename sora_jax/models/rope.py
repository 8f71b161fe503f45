"""Rotary positions over three axes (Su et al. 2021, extended to t, h, w)."""

from __future__ import annotations

import jax.numpy as jnp

from sora_jax.types import Array


def split(head_dim: int) -> tuple[int, int, int]:
  """Rotated pairs per axis (t, h, w): a quarter, and the rest in halves."""
  pairs = head_dim // 2
  t = pairs // 4
  h = (pairs - t) // 2
  return t, h, pairs - t - h


def angles(positions: Array, head_dim: int, base: float) -> Array:
  """Angles float32 [R, L, head_dim / 2] of positions [R, L, 3]."""
  if head_dim % 2:
    raise ValueError(f"head_dim={head_dim} is odd; rotary pairs need even")
  parts = []
  for axis, pairs in enumerate(split(head_dim)):
    frequency = base ** (-jnp.arange(pairs) / max(pairs, 1))
    parts.append(positions[..., axis, None].astype(jnp.float32) * frequency)
  return jnp.concatenate(parts, axis=-1)


def table(positions: Array, head_dim: int, base: float) -> Array:
  """Cosines and sines float32 [2, R, L, head_dim / 2] of `angles`.

  Computed once for all blocks: XLA would otherwise fuse the trigonometry into
  every use of it, for each head, forwards and backwards.
  """
  angle = angles(positions, head_dim, base)
  return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def rotate(x: Array, rotation: Array) -> Array:
  """Rotates x [R, L, N, head_dim] by a `table`, in float32."""
  cos, sin = rotation[:, :, :, None]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  out = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return out.astype(x.dtype)
