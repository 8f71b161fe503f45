"""Packed rows as the arrays that the compiled sampler takes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.packing import pack
from sora_jax.types import Array, Stream


def words_of(name: str, texts, layout: pack.Layout) -> dict[str, np.ndarray]:
  """Packed rows [R, S] of a text stream."""
  layout = layout.shorter([len(ids) for ids, _ in texts])
  return {
    name: pack.pack([ids for ids, _ in texts], layout),
    f"{name}_positions": pack.pack([at for _, at in texts], layout),
    f"{name}_segments": layout.segments,
  }


def video_of(a: dict[str, Array]) -> Stream:
  """The video stream of packed rows."""
  return Stream(a["known"], a["positions"], a["segments"], a["level"])


def text_of(a: dict[str, Array], name: str) -> Stream:
  """A text stream of packed rows: "text" or "null"."""
  segments = a[f"{name}_segments"]
  return Stream(
    a[name], a[f"{name}_positions"], segments, jnp.zeros_like(segments)
  )


@functools.partial(jax.jit, static_argnums=1)
def _fold(seed: Array, count: int) -> jax.Array:
  key = jax.random.PRNGKey(seed)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def token_keys(seed: int, count: int) -> np.ndarray:
  """uint32 [count, 2]: a key for every token of the clip of this seed."""
  return np.asarray(_fold(jnp.uint32(seed), count))
