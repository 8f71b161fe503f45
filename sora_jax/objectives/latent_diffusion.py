"""Training the transformer: denoise packed latents at mixed noise levels.

The loss of a token is w(u) |x0' - x0|^2 / P, where x0' is the data that the
prediction stands for. It is computed in the space of the target, which is the
same up to a known factor and never divides by a small number:

  x0' - x0 = -(sigma / det) (pred - target)      (see diffusion/process.py)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from sora_jax.diffusion import levels as levels_lib
from sora_jax.diffusion import process as process_lib
from sora_jax.models.dit import DiT
from sora_jax.types import Array, Batch, Mean, Metrics, Packed, PyTree, Stream
from sora_jax.utils import axes


def stream_of(batch: Batch, name: str, level: Array | None = None) -> Stream:
  """The stream `name` of a packed batch; level 0 unless given."""
  segments = batch[f"{name}_segments"]
  return Stream(
    tokens=batch[name],
    positions=batch[f"{name}_positions"],
    segments=segments,
    level=jnp.zeros_like(segments) if level is None else level,
  )


def drop_text(text: Stream, drop: Array) -> Stream:
  """Takes the captions of clips away; their first token (BOS) stays.

  The null caption is thus the empty one, which tokenizes to BOS alone.

  Args:
    text: text stream [R, S].
    drop: bool [R, M], by clip.
  """
  before = jnp.pad(text.segments[:, :-1], ((0, 0), (1, 0)))
  first = text.segments != before
  clip = jnp.maximum(text.segments - 1, 0)
  gone = jnp.take_along_axis(drop, clip, axis=1) & ~first
  return text.replace(segments=jnp.where(gone, 0, text.segments))


@dataclasses.dataclass(frozen=True)
class LatentDiffusion:
  """Objective with the one player "dit".

  Batches are packed rows: `video` float [R, L, P] normalised latent patches,
  `text` int32 [R, S] ids, and `*_positions`, `*_segments` of each.

  Attributes:
    model: the transformer.
    process: schedule and target.
    weight: (alpha, sigma) -> weight of the squared error of x0.
    times: (rng, shape) -> times in [0, 1].
    shift: (times, tokens of the clip) -> times moved by clip size.
    mixture: probability of each pattern of noise levels.
    text_dropout: share of clips trained without their caption.
    clips: M, most clips in a row.
    frames: F, most latent frames of a clip, in patches.
    placement: of what the transformer computes, or None.
  """

  model: DiT
  process: process_lib.Process
  weight: Callable[[Array, Array], Array]
  times: Callable[[Array, tuple[int, ...]], Array]
  shift: Callable[[Array, Array], Array]
  mixture: Mapping[str, float]
  text_dropout: float
  clips: int
  frames: int
  placement: axes.Placement | None = None

  @property
  def losses(self):
    return {"dit": self.loss}

  @property
  def taught(self) -> bool:
    """Whether `frozen` has to hold a teacher's parameters."""
    return False

  def init(self, rng: Array, batch: Batch) -> dict[str, PyTree]:
    # Two rows: initialisation looks at shapes only.
    few = {k: v[:2] for k, v in batch.items()}
    packed = Packed(
      streams={n: stream_of(few, n) for n in ("video", "text")},
      levels=jnp.zeros((few["video"].shape[0], self.levels)),
    )
    return {"dit": self.model.init(rng, packed)["params"]}

  @property
  def levels(self) -> int:
    """K, the noise levels of a row in training."""
    return 1 + self.clips * self.frames

  def loss(
    self, params: PyTree, frozen: PyTree, batch: Batch, rng: Array, step: Array
  ) -> tuple[Array, Metrics]:
    """Draws levels, noise and dropped captions; then the token loss."""
    del frozen, step
    video, text, levels, noise = self.draw(batch, rng, self.times)
    error, weight = self.token_loss(params, video, text, levels, noise)
    return self.told(video, error, weight)

  def draw(
    self, batch: Batch, rng: Array, times: Callable
  ) -> tuple[Stream, Stream, Array, Array]:
    """What a step of training sees of a batch, but for the corruption.

    The same `rng` gives the same, but for the levels, if `times` differ.

    Args:
      batch: packed rows.
      rng: key.
      times: (rng, shape) -> times in [0, 1], before the shift.

    Returns:
      clean video tokens that know their level, text of which some is dropped,
      the levels [R, K], and noise [R, L, P].
    """
    rng_level, rng_noise, rng_text = jax.random.split(rng, 3)
    segments = batch["video_segments"]
    where = levels_lib.place(batch["video_positions"], segments, self.clips)
    tokens = levels_lib.sizes(segments, self.clips)[..., None]  # [R, M, 1]
    levels, level = levels_lib.sample(
      rng_level,
      where,
      lambda rng, shape: self.shift(times(rng, shape), tokens),
      self.mixture,
      self.clips,
      self.frames,
    )
    drop = jax.random.bernoulli(
      rng_text, self.text_dropout, (segments.shape[0], self.clips)
    )
    text = drop_text(stream_of(batch, "text"), drop)
    noise = jax.random.normal(rng_noise, batch["video"].shape)
    return stream_of(batch, "video", level), text, levels, noise

  def passed(self, times: Array, tokens: Array, start: Array) -> Array:
    """The noise levels that sampling passes.

    Args:
      times: in [0, 1], falling.
      tokens: of the clips, which say how times are shifted.
      start: levels at which sampling begins; 1 is pure noise.

    Returns:
      of the shape that these come to.
    """
    return start * self.shift(times, tokens)

  @staticmethod
  def told(video: Stream, error: Array, weight: Array) -> tuple[Array, Metrics]:
    """The loss of tokens [R, L], and what is reported of it."""
    loss = Mean.of(error * weight, weight > 0)
    real = (video.segments > 0).astype(jnp.float32)
    return loss.compute(), {
      "loss": loss,
      "unweighted": Mean.of(error, weight > 0),
      "fill": Mean.of(real),
      "noisy": Mean.of((video.level > 0).astype(jnp.float32), real),
    }

  def token_loss(
    self, params: PyTree, video: Stream, text: Stream, levels: Array, noise
  ) -> tuple[Array, Array]:
    """Squared error of x0 and its weight, both [R, L].

    Args:
      params: by player.
      video: clean tokens with their levels.
      text: text stream.
      levels: [R, K].
      noise: [R, L, P].

    Returns:
      the error, and the weight: 0 for known tokens and padding.
    """
    time = jnp.take_along_axis(levels, video.level, axis=1)  # [R, L]
    x0, at = video.tokens.astype(jnp.float32), time[..., None]
    xt = self.process.corrupt(x0, noise, at)
    packed = Packed({"video": video.replace(tokens=xt), "text": text}, levels)
    prediction = self._predict(params, packed)
    target = self.process.target_of(x0, noise, at)
    square = jnp.square(prediction - target).mean(axis=-1)  # [R, L]

    alpha, sigma = self.process.coefficients(time)
    a, b = process_lib.TARGETS[self.process.target](alpha, sigma)
    det = alpha * b - sigma * a
    factor = jnp.square(sigma / jnp.where(det == 0, 1, det))
    noisy = (video.segments > 0) & (video.level > 0)
    return square * factor, jnp.where(noisy, self.weight(alpha, sigma), 0.0)

  def _predict(self, params: PyTree, packed: Packed) -> Array:
    with axes.placed(self.placement):
      return self.model.apply({"params": params["dit"]}, packed)

  def loss_at(
    self, params: PyTree, batch: Batch, time: Array, rng: Array
  ) -> Mean:
    """Unweighted error of x0 with every clip at one time, caption on."""
    segments = batch["video_segments"]
    level = (segments > 0).astype(jnp.int32)
    rows = segments.shape[0]
    levels = jnp.stack([jnp.zeros(rows), jnp.full(rows, time)], axis=1)
    noise = jax.random.normal(rng, batch["video"].shape)
    video = stream_of(batch, "video", level)
    error, weight = self.token_loss(
      params, video, stream_of(batch, "text"), levels, noise
    )
    return Mean.of(error, weight > 0)

  def denoiser(
    self, params: PyTree, video: Stream, text: Stream
  ) -> Callable[[Array, Array], tuple[Array, Array]]:
    """(xt [R, L, P], levels [R, K]) -> (x0, noise), for the sampler."""

    def denoise(xt, levels):
      packed = Packed({"video": video.replace(tokens=xt), "text": text}, levels)
      prediction = self._predict(params, packed)
      return self.process.solve(prediction, xt, self.spread(video, levels))

    return denoise

  @staticmethod
  def spread(video: Stream, levels: Array) -> Array:
    """Noise levels [R, K] -> the time of each token [R, L, 1]."""
    return jnp.take_along_axis(levels, video.level, axis=1)[..., None]
