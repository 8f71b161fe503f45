"""What evaluators may use: given by the composition root, not the trainer."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.data.world import nouns
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.sampling.excerpts import excerpt
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.request import Request
from sora_jax.types import Clip, PyTree, State, Text, shots_of
from sora_jax.utils.logs import MetricWriter


@dataclasses.dataclass(frozen=True)
class Context:
  """Parts that evaluators are made of.

  Attributes:
    stage: name of the training stage.
    workdir: where pictures may be written.
    writer: of pictures to TensorBoard.
    autoencoder: its objective.
    clips: clips to judge on, transformed as in training.
    diffusion: the transformer's objective; None in the autoencoder's stage.
    pipeline: for sampling; None likewise.
    batch: a held-out packed batch; None likewise.
    training: gives the clips of the split train, as training takes them.
  """

  stage: str
  workdir: Path
  writer: MetricWriter
  autoencoder: Autoencode
  clips: Sequence[Clip | None]
  diffusion: LatentDiffusion | None = None
  pipeline: Pipeline | None = None
  batch: Mapping[str, np.ndarray] | None = None
  training: Callable[[], Sequence[Clip | None]] = tuple

  def first(self, count: int, apart: bool = False) -> list[Clip]:
    """The first clips; those that cannot be decoded are passed over.

    Args:
      count: at most how many; 0 for all.
      apart: at most one clip of each origin (windows of one file share it).
    """
    found = (clip for clip in self.clips if clip is not None)
    if apart:
      found = first_of_each(found)
    return list(itertools.islice(found, count or None))


def first_of_each(clips: Iterable[Clip]) -> Iterator[Clip]:
  """The first clip of every origin."""
  seen = set()
  for clip in clips:
    if clip.origin not in seen:
      seen.add(clip.origin)
      yield clip


def truth(clip: Clip) -> nouns.State:
  """The ground truth of a clip of the world.

  Raises:
    ValueError: for a clip that has none.
  """
  if clip.state is None:
    raise ValueError(
      f"the clip {clip.key!r} has no ground truth: the world's oracle judges "
      "data of the source 'world' whose size and length the transforms keep"
    )
  return clip.state


def frozen_of(state: State, context: Context) -> Mapping[str, Any]:
  """Autoencoder parameters and statistics, in either stage."""
  if "ae" in state.ema:
    # Statistics cancel in a round trip, so unmeasured ones serve.
    return {
      "autoencoder": state.ema["ae"],
      "stats": context.autoencoder.no_stats(),
    }
  return state.frozen


def trained(state: State) -> dict[str, PyTree]:
  """The parameters to judge: the moving average."""
  return state.ema


def continued(
  context: Context,
  state: State,
  clips: Sequence[Clip],
  texts: Sequence[Text],
  task: str,
  seed: int,
) -> list[np.ndarray]:
  """Videos of the clips' sizes that a task makes of them with other texts."""
  requests = requests_of(context, clips, texts, task, seed)
  return context.pipeline(trained(state), state.frozen, requests)


def requests_of(
  context: Context,
  clips: Sequence[Clip],
  texts: Sequence[Text],
  task: str,
  seed: int,
  keep: int = 2,
) -> list[Request]:
  """What a task is asked for, if the clips are to be its answers."""
  cell = context.autoencoder.model.compression
  return [
    Request(
      until(text, len(clip.video)),
      clip.video.shape[:3],
      task,
      **excerpt(task, clip.video, cell, keep),
      keep=keep,
      seed=seed + i,
    )
    for i, (clip, text) in enumerate(zip(clips, texts, strict=True))
  ]


def prompted(
  clips: Sequence[Clip], texts: Sequence[Text], seed: int
) -> list[Request]:
  """Videos of the clips' sizes from texts alone."""
  return [
    Request(text, clip.video.shape[:3], seed=seed + i)
    for i, (clip, text) in enumerate(zip(clips, texts, strict=True))
  ]


def through(
  context: Context, state: State, videos: Sequence[np.ndarray]
) -> list[np.ndarray]:
  """The videos through the autoencoder: the ceiling of what can be made."""
  pipeline, frozen = context.pipeline, state.frozen
  return pipeline.decode(
    frozen, [pipeline.encode(frozen, v)[0] for v in videos]
  )


def until(text: Text, frames: int) -> Text:
  """The shots of a text that begin in so many frames."""
  return tuple(shot for shot in shots_of(text) if shot[0] < frames)


def others(texts: Sequence[Text]) -> list[Text]:
  """Every clip gets the caption of the one before it."""
  return [texts[-1], *texts[:-1]]
