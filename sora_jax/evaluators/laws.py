"""Does generated motion keep the world's laws? Errors of its paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from sora_jax.evaluators.context import Context, trained, truth
from sora_jax.evaluators.oracle import laws, physics, read
from sora_jax.sampling.pipeline import Request
from sora_jax.sampling.tasks import KEPT
from sora_jax.types import Clip, State

FORWARDS = ("extend", "i2v")  # tasks that keep the beginning of a clip


@dataclasses.dataclass(frozen=True)
class Laws:
  """Clips of the world are continued; oracle.laws judges what was not given.

  Rows: the real frames (the oracle's own error), the same through the
  autoencoder (the ceiling), generated with the true caption with its 95 %
  bootstrap interval, generated with another clip's caption, and two dumb
  baselines: the last given frame repeated, and the last given positions
  extrapolated in straight lines. `clips` is how many a law applies to. Clips of
  several shots, and a fluid's, have no paths and are passed over.

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
    pipeline, frozen = self.context.pipeline, state.frozen
    compression = self.context.autoencoder.model.compression
    start = 1 + (KEPT[self.task] - 1) * compression[0]  # first frame not given

    def make(texts):
      requests = [
        Request(t, c.video.shape[:3], self.task, c.video, self.seed + i)
        for i, (c, t) in enumerate(zip(clips, texts))
      ]
      return pipeline(trained(state), frozen, requests)

    texts = [clip.caption for clip in clips]
    videos = {
      "real": [clip.video for clip in clips],
      "autoencoder": pipeline.decode(
        frozen, [pipeline.encode(frozen, c.video)[0] for c in clips]
      ),
      "generated": make(texts),
      "other caption": make([*texts[1:], texts[0]]),
      "last frame repeated": [_held(c.video, start) for c in clips],
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
    if name == "real":
      yield f"clips/{law}", float(count)
