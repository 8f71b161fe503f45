"""Are objects in the picture, or cut off by its edge?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, prompted, through, trained
from sora_jax.types import State

THRESHOLD = 64  # of 255, in the channel that differs most
PIXELS = 2  # of the edge that have to differ


@dataclasses.dataclass(frozen=True)
class Framing:
  """Share of frames in which something crosses the frame's edge.

  What Sora's report says of models that are trained on square crops: that they
  show things that are partly out of view. Rows: real clips, the same through
  the autoencoder, and what is generated from their captions, with its 95 %
  bootstrap interval over clips. For sets with plain backgrounds.

  Attributes:
    context: with clips and a pipeline.
    clips: captions to judge; 0 for all.
    seed: of the noise.
    size: (T, H, W) of what is generated; () for the sizes of the clips.
  """

  context: Context
  clips: int
  seed: int
  size: tuple[int, ...]

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = self.context.first(self.clips)
    requests = prompted(clips, [clip.text for clip in clips], self.seed)
    if self.size:
      requests = [dataclasses.replace(r, size=self.size) for r in requests]
    made = self.context.pipeline(trained(state), state.frozen, requests)
    real = [clip.video for clip in clips]
    yield "real/cut", float(cut(real).mean())
    decoded = through(self.context, state, real)
    yield "autoencoder/cut", float(cut(decoded).mean())
    shares = cut(made)
    yield "generated/cut", float(shares.mean())
    low, high = metrics.bootstrap(shares)
    yield "generated low/cut", low
    yield "generated high/cut", high


def cut(videos: Sequence[np.ndarray]) -> np.ndarray:
  """Share of each video's frames whose edge shows more than the background.

  The background is the median colour of a frame. An edge that differs from it
  by more than THRESHOLD in any channel, in at least PIXELS of its pixels, has
  something on it.

  Args:
    videos: uint8 [T, H, W, 3] each.

  Returns:
    float [N] in 0..1.
  """
  return np.array([_cut(video.astype(np.int16)).mean() for video in videos])


def _cut(video: np.ndarray) -> np.ndarray:
  ground = np.median(video, axis=(1, 2), keepdims=True)
  differs = np.abs(video - ground).max(axis=-1) > THRESHOLD
  inside = differs[:, 1:-1, 1:-1].sum(axis=(1, 2))
  return differs.sum(axis=(1, 2)) - inside >= PIXELS
