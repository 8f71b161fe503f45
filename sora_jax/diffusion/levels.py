"""Noise levels of training: which tokens of a clip are clean, which share one.

A pattern says, for every token, whether it is *known* (level 0, a condition)
and which time it takes: one for the whole clip, or one per latent frame
(diffusion forcing, Chen et al. 2024). A mixture of patterns makes one model
that generates, continues, interpolates and fills in.

The levels of a row are one flat table [R, K]: index 0 is clean, then `frames`
entries for each of the row's clips, so K = 1 + clips * frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from sora_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Place:
  """Where each token of the rows lies.

  Attributes:
    clip: int32 [R, L] clip in the row from 0; padding counts as clip 0.
    frame: int32 [R, L] latent frame in its clip.
    last: int32 [R, L] last latent frame of its clip.
    real: bool [R, L] false for padding.
  """

  clip: Array
  frame: Array
  last: Array
  real: Array


def place(positions: Array, segments: Array, clips: int) -> Place:
  """Reads the place of tokens off positions [R, L, 3] and segments [R, L]."""
  real = segments > 0
  clip = jnp.maximum(segments - 1, 0)
  frame = jnp.where(real, positions[..., 0], 0)
  member = jax.nn.one_hot(clip, clips, dtype=jnp.int32)  # [R, L, M]
  last = (member * frame[..., None]).max(axis=1)  # [R, M]
  return Place(clip, frame, jnp.take_along_axis(last, clip, axis=1), real)


def sizes(segments: Array, clips: int) -> Array:
  """Tokens of each clip: int32 [R, M]."""
  numbers = jnp.arange(1, clips + 1)
  return (segments[..., None] == numbers).sum(axis=1)


def _draw(rng: Array, where: Place, clips: int) -> Array:
  """One uniform number per clip, as seen by each of its tokens: [R, L]."""
  u = jax.random.uniform(rng, (where.clip.shape[0], clips))
  return jnp.take_along_axis(u, where.clip, axis=1)


def _prefix(rng, where, clips):
  length = 1 + jnp.floor(_draw(rng, where, clips) * where.last)
  return where.frame < length


def _mask(rng, where, clips):
  rate_rng, token_rng = jax.random.split(rng)
  rate = _draw(rate_rng, where, clips)
  return jax.random.uniform(token_rng, where.clip.shape) < rate


# name -> (rng, place, clips) -> (known [R, L], one time per frame?)
PATTERNS: dict[str, tuple[Callable[..., Array], bool]] = {
  "clip": (lambda rng, where, clips: jnp.zeros_like(where.real), False),
  "frames": (lambda rng, where, clips: jnp.zeros_like(where.real), True),
  "first_frame": (lambda rng, where, clips: where.frame == 0, False),
  "last_frame": (lambda rng, where, clips: where.frame == where.last, False),
  "prefix": (_prefix, False),
  "mask": (_mask, False),
}


def sample(
  rng: Array,
  where: Place,
  times: Callable[[Array, tuple[int, ...]], Array],
  mixture: Mapping[str, float],
  clips: int,
  frames: int,
) -> tuple[Array, Array]:
  """Draws a pattern for every clip and the noise levels that follow.

  Args:
    rng: key.
    where: `place` of the rows' tokens.
    times: (rng, shape [R, M, F]) -> times in [0, 1], shifted by clip if so
      wished.
    mixture: probability of each pattern, by its name in PATTERNS.
    clips: most clips in a row (M).
    frames: most latent frames of a clip (F).

  Returns:
    levels float32 [R, 1 + M * F], and level int32 [R, L]. A clip whose pattern
    would leave nothing to denoise (an image with its first frame known) falls
    back to "clip".
  """
  unknown = set(mixture) - set(PATTERNS)
  if unknown:
    raise ValueError(f"unknown patterns {unknown}; valid: {sorted(PATTERNS)}")
  rng_time, rng_choice, rng_pattern = jax.random.split(rng, 3)
  rows = where.clip.shape[0]
  names = sorted(mixture)
  weights = jnp.array([mixture[n] for n in names], jnp.float32)
  choice = jax.random.categorical(
    rng_choice, jnp.log(weights), shape=(rows, clips)
  )
  choice = jnp.take_along_axis(choice, where.clip, axis=1)  # [R, L]

  known = jnp.zeros_like(where.real)
  per_frame = jnp.zeros_like(where.real)
  for i, name in enumerate(names):
    pattern, many = PATTERNS[name]
    drawn = pattern(jax.random.fold_in(rng_pattern, i), where, clips)
    known = jnp.where(choice == i, drawn & where.real, known)
    per_frame = jnp.where(choice == i, many, per_frame)

  member = jax.nn.one_hot(where.clip, clips, dtype=jnp.bool_)  # [R, L, M]
  noisy = (member & (where.real & ~known)[..., None]).any(axis=1)  # [R, M]
  known &= jnp.take_along_axis(noisy, where.clip, axis=1)

  drawn = times(rng_time, (rows, clips, frames))  # [R, M, F]
  levels = jnp.concatenate(
    [jnp.zeros((rows, 1)), drawn.reshape(rows, -1)], axis=1
  )  # [R, K]
  frame = jnp.where(per_frame, where.frame, 0)
  level = 1 + where.clip * frames + frame
  level = jnp.where(known | ~where.real, 0, level).astype(jnp.int32)
  return levels, level
