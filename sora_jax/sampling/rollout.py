"""Videos of any length: block after block, in constant memory.

Each block is denoised beside the end of the one before it, which is clean, so
time and memory of a second of video do not depend on how many came before.
What is known of the past can be handed on in two ways:

  frames   its last frames are encoded anew. The block begins like every clip
           that the model has seen; what the autoencoder loses, it loses again.
  latents  its last latents are handed on as they are, and the decoder streams
           on. Nothing is lost, but a block begins in the middle of a clip.

Remedies against drift: `anchor` shows every block the video's first frame, too,
and a request's `context_noise` shows what is known with a little noise, so that
the model leans less on its errors (Chen et al. 2024, diffusion forcing).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sora_jax.sampling import script
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.request import Request
from sora_jax.types import PyTree, Text, shots_of

CONTEXTS = ("frames", "latents")
_STRIDE = 1_000_003  # between the seeds of a video's blocks


def handed_on(keep: int, anchor: bool, ct: int) -> int:
  """Frames that a block after the first is given: `keep` latents, the anchor.

  Args:
    keep: latent frames of the block before.
    anchor: whether the video's first frame comes before them.
    ct: frames of a latent frame after the first.
  """
  return 1 + ct * (keep + anchor - 1)


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Makes long videos with a pipeline.

  Attributes:
    pipeline: of one block.
    context: how what is known is handed on, one of CONTEXTS.
    anchor: whether every block sees the first frame, too.
  """

  pipeline: Pipeline
  context: str
  anchor: bool

  def __post_init__(self):
    if self.context not in CONTEXTS:
      raise ValueError(f"context={self.context!r}: choose one of {[*CONTEXTS]}")

  def __call__(
    self,
    params: PyTree,
    frozen: PyTree,
    requests: Sequence[Request],
    frames: int,
    follow: Callable[[int], str | None] | None = None,
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (which video, its next frames uint8 [T', H, W, 3]), in order.

    Args:
      params: by player.
      frozen: "autoencoder" parameters and latent "stats".
      requests: of the first blocks; all blocks have their sizes. The times of
        their shots are those of the whole videos.
      frames: of each video in all; the last block is cut.
      follow: called before each round of blocks with the frame at which it
        begins; the prompt that it returns holds from there on for all videos,
        None changes nothing.

    Raises:
      ValueError: for a block that leaves nothing to make, or whose end is
        given, and for a script on the way.
    """
    self.check(requests, frames)
    videos = [self._begun(request) for request in requests]
    while open_ := [v for v in videos if v.made < frames]:
      told = follow(min(v.made for v in open_)) if follow else None
      if told is not None:
        for video in open_:
          video.turn(script.one_shot(told))
      parts = self._round(params, frozen, open_)
      for video, part in zip(open_, parts):
        left = frames - video.made
        video.made += len(part)
        yield videos.index(video), part[:left]

  def at_once(self, requests: Sequence[Request]) -> int:
    """How many of these a call of the sampler holds, if their words fit."""
    pipeline = self.pipeline
    tokens = max(pipeline.tokens(request) for request in requests)
    each = min(pipeline.length // tokens, pipeline.clips)
    return pipeline.rows * max(each, 1)

  def check(self, requests: Sequence[Request], frames: int) -> None:
    """Raises the ValueErrors of `__call__`, before anything is made."""
    for request in requests:
      request.check_end(frames)
      self._check_block(request)
      video = self._begun(request)
      if video.before >= frames:
        raise ValueError(
          f"{frames} frames are asked for, and {video.before} of the source "
          "come before what is made: ask for more"
        )
      block = self._next(video)
      draft = self.pipeline.draft(block)
      ends = draft.known[-1].any() or draft.after is not None
      if ends or draft.start < 1:
        raise ValueError(
          f"task {request.task!r} says all of a video or how it ends, and a "
          "long one goes on: choose a task that begins one, such as 't2v', "
          "'i2v', 'extend'"
        )
      self.pipeline.check([block])
      # The words of all that follow, whatever is handed on.
      video.made, known = video.before + request.size[0], self._known(video)
      while video.made < frames:
        self.pipeline.words(video.window(video.made - known)["prompt"])
        video.made += request.size[0] - known

  def _check_block(self, request: Request) -> None:
    latents = 1 + (request.size[0] - 1) // self._ct
    known = request.keep + self.anchor
    if known >= latents:
      raise ValueError(
        f"a block of {request.size[0]} frames has {latents} latent ones, and "
        f"{known} are known from the block before: raise sample.size, or "
        "lower sample.keep"
      )

  def _begun(self, request: Request) -> _Video:
    """A video of which nothing is made yet."""
    plain = dataclasses.replace(request, prompt="", scales=())
    before = self.pipeline.draft(plain).before
    return _Video(
      request, 0 if before is None else len(before), self.pipeline.words.fits
    )

  def _known(self, video: _Video) -> int:
    """Frames of a block after the first that are known."""
    return handed_on(video.request.keep, self.anchor, self._ct)

  @property
  def _ct(self) -> int:
    return self.pipeline.autoencoder.model.compression[0]

  def _round(self, params, frozen, videos: list[_Video]) -> list[np.ndarray]:
    """The next frames of every video; what is handed on is noted."""
    requests = [self._next(video) for video in videos]
    if self.context == "frames":
      made = self.pipeline(params, frozen, requests)
      parts = [w[v.known :] for v, w in zip(videos, made)]
      ends = parts
    else:
      made = self.pipeline.latents(params, frozen, requests)
      ends = [z[v.known :] for v, z in zip(videos, made)]
      parts = []
      for video, request, z in zip(videos, requests, ends):
        part, video.past = self.pipeline.decode_on(frozen, z, video.past)
        if not video.blocks:
          draft = self.pipeline.draft(request)
          part = draft.whole(self.pipeline.kept(draft, part))
        parts.append(part)
    for video, end in zip(videos, ends):
      video.note(end, 1 + self._ct * video.request.keep)
    return parts

  def _next(self, video: _Video) -> Request:
    """The request of a video's next block."""
    request = video.request
    seed = (request.seed + _STRIDE * video.blocks) % 2**32
    if not video.blocks:
      return dataclasses.replace(request, **video.window(video.before))
    latents, frames = request.keep + self.anchor, self._known(video)
    whole = self.context == "frames"
    video.known = frames if whole else latents
    given = video.last[self.anchor - video.known :]
    if self.anchor:
      given = np.concatenate([video.first, given])
    return dataclasses.replace(
      request,
      task="extend" if whole else "t2v",
      source=given if whole else None,
      latents=None if whole else given,
      keep=latents,
      target=None,
      mask=None,
      at=(),
      seed=seed,
      **video.window(video.made - frames),
    )


class _Video:
  """What is remembered of a video while it is made.

  Attributes:
    request: of its first block.
    before: frames of its source that come before that.
    made: frames so far.
    blocks: so far.
    known: frames or latents that the present block was given.
    first: its first frame or latent, with its axis of time.
    last: its last ones, as many as a block may be given.
    past: of the streaming decoder.
  """

  def __init__(
    self, request: Request, before: int, fits: Callable[[Text], bool]
  ):
    self.request, self.before, self._fits = request, before, fits
    self.made = self.blocks = self.known = 0
    self._turned = False
    self.first = self.last = self.past = None
    self._shots = [
      (first, caption, scale)
      for (first, caption), scale in zip(
        shots_of(request.prompt), request.strengths
      )
    ]

  def turn(self, prompt: str) -> None:
    """Another prompt from here on."""
    self._turned = True
    earlier = [shot for shot in self._shots if shot[0] < self.made]
    self._shots = [*earlier, (self.made, prompt, 1.0)]

  def window(self, begin: int) -> dict[str, object]:
    """Prompt and scales of a block whose first frame is the video's `begin`."""
    end = begin + self.request.size[0]
    on = max(i for i, shot in enumerate(self._shots) if shot[0] <= begin)
    shots = [s for s in self._shots[on:] if s[0] < end]
    prompt = tuple((max(at - begin, 0), text) for at, text, _ in shots)
    if self._turned and not self._fits(prompt):
      # What was said on the way may be too much beside what it replaces.
      prompt, shots = ((0, prompt[-1][1]),), shots[-1:]
    return {"prompt": prompt, "scales": tuple(scale for *_, scale in shots)}

  def note(self, end: np.ndarray, most: int) -> None:
    """Remembers what was made in a block."""
    if self.first is None:
      self.first = end[:1]
    kept = end if self.last is None else np.concatenate([self.last, end])
    self.last, self.blocks = kept[-most:], self.blocks + 1
