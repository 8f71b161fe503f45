"""Pictures of samples while training, and numbers that catch dead ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from sora_jax.evaluators.context import Context, prompted, trained
from sora_jax.types import State
from sora_jax.utils import media


@dataclasses.dataclass(frozen=True)
class Grid:
  """Samples from the first captions, as a contact sheet and to TensorBoard.

  The numbers stand beside those of the real clips: brightness, contrast
  (standard deviation within a frame) and motion (mean change between frames),
  all in 0..255. A model that gives black, noise or stills shows here.

  Attributes:
    context: with clips and a pipeline.
    clips: how many, each of another origin; 0 for all.
    seed: of the noise.
  """

  context: Context
  clips: int
  seed: int

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    clips = self.context.first(self.clips, apart=True)
    requests = prompted(clips, [clip.text for clip in clips], self.seed)
    videos = self.context.pipeline(trained(state), state.frozen, requests)
    step = int(state.step)
    rows = [(c.caption, v) for c, v in zip(clips, videos)]
    path = self.context.workdir / "grids" / f"{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    media.contact_sheet(path, rows)
    stage = self.context.stage
    self.context.writer.image(stage, step, "samples", media.sheet(rows))
    self.context.writer.video(stage, step, "first", videos[0], clips[0].fps)
    yield from _numbers("generated", videos)
    yield from _numbers("real", [c.video for c in clips])


def _numbers(row: str, videos: list[np.ndarray]):
  floats = [v.astype(np.float32) for v in videos]
  yield f"{row}/brightness", float(np.mean([v.mean() for v in floats]))
  yield (
    f"{row}/contrast",
    float(np.mean([v.std(axis=(1, 2)).mean() for v in floats])),
  )
  moving = [np.abs(np.diff(v, axis=0)).mean() for v in floats if len(v) > 1]
  if moving:
    yield f"{row}/motion", float(np.mean(moving))
