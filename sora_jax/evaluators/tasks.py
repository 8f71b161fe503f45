"""Every sampling task from one checkpoint, against what really happened."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import (
  Context,
  others,
  requests_of,
  through,
  trained,
)
from sora_jax.evaluators.continuation import moves
from sora_jax.sampling.excerpts import ANSWERED
from sora_jax.sampling.request import Draft, Request
from sora_jax.types import Clip, State


@dataclasses.dataclass(frozen=True)
class Tasks:
  """What each task makes of real clips, where nothing was given.

  A row for each task. Columns, PSNR in dB over the pixels that were not given:
  `generated` with its interval, with another clip's caption, `filled` as the
  task's draft is (the nearest known frame, pixel or blend: the dumb baseline),
  and `autoencoder`, the ceiling. `jump` is the mean change over the borders in
  time between what is given and what is made, as a share of the real clip's: 1
  is right, more is a cut. Of `loop` there is only that, at its end.

  Attributes:
    context: with clips and a pipeline.
    tasks: keys of TASKS, those of ANSWERED and "loop".
    clips: how many that move, each of another origin; 0 for all.
    keep: latent frames that are given of longer sources.
    seed: of the noise.
  """

  context: Context
  tasks: tuple[str, ...]
  clips: int
  keep: int
  seed: int

  def __post_init__(self):
    valid = (*ANSWERED, "loop")
    if wrong := set(self.tasks) - set(valid):
      raise ValueError(f"tasks {sorted(wrong)}: choose of {sorted(valid)}")

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    found = self.context.first(0, apart=True)
    clips = list(itertools.islice(filter(moves, found), self.clips or None))
    if not clips:
      return
    real = [clip.video for clip in clips]
    texts = [clip.text for clip in clips]
    ceiling = through(self.context, state, real)
    for task in self.tasks:
      if task == "loop":
        yield "loop/jump", self._loop(state, clips)
        continue
      ask = functools.partial(
        requests_of,
        self.context,
        clips,
        task=task,
        seed=self.seed,
        keep=self.keep,
      )
      requests = ask(texts)
      drafts = [self.context.pipeline.draft(r) for r in requests]
      made = self._made(state, requests)
      wrong = self._made(state, ask(others(texts)))
      regions = [~draft.known for draft in drafts]
      own = _scores(made, real, regions)
      low, high = metrics.bootstrap(np.array(own))
      yield f"{task}/generated", float(np.mean(own))
      yield f"{task}/low", low
      yield f"{task}/high", high
      for column, videos in (
        ("other caption", wrong),
        ("filled", [draft.video for draft in drafts]),
        ("autoencoder", ceiling),
      ):
        yield f"{task}/{column}", float(np.mean(_scores(videos, real, regions)))
      jumps = [_jump(v, r, d) for v, r, d in zip(made, real, drafts)]
      if np.isfinite(jumps).any():
        yield f"{task}/jump", float(np.nanmean(jumps))

  def _made(self, state: State, requests: list[Request]) -> list[np.ndarray]:
    return self.context.pipeline(trained(state), state.frozen, requests)

  def _loop(self, state: State, clips: Sequence[Clip]) -> float:
    """Change from the last frame to the first, as a share of others'."""
    requests = [
      Request(
        clip.text,
        clip.video.shape[:3],
        "loop",
        source=clip.video,
        keep=1,
        seed=self.seed + i,
      )
      for i, clip in enumerate(clips)
    ]
    jumps = []
    for clip, video in zip(clips, self._made(state, requests), strict=True):
      usual = np.mean([_change(*two) for two in itertools.pairwise(clip.video)])
      jumps.append(_change(video[-1], video[0]) / usual)
    return float(np.mean(jumps))


def _scores(videos, real, regions) -> list[float]:
  return [metrics.region_psnr(*three) for three in zip(videos, real, regions)]


def _change(a: np.ndarray, b: np.ndarray) -> float:
  return float(np.abs(a.astype(np.float64) - b).mean())


def _jump(video: np.ndarray, real: np.ndarray, draft: Draft) -> float:
  """Change over borders of what is known; NaN without any, or at a rest."""
  if (draft.video[draft.known] != real[draft.known]).any():
    return float("nan")  # one frame stands for its neighbours
  whole = draft.known.all(axis=(1, 2))
  borders = np.flatnonzero(whole[1:] != whole[:-1])
  made = sum(_change(video[n], video[n + 1]) for n in borders)
  true = sum(_change(real[n], real[n + 1]) for n in borders)
  return made / true if true else float("nan")
