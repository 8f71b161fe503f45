"""Does generated motion keep the world's laws? Errors of its paths."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from sora_jax.evaluators.context import (
  Context,
  continued,
  others,
  through,
  truth,
)
from sora_jax.evaluators.oracle import laws, physics, read
from sora_jax.sampling.excerpts import excerpt
from sora_jax.types import Clip, State

FORWARDS = ("extend", "i2v")  # tasks that keep the beginning of a clip


@dataclasses.dataclass(frozen=True)
class Laws:
  """Clips of the world are continued; oracle.laws judges what was not given.

  Rows: the real frames (the oracle's own error), the same through the
  autoencoder (the ceiling), generated with the true caption with its 95 %
  bootstrap interval, generated with another clip's caption, and two dumb
  baselines: the last given frame repeated, and the truth at that frame going
  straight on. "real clips" and "generated clips" is how many a law applies to.
  Clips of several shots, and a fluid's, have no paths and are passed over.

  Attributes:
    context: with clips of the source "world" and a pipeline.
    task: one of FORWARDS.
    clips: how many to draw from; 0 for all.
    seed: of the noise.
  """

  context: Context
  task: str
  clips: int
  seed: int

  def __post_init__(self):
    if self.task not in FORWARDS:
      raise ValueError(f"laws(task={self.task!r}): choose one of {FORWARDS}")

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = [c for c in self.context.first(self.clips) if _has_paths(c)]
    if not clips:
      return
    cell = self.context.autoencoder.model.compression
    start = len(excerpt(self.task, clips[0].video, cell)["source"])
    texts = [clip.text for clip in clips]
    real = [clip.video for clip in clips]
    make = functools.partial(
      continued, self.context, state, clips, task=self.task, seed=self.seed
    )
    videos = {
      "real": real,
      "autoencoder": through(self.context, state, real),
      "generated": make(texts),
      "other caption": make(others(texts)),
      "last frame repeated": [_held(video, start) for video in real],
    }
    for name, made in videos.items():
      paths = [
        laws.followed(read.read(video, clip.fps), clip.state)
        for video, clip in zip(made, clips, strict=True)
      ]
      yield from _rows(name, paths, clips, start)
    straight = [laws.extrapolated(c.state, start, c.fps) for c in clips]
    yield from _rows("straight on", straight, clips, start)


def _has_paths(clip: Clip) -> bool:
  shots = truth(clip).shots
  return len(shots) == 1 and len(shots[0].scene.bodies) > 0


def _held(video: np.ndarray, start: int) -> np.ndarray:
  """The last given frame stays for ever."""
  return video[np.minimum(np.arange(len(video)), start - 1)]


def _rows(name, paths, clips, start) -> Iterator[tuple[str, float]]:
  """Each law's mean over the clips that it applies to."""
  rows = [
    laws.laws(path, clip.state, clip.fps, start)
    for path, clip in zip(paths, clips, strict=True)
  ]
  for law in rows[0]:
    mean, low, high, count = physics.interval([row[law] for row in rows])
    if not count:
      continue
    yield f"{name}/{law}", mean
    if name == "generated":
      yield f"generated low/{law}", low
      yield f"generated high/{law}", high
    if name in ("real", "generated"):
      yield f"{name} clips/{law}", float(count)
