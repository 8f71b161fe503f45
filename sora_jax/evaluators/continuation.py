"""Continuing real clips from their first frame."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, continued, others, through
from sora_jax.types import Clip, State


@dataclasses.dataclass(frozen=True)
class Continuation:
  """PSNR of the frames after the first, against what really happened.

  Rows: generated with the true caption and with another clip's, the first
  frame repeated (the dumb baseline), and the clip through the autoencoder (the
  ceiling). Clips in which nothing moves are passed over: repeating a frame
  would be perfect there, and say nothing.

  Attributes:
    context: with clips and a pipeline.
    clips: how many, each of another origin; 0 for all.
    seed: of the noise.
  """

  context: Context
  clips: int
  seed: int

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = [c for c in self.context.first(self.clips, apart=True) if moves(c)]
    if not clips:
      return
    texts = [clip.text for clip in clips]
    make = functools.partial(
      continued, self.context, state, clips, task="i2v", seed=self.seed
    )
    rows = {
      "autoencoder": through(self.context, state, [c.video for c in clips]),
      "generated": make(texts),
      "other caption": make(others(texts)),
      "first frame repeated": [
        np.repeat(c.video[:1], len(c.video), axis=0) for c in clips
      ],
    }
    for name, videos in rows.items():
      scores = [metrics.psnr(v[1:], c.video[1:]) for v, c in zip(videos, clips)]
      yield f"{name}/psnr", float(np.mean(scores))


def moves(clip: Clip) -> bool:
  """Whether any pixel of the clip ever changes; false for an image."""
  return bool((clip.video != clip.video[:1]).any())
