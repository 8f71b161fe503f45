"""How well clips survive the autoencoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, frozen_of
from sora_jax.types import Clip, State


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """PSNR and SSIM of clips through the autoencoder, and of box downsampling.

  PSNR is the mean over frames of 8-bit RGB. The baseline averages each cell of
  (height, width) pixels of the autoencoder's compression and repeats it: what
  is left when a cell keeps three numbers a frame.

  Attributes:
    context: what to judge.
    clips: how many.
    per_clip: also yield every clip's PSNR by its key.
  """

  context: Context
  clips: int
  per_clip: bool

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    frozen = frozen_of(state, self.context)
    objective = self.context.autoencoder

    @jax.jit
    def through(frozen, video):
      z = objective.encode(frozen["autoencoder"], frozen["stats"], video)
      return objective.decode(frozen["autoencoder"], frozen["stats"], z)

    rows = []
    for clip in self.context.first(self.clips):
      out = np.asarray(through(frozen, clip.video[None]))[0]
      rows.append(self._scores(clip, out))
      if self.per_clip:
        yield f"{clip.key.replace('/', ':')}/psnr", rows[-1]["psnr"]
        yield f"{clip.key.replace('/', ':')}/ssim", rows[-1]["ssim"]
    for name in rows[0]:
      yield name, float(np.mean([row[name] for row in rows]))

  def _scores(self, clip: Clip, out: np.ndarray) -> dict[str, float]:
    _, ch, cw = self.context.autoencoder.model.compression
    return {
      "psnr": metrics.psnr(out, clip.video),
      "psnr_first_frame": metrics.psnr(out[:1], clip.video[:1]),
      "ssim": metrics.ssim(out, clip.video),
      "psnr_box": metrics.psnr(box(clip.video, ch, cw), clip.video),
    }


def box(video: np.ndarray, height: int, width: int) -> np.ndarray:
  """Each height x width box of every frame replaced by its mean colour."""
  t, h, w, c = video.shape
  cells = video.reshape(t, h // height, height, w // width, width, c)
  mean = cells.mean(axis=(2, 4), keepdims=True)
  return (
    np.broadcast_to(np.rint(mean), cells.shape)
    .reshape(video.shape)
    .astype(np.uint8)
  )
