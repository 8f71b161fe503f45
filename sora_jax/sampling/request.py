"""What is asked of the sampler, and what is known before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from sora_jax.types import Text, shots_of

Size = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Request:
  """One video to make.

  Attributes:
    prompt: caption, or (first frame, caption) of every shot; "" is the
      unconditional model.
    size: (T, H, W) in pixels, in the autoencoder's steps.
    task: key of TASKS in sampling/tasks.py.
    source: uint8 [T', H, W, 3] for tasks that start from something.
    target: the same, for tasks that lead to something.
    mask: bool [T', H, W] of the source, true where it is to be made anew.
    at: frames of the result at which those of the source stand, one for each;
      negative ones count from the end.
    keep: latent frames that tasks keep of a longer source, >= 1.
    strength: noise level in (0, 1] at which tasks that change a source start.
    seed: of this request's noise.
    negative: what the model is led away from; "" is the unconditional model.
    scales: factors of (guidance scale - 1), one for every shot; () is all 1.
    context_noise: noise level in [0, 1) at which the model sees what is known;
      it comes back as it was.
    latents: normalised [k, h, w, c] that the video begins with, of an earlier
      block of a long one.
    paths: of those of source, target and mask that are from files, by name.
  """

  prompt: Text
  size: Size
  task: str = "t2v"
  source: np.ndarray | None = None
  target: np.ndarray | None = None
  mask: np.ndarray | None = None
  at: tuple[int, ...] = ()
  keep: int = 2
  strength: float = 0.6
  seed: int = 0
  negative: str = ""
  scales: tuple[float, ...] = ()
  context_noise: float = 0.0
  latents: np.ndarray | None = None
  paths: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def check_end(self, frames: int) -> None:
    """Raises a ValueError for a shot that begins after so many frames."""
    last, _ = shots_of(self.prompt)[-1]
    if last >= frames:
      raise ValueError(
        f"a shot begins at frame {last} of a video of {frames}: ask for a "
        "longer one, or leave the shot out"
      )

  @property
  def strengths(self) -> tuple[float, ...]:
    """Of guidance, for every shot."""
    return self.scales or (1.0,) * len(shots_of(self.prompt))

  def __post_init__(self):
    if self.keep < 1 or not 0 < self.strength <= 1:
      raise ValueError(
        f"keep={self.keep}, strength={self.strength}: need keep >= 1 and "
        "0 < strength <= 1"
      )
    if not 0 <= self.seed < 2**32:
      raise ValueError(f"seed={self.seed}: need 0 <= seed < 2**32")
    for name in ("source", "target"):
      _check_video(name, getattr(self, name))
    if not 0 <= self.context_noise < 1:
      raise ValueError(
        f"context_noise={self.context_noise}: need 0 <= context_noise < 1"
      )
    if len(self.strengths) != len(shots_of(self.prompt)):
      raise ValueError(
        f"scales={self.scales} for {len(shots_of(self.prompt))} shots: give "
        "one for each, or none"
      )
    begins = [first for first, _ in shots_of(self.prompt)]
    if begins != sorted({0, *begins}):
      raise ValueError(
        f"shots that begin at frames {begins}: the first must begin at 0, and "
        "each after the one before it"
      )


@dataclasses.dataclass(frozen=True)
class Draft:
  """What a task knows of the video to make.

  Attributes:
    video: uint8 [T, H, W, 3]; anything sensible where nothing is known.
    known: bool [T, H, W].
    start: noise level in (0, 1] at which denoising starts; 1 is pure noise.
    before: frames of the source that come before the video.
    after: frames of the source that come after it.
    shown: frames of the video that are handed out, from its start on.
    latents: what the video begins with, where that is known as latents.
  """

  video: np.ndarray
  known: np.ndarray
  start: float = 1.0
  before: np.ndarray | None = None
  after: np.ndarray | None = None
  shown: int | None = None
  latents: np.ndarray | None = None

  def whole(self, video: np.ndarray) -> np.ndarray:
    """What the user gets: `video` [T, H, W, 3] between what surrounds it."""
    parts = (self.before, video[: self.shown], self.after)
    return np.concatenate([part for part in parts if part is not None])


def _check_video(name: str, video: np.ndarray | None) -> None:
  if video is None:
    return
  dtype, shape = getattr(video, "dtype", type(video)), np.shape(video)
  if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3 or not shape[0]:
    raise ValueError(
      f"the {name} is {dtype} {shape}: give uint8 [T, H, W, 3] in 0..255"
    )
