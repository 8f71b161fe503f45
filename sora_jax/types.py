"""The nouns of sora_jax and the alphabet of its shapes.

Alphabet, the same in every file:

  B clips in a batch      T H W C  pixels of a clip (time, height, width, RGB)
  R packed rows           t h w c  latents of a clip
  L tokens in a row       P        length of a patch vector (pt * ph * pw * c)
  M clips in a row        K        distinct noise levels in a row
  S text tokens in a row  D N F    model width, attention heads, mlp width

Everything the transformer sees is a packed sequence: clips and images of any
length, size and aspect ratio become tokens with coordinates, several per row,
told apart by `segments`. Every token has its own noise level; a clean token
(level 0) is a condition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array | np.ndarray
PyTree = Any
Batch = Mapping[str, Array]
Text = str | tuple[tuple[int, str], ...]  # a caption, or (first frame, caption)


def shots_of(text: Text) -> tuple[tuple[int, str], ...]:
  """(First frame, caption) of every shot; a caption alone is one shot's."""
  return ((0, text),) if isinstance(text, str) else tuple(text)


def joined(text: Text) -> str:
  """The captions of all shots, in order."""
  return " ".join(caption for _, caption in shots_of(text))


@dataclasses.dataclass(frozen=True)
class Clip:
  """One captioned clip; an image is a clip of one frame.

  Attributes:
    video: uint8 [T, H, W, 3], RGB in 0..255.
    fps: frames per second, > 0.
    text: one caption, or one (start frame, caption) per shot.
    key: a name that is unique in its source and stable between runs.
    audio: optional float32 [samples] or [samples, 2] (left, right) in -1..1.
    rate: samples per second of `audio`, 0 without audio.
    state: the ground truth of a generated clip, for oracles; None for others,
      and for what a transform has cut or scaled.
  """

  video: np.ndarray
  fps: float
  text: Text
  key: str = ""
  audio: np.ndarray | None = None
  rate: int = 0
  state: Any = None

  @property
  def origin(self) -> str:
    """The file or item that the clip is a window of: its key before an "@"."""
    return self.key.partition("@")[0]

  @property
  def caption(self) -> str:
    """The caption; those of the shots of a clip with cuts, joined in order."""
    return joined(self.text)


@struct.dataclass
class Stream:
  """One modality's share of packed rows.

  Attributes:
    tokens: [R, L, P] patch vectors, or int32 [R, L] token ids for text.
    positions: int32 [R, L, 3] coordinates (t, h, w) in latent cells.
    segments: int32 [R, L]; clips count from 1, 0 is padding.
    level: int32 [R, L] index into `Packed.levels` of the token's row.
  """

  tokens: Array
  positions: Array
  segments: Array
  level: Array


@struct.dataclass
class Packed:
  """Packed rows: streams by modality ("video", "text") and their noise levels.

  Attributes:
    streams: one `Stream` per modality; segment s means clip s in all of them.
    levels: float32 [R, K] noise levels of the row in [0, 1]; index 0 is 0.
  """

  streams: dict[str, Stream]
  levels: Array


@struct.dataclass
class Canvas:
  """What a sampling task asks for: what is known and where noise starts.

  Attributes:
    known: [B, t, h, w, c] normalised latents, anything where mask is 0.
    mask: [B, t, h, w, 1]; 1 keeps the known value bit for bit.
    start: noise level in (0, 1] at which denoising begins; 1 is pure noise.
  """

  known: Array
  mask: Array
  start: float = struct.field(pytree_node=False, default=1.0)


@struct.dataclass
class State:
  """Everything that a training run is; the step function's only memory.

  Attributes:
    step: int32 scalar, updates attempted so far.
    params: trainable parameters by player.
    opt: optimizer state by player.
    ema: exponential moving average of `params`, by player.
    frozen: parameters that are used and never updated, by name.
    rng: the run's root key; step n uses fold_in(rng, n).
    bad: int32 scalar, consecutive skipped (non-finite) steps.
  """

  step: Array
  params: dict[str, PyTree]
  opt: dict[str, PyTree]
  ema: dict[str, PyTree]
  frozen: dict[str, PyTree]
  rng: Array
  bad: Array


@struct.dataclass
class Mean:
  """A mergeable mean: total over count, so masks and packing average right."""

  total: Array
  count: Array

  @classmethod
  def of(cls, values: Array, weights: Array | None = None) -> Mean:
    """The mean of `values`, weighted by `weights` of a broadcastable shape."""
    values = jnp.asarray(values, jnp.float32)
    if weights is None:
      return cls(values.sum(), jnp.float32(values.size))
    weights = jnp.broadcast_to(weights, values.shape).astype(jnp.float32)
    # where, not times: padding may hold anything, even nan.
    kept = jnp.where(weights > 0, values, 0)
    return cls((kept * weights).sum(), weights.sum())

  def __or__(self, other: Mean) -> Mean:
    return Mean(self.total + other.total, self.count + other.count)

  def compute(self) -> Array:
    """Total over count; 0 where nothing was counted."""
    return self.total / jnp.maximum(self.count, 1e-12)


Metrics = dict[str, Mean]
LossFn = Callable[..., tuple[jax.Array, Metrics]]


class Objective(Protocol):
  """What is minimised, per player.

  `losses[player](params, frozen, batch, rng, step)` returns the scalar loss of
  that player and its metrics, where `params` holds every player's parameters.
  """

  losses: Mapping[str, LossFn]

  def init(self, rng: Array, batch: Batch) -> dict[str, PyTree]:
    """Fresh parameters by player, with logical axis names in their boxes."""


class Evaluator(Protocol):
  """Measures a state; yields (name, value) and never knows the trainer."""

  def run(self, state: State) -> Iterator[tuple[str, float]]: ...


class Source(Protocol):
  """A data set of captioned clips with random access.

  `skipped` maps what is left out to the reason; `fingerprint()` changes with
  any content that the constructor's arguments do not tell.
  """

  skipped: Mapping[str, str]

  def fingerprint(self) -> str:
    """Names the content, beyond the constructor's arguments."""

  def clips(self, split: str) -> Sequence[Clip | None]:
    """The split's clips; an item that cannot be decoded is reported and None.

    Raises:
      ValueError: for a split that does not exist, naming those that do.
    """
