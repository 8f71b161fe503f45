"""Clips of any length and size through the autoencoder, in bounded memory.

In time: chunk by chunk, with what the causal convolutions saw before carried
along, which is the same computation as the whole. In space: tile by tile.
Without attention a tile that overlaps its neighbour by more than the network
sees is exact up to there, so what is blended is equal and no seam is left.

Sizes that do not divide are padded with their last frame, row and column, and
cropped back: nothing is scaled, and no frame is lost.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from sora_jax.models.autoencoder import CORNER, check_axes, check_uint8
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.types import Array, PyTree

Corner = tuple[int, int]  # row and column of a tile's first cell


@dataclasses.dataclass(frozen=True)  # equal ones share what jit compiled
class Streaming:
  """An autoencoder for long and large clips.

  `frozen` holds the "autoencoder" parameters and the latents' "stats". Each
  length of chunk compiles once, and the first chunk of a clip once more.

  Attributes:
    objective: the autoencoder's.
  """

  objective: Autoencode

  def encode(
    self, frozen: PyTree, chunks: Iterable[np.ndarray]
  ) -> Iterator[np.ndarray]:
    """Latents of a clip that comes in chunks.

    Frames that fill no latent frame wait for the next chunk; at the end the
    last frame is repeated until they do, see `crop`.

    Args:
      frozen: see above.
      chunks: uint8 [B, T', H, W, 3] with any T' >= 1 each.

    Yields:
      normalised latents [B, t', h, w, c], t' >= 1.
    """
    ct, *space = self.objective.model.compression
    past, start, waiting = {}, True, None
    for chunk in chunks:
      # Height and width now; time is filled up at the end.
      chunk = pad(chunk, (1, *space))
      if waiting is not None:
        chunk = np.concatenate([waiting, chunk], axis=1)
      whole = (chunk.shape[1] - start) // ct * ct + start
      if whole > 0:
        z, past = self._in(frozen, chunk[:, :whole], past, start)
        start = False
        yield np.asarray(z)
      waiting = chunk[:, whole:]
    if waiting is not None and waiting.shape[1]:
      z, _ = self._in(frozen, _longer(waiting, 1, ct), past, start)
      yield np.asarray(z)

  def decode(
    self, frozen: PyTree, chunks: Iterable[Array]
  ) -> Iterator[np.ndarray]:
    """Frames of latents that come in chunks [B, t', h, w, c], t' >= 1.

    Yields:
      uint8 [B, T', H, W, 3]: ct frames for each latent frame, one for the
      first.
    """
    past = None
    for z in chunks:
      video, past = self.decode_on(frozen, z, past)
      yield np.asarray(video)

  def decode_on(
    self, frozen: PyTree, z: Array, past: PyTree | None
  ) -> tuple[Array, PyTree]:
    """Frames of one more chunk, and what the next one needs.

    Args:
      frozen: see above.
      z: normalised latents [B, t', h, w, c].
      past: of the chunk before; None before the first.
    """
    return self._out(frozen, z, past or {}, past is None)

  def round_trip(self, frozen: PyTree, video: np.ndarray) -> np.ndarray:
    """A clip uint8 [B, T, H, W, 3] of any size, through the autoencoder."""
    whole = pad(video, self.objective.model.compression)
    z, _ = self._in(frozen, whole, {}, True)
    out, _ = self._out(frozen, z, {}, True)
    return crop(np.asarray(out), video.shape[1:4])

  def decode_tiles(
    self, frozen: PyTree, z: Array, tile: int, overlap: int
  ) -> np.ndarray:
    """Frames too large for memory, in tiles: uint8 [B, T, H, W, 3].

    Args:
      frozen: see above.
      z: normalised latents [B, t, h, w, c].
      tile: side of a tile, cells.
      overlap: of neighbours, cells; with more than 2 * model.halo the result
        is that of the whole frame, if the model has no attention.
    """
    model = self.objective.model

    def run(part: Array, corner: Corner) -> np.ndarray:
      return np.asarray(self._out(frozen, part, {}, True, corner)[0])

    out = tiled(run, z, tile, overlap, model.compression[1:], model.halo)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)

  def encode_tiles(
    self, frozen: PyTree, video: np.ndarray, tile: int, overlap: int
  ) -> np.ndarray:
    """Latents [B, t, h, w, c] of a clip of any size in tiles, as above."""
    model = self.objective.model
    video = pad(video, model.compression)
    _, ch, cw = model.compression

    def run(part: np.ndarray, corner: Corner) -> np.ndarray:
      b, t, h, w, _ = part.shape  # [B, T, h, w, ch * cw * 3]
      part = part.reshape(b, t, h, w, ch, cw, 3).swapaxes(3, 4)
      part = part.reshape(b, t, h * ch, w * cw, 3)
      return np.asarray(self._in(frozen, part, {}, True, corner)[0])

    b, t, h, w, _ = video.shape
    cells = video.reshape(b, t, h // ch, ch, w // cw, cw, 3).swapaxes(3, 4)
    cells = cells.reshape(b, t, h // ch, w // cw, -1)
    return tiled(run, cells, tile, overlap, (1, 1), model.halo)

  @functools.partial(jax.jit, static_argnums=(0, 4))
  def _in(self, frozen, video, past, start, corner=CORNER):
    return self.objective.chunk_in(
      frozen["autoencoder"], frozen["stats"], video, past, start, corner
    )

  @functools.partial(jax.jit, static_argnums=(0, 4))
  def _out(self, frozen, z, past, start, corner=CORNER):
    return self.objective.chunk_out(
      frozen["autoencoder"], frozen["stats"], z, past, start, corner
    )


def pad(video: np.ndarray, compression: tuple[int, int, int]) -> np.ndarray:
  """A clip [B, T, H, W, 3] brought to whole latents by repeating its ends.

  T becomes 1 + ct * k, H and W multiples of ch and cw, by the fewest repeated
  frames at the end, rows at the bottom and columns on the right.

  Raises:
    ValueError: for another shape, an empty axis or another dtype.
  """
  check_axes(video.shape)
  if not video.size:
    raise ValueError(f"video has shape {video.shape}: there is nothing in it")
  check_uint8(video)
  ct, ch, cw = compression
  video = _longer(video, 1, ct, 1)
  return _longer(_longer(video, 2, ch), 3, cw)


def crop(video: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
  """The (T, H, W) of [B, T', H', W', 3] that were there before `pad`."""
  t, h, w = size
  return video[:, :t, :h, :w]


def _longer(x: np.ndarray, axis: int, unit: int, first: int = 0) -> np.ndarray:
  """Ends repeated until the axis has first + unit * k entries."""
  more = -(x.shape[axis] - first) % unit
  if not more:
    return x
  return np.pad(
    x, [(0, more if k == axis else 0) for k in range(x.ndim)], mode="edge"
  )


def tiled(
  run: Callable[[Array, Corner], np.ndarray],
  x: Array,
  tile: int,
  overlap: int,
  scale: tuple[int, int],
  halo: int,
) -> np.ndarray:
  """run(x, (0, 0)) by overlapping tiles of height and width, blended linearly.

  Args:
    run: [B, t, tile, tile, C], and where it lies in x ->
      [B, T, tile * sh, tile * sw, C'].
    x: [B, t, h, w, C].
    tile: side of a tile; a shorter side of x makes a shorter tile.
    overlap: of neighbours, at least.
    scale: (sh, sw).
    halo: by how much a tile's inner edge is wrong. Those parts get no weight
      if the overlap leaves others, as one of more than 2 * halo does.

  Returns:
    float32 [B, T, h * sh, w * sw, C'].

  Raises:
    ValueError: if the tiles would not advance.
  """
  if not 0 <= overlap < tile:
    raise ValueError(
      f"tile={tile}, overlap={overlap}: the overlap must be smaller than the "
      f"tile, and more than {2 * halo} for a result without seams"
    )
  total = weight = None
  for i, k in itertools.product(
    *(starts(n, tile, overlap) for n in x.shape[2:4])
  ):
    out = run(x[:, :, i : i + tile, k : k + tile], (i, k))
    if total is None:
      size = [n * s for n, s in zip(x.shape[2:4], scale)]
      total = np.zeros((*out.shape[:2], *size, out.shape[-1]), np.float32)
      weight = np.zeros(size, np.float32)
    sides = [
      _ramp(n, at, whole, s, overlap, halo)
      for n, at, whole, s in zip(out.shape[2:4], (i, k), x.shape[2:4], scale)
    ]
    share = np.outer(*sides)
    rows, columns = (
      slice(at * s, at * s + n)
      for at, s, n in zip((i, k), scale, out.shape[2:4])
    )
    total[:, :, rows, columns] += out * share[..., None]
    weight[rows, columns] += share
  return total / weight[..., None]


def starts(length: int, tile: int, overlap: int) -> list[int]:
  """Where tiles begin; the last one ends with the axis."""
  if length <= tile:
    return [0]
  return [*range(0, length - tile, tile - overlap), length - tile]


def fade(overlap: int, halo: int) -> tuple[int, int]:
  """Between which cells from its inner end a tile's weight goes from 0 to 1."""
  inside = halo, overlap - halo
  return inside if inside[0] < inside[1] else (0, overlap)


def _ramp(n, at, whole, scale, overlap, halo) -> np.ndarray:
  """Weights of one tile's n results along an axis: it fades at inner ends."""
  low, high = (cells * scale for cells in fade(overlap, halo))
  high = max(high, 1)
  place = np.arange(n) + 0.5
  out = np.ones(n, np.float32)
  for inner, away in (
    (at > 0, place),
    (at * scale + n < whole * scale, n - place),
  ):
    if inner:
      out *= np.clip((away - low) / (high - low), 0, 1)
  return out
