"""From prompts to frames: tokenize, draft, pack, denoise, unpack, decode.

Requests of any size and task share rows. Noise is keyed by (seed, token), so a
request gives the same video alone or among others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.data.words import Words
from sora_jax.diffusion import sampler
from sora_jax.diffusion.guidance import Denoise, Space
from sora_jax.models import autoencoder as ae
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.objectives.streaming import Streaming
from sora_jax.packing import pack, patchify
from sora_jax.sampling import streams, tasks
from sora_jax.sampling.request import Draft, Request
from sora_jax.types import Array, Canvas, PyTree, Stream, shots_of


@dataclasses.dataclass(frozen=True, eq=False)  # jit tells them apart by id
class Pipeline:
  """Makes videos from requests; its jitted parts compile once per shape.

  Attributes:
    objective: the transformer's objective, for its denoiser.
    autoencoder: the autoencoder's objective, for encode and decode.
    words: what the model reads of captions.
    patch: (pt, ph, pw).
    solver: a row of SOLVERS with its options bound.
    guidance: a row of GUIDANCE with its options bound.
    grid: a row of GRIDS with its options bound.
    steps: solver steps.
    rows: rows in one call of the sampler, at most.
    length, text, clips: video tokens, text tokens and clips in a row, at most.
    decode_batch: clips decoded at once, at most.
    decode_frames: latent frames of a clip decoded at once.
    cache: see `sampler.sample`.
  """

  objective: LatentDiffusion
  autoencoder: Autoencode
  words: Words
  patch: patchify.Patch
  solver: Callable
  guidance: Callable
  grid: Callable
  steps: int
  rows: int
  length: int
  text: int
  clips: int
  decode_batch: int
  decode_frames: int
  cache: float

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
    out: list[Any] = [None] * len(requests)
    for i, video in self.each(params, frozen, requests):
      out[i] = video
    return out

  def each(
    self, params: PyTree, frozen: PyTree, requests: Sequence[Request]
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (which request, its video) as they are made; see `__call__`."""
    for members, drafts, latents in self._groups(params, frozen, requests):
      videos = self.decode(frozen, latents)
      for i, draft, video in zip(members, drafts, videos):
        yield i, draft.whole(self.kept(draft, video))

  def latents(
    self, params: PyTree, frozen: PyTree, requests: Sequence[Request]
  ) -> list[np.ndarray]:
    """Normalised latents [t, h, w, c] of every request."""
    out: list[Any] = [None] * len(requests)
    for members, _, latents in self._groups(params, frozen, requests):
      for i, z in zip(members, latents):
        out[i] = z
    return out

  def decode_on(
    self, frozen: PyTree, z: np.ndarray, past: PyTree | None
  ) -> tuple[np.ndarray, PyTree]:
    """Frames uint8 [T', H, W, 3] of a video's next latents [t', h, w, c].

    Args:
      frozen: as in `__call__`.
      z: normalised latents.
      past: what the call before this one returned; None for a video's first.

    Returns:
      the frames, and what the next call needs.
    """
    videos, past = self._decoded(frozen, z[None], past)
    return videos[0], past

  def check(self, requests: Sequence[Request]) -> None:
    """Refuses what cannot be made: all that can be refused is, here.

    Raises:
      ValueError: for the first request that does not fit.
    """
    self._plan(requests)

  def draft(self, request: Request) -> Draft:
    """What is known of a request's video."""
    size, latents = self._size(request), request.latents
    channels = self.autoencoder.model.channels
    if latents is not None and (
      latents.shape[1:] != (*size[1:], channels) or len(latents) >= size[0]
    ):
      raise ValueError(
        f"latents of shape {latents.shape} for a video of {size}: need fewer "
        f"frames, and cells of {channels} channels"
      )
    return tasks.draft(request, self.autoencoder.model.compression)

  def _plan(self, requests: Sequence[Request]):
    """Latent sizes, words and negative ones, layouts of tokens and words.

    Raises:
      ValueError: for no request, or the first that does not fit.
    """
    if not requests:
      raise ValueError("no requests: give at least one prompt")
    sizes = [self._size(r) for r in requests]
    lengths = [patchify.tokens(size, self.patch) for size in sizes]
    texts = [(self.words(r.prompt), self.words(r.negative)) for r in requests]
    most = [max(len(ids) for ids, _ in both) for both in texts]
    layouts = pack.plan(lengths, self.length, self.clips, most, self.text)
    for request in requests:
      self.draft(request)  # refuses; kept are none, since they may be many
    return sizes, texts, layouts

  def _groups(self, params: PyTree, frozen: PyTree, requests):
    """(Indices, drafts, latents) of one call after the other."""
    sizes, texts, (layout, words) = self._plan(requests)
    for start in range(0, layout.rows, self.rows):
      rows = self._enough(layout.rows - start)
      members, part = layout.part(start, rows)
      _, rider = words.part(start, rows)
      some = [requests[i] for i in members]
      drafts = [self.draft(request) for request in some]
      canvases = self._canvases(frozen, drafts)
      shapes = [sizes[i] for i in members]
      arrays = self._arrays(some, shapes, canvases, part)
      for name, own in zip(("text", "null"), zip(*(texts[i] for i in members))):
        arrays |= streams.words_of(name, own, rider)
      tokens = np.asarray(self.sample(params, arrays))
      latents = [
        patchify.unpatchify(x, s, self.patch)
        for x, s in zip(pack.unpack(tokens, part), shapes)
      ]
      yield members, drafts, latents

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
        count = pack.filled(len(some), self.decode_batch)
        filled = some + [some[-1]] * (count - len(some))
        z = np.stack([latents[i] for i in filled])
        videos, _ = self._decoded(frozen, z, None)
        for i, video in zip(some, videos):
          out[i] = video
    return out

  def _decoded(self, frozen: PyTree, z: np.ndarray, past: PyTree | None):
    """Frames [B, T', H, W, 3] of latents, part by part, and the new past."""
    parts, n = [], self.decode_frames
    for at in range(0, z.shape[1], n):
      video, past = self._long.decode_on(frozen, z[:, at : at + n], past)
      parts.append(np.asarray(video))
    return np.concatenate(parts, axis=1), past

  def encode(self, frozen: PyTree, video: np.ndarray) -> np.ndarray:
    """Normalised latents [1, t, h, w, c] of one uint8 video [T, H, W, 3]."""
    return np.asarray(self._encode(frozen, video[None]))

  def _enough(self, rows: int) -> int:
    """Rows of a call that holds so many: no fewer than devices share."""
    placement, shape = self.objective.placement, (self.rows,)
    ways = placement.devices(("rows",), shape) if placement else 1
    return -(-pack.filled(rows, self.rows) // ways) * ways

  def tokens(self, request: Request) -> int:
    """Of a request's video."""
    return patchify.tokens(self._size(request), self.patch)

  def _size(self, request: Request) -> tuple[int, int, int]:
    size = ae.latent_size(request.size, self.autoencoder.model.compression)
    patchify.grid((*size, 1), self.patch)
    return size

  def _canvases(self, frozen: PyTree, drafts: Sequence[Draft]) -> list[Canvas]:
    """Latents of what is known, and which of them are known as a whole."""
    model, out = self.autoencoder.model, []
    for draft in drafts:
      shape = ae.latent_size(draft.video.shape[:3], model.compression)
      known = np.zeros((1, *shape, model.channels), np.float32)
      cells = np.asarray(self.autoencoder.real(draft.known[None]))
      if cells.any() or draft.start < 1:
        known = self.encode(frozen, draft.video)
      if draft.latents is not None:
        count = len(draft.latents)
        cells = np.arange(shape[0])[None, :, None, None] < count
        cells = np.broadcast_to(cells, (1, *shape))
        known[0, :count] = draft.latents
      out.append(Canvas(known, cells[..., None], draft.start))
    return out

  def kept(self, draft: Draft, video: np.ndarray) -> np.ndarray:
    """The video with the given pixels where they fill whole latent cells."""
    ct, *space = self.autoencoder.model.compression
    kept = np.asarray(self.autoencoder.real(draft.known[None]))[0] > 0
    kept = kept.repeat([1] + [ct] * (len(kept) - 1), axis=0)
    for axis, n in enumerate(space, start=1):
      kept = kept.repeat(n, axis=axis)
    return np.where(kept[..., None], draft.video, video)

  def _arrays(self, requests, sizes, canvases, layout):
    """Packed rows [R, ...] of the video stream and where it starts.

    Level 0 is clean; clip m of a row has the level m, and if what is known of
    it is shown with some noise, that has the level `clips` + m.
    """
    channels, clips = self.autoencoder.model.channels, self.clips
    known, mask, keys, factor, level = [], [], [], [], []
    tokens = np.zeros((layout.rows, 1 + 2 * clips), np.float32)
    start, context = np.zeros_like(tokens), np.zeros_like(tokens)
    at = [patchify.positions(size, self.patch) for size in sizes]
    for request, canvas, slot, place in zip(
      requests, canvases, layout.slots, at
    ):
      full = np.broadcast_to(canvas.mask, (*canvas.mask.shape[:-1], channels))
      known.append(patchify.patchify(np.asarray(canvas.known), self.patch)[0])
      mask.append(patchify.patchify(full, self.patch)[0].astype(np.float32))
      keys.append(streams.token_keys(request.seed, slot.length))
      factor.append(self._factor(request, place[:, 0]))
      m, noise = slot.segment, request.context_noise
      whole = mask[-1].min(axis=-1) > 0
      level.append(np.where(whole, clips + m if noise else 0, m))
      tokens[slot.row, [m, clips + m]] = slot.length
      start[slot.row, m] = canvas.start
      context[slot.row, clips + m] = noise
    return {
      "known": pack.pack(known, layout),
      "mask": pack.pack(mask, layout),
      "keys": pack.pack(keys, layout),
      "positions": pack.pack(at, layout),
      "segments": layout.segments,
      "level": pack.pack(level, layout).astype(np.int32),
      "factor": pack.pack(factor, layout),
      "tokens": tokens,
      "start": start,
      "context": context,
    }

  def _factor(self, request: Request, times: np.ndarray) -> np.ndarray:
    """How much of the guidance the tokens at these latent times get: [n]."""
    begins = [self.words.time(first) for first, _ in shots_of(request.prompt)]
    shot = np.searchsorted(begins, times, side="right") - 1
    return np.asarray(request.strengths, np.float32)[shot]

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
      "factor": shape(self.length, dtype=jnp.float32),
      "positions": shape(self.length, 3),
      "segments": shape(self.length),
    }
    for name in ("tokens", "start", "context"):
      out[name] = shape(1 + 2 * self.clips, dtype=jnp.float32)
    for name in ("text", "null"):
      out[name] = out[f"{name}_segments"] = shape(self.text)
      out[f"{name}_positions"] = shape(self.text, 3)
    return out

  @functools.partial(jax.jit, static_argnums=0)
  def sample(self, params: PyTree, a: dict[str, Array]) -> jax.Array:
    """Tokens [R, L, P] of packed rows, denoised; `a` is as in `abstract`."""
    video = streams.video_of(a)
    space = self._space(video, a["factor"])
    denoise = self.guidance(
      self.denoiser(params, a),
      functools.partial(self._both, params, video, a),
      space,
    )
    shape = a["known"].shape[-1:]

    def draw(index):
      def one(key):
        return jax.random.normal(jax.random.fold_in(key, index), shape)

      return jax.vmap(jax.vmap(one))(a["keys"])  # [R, L, P]

    time = self.grid(self.steps)[:, None, None]
    grid = self.objective.passed(time, a["tokens"], a["start"])  # [., R, K]
    return sampler.sample(
      denoise,
      self.solver,
      space.coefficients,
      jnp.where(a["context"] > 0, a["context"], grid),
      draw,
      a["known"],
      a["mask"],
      self.cache,
    )

  def denoiser(self, params: PyTree, a: dict[str, Array]) -> Denoise:
    """(xt [R, L, P], levels [R, K]) -> (x0, noise), with the prompts."""
    prompts = streams.text_of(a, "text")
    return self.objective.denoiser(params, streams.video_of(a), prompts)

  def _both(self, params, video, a, xt, levels):
    """What the model says with the prompts and with the negative ones.

    One pass over twice the rows.
    """
    join = functools.partial(jax.tree.map, lambda *x: jnp.concatenate(x))
    prompts, others = (streams.text_of(a, name) for name in ("text", "null"))
    denoise = self.objective.denoiser(
      params, join(video, video), join(prompts, others)
    )
    pair = denoise(join(xt, xt), join(levels, levels))
    return tuple(zip(*(jnp.split(x, 2) for x in pair)))

  def _space(self, video: Stream, factor: Array) -> Space:
    spread = functools.partial(self.objective.spread, video)
    noisy = (video.level > 0) & (video.level <= self.clips)
    member = jax.nn.one_hot(video.segments, 1 + self.clips)  # [R, L, 1 + M]
    share = member * noisy[..., None]
    share = share / jnp.maximum(share.sum(axis=1, keepdims=True), 1)

    def mean(x):
      by_clip = jnp.einsum("rlm,rl->rm", share, x.mean(axis=-1))
      return jnp.einsum("rlm,rm->rl", member, by_clip)[..., None]

    return Space(
      spread,
      lambda levels: self.objective.process.coefficients(spread(levels)),
      mean,
      factor[..., None],
    )

  @functools.cached_property
  def _long(self) -> Streaming:
    return Streaming(self.autoencoder)

  @functools.partial(jax.jit, static_argnums=0)
  def _encode(self, frozen: PyTree, video: Array) -> jax.Array:
    return self.autoencoder.encode(
      frozen["autoencoder"], frozen["stats"], video
    )
