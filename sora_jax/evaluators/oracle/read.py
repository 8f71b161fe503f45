"""From pixels to words: everything that the oracle reads of a clip."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.evaluators.oracle import cuts, ground, motion, track, view
from sora_jax.evaluators.oracle.nouns import Shot


@dataclasses.dataclass(frozen=True)
class Reading:
  """A clip as it was read.

  Attributes:
    height: H, pixels.
    width: W, pixels.
    fps: frames per second.
    shots: what each shot shows.
    motions: what happens in each.
  """

  height: int
  width: int
  fps: float
  shots: tuple[Shot, ...]
  motions: tuple[motion.Motion, ...]


def read(video: np.ndarray, fps: float) -> Reading:
  """Reads a clip.

  Args:
    video: uint8 [T, H, W, 3].
    fps: frames per second, > 0.

  Raises:
    ValueError: for pixels of another shape or type.
  """
  if video.ndim != 4 or video.shape[-1] != 3 or not video.size:
    raise ValueError(f"video of shape {video.shape}; give [T, H, W, 3]")
  if video.dtype != np.uint8:
    raise ValueError(f"video of type {video.dtype}; give uint8, 0..255")
  frames, height, width = video.shape[:3]
  starts = (0, *cuts.cuts(video))
  shots, told = [], []
  for start, stop in zip(starts, (*starts[1:], frames), strict=True):
    shot = _shot(video[start:stop], start)
    shots.append(shot)
    told.append(
      motion.classify(
        shot.tracks, shot.view, shot.ground.walls, fps, grains=shot.grains
      )
    )
  return Reading(height, width, fps, tuple(shots), tuple(told))


def _shot(video: np.ndarray, start: int) -> Shot:
  behind = ground.read(video)
  found, grains, colour, debris = track.tracks(video)
  return Shot(
    start=start,
    stop=start + len(video),
    ground=behind,
    view=view.read(video, behind),
    tracks=found,
    grains=grains,
    grain_colour=colour,
    debris=debris,
  )
