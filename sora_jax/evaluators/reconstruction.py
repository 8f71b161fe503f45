"""How well clips survive the autoencoder."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, frozen_of
from sora_jax.models import autoencoder as ae
from sora_jax.models import perceptual
from sora_jax.objectives.streaming import Streaming
from sora_jax.types import Clip, PyTree, State


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """PSNR and SSIM of clips through the autoencoder, and of box downsampling.

  PSNR is the mean over frames of 8-bit RGB, as is SSIM; those of the first
  frame, which has latents of its own, stand apart. The baseline averages each
  cell of (height, width) pixels of the autoencoder's compression and repeats
  it: what is left when a cell keeps three numbers a frame.

  Attributes:
    context: what to judge.
    clips: how many; 0 for all.
    per_origin: also yield PSNR and SSIM by the clips' origin.
    lpips: path of LPIPS's weights (models.perceptual); "" leaves it out.
    sha256: of these, or its first digits; "" checks none.
  """

  context: Context
  clips: int
  per_origin: bool
  lpips: str
  sha256: str

  def __post_init__(self):
    if self.lpips:
      _weights(self.lpips, self.sha256)  # not there, or others? say so now

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    frozen = frozen_of(state, self.context)
    codec = Streaming(self.context.autoencoder)
    origins: dict[str, list[dict[str, float]]] = {}
    for clip in self.context.first(self.clips):
      out = codec.round_trip(frozen, clip.video[None])[0]
      origins.setdefault(clip.origin, []).append(self._scores(clip, out))
    if self.per_origin:
      for origin, rows in origins.items():
        for name, value in _mean(rows).items():
          yield f"{origin.replace('/', ':')}/{name}", value
    for name, value in _mean(itertools.chain(*origins.values())).items():
      yield f"mean/{name}", value

  def _scores(self, clip: Clip, out: np.ndarray) -> dict[str, float]:
    _, ch, cw = self.context.autoencoder.model.compression
    scores = self._looks(clip.video, out) if self.lpips else {}
    psnr = metrics.frame_psnr(out, clip.video)
    ssim = metrics.frame_ssim(out, clip.video)
    return scores | {
      "psnr": float(psnr.mean()),
      "psnr_first_frame": float(psnr[0]),
      "ssim": float(ssim.mean()),
      "ssim_first_frame": float(ssim[0]),
      "psnr_box": metrics.psnr(box(clip.video, ch, cw), clip.video),
    }

  def _looks(self, video: np.ndarray, out: np.ndarray) -> dict[str, float]:
    frames = (ae.from_uint8(jnp.asarray(x)) for x in (video, out))
    weights = _weights(self.lpips, self.sha256)
    return {"lpips": float(_lpips(weights, *frames).mean())}


_lpips = jax.jit(perceptual.distance)


@functools.cache
def _weights(path: str, sha256: str) -> PyTree:
  """Read once, by whoever asks first."""
  return perceptual.load(path, sha256)


def _mean(rows: Iterable[dict[str, float]]) -> dict[str, float]:
  rows = list(rows)
  return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}


def box(video: np.ndarray, height: int, width: int) -> np.ndarray:
  """Each height x width box of every frame replaced by its mean colour.

  Boxes at the bottom and on the right are what is left of the frame.
  """
  sums, counts = video.astype(np.float64), np.ones((1, *video.shape[1:3], 1))
  for axis, n in ((1, height), (2, width)):
    starts = np.arange(0, video.shape[axis], n)
    sums = np.add.reduceat(sums, starts, axis)
    counts = np.add.reduceat(counts, starts, axis)
  mean = np.rint(sums / counts).astype(np.uint8)
  out = mean.repeat(height, axis=1).repeat(width, axis=2)
  return out[:, : video.shape[1], : video.shape[2]]
