"""Are videos new, and do they differ from each other?"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import Context, prompted, trained
from sora_jax.types import Clip, State
from sora_jax.utils import media

SHOWN = 4  # pairs in the picture


@dataclasses.dataclass(frozen=True)
class Novelty:
  """Diversity, and the nearest clips of the training set.

  Distances are root mean squares over pixels, 0..255, between clips of one
  size; others are not compared.

  `generated/nearest` and `held out/nearest` are the mean distances to the
  nearest training clip, of what the model makes of held-out captions and of
  the held-out clips themselves: if what it makes is much nearer, it copies.
  `generated/copies` is the share that is at least as near as the nearest
  hundredth of the held-out clips. Clips of one origin are not compared.
  `diversity/...` are mean distances of pairs: videos of one caption, of
  different captions, and real clips of different captions (the ceiling); near 0
  for one caption, the noise is ignored. Videos beside their nearest training
  clips are in novelty/STEP.png.

  Attributes:
    context: with clips, training clips and a pipeline.
    clips: captions, each of another origin.
    repeats: videos of each, >= 2.
    among: how many training clips are looked through, evenly spread; 0 for all.
    seed: of the noise.
  """

  context: Context
  clips: int
  repeats: int
  among: int
  seed: int

  def __post_init__(self):
    if self.repeats < 2:
      raise ValueError(
        f"novelty(repeats={self.repeats}): videos of one caption are compared "
        "with each other: at least 2"
      )

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = self.context.first(self.clips, apart=True)
    repeated = [clip for clip in clips for _ in range(self.repeats)]
    requests = prompted(repeated, [c.text for c in repeated], self.seed)
    made = self.context.pipeline(trained(state), state.frozen, requests)
    groups = [
      made[i : i + self.repeats] for i in range(0, len(made), self.repeats)
    ]
    firsts, real = [group[0] for group in groups], [c.video for c in clips]
    yield from self._nearest(state, firsts, clips)
    same = [d for group in groups for d in _pairs(group)]
    yield "diversity/one caption", float(np.mean(same))
    for name, videos in (("other captions", firsts), ("real", real)):
      found = list(_pairs(videos))
      if found:
        yield f"diversity/{name}", float(np.mean(found))

  def _nearest(
    self, state: State, made: Sequence[np.ndarray], clips: Sequence[Clip]
  ) -> Iterator[tuple[str, float]]:
    asked = {"generated": made, "held out": [c.video for c in clips]}
    best = {name: _Nearest(videos) for name, videos in asked.items()}
    own = {clip.origin for clip in clips}  # of the split train, maybe
    training = self.context.training()
    count = min(self.among or len(training), len(training))
    for i in np.linspace(0, len(training) - 1, count).round().astype(int):
      clip = training[int(i)]
      if clip is not None and clip.origin not in own:
        for nearest in best.values():
          nearest.see(clip.video)
    there = {name: nearest.distances() for name, nearest in best.items()}
    if not all(len(found) for found in there.values()):
      return  # no training clip has the size of any
    for name, found in there.items():
      low, high = metrics.bootstrap(found)
      yield f"{name}/nearest", float(np.mean(found))
      yield f"{name}/nearest low", low
      yield f"{name}/nearest high", high
    least = np.quantile(there["held out"], 0.01)
    yield "generated/copies", float(np.mean(there["generated"] <= least))
    rows = []
    for clip, video, match in zip(clips, made, best["generated"].match):
      if match is not None and len(rows) < 2 * SHOWN:
        rows += [(clip.caption, video), ("the nearest of training", match)]
    path = self.context.workdir / "novelty" / f"{int(state.step):08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    media.contact_sheet(path, rows)


class _Nearest:
  """The nearest clip to each of some videos, of those that pass by."""

  def __init__(self, videos: Sequence[np.ndarray]):
    self._videos = videos
    self._best = np.full(len(videos), np.inf)
    self.match: list[np.ndarray | None] = [None] * len(videos)

  def see(self, clip: np.ndarray) -> None:
    for i, video in enumerate(self._videos):
      if video.shape == clip.shape:
        far = _distance(video, clip)
        if far < self._best[i]:
          self._best[i], self.match[i] = far, clip

  def distances(self) -> np.ndarray:
    """Of those that were compared with any."""
    return self._best[np.isfinite(self._best)]


def _pairs(videos: Sequence[np.ndarray]) -> Iterator[float]:
  """Distances of all pairs of one size."""
  for a, b in itertools.combinations(videos, 2):
    if a.shape == b.shape:
      yield _distance(a, b)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
  """Root mean square over pixels of the difference of two clips, 0..255."""
  difference = a.astype(np.float32) - b
  return float(np.sqrt(np.vdot(difference, difference) / difference.size))
