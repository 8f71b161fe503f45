"""The video autoencoder: causal in time, one matrix plus a residual network.

Pixels go through space-to-depth first, so that no convolution ever runs at
full resolution: a group of (ct, cs, cs) pixels becomes one cell. The first
frame is repeated ct - 1 times in front, so cell 0 holds the first frame alone:
T = 1 + ct * k frames give t = 1 + k latent frames, and an image is t = 1.

Encoder and decoder are each a linear map of the cell (started from a principal
component analysis of the data, which is the best linear autoencoder) plus a
residual network that starts at zero; training therefore begins at the linear
yardstick and can only improve on it.

Both take a clip whole or in chunks: the first with start=True, the others with
start=False and the collection causal_conv.STREAM that the one before left. The
result is the same; `objectives.streaming` does it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sora_jax.models import layers
from sora_jax.models.causal_attention import CausalAttention, TransformerBlock
from sora_jax.models.causal_conv import CausalConv, ResBlock, past
from sora_jax.packing.patchify import patchify, unpatchify
from sora_jax.types import Array

# What the names of the parameters begin with that latents depend on.
ENCODER = ("enc_", "linear_in")

Compression = tuple[int, int, int]
CORNER = (0, 0)
ONE = 1.001  # what a video may reach: 1, and what rounding adds


def latent_size(
  size: tuple[int, int, int], compression: Compression
) -> tuple[int, int, int]:
  """(t, h, w) of the latents of a clip of (T, H, W).

  Raises:
    ValueError: if the size does not divide, naming the axis.
  """
  (frames, *space), (ct, *cs) = size, compression
  if frames < 1 or (frames - 1) % ct:
    raise ValueError(
      f"axis T has {frames} frames; need 1 + {ct} * k (time compression {ct})"
    )
  for axis, n, c in zip("HW", space, cs):
    if n < c or n % c:
      raise ValueError(f"axis {axis} has {n} pixels; need a multiple of {c}")
  return 1 + (frames - 1) // ct, *(n // c for n, c in zip(space, cs))


def pixel_size(
  size: tuple[int, int, int], compression: Compression
) -> tuple[int, int, int]:
  """(T, H, W) of the clip that latents of (t, h, w) decode to."""
  (t, h, w), (ct, ch, cw) = size, compression
  return 1 + (t - 1) * ct, h * ch, w * cw


def to_cells(
  video: Array, compression: Compression, start: bool = True
) -> Array:
  """Video [B, T, H, W, 3] -> cells [B, t, h, w, ct * cs * cs * 3].

  Args:
    video: T = 1 + ct * (t - 1) frames; ct * t if it is no start.
    compression: (ct, ch, cw).
    start: whether it is the start of a clip, whose first frame stands alone.

  Raises:
    ValueError: if the size does not divide, naming the axis.
  """
  ct = compression[0]
  if start:
    size = latent_size(video.shape[1:4], compression)
    video = past(video, ct - 1)
  else:
    frames, *space = video.shape[1:4]
    if not frames or frames % ct:
      raise ValueError(f"axis T goes on for {frames} frames; need {ct} * k")
    size = (frames // ct, *latent_size((1, *space), compression)[1:])
  return patchify(video, compression).reshape(len(video), *size, -1)


def to_video(
  cells: Array, compression: Compression, start: bool = True
) -> Array:
  """Inverse of `to_cells`."""
  b, t, h, w, d = cells.shape
  ct, ch, cw = compression
  flat = cells.reshape(b, t * h * w, d)
  video = unpatchify(flat, (t * ct, h * ch, w * cw), compression)
  return video[:, ct - 1 :] if start else video


class Autoencoder(nn.Module):
  """Gaussian latents of video.

  Attributes:
    compression: (time, height, width) pixels per latent cell.
    channels: c, numbers per cell.
    width: channels of the residual networks.
    depth: residual blocks in the encoder, and again in the decoder.
    block: key of BLOCKS.
    kernel: (temporal, spatial) reach of the blocks in cells; transformers look
      at whole frames.
    factored: (2 + 1)-D kernels instead of full ones.
    lowering: key of causal_conv.LOWERINGS, of full kernels.
    heads: of a transformer's blocks; of convolutions, of one attention block
      within every latent frame, in the middle of the encoder and of the
      decoder, or 0 for none.
    parity: whether encoder and decoder know a cell's row and column modulo 2,
      so that neighbours can tell different things of what they share.
    logvar: starting log-variance of the latents around their mean.
    dtype: of the computation; parameters are float32.
    matmul: that the operands of the residual networks' weights are rounded to,
      which sum in float32; None for `dtype`. The linear path stays in float32.
  """

  compression: Compression
  channels: int
  width: int
  depth: int
  block: str
  kernel: tuple[int, int]
  factored: bool
  lowering: str
  heads: int
  parity: bool
  logvar: float
  dtype: Any
  matmul: Any = None

  def setup(self):
    ct, ch, cw = self.compression
    pixels = ct * ch * cw * 3

    def dense(features, **kwargs):
      return layers.Dense(
        features,
        (None, "embed"),
        dtype=self.dtype,
        matmul=self.matmul,
        **kwargs,
      )

    blocks = functools.partial(BLOCKS[self.block], self)
    # The linear path stays in float32: it is small, and it is the floor.
    self.linear_in = layers.Dense(self.channels, (None, None))
    self.linear_out = layers.Dense(pixels, (None, None))
    if self.parity:
      self.enc_parity, self.dec_parity = (
        self.param(
          f"{side}_parity",
          nn.with_logical_partitioning(
            nn.initializers.normal(1.0), (None, "embed")
          ),
          (4, self.width),
        )
        for side in ("enc", "dec")
      )
    self.enc_in, self.enc_blocks = dense(self.width), blocks()
    self.enc_out = dense(2 * self.channels, init=layers.zeros)
    self.dec_in, self.dec_blocks = dense(self.width), blocks()
    self.dec_out = dense(pixels, init=layers.zeros)

  @property
  def halo(self) -> int:
    """Cells by which a cell of the result sees beyond itself in space.

    Attention sees all of its frame, and does not count: with it, tiles differ
    from the whole.
    """
    convolutions = self.depth if self.block == "conv" else 0
    return convolutions * (self.kernel[1] // 2)

  def __call__(self, video: Array) -> Array:
    return self.decode(self.encode(video)[0])

  def encode(
    self, video: Array, start: bool = True, corner: Sequence[int] = CORNER
  ) -> tuple[Array, Array]:
    """Mean and log-variance of the latents.

    Args:
      video: float [B, T, H, W, 3] in -1..1, T = 1 + ct * k.
      start: false for a chunk that goes on, of T = ct * k frames.
      corner: row and column of its first cell, for a part of a frame.

    Returns:
      two float32 [B, t, h, w, c].

    Raises:
      ValueError: for another shape or dtype, and for another range where the
        values are known (not while compiling).
    """
    _check_video(video)
    cells = to_cells(video, self.compression, start)  # [B, t, h, w, pixels]
    x = self.enc_in(cells)
    if self.parity:
      x += _told(self.enc_parity, x, corner)
    for block in self.enc_blocks:
      x = block(x)
    mean, logvar = jnp.split(self.enc_out(x).astype(jnp.float32), 2, axis=-1)
    return self.linear_in(cells) + mean, self.logvar + logvar

  def decode(
    self, z: Array, start: bool = True, corner: Sequence[int] = CORNER
  ) -> Array:
    """Latents [B, t, h, w, c] -> float32 video [B, T, H, W, 3], about -1..1.

    Args:
      z: latents.
      start: false for a chunk that goes on; its T is ct * t.
      corner: as above.
    """
    check_latents(z, self.channels)
    x = self.dec_in(z)
    if self.parity:
      x += _told(self.dec_parity, x, corner)
    for block in self.dec_blocks:
      x = block(x)
    cells = self.linear_out(z) + self.dec_out(x).astype(jnp.float32)
    return to_video(cells, self.compression, start)


def _told(table: Array, x: Array, corner: Sequence[int]) -> Array:
  """For each cell of x [B, t, h, w, C] its row of the table [4, C]."""
  rows, columns = (
    (jnp.arange(n) + at) % 2 for n, at in zip(x.shape[2:4], corner)
  )
  return jnp.asarray(table, x.dtype)[2 * rows[:, None] + columns]


def _convolutions(model: Autoencoder) -> list[nn.Module]:
  temporal, spatial = model.kernel
  conv = functools.partial(
    CausalConv,
    spatial=spatial,
    temporal=temporal,
    factored=model.factored,
    lowering=model.lowering,
    dtype=model.dtype,
    matmul=model.matmul,
  )
  made: list[nn.Module] = [
    ResBlock(conv, model.dtype, model.matmul) for _ in range(model.depth)
  ]
  if model.heads:
    within = CausalAttention(model.heads, 1, model.dtype, model.matmul)
    made.insert(model.depth // 2, within)
  return made


def _transformer(model: Autoencoder) -> list[nn.Module]:
  return [
    TransformerBlock(model.heads, model.kernel[0], model.dtype, model.matmul)
    for _ in range(model.depth)
  ]


# name -> (the model) -> the blocks of its encoder or decoder.
BLOCKS: dict[str, Callable[[Autoencoder], list[nn.Module]]] = {
  "conv": _convolutions,
  "transformer": _transformer,
}


def check_axes(shape: tuple[int, ...]) -> None:
  """Raises ValueError if a shape is not [B, T, H, W, 3], naming the axis."""
  if len(shape) != 5:
    raise ValueError(
      f"video has shape {shape}, which is {len(shape)} axes; need the 5 of "
      "[B, T, H, W, 3]"
    )
  if shape[4] != 3:
    raise ValueError(
      f"video has shape {shape}, and axis C has {shape[4]} channels; need 3, "
      "[B, T, H, W, 3]"
    )


def _check_video(video: Array) -> None:
  check_axes(video.shape)
  if not jnp.issubdtype(video.dtype, jnp.floating):
    raise ValueError(
      f"video has dtype {video.dtype}; need floats in -1..1 (see `from_uint8`)"
    )
  if isinstance(video, jax.core.Tracer) or not video.size:
    return  # there are no values yet
  low, high = float(video.min()), float(video.max())
  if not -ONE <= low <= high <= ONE:
    raise ValueError(
      f"video lies in {low:g}..{high:g}; need -1..1 (see `from_uint8`)"
    )


def check_latents(z: Array, channels: int) -> None:
  """Raises ValueError for no floats [B, t, h, w, channels], naming the axis."""
  need = f"need floats [B, t, h, w, {channels}]"
  if z.ndim != 5:
    raise ValueError(f"latents have shape {z.shape}; {need}")
  for axis, n in zip("thw", z.shape[1:4]):
    if not n:
      raise ValueError(f"latents {z.shape}: axis {axis} is empty; {need}")
  if z.shape[4] != channels:
    raise ValueError(
      f"latents {z.shape}: axis c has {z.shape[4]} channels; {need}"
    )
  if not jnp.issubdtype(z.dtype, jnp.floating):
    raise ValueError(f"latents have dtype {z.dtype}; {need}")


def check_uint8(video: Array) -> None:
  """Raises ValueError for another dtype, naming it."""
  if video.dtype != jnp.uint8:
    raise ValueError(f"video has dtype {video.dtype}; need uint8 in 0..255")


def from_uint8(video: Array) -> Array:
  """uint8 0..255 -> float32 -1..1.

  Raises:
    ValueError: for another dtype, whose range nobody knows.
  """
  check_uint8(video)
  return video.astype(jnp.float32) / 127.5 - 1


def to_uint8(video: Array) -> Array:
  """Float -1..1 -> uint8 0..255; what lies beyond is the nearest end."""
  return jnp.round(jnp.clip((video + 1) * 127.5, 0, 255)).astype(jnp.uint8)


def principal(cells: Array, channels: int, weights: Array) -> dict[str, Array]:
  """The linear autoencoder of `cells` by principal component analysis.

  The map is orthogonal up to one common scale, which makes the variance of the
  channels 1 on average. Whitening is left to the statistics measured after
  training: here it would put as much noise on what matters most as on what
  matters least.

  Args:
    cells: [n, d] samples.
    channels: components to keep, at most d.
    weights: [n] weight of each sample, 0 leaves it out.

  Returns:
    kernels and biases of both directions: in_kernel [d, channels], in_bias,
    out_kernel [channels, d], out_bias.
  """
  total = weights.sum()
  mean = (cells * weights[:, None]).sum(axis=0) / total
  centred = (cells - mean) * jnp.sqrt(weights / total)[:, None]
  values, vectors = jnp.linalg.eigh(centred.T @ centred)
  values, vectors = values[::-1][:channels], vectors[:, ::-1][:, :channels]
  # Data without variance must not blow up rounding noise.
  scale = jnp.sqrt(jnp.maximum(values.mean(), 1e-4))
  into = vectors / scale
  return {
    "in_kernel": into,
    "in_bias": -mean @ into,
    "out_kernel": (vectors * scale).T,
    "out_bias": mean,
  }


def with_principal(params: Any, found: dict[str, jax.Array]) -> Any:
  """Autoencoder parameters (boxed) with the linear paths set from `found`."""

  def put(layer, direction):
    return {
      name: layer[name].replace_boxed(found[f"{direction}_{name}"])
      for name in ("kernel", "bias")
    }

  return params | {
    "linear_in": put(params["linear_in"], "in"),
    "linear_out": put(params["linear_out"], "out"),
  }
