"""Do the captions move the output? Oracle scores of generated clips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sora_jax.data.sources import digits
from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import (
  Context,
  prompted,
  through,
  trained,
  truth,
)
from sora_jax.evaluators.digits_oracle import DigitsOracle
from sora_jax.evaluators.oracle import read, scores
from sora_jax.types import Clip, State

Scores = dict[str, np.ndarray]
# Of a video that was read: clip whose caption it should show -> scores.
Seen = Callable[[Clip], dict[str, float]]
# (video uint8 [T, H, W, 3], frames per second) -> what is seen there
Oracle = Callable[[np.ndarray, float], Seen]


def _digits(video: np.ndarray, fps: float) -> Seen:
  del fps
  oracle = DigitsOracle(*video.shape[1:3])
  return lambda clip: oracle.score(video, clip.text)


def world(video: np.ndarray, fps: float) -> Seen:
  """Reads a video once, for what it shows right of clips of the world."""
  reading = read.read(video, fps)
  return lambda clip: scores.attributes(reading, truth(clip), said=True)


ORACLES: dict[str, Oracle] = {"digits": _digits, "world": world}
# Where attributes are drawn evenly; else the shuffled row says what chance is.
CHANCE = {
  "digits": {
    "digit": 1 / len(digits.WORDS),
    "colour": 1 / len(digits.COLOURS),
    "motion": 1 / len(digits.MOTIONS),
    "background": 1 / len(digits.BACKGROUNDS),
  },
  "world": {},
}


@dataclasses.dataclass(frozen=True)
class Captions:
  """Share of fresh captions whose every attribute the oracle reads back.

  Asked for is what a caption names, and nothing that it leaves open.

  Rows: real clips (the oracle's own ceiling), the same through the autoencoder
  (the model's ceiling), generated from the true caption with its 95 % bootstrap
  interval, the same videos against shuffled captions (with the p-value of the
  true ones being no better), videos of the empty caption, and chance.

  Attributes:
    context: with clips of the set that the oracle reads, and a pipeline.
    oracle: key of ORACLES.
    clips: captions to judge.
    empty: videos made without a caption.
    seed: of the noise and the shuffling.
  """

  context: Context
  oracle: str
  clips: int
  empty: int
  seed: int

  def __post_init__(self):
    if self.oracle not in ORACLES:
      raise ValueError(
        f"captions(oracle={self.oracle!r}): choose one of {sorted(ORACLES)}"
      )

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = self.context.first(self.clips)
    pipeline, frozen = self.context.pipeline, state.frozen
    seen = functools.partial(_seen, ORACLES[self.oracle], clips)
    texts = [clip.text for clip in clips]
    others = [clips[i] for i in shuffled(len(clips), self.seed)]

    real = [clip.video for clip in clips]
    decoded = through(self.context, state, real)
    made = pipeline(trained(state), frozen, prompted(clips, texts, self.seed))
    some = clips[: self.empty]
    free = pipeline(
      trained(state),
      frozen,
      prompted(some, [""] * len(some), self.seed),
    )
    videos = seen(made)  # judged twice
    true, wrong = score(videos, clips), score(videos, others)
    yield from _row("real", score(seen(real), clips))
    yield from _row("autoencoder", score(seen(decoded), clips))
    yield from _row("generated", true)
    for name in true:
      low, high = metrics.bootstrap(_known(true[name]))
      yield f"generated low/{name}", low
      yield f"generated high/{name}", high
    yield from _row("shuffled", wrong)
    yield from _row("empty", score(seen(free), some))
    for name, chance in CHANCE[self.oracle].items():
      if name in true:
        yield f"chance/{name}", chance
    for name in (n for n in true if n in wrong and n not in scores.UNEXPLAINED):
      both = np.isfinite(true[name]) & np.isfinite(wrong[name])
      if both.sum() > 1:
        p = metrics.paired_p(true[name][both], wrong[name][both])
        yield f"p-value/{name}", p


def shuffled(count: int, seed: int) -> np.ndarray:
  """A random permutation that moves every element (a random cycle)."""
  order = np.random.default_rng(seed).permutation(count)
  out = np.empty(count, int)
  out[order] = np.roll(order, 1)
  return out


def _seen(
  oracle: Oracle, clips: Sequence[Clip], videos: Sequence[np.ndarray]
) -> list[Seen]:
  """What is seen in videos of the first of the clips."""
  some = clips[: len(videos)]
  return [oracle(v, clip.fps) for v, clip in zip(videos, some, strict=True)]


def score(videos: Sequence[Seen], clips: Sequence[Clip]) -> Scores:
  """Each attribute by clip; nan for a clip that it does not apply to."""
  rows = [seen(clip) for seen, clip in zip(videos, clips, strict=True)]
  names = dict.fromkeys(name for row in rows for name in row)
  return {n: np.array([row.get(n, np.nan) for row in rows]) for n in names}


def _known(values: np.ndarray) -> np.ndarray:
  return values[np.isfinite(values)]


def _row(name: str, scores: Scores) -> Iterator[tuple[str, float]]:
  for attribute, values in scores.items():
    yield f"{name}/{attribute}", float(_known(values).mean())
