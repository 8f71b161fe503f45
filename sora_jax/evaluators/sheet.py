"""What autoencoders are known to get wrong: each defect as a number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.evaluators.context import Context, frozen_of
from sora_jax.models import autoencoder as ae
from sora_jax.objectives import streaming
from sora_jax.types import Array, Clip, State
from sora_jax.utils import media

LEVELS = (0, 64, 128, 192, 255)  # of the flat fields, in all channels
USED = 0.1  # nats a cell that a channel tells which is used


@dataclasses.dataclass(frozen=True)
class Sheet:
  """Flicker, grids, borders, causality and the use of the latent channels.

  flicker/levels: mean change from frame to frame of a decoded still clip; 0 of
    256 grey levels is right.
  flat/levels: root mean square of what a decoded flat field has besides its
    mean, grey levels; flat/grid is the share of its energy that repeats with
    the latent cells.
  chunks/levels: the largest difference between a clip that is decoded one
    latent frame at a time and the whole.
  tiles/error: mean squared error in the pixels next to a border of two tiles,
    over that of the same pixels decoded whole; 1 is no seam. Only for clips
    that are larger than a tile.
  causality/leak: largest derivative of an earlier latent or frame by a later
    frame; 0 is causal.
  latents/nats: what a cell tells, as the capacity of Gaussian channels, the sum
    of log(1 + variance of the mean / noise) / 2; latents/used is the share of
    the channels with more than `USED`; latents/rank is exp of the entropy of
    the normalised spectrum of their covariance, as a share of the channels.

  Attributes:
    context: what to judge.
    clips: how many; 0 for all.
    videos: of how many the originals and what is decoded are written side by
      side, to reconstructions/ in the workdir.
    tile: side of a tile, cells.
  """

  context: Context
  clips: int
  videos: int
  tile: int

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    frozen = frozen_of(state, self.context)
    codec = streaming.Streaming(self.context.autoencoder)
    clips = self.context.first(self.clips)
    self._write(codec, frozen, clips[: self.videos], int(state.step))
    yield "flicker/levels", _flicker(codec, frozen, clips)
    yield from _flat(codec, frozen, clips[0].video.shape)
    yield from self._borders(codec, frozen, clips)
    yield "causality/leak", leak(codec, frozen, clips[0].video)
    yield from _latents(codec, frozen, clips)

  def _write(self, codec, frozen, clips: Sequence[Clip], step: int) -> None:
    folder = self.context.workdir / "reconstructions"
    folder.mkdir(parents=True, exist_ok=True)
    for index, clip in enumerate(clips):
      out = codec.round_trip(frozen, clip.video[None])[0]
      pair = np.concatenate([clip.video, out], axis=2)  # side by side
      name = re.sub(r"[^A-Za-z0-9]+", "-", clip.key).strip("-")[-48:]
      path = folder / f"{step:08d}-{index:03d}-{name}.mp4"
      media.write(path, pair, clip.fps, {"left": "original"})

  def _borders(self, codec, frozen, clips) -> Iterator[tuple[str, float]]:
    chunks, seams = 0, []
    halo = self.context.autoencoder.model.halo
    overlap = min(2 * halo + 1, self.tile - 1)
    for clip in clips:
      z = next(codec.encode(frozen, [clip.video[None]]))
      (whole,) = codec.decode(frozen, [z])
      single = [z[:, i : i + 1] for i in range(z.shape[1])]
      parts = np.concatenate(list(codec.decode(frozen, single)), axis=1)
      chunks = max(chunks, int(np.abs(parts.astype(int) - whole).max()))
      near = self._near(z.shape[2:4], overlap)
      if near.any():
        tiles = codec.decode_tiles(frozen, z, self.tile, overlap)
        wrong = [
          np.square(x[0].astype(float) - clip.video)[:, near].mean()
          for x in (tiles, whole)
        ]
        seams.append(wrong[0] / max(wrong[1], 1e-6))
    yield "chunks/levels", float(chunks)
    if seams:
      yield "tiles/error", float(np.mean(seams))

  def _near(self, cells: tuple[int, int], overlap: int) -> np.ndarray:
    """Which pixels lie within a cell of an inner border of a tile, [H, W]."""
    _, *scale = self.context.autoencoder.model.compression
    lines = []
    for n, s in zip(cells, scale):
      near = np.zeros(n * s, bool)
      for at in streaming.starts(n, self.tile, overlap):
        for border in (at, at + self.tile):
          if 0 < border < n:
            near[(border - 1) * s : (border + 1) * s] = True
      lines.append(near)
    return lines[0][:, None] | lines[1][None, :]


def _flicker(codec, frozen, clips) -> float:
  """Mean change between the decoded frames of clips that stand still."""
  found = []
  for clip in clips:
    still = np.repeat(clip.video[None, :1], max(len(clip.video), 9), axis=1)
    out = codec.round_trip(frozen, still).astype(float)
    found.append(np.abs(np.diff(out, axis=1)).mean())
  return float(np.mean(found))


def _flat(codec, frozen, shape) -> Iterator[tuple[str, float]]:
  _, *scale = codec.objective.model.compression
  size = [1 + codec.objective.model.compression[0]]
  size += [max(n // s, 2) * s for n, s in zip(shape[1:3], scale)]
  off, grid = [], []
  for level in LEVELS:
    out = codec.round_trip(frozen, np.full((1, *size, 3), level, np.uint8))
    rest = out - out.mean((2, 3), keepdims=True)
    power = np.abs(np.fft.fft2(rest, axes=(2, 3))) ** 2
    # What repeats with every cell lies on the multiples of the cells' number.
    harmonics = power[:, :, :: size[1] // scale[0], :: size[2] // scale[1]]
    off.append(np.square(rest).mean())
    grid.append(harmonics.sum() / max(power.sum(), 1e-9))
  yield "flat/levels", float(np.sqrt(np.mean(off)))
  yield "flat/grid", float(np.average(grid, weights=np.maximum(off, 1e-9)))


def leak(codec: streaming.Streaming, frozen: Any, video: np.ndarray) -> float:
  """Largest derivative of the past by the last latent frame's pixels.

  Args:
    codec: to judge.
    frozen: its parameters.
    video: uint8 [T, H, W, 3]; at least two latent frames of it are taken.
  """
  model = codec.objective.model
  ct = model.compression[0]
  frames = 1 + ct * max((len(video) - 1) // ct, 1)
  whole = np.concatenate([video, np.repeat(video[-1:], ct, axis=0)])[:frames]
  x = streaming.pad(whole[None], model.compression)
  tangent = np.ones(x.shape, np.float32)
  tangent[:, : frames - ct] = 0

  @jax.jit
  def derivatives(params: Any, x: Array, tangent: Array):
    def both(x):
      mean, logvar = model.apply({"params": params}, x, method="encode")
      out = model.apply({"params": params}, mean, method="decode")
      return mean[:, :-1], logvar[:, :-1], out[:, :-ct]

    changes = jax.jvp(both, (x,), (tangent,))[1]
    return jnp.stack([jnp.abs(c).max() for c in changes]).max()

  pixels = ae.from_uint8(jnp.asarray(x))
  return float(derivatives(frozen["autoencoder"], pixels, tangent))


def _latents(codec, frozen, clips) -> Iterator[tuple[str, float]]:
  model = codec.objective.model
  encode = jax.jit(
    lambda params, x: model.apply({"params": params}, x, method="encode")
  )
  means, noise = [], []
  for clip in clips:
    x = streaming.pad(clip.video[None], model.compression)
    mean, logvar = (
      np.asarray(a, np.float64).reshape(-1, model.channels)
      for a in encode(frozen["autoencoder"], ae.from_uint8(jnp.asarray(x)))
    )
    means.append(mean)
    noise.append(np.exp(logvar))
  covariance = np.cov(np.concatenate(means).T).reshape((model.channels,) * 2)
  signal = covariance.diagonal() / np.concatenate(noise).mean(0)
  nats = 0.5 * np.log1p(signal)  # a Gaussian channel's
  share = np.maximum(np.linalg.eigvalsh(covariance), 1e-12)
  share /= share.sum()
  rank = np.exp(-(share * np.log(share)).sum()) / model.channels
  yield "latents/used", float((nats > USED).mean())
  yield "latents/nats", float(nats.sum())
  yield "latents/rank", float(rank)
