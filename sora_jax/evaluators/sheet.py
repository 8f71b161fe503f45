"""What autoencoders are known to get wrong: each defect as a number."""

from __future__ import annotations

import dataclasses
import functools
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
  tiles/error: mean squared error where two tiles are blended, over that of the
    same pixels decoded whole; 1 is no seam. A clip that is no larger than a
    tile is continued with its mirror image.
  causality/leak: the largest change of an earlier latent or frame, per change
    of later frames in a random direction; 0 is causal.
  latents/nats: what a cell tells, as the capacity of Gaussian channels, the sum
    of log(1 + variance of the mean / noise) / 2; latents/used is the share of
    the channels with more than `USED`; latents/rank is exp of the entropy of
    the normalised spectrum of their covariance, as a share of the channels.
  channel N/nats: what each channel tells.

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
      video = self._large(clip.video)
      z = np.concatenate(list(codec.encode(frozen, [video[None]])), axis=1)
      (whole,) = codec.decode(frozen, [z])
      single = [z[:, i : i + 1] for i in range(z.shape[1])]
      parts = np.concatenate(list(codec.decode(frozen, single)), axis=1)
      chunks = max(chunks, int(np.abs(parts.astype(int) - whole).max()))
      tiles = codec.decode_tiles(frozen, z, self.tile, overlap)
      near = self._blended(z.shape[2:4], overlap, halo)
      wrong = [
        np.square(streaming.crop(x, video.shape[:3])[0].astype(float) - video)
        for x in (tiles, whole)
      ]
      tiled, untiled = (
        error[:, near[: video.shape[1], : video.shape[2]]].mean()
        for error in wrong
      )
      seams.append(tiled / max(untiled, 1e-6))
    yield "chunks/levels", float(chunks)
    yield "tiles/error", float(np.mean(seams))

  def _large(self, video: np.ndarray) -> np.ndarray:
    """The clip with its mirror images, larger than a tile."""
    _, *scales = self.context.autoencoder.model.compression
    for axis, scale in zip((1, 2), scales):
      while video.shape[axis] <= self.tile * scale:
        video = np.concatenate([video, np.flip(video, axis)], axis)
    return video

  def _blended(self, cells, overlap: int, halo: int) -> np.ndarray:
    """Which pixels lie where two tiles are blended, bool [H, W]."""
    low, high = streaming.fade(overlap, halo)
    lines = []
    for n in cells:
      near = np.zeros(n, bool)
      for at in streaming.starts(n, self.tile, overlap):
        if at > 0:
          near[at + low : at + high] = True
        if (end := at + self.tile) < n:
          near[end - high : end - low] = True
      lines.append(near)
    _, ch, cw = self.context.autoencoder.model.compression
    rows, columns = np.repeat(lines[0], ch), np.repeat(lines[1], cw)
    return rows[:, None] | columns[None, :]


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
  """Largest change of the past, per change of the last latent frame's pixels.

  A derivative in one random direction: what depends on the future at all
  changes in almost every one.

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
  tangent = np.random.default_rng(0).standard_normal(x.shape)
  tangent[:, : frames - ct] = 0
  pixels = ae.from_uint8(jnp.asarray(x))
  return float(_leak(codec, frozen, pixels, tangent.astype(np.float32)))


@functools.partial(jax.jit, static_argnums=0)
def _leak(codec, frozen: Any, x: Array, tangent: Array) -> Array:
  # What it sees does not depend on how it multiplies, and what is rounded has
  # gradients of its own, backwards alone.
  model = codec.objective.model.clone(matmul=None)
  ct = model.compression[0]
  params = {"params": frozen["autoencoder"]}

  def both(x):
    mean, logvar = model.apply(params, x, method="encode")
    out = model.apply(params, mean, method="decode")
    return mean[:, :-1], logvar[:, :-1], out[:, :-ct]

  changes = jax.jvp(both, (x,), (tangent,))[1]
  return jnp.stack([jnp.abs(c).max() for c in changes]).max()


@functools.partial(jax.jit, static_argnums=0)
def _gaussians(codec, frozen: Any, x: Array) -> tuple[Array, Array]:
  """Mean and log-variance of the latents."""
  params = {"params": frozen["autoencoder"]}
  return codec.objective.model.apply(params, x, method="encode")


def _latents(codec, frozen, clips) -> Iterator[tuple[str, float]]:
  model = codec.objective.model
  means, noise = [], []
  for clip in clips:
    x = streaming.pad(clip.video[None], model.compression)
    mean, logvar = (
      np.asarray(a, np.float64).reshape(-1, model.channels)
      for a in _gaussians(codec, frozen, ae.from_uint8(jnp.asarray(x)))
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
  for channel, value in enumerate(nats):
    yield f"channel {channel:02d}/nats", float(value)
