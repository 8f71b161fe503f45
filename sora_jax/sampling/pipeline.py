"""From prompts to frames: tokenize, canvas, pack, denoise, unpack, decode.

Requests of any size and task share rows. Noise is keyed by (seed, token), so a
request gives the same video alone or among others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.data.tokenizer import Tokenizer
from sora_jax.diffusion import sampler
from sora_jax.models import autoencoder as ae
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion, drop_text
from sora_jax.objectives.streaming import Streaming
from sora_jax.packing import pack, patchify
from sora_jax.sampling.tasks import TASKS
from sora_jax.types import Array, PyTree, Stream


@dataclasses.dataclass(frozen=True)
class Request:
  """One video to make.

  Attributes:
    prompt: caption; "" is the unconditional model.
    size: (T, H, W) in pixels, in the autoencoder's steps.
    task: key of TASKS.
    source: uint8 [T', H, W, 3] for tasks that start from something.
    seed: of this request's noise.
  """

  prompt: str
  size: tuple[int, int, int]
  task: str = "t2v"
  source: np.ndarray | None = None
  seed: int = 0


@dataclasses.dataclass(frozen=True, eq=False)  # jit tells them apart by id
class Pipeline:
  """Makes videos from requests; its jitted parts compile once per shape.

  Attributes:
    objective: the transformer's objective, for its denoiser.
    autoencoder: the autoencoder's objective, for encode and decode.
    tokenizer: of captions.
    patch: (pt, ph, pw).
    solver: a row of SOLVERS with its options bound.
    guidance: a row of GUIDANCE with its options bound.
    steps: solver steps.
    rows: rows in one call of the sampler.
    length: video tokens in a row.
    text: text tokens in a row.
    clips: most clips in a row.
    max_text: most tokens of one prompt.
    decode_batch: clips decoded at once.
    decode_frames: latent frames of a clip decoded at once.
  """

  objective: LatentDiffusion
  autoencoder: Autoencode
  tokenizer: Tokenizer
  patch: patchify.Patch
  solver: Callable
  guidance: Callable
  steps: int
  rows: int
  length: int
  text: int
  clips: int
  max_text: int
  decode_batch: int
  decode_frames: int

  def __call__(
    self, params: PyTree, frozen: PyTree, requests: Sequence[Request]
  ) -> list[np.ndarray]:
    """Makes the videos, uint8 [T, H, W, 3] each, in the requests' order.

    Args:
      params: by player; the moving average is the better choice.
      frozen: "autoencoder" parameters and latent "stats".
      requests: what to make.

    Raises:
      ValueError: for a request that cannot be met, before anything runs.
    """
    if not requests:
      raise ValueError("no requests: give at least one prompt")
    latents = self.latents(params, frozen, requests)
    return self.decode(frozen, latents)

  def latents(
    self, params: PyTree, frozen: PyTree, requests: Sequence[Request]
  ) -> list[np.ndarray]:
    """Normalised latents [t, h, w, c] of every request."""
    # What can be refused is refused before anything is encoded.
    sizes = [self._size(r) for r in requests]
    lengths = [int(np.prod(patchify.grid((*s, 1), self.patch))) for s in sizes]
    ids = [self.tokenizer.encode(r.prompt, self.max_text) for r in requests]
    layout, words = pack.plan(
      lengths, self.length, self.clips, [len(i) for i in ids], self.text
    )
    canvases = [self._canvas(frozen, r, s) for r, s in zip(requests, sizes)]
    arrays = self._arrays(requests, sizes, canvases, layout)
    arrays |= _words(ids, layout=words)
    done = []
    for start in range(0, layout.rows, self.rows):
      part = {k: _rows(v, start, self.rows) for k, v in arrays.items()}
      done.append(np.asarray(self.sample(params, part)))
    tokens = np.concatenate(done)[: layout.rows]
    return [
      patchify.unpatchify(x, s, self.patch)
      for x, s in zip(pack.unpack(tokens, layout), sizes)
    ]

  def decode(
    self, frozen: PyTree, latents: Sequence[np.ndarray]
  ) -> list[np.ndarray]:
    """uint8 videos of latents; those of one size are decoded together.

    Long ones go through the decoder `decode_frames` latent frames at a time.
    """
    out: list[Any] = [None] * len(latents)
    shapes = {z.shape: None for z in latents}
    for shape in shapes:
      members = [i for i, z in enumerate(latents) if z.shape == shape]
      for start in range(0, len(members), self.decode_batch):
        some = members[start : start + self.decode_batch]
        # The last batch is filled up, so that each shape compiles once.
        filled = some + [some[-1]] * (self.decode_batch - len(some))
        z = np.stack([latents[i] for i in filled])
        n = self.decode_frames
        chunks = (z[:, at : at + n] for at in range(0, z.shape[1], n))
        parts = [v[: len(some)] for v in self._long.decode(frozen, chunks)]
        for i, video in zip(some, np.concatenate(parts, axis=1)):
          out[i] = video
    return out

  def encode(self, frozen: PyTree, video: np.ndarray) -> np.ndarray:
    """Normalised latents [1, t, h, w, c] of one uint8 video [T, H, W, 3]."""
    return np.asarray(self._encode(frozen, video[None]))

  def _size(self, request: Request) -> tuple[int, int, int]:
    if request.task not in TASKS:
      raise ValueError(f"unknown task {request.task!r}; valid: {sorted(TASKS)}")
    size = ae.latent_size(request.size, self.autoencoder.model.compression)
    patchify.grid((*size, 1), self.patch)
    return size

  def _canvas(self, frozen, request, size):
    source = request.source
    if source is not None:
      ct = self.autoencoder.model.compression[0]
      whole = 1 + (len(source) - 1) // ct * ct
      # Frames after the last whole group cannot be known cells; the task
      # still sees every cell there is.
      source = self.encode(frozen, source[:whole])
    return TASKS[request.task](size, self.autoencoder.model.channels, source)

  def _arrays(self, requests, sizes, canvases, layout):
    """Packed rows [R, ...] of the video stream and where it starts."""
    channels = self.autoencoder.model.channels
    known, mask, keys = [], [], []
    for request, canvas, slot in zip(requests, canvases, layout.slots):
      full = np.broadcast_to(canvas.mask, (*canvas.mask.shape[:-1], channels))
      known.append(patchify.patchify(np.asarray(canvas.known), self.patch)[0])
      mask.append(patchify.patchify(full, self.patch)[0])
      keys.append(_token_keys(request.seed, slot.length))
    whole = pack.pack([m.min(axis=-1) for m in mask], layout) > 0  # [R, L]
    # By level: clip m of a row has the level m + 1, and 0 is clean.
    tokens = np.zeros((layout.rows, 1 + self.clips), np.float32)
    start = np.zeros_like(tokens)
    for slot, canvas in zip(layout.slots, canvases):
      tokens[slot.row, slot.segment] = slot.length
      start[slot.row, slot.segment] = canvas.start
    at = [patchify.positions(s, self.patch) for s in sizes]
    return {
      "known": pack.pack(known, layout),
      "mask": pack.pack(mask, layout),
      "keys": pack.pack(keys, layout),
      "positions": pack.pack(at, layout),
      "segments": layout.segments,
      "level": np.where(whole, 0, layout.segments).astype(np.int32),
      "tokens": tokens,
      "start": start,
    }

  def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
    """The arguments of one call of the sampler, after its parameters."""
    channels = self.autoencoder.model.channels
    size = int(np.prod(self.patch)) * channels

    def shape(*sizes, dtype=jnp.int32):
      return jax.ShapeDtypeStruct((self.rows, *sizes), dtype)

    out = {
      "known": shape(self.length, size, dtype=jnp.float32),
      "mask": shape(self.length, size, dtype=jnp.float32),
      "keys": shape(self.length, 2, dtype=jnp.uint32),
      "level": shape(self.length),
      "positions": shape(self.length, 3),
      "segments": shape(self.length),
      "tokens": shape(1 + self.clips, dtype=jnp.float32),
      "start": shape(1 + self.clips, dtype=jnp.float32),
    }
    out["text"] = out["text_segments"] = shape(self.text)
    return out | {"text_positions": shape(self.text, 3)}

  @functools.partial(jax.jit, static_argnums=0)
  def sample(self, params: PyTree, a: dict[str, Array]) -> jax.Array:
    """Tokens [R, L, P] of packed rows, denoised; `a` is as in `abstract`."""
    video = Stream(a["known"], a["positions"], a["segments"], a["level"])
    text = Stream(
      a["text"],
      a["text_positions"],
      a["text_segments"],
      jnp.zeros_like(a["text_segments"]),
    )
    nobody = drop_text(text, jnp.ones((text.tokens.shape[0], self.clips), bool))
    spread = functools.partial(self.objective.spread, video)
    denoise = self.guidance(
      self.objective.denoiser(params, video, text),
      self.objective.denoiser(params, video, nobody),
      spread,
    )
    shape = a["known"].shape[-1:]

    def draw(index):
      def one(key):
        return jax.random.normal(jax.random.fold_in(key, index), shape)

      return jax.vmap(jax.vmap(one))(a["keys"])  # [R, L, P]

    time = sampler.uniform_grid(self.steps)[:, None, None]
    grid = a["start"] * self.objective.shift(time, a["tokens"])  # [., R, K]
    return sampler.sample(
      denoise,
      self.solver,
      lambda levels: self.objective.process.coefficients(spread(levels)),
      grid,
      draw,
      a["known"],
      a["mask"],
    )

  @functools.cached_property
  def _long(self) -> Streaming:
    return Streaming(self.autoencoder)

  @functools.partial(jax.jit, static_argnums=0)
  def _encode(self, frozen: PyTree, video: Array) -> jax.Array:
    return self.autoencoder.encode(
      frozen["autoencoder"], frozen["stats"], video
    )


def _words(ids, layout: pack.Layout) -> dict[str, np.ndarray]:
  """Packed rows [R, S] of the text stream."""
  at = [patchify.text_positions(len(i)) for i in ids]
  return {
    "text": pack.pack(ids, layout),
    "text_positions": pack.pack(at, layout),
    "text_segments": layout.segments,
  }


def _rows(x: np.ndarray, start: int, count: int) -> np.ndarray:
  """Rows start..start + count, filled up with empty (padding) rows."""
  part = x[start : start + count]
  return np.pad(part, [(0, count - len(part))] + [(0, 0)] * (x.ndim - 1))


@functools.partial(jax.jit, static_argnums=1)
def _fold(seed: Array, count: int) -> jax.Array:
  key = jax.random.PRNGKey(seed)
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))


def _token_keys(seed: int, count: int) -> np.ndarray:
  """uint32 [count, 2]: a key for every token of the clip of this seed."""
  return np.asarray(_fold(jnp.uint32(seed), count))
