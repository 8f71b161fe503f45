"""Do the captions move the output? Oracle scores of generated digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.data.sources import digits
from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, trained
from sora_jax.evaluators.digits_oracle import DigitsOracle
from sora_jax.sampling.pipeline import Request
from sora_jax.types import State

Scores = dict[str, np.ndarray]
CHANCE = {
  "digit": 1 / len(digits.WORDS),
  "colour": 1 / len(digits.COLOURS),
  "motion": 1 / len(digits.MOTIONS),
  "background": 1 / len(digits.BACKGROUNDS),
}


@dataclasses.dataclass(frozen=True)
class Captions:
  """Share of fresh captions whose every attribute the oracle reads back.

  Rows: real clips (the oracle's own ceiling), the same through the autoencoder
  (the model's ceiling), generated from the true caption with its 95 % bootstrap
  interval, the same videos against shuffled captions (with the p-value of the
  true ones being no better), videos of the empty caption, and chance.

  Attributes:
    context: with clips of the digits set and a pipeline.
    clips: captions to judge.
    empty: videos made without a caption.
    seed: of the noise and the shuffling.
  """

  context: Context
  clips: int
  empty: int
  seed: int

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = self.context.first(self.clips)
    pipeline, frozen = self.context.pipeline, state.frozen
    oracle = DigitsOracle(*clips[0].video.shape[1:3])
    texts = [clip.text for clip in clips]
    order = shuffled(len(texts), self.seed)
    others = [texts[i] for i in order]

    real = [clip.video for clip in clips]
    through = pipeline.decode(
      frozen, [pipeline.encode(frozen, video)[0] for video in real]
    )
    made = pipeline(trained(state), frozen, self._requests(clips, texts))
    free = pipeline(
      trained(state),
      frozen,
      self._requests(clips[: self.empty], [""] * self.empty),
    )
    true = score(oracle, made, texts)
    wrong = score(oracle, made, others)
    yield from _row("real", score(oracle, real, texts))
    yield from _row("autoencoder", score(oracle, through, texts))
    yield from _row("generated", true)
    for name in CHANCE:
      if name in true:
        low, high = metrics.bootstrap(true[name])
        yield f"generated low/{name}", low
        yield f"generated high/{name}", high
    yield from _row("shuffled", wrong)
    yield from _row("empty", score(oracle, free, texts[: self.empty]))
    for name, chance in CHANCE.items():
      if name in true:
        yield f"chance/{name}", chance
        yield f"p-value/{name}", metrics.paired_p(true[name], wrong[name])

  def _requests(self, clips, texts) -> list[Request]:
    return [
      Request(text, clip.video.shape[:3], seed=self.seed + i)
      for i, (clip, text) in enumerate(zip(clips, texts))
    ]


def shuffled(count: int, seed: int) -> np.ndarray:
  """A random permutation that moves every element (a random cycle)."""
  order = np.random.default_rng(seed).permutation(count)
  out = np.empty(count, int)
  out[order] = np.roll(order, 1)
  return out


def score(
  oracle: DigitsOracle, videos: Sequence[np.ndarray], texts: Sequence[str]
) -> Scores:
  """Each attribute's 0/1 by clip."""
  rows = [oracle.score(v, t) for v, t in zip(videos, texts)]
  return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _row(name: str, scores: Scores) -> Iterator[tuple[str, float]]:
  for attribute, values in scores.items():
    yield f"{name}/{attribute}", float(values.mean())
