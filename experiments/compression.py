"""Who should compress: the autoencoder or the patches? And how far?

  python -m experiments.sweep experiments/compression.py

The quickstart's transformer, on latents and patches of several sizes at about
equal compute: the more tokens a clip has, the fewer steps. A latent cell has a
number for every eight pixels; the first frame, which stands alone, thereby has
twice as many at eight frames a cell as at four. Named are the pixels of a cell
and the cells of a token. A model of finer tokens sees fewer clips and more of
each; the autoencoders are of one width and as many steps, and what captions
they keep stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict

from experiments import guidance
from sora_jax.models.autoencoder import latent_size

METRICS = guidance.WITH_CEILING
STEPS = 1500  # of 32 tokens and their captions' 12
PIXELS = 8  # to a number of the latents


def base() -> ConfigDict:
  """The quickstart, judged by captions and Fréchet distance."""
  return guidance.base()


def point(
  compression: tuple[int, int, int], patch: tuple[int, int, int]
) -> Mapping[str, object]:
  """Changes of one way to cut a clip into tokens."""
  c = base()
  size = (c.data.frames, c.data.height, c.data.width)
  grid = latent_size(size, compression)
  tokens = int(np.prod(grid)) // int(np.prod(patch))
  text = c.dit.rows.text
  steps = round(STEPS * (32 + text) / (tokens + text))
  return {
    "autoencoder.model.compression": compression,
    "autoencoder.model.channels": int(np.prod(compression)) // PIXELS,
    "tokens": tokens // grid[0],
    "dit.patch": patch,
    "dit.frames": grid[0] // patch[0],
    "dit.rows.length": tokens,
    "dit.shift.base_tokens": tokens // 4,  # as far as the quickstart's
    "dit.schedule.until": f"{steps} steps",
  }


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  for compression, patch in (
    ((8, 8, 8), (1, 1, 1)),
    ((8, 8, 8), (1, 2, 2)),
    ((8, 16, 16), (1, 1, 1)),
    ((4, 8, 8), (1, 1, 1)),
    ((4, 8, 8), (1, 2, 2)),
    ((4, 16, 16), (1, 1, 1)),
  ):
    names = ("x".join(map(str, sides)) for sides in (compression, patch))
    yield ", ".join(names), dict(point(compression, patch))
