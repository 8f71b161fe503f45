"""How a long video decays: what it shows, second after second."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sora_jax.data.world import captions
from sora_jax.evaluators.context import (
  Context,
  prompted,
  through,
  trained,
  truth,
)
from sora_jax.evaluators.oracle import physics, read, scores
from sora_jax.sampling.rollout import Rollout, handed_on
from sora_jax.types import Clip, State
from sora_jax.utils import logs, sections

STEADY = ("rest", "spin")  # motions that may go on for ever
READ = ("identity", "motion", "background")  # 1 where the oracle reads so
MEASURES = ("colour", "contrast", "sharpness", *READ)


@dataclasses.dataclass(frozen=True)
class Drift:
  """Long videos of captions of things that stay, window by window.

  A window is as long as a real clip. "colour" is how far its mean colour is
  from that of the video's first window (levels of 255); "contrast" and
  "sharpness" are the standard deviation and the mean step between neighbouring
  pixels, over those of the real clips together; "identity" is 1 where the
  oracle counts the right things, of the right colours and shapes, "motion"
  where it sees them rest or spin as they should, which things that wander off
  do not, and "background" where it reads the right one.

  Rows: the window that holds each second that is asked for; "slope per s", of a
  straight line through all windows, with its 95 % bootstrap interval over
  clips; and two that say what is possible: the real clips, and the real clips
  through the autoencoder, once and as often as a video of that time has been
  handed on through it ("re-encoded", of the context "frames").

  Attributes:
    context: with clips of the source "world" and a pipeline.
    clips: how many captions to draw from; 0 for all.
    at: seconds, ascending; the last decides how long videos are.
    rollout: keyword arguments of `Rollout` but the pipeline.
    keep: latent frames that a block is given of the one before.
    context_noise: noise level at which they are seen.
    seed: of the noise.
  """

  context: Context
  clips: int
  at: tuple[float, ...]
  rollout: Mapping[str, Any]
  keep: int
  context_noise: float
  seed: int

  def __post_init__(self):
    if not self.at or self.at[0] < 0 or list(self.at) != sorted(self.at):
      raise ValueError(
        f"drift(at={self.at}): give ascending times of at least 0 s"
      )
    sections.call(Rollout, self.rollout, "drift.rollout", pipeline=None)

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    """Yields scores by "row/measure"; none if no clip is of what stays."""
    clips = [c for c in self.context.first(self.clips) if _steady(c)]
    if not clips:
      logs.say(
        "drift: nothing is judged, for none of the first clips shows what may "
        "go on for ever, before a background that the caption names: raise "
        f"clips={self.clips}"
      )
      return
    window, fps = len(clips[0].video), clips[0].fps
    starts = [round(seconds * fps) // window for seconds in self.at]
    real = [clip.video for clip in clips]
    true = _measured(real, clips)
    found = self._long(state, clips, (starts[-1] + 1) * window)
    found = _relative(found, found[:, 0], true)
    for seconds, i in zip(self.at, starts):
      yield from _row(f"{seconds:g} s", found[:, i])
    yield from _slopes(found, window / fps)
    yield from _row("real", _relative(true[:, None], true, true)[:, 0])
    shown = 0
    for seconds, i in zip(self.at, starts):
      if self.rollout["context"] != "frames" and i:
        break
      times = 1 + self._handed_on(i * window, window)
      for _ in range(times - shown):
        real = through(self.context, state, real)
      shown = times
      again = _measured(real, clips)[:, None]
      yield from _row(
        f"re-encoded {seconds:g} s", _relative(again, true, true)[:, 0]
      )

  def _handed_on(self, frames: int, block: int) -> int:
    """How often what is known at a frame has been encoded anew."""
    ct = self.context.autoencoder.model.compression[0]
    known = handed_on(self.keep, self.rollout["anchor"], ct)
    return max((frames - block) // (block - known) + 1, 0)

  def _long(self, state: State, clips: list[Clip], frames: int) -> np.ndarray:
    """`_measure` [clips, windows, 8]; no more than a window is kept."""
    requests = [
      dataclasses.replace(r, keep=self.keep, context_noise=self.context_noise)
      for r in prompted(clips, [clip.text for clip in clips], self.seed)
    ]
    make = Rollout(pipeline=self.context.pipeline, **self.rollout)
    parts = make(trained(state), state.frozen, requests, frames)
    rows: list[list[np.ndarray]] = [[] for _ in clips]
    for i, video in windows(parts, len(clips[0].video)):
      rows[i].append(_measure(video, clips[i]))
    return np.array(rows)


def windows(
  parts: Iterable[tuple[int, np.ndarray]], length: int
) -> Iterator[tuple[int, np.ndarray]]:
  """What comes of several videos in any pieces, in ones of `length` frames."""
  left: dict[int, np.ndarray] = {}
  for i, part in parts:
    held = np.concatenate([left[i], part]) if i in left else part
    whole = len(held) // length
    for n in range(whole):
      yield i, held[n * length : (n + 1) * length]
    left[i] = held[whole * length :]


def _steady(clip: Clip) -> bool:
  """Whether nothing in it leaves or changes, so it may go on for ever.

  And whether its caption names the background, which is judged.
  """
  shots = truth(clip).shots
  scene = shots[0].scene
  still = scene.camera.kind == "still" and scene.motion in STEADY
  named = "background" not in captions.unsaid(shots[0].text, scene)
  return len(shots) == 1 and still and named and bool(scene.bodies)


def _measured(videos: list[np.ndarray], clips: list[Clip]) -> np.ndarray:
  """`_measure` of each, [clips, 8]."""
  return np.array([_measure(v, c) for v, c in zip(videos, clips, strict=True)])


def _measure(video: np.ndarray, clip: Clip) -> np.ndarray:
  """Mean colour (three), contrast, sharpness, and what is READ."""
  told = scores.attributes(read.read(video, clip.fps), truth(clip))
  same = all(told.get(name) == 1 for name in ("count", "colour", "shape"))
  x = video.astype(np.float64)
  gray = x.mean(axis=-1)
  steps = [np.abs(np.diff(gray, axis=axis)).mean() for axis in (1, 2)]
  colour, sharpness = x.mean(axis=(0, 1, 2)), np.mean(steps)
  read_as = (same, told["motion"], told["background"])
  return np.array([*colour, gray.std(), sharpness, *read_as])


def _relative(
  found: np.ndarray, first: np.ndarray, true: np.ndarray
) -> np.ndarray:
  """MEASURES [clips, windows, 6] of what was measured, [clips, windows, 8].

  Args:
    found: of windows.
    first: [clips, 8], of those that colours are compared with.
    true: [clips, 8], of the real clips. Ratios are to their mean: of each to
      its own, a video right in another place would be wrong.
  """
  colour = np.abs(found[..., :3] - first[:, None, :3]).mean(axis=-1)
  ratios = found[..., 3:5] / np.maximum(true[:, 3:5].mean(axis=0), 1e-6)
  return np.concatenate([colour[..., None], ratios, found[..., 5:]], axis=-1)


def _row(name: str, found: np.ndarray) -> Iterator[tuple[str, float]]:
  """Means over clips of [clips, measures]."""
  for measure, values in zip(MEASURES, found.T, strict=True):
    yield f"{name}/{measure}", float(values.mean())


def _slopes(found: np.ndarray, seconds: float) -> Iterator[tuple[str, float]]:
  """Of [clips, windows, measures], a window every so many seconds."""
  clips, count, _ = found.shape
  if count < 2:
    return
  times = np.arange(count) * seconds
  times -= times.mean()
  slopes = np.einsum("t,ctm->cm", times / (times**2).sum(), found)
  for measure, values in zip(MEASURES, slopes.T, strict=True):
    ends = ("", " low", " high")
    for end, value in zip(ends, physics.interval(values)[:3]):
      yield f"slope per s{end}/{measure}", value
  yield "slope per s/clips", float(clips)
