"""Fréchet video distance, with the floor and the ceiling that it needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, prompted, through, trained
from sora_jax.models import i3d, random_features
from sora_jax.types import PyTree, State


def _random(path: str, sha256: str) -> PyTree:
  """Weights that nobody has to give."""
  if path or sha256:
    raise ValueError(
      f"frechet(features='random', path={path!r}, sha256={sha256!r}): these "
      "features need no weights: set both to ''"
    )
  return random_features.kernels()


# name -> (path, sha256) -> weights; and the module that uses them
FEATURES: dict[str, tuple[Callable[[str, str], PyTree], Any]] = {
  "random": (_random, random_features),
  "i3d": (i3d.load, i3d),
}


@dataclasses.dataclass(frozen=True)
class Frechet:
  """How far sets of clips lie from other real clips, by the Fréchet distance.

  All sets have the same number of clips, N, and are compared with the same N
  real ones. `real` is the floor: other real clips. `autoencoder` is the
  ceiling of what can be generated. `first frame` repeats the first frame of
  real clips and `shuffled` has their frames in random order: a distance that
  finds these near sees no motion. Intervals are of a bootstrap over clips,
  reflected at the estimate, since resampling finds sets further apart.

  Attributes:
    context: with clips and a pipeline.
    clips: N; the first N are judged, the next N compared with.
    features: key of FEATURES.
    path: of their weights.
    sha256: of these, or its first digits; "" checks none.
    seed: of the noise.
  """

  context: Context
  clips: int
  features: str
  path: str
  sha256: str
  seed: int

  def __post_init__(self):
    if self.features not in FEATURES:
      raise ValueError(
        f"frechet(features={self.features!r}): choose of {sorted(FEATURES)}"
      )
    _weights(self.features, self.path, self.sha256)  # not there? say so now

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips, count = self.context.first(2 * self.clips), self.clips
    if len(clips) < 2 * count:
      raise ValueError(
        f"frechet(clips={count}) compares with as many others, and there are "
        f"{len(clips)}: lower it, or raise data.test_count"
      )
    real = [clip.video for clip in clips[:count]]
    texts = [clip.text for clip in clips[:count]]
    requests = prompted(clips[:count], texts, self.seed)
    rng = np.random.default_rng(self.seed)
    sets = {
      "real": real,
      "autoencoder": through(self.context, state, real),
      "generated": self.context.pipeline(
        trained(state), state.frozen, requests
      ),
      "first frame": [np.repeat(v[:1], len(v), axis=0) for v in real],
      "shuffled": [rng.permutation(v) for v in real],
    }
    against = self._features([clip.video for clip in clips[count:]])
    for name, videos in sets.items():
      found = self._features(videos)
      distance = metrics.frechet(found, against)
      yield f"{name}/distance", distance
      low, high = metrics.bootstrap(
        found, lambda some: metrics.frechet(some, against), samples=200
      )
      yield f"{name}/low", 2 * distance - high
      yield f"{name}/high", 2 * distance - low
      yield f"{name}/clips", float(count)

  def _features(self, videos: Sequence[np.ndarray]) -> np.ndarray:
    """[N, D], a clip at a time: their sizes may differ."""
    one = _jitted(FEATURES[self.features][1])
    net = _weights(self.features, self.path, self.sha256)
    return np.stack([one(net, video) for video in videos])


@functools.cache
def _weights(features: str, path: str, sha256: str) -> PyTree:
  """Read once, by whoever asks first."""
  return FEATURES[features][0](path, sha256)


@functools.cache
def _jitted(module) -> Callable[[PyTree, np.ndarray], jax.Array]:
  """Features [D] of one clip."""
  return jax.jit(
    lambda net, video: module.features(net, module.prepare(video)[None])[0]
  )
