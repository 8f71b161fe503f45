"""Sampling tasks as data: what is known before the sampler starts.

A task makes a `Draft` of a `Request`: a video of the size to make, of which
some pixels are known, and the noise level at which denoising starts. The
pipeline encodes it; latent cells whose pixels are all known are kept, and the
sampler knows nothing of tasks. Because the autoencoder is causal, what comes
before known frames should look like their past: gaps hold the nearest frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from sora_jax.sampling.request import Draft, Request, Size


def t2v(request: Request, cell: Size) -> Draft:
  """Text to video: nothing is known."""
  del cell
  return Draft(*_blank(request.size))


def t2i(request: Request, cell: Size) -> Draft:
  """Text to image: a clip of one frame."""
  if request.size[0] != 1:
    raise ValueError(
      f"task 't2i' makes one frame, but {request.size[0]} were asked for: use "
      "size (1, H, W)"
    )
  return t2v(request, cell)


def i2v(request: Request, cell: Size) -> Draft:
  """Animate a picture: the first frame is known."""
  del cell
  return _laid(request, [(0, _given(request, "source")[:1])])


def last_frame(request: Request, cell: Size) -> Draft:
  """Lead up to the end of a source, which stands still if it is a picture."""
  end = _tail(_given(request, "source"), cell[0])
  return _laid(request, [(request.size[0] - cell[0], end)])


def first_last(request: Request, cell: Size) -> Draft:
  """From the source's first frame to the target's end, or the source's own."""
  source = _given(request, "source")
  target = source if request.target is None else _given(request, "target")
  end = (request.size[0] - cell[0], _tail(target, cell[0]))
  return _laid(request, [(0, source[:1]), end])


def frames(request: Request, cell: Size) -> Draft:
  """Frames of the source at the times `at`, for a latent frame each."""
  source, count, ct = _given(request, "source"), request.size[0], cell[0]
  at = [n + count if n < 0 else n for n in request.at]
  fits = all(0 <= n < count for n in at) and len(set(at)) == len(at)
  if len(at) != len(source) or not fits:
    raise ValueError(
      f"task 'frames': at={request.at} for {len(source)} frames of the source "
      f"and {count} to make: give each a time of its own in 0..{count - 1}"
    )
  members: dict[int, list[int]] = {}
  for i, n in enumerate(at):
    members.setdefault(-(-n // ct), []).append(i)
  pieces = []
  for t, some in members.items():
    first, last = (ct * (t - 1) + 1, ct * t) if t else (0, 0)
    nearest = [
      min(some, key=lambda i: abs(at[i] - n)) for n in range(first, last + 1)
    ]
    pieces.append((first, source[nearest]))
  return _laid(request, pieces)


def extend(request: Request, cell: Size) -> Draft:
  """Continue a video: its last `keep` latent frames are known."""
  before, end = _end(request, "source", cell[0])
  return dataclasses.replace(_laid(request, [(0, end)]), before=before)


def extend_back(request: Request, cell: Size) -> Draft:
  """What led to a video: its first `keep` latent frames are the end."""
  begin, after = _begin(request, "source", cell[0])
  at = request.size[0] - len(begin)
  return dataclasses.replace(_laid(request, [(at, begin)]), after=after)


def connect(request: Request, cell: Size, to: str = "target") -> Draft:
  """Lead from the end of the source to the beginning of the target."""
  before, end = _end(request, "source", cell[0])
  begin, after = _begin(request, to, cell[0])
  at = request.size[0] - len(begin)
  laid = _laid(request, [(0, end), (at, begin)])
  return dataclasses.replace(laid, before=before, after=after)


def loop(request: Request, cell: Size) -> Draft:
  """Lead from a video's end to its beginning: played on repeat, no seam."""
  draft = connect(request, cell, to="source")
  again = len(_begin(request, "source", cell[0])[0])
  return dataclasses.replace(draft, after=None, shown=request.size[0] - again)


def interpolate(request: Request, cell: Size) -> Draft:
  """Raise the frame rate: from blended frames on, at the level `strength`."""
  del cell
  source, count = _given(request, "source"), request.size[0]
  factor = (count - 1) // max(len(source) - 1, 1)
  if len(source) < 2 or factor < 2 or factor * (len(source) - 1) != count - 1:
    raise ValueError(
      f"task 'interpolate' makes {count} frames of the source's {len(source)}: "
      "the steps between the latter must divide into two or more each"
    )
  at = np.arange(count) / factor
  left = np.minimum(at.astype(int), len(source) - 2)
  share = (at - left)[:, None, None, None]
  video = source[left] * (1 - share) + source[left + 1] * share
  known = np.zeros(request.size, bool)
  known[::factor] = True
  return Draft(video.round().astype(np.uint8), known, request.strength)


def inpaint(request: Request, cell: Size) -> Draft:
  """Make anew what the mask covers, and keep the rest."""
  del cell
  video, new = _lasting(request), _mask(request)
  # What is to go must not be seen in the latents around it.
  rest = (~new)[..., None]
  mean = (video * rest).sum((1, 2)) / np.maximum(rest.sum((1, 2)), 1)
  filled = np.where(rest, video, mean.round()[:, None, None])
  return Draft(filled.astype(np.uint8), ~new)


def outpaint(request: Request, cell: Size) -> Draft:
  """Put the source into the middle of a larger frame, cell upon cell."""
  video = _lasting(request, check=False)
  room = [m - n for m, n in zip(request.size[1:], video.shape[1:3])]
  if min(room) < 0 or not any(room):
    raise ValueError(
      f"task 'outpaint' puts a source of {video.shape[1:3]} pixels into "
      f"{request.size[1:]}: ask for a larger size"
    )
  before = [n // 2 // c * c for n, c in zip(room, cell[1:])]
  sides = [(0, 0), *((n, m - n) for n, m in zip(before, room))]
  known = np.pad(np.ones(video.shape[:3], bool), sides)
  return Draft(np.pad(video, [*sides, (0, 0)], mode="edge"), known)


def edit(request: Request, cell: Size) -> Draft:
  """Change a source after the prompt (SDEdit, Meng et al. 2022).

  It starts from the source at the noise level `strength`: the more, the less is
  left of it. With its own caption that is a variation, with another style's a
  transfer. With a mask the rest is kept.
  """
  del cell
  video = _lasting(request)
  new = np.ones(request.size, bool) if request.mask is None else _mask(request)
  return Draft(video, ~new, request.strength)


TASKS: dict[str, Callable[[Request, Size], Draft]] = {
  "t2v": t2v,
  "t2i": t2i,
  "i2v": i2v,
  "last_frame": last_frame,
  "first_last": first_last,
  "frames": frames,
  "extend": extend,
  "extend_back": extend_back,
  "connect": connect,
  "loop": loop,
  "interpolate": interpolate,
  "inpaint": inpaint,
  "outpaint": outpaint,
  "edit": edit,
}
# What a task cannot do without; those that are not here need the prompt alone.
NEEDS = {name: ("source",) for name in TASKS if name not in ("t2v", "t2i")}
NEEDS |= {"connect": ("source", "target"), "inpaint": ("source", "mask")}
# What some can do with besides.
TAKES = {"first_last": ("target",), "edit": ("mask",), "frames": ("at",)}
GIVEN = ("source", "target", "mask", "at")


def draft(request: Request, cell: Size) -> Draft:
  """What is known of a request's video.

  Args:
    request: of any task.
    cell: frames, height and width of a latent cell in pixels.

  Raises:
    ValueError: for a request that does not agree with itself.
  """
  if request.task not in TASKS:
    raise ValueError(f"unknown task {request.task!r}; valid: {sorted(TASKS)}")
  for name in NEEDS.get(request.task, ()):
    if getattr(request, name) is None:
      raise ValueError(
        f"task {request.task!r} needs a {name}: set sample.{name} to a picture "
        "or video"
      )
  for name in GIVEN:
    there = getattr(request, name)
    there = there is not None and len(there) > 0
    if there and request.task not in _using(name):
      raise ValueError(
        f"task {request.task!r} has no use for {name}: leave sample.{name} "
        f"empty, or choose one of {_using(name)}"
      )
  request.check_end(request.size[0])
  found = TASKS[request.task](request, cell)
  found = dataclasses.replace(found, latents=request.latents)
  if found.known.all():
    raise ValueError(
      f"task {request.task!r}: all {request.size[0]} frames are known, so "
      "nothing is left to make: ask for more, or lower sample.keep"
    )
  return found


def _using(name: str) -> list[str]:
  """Tasks that have a use for something given."""
  return [t for t in TASKS if name in (*NEEDS.get(t, ()), *TAKES.get(t, ()))]


def _blank(size: Size) -> tuple[np.ndarray, np.ndarray]:
  return np.zeros((*size, 3), np.uint8), np.zeros(size, bool)


def _given(request: Request, name: str, check: bool = True) -> np.ndarray:
  """A source or target, which must be as large as what is made of it."""
  video = getattr(request, name)
  have, wanted = video.shape[1:3], request.size[1:]
  if check and have != wanted:
    raise ValueError(
      f"task {request.task!r}: the {name} has {have[0]}x{have[1]} pixels, the "
      f"output {wanted[0]}x{wanted[1]}: ask for the {name}'s size"
    )
  return video


def _enough(request: Request, name: str, count: int) -> np.ndarray:
  video = _given(request, name)
  if len(video) < count:
    raise ValueError(
      f"task {request.task!r} keeps {count} frames of the {name}, which has "
      f"{len(video)}: give a longer one, or lower sample.keep={request.keep}"
    )
  return video


def _end(request: Request, name: str, ct: int):
  """(frames before, the last ones that are kept): a clip starts with those."""
  count = 1 + ct * (request.keep - 1)
  video = _enough(request, name, count)
  return video[:-count], video[-count:]


def _begin(request: Request, name: str, ct: int):
  """(the first ones that are kept, frames after): a clip ends with those."""
  count = ct * request.keep
  video = _given(request, name)
  if len(video) == 1:  # a picture stands still
    return video.repeat(count, axis=0), video[1:]
  video = _enough(request, name, count)
  return video[:count], video[count:]


def _tail(video: np.ndarray, count: int) -> np.ndarray:
  """The last frames; the first of too few is repeated."""
  return video[np.maximum(np.arange(-count, 0) + len(video), 0)]


def _laid(request: Request, pieces: Iterable[tuple[int, np.ndarray]]) -> Draft:
  """Known frames at their times, and in the gaps the nearest of them."""
  video, known = _blank(request.size)
  for at, part in pieces:
    if (
      at < 0 or at + len(part) > len(video) or known[at : at + len(part)].any()
    ):
      raise ValueError(
        f"task {request.task!r}: what is known does not fit into "
        f"{len(video)} frames: ask for more, or lower sample.keep"
      )
    video[at : at + len(part)], known[at : at + len(part)] = part, True
  there = np.flatnonzero(known[:, 0, 0])
  times = np.arange(len(video))[:, None]
  return Draft(video[there[np.abs(times - there).argmin(axis=1)]], known)


def _lasting(request: Request, check: bool = True) -> np.ndarray:
  """The source for as long as the result lasts; a picture stands still."""
  video, count = _given(request, "source", check), request.size[0]
  if len(video) == 1:
    return video.repeat(count, axis=0)
  if len(video) < count:
    raise ValueError(
      f"task {request.task!r} makes {count} frames of a source of "
      f"{len(video)}: ask for fewer"
    )
  return video[:count]


def _mask(request: Request) -> np.ndarray:
  """The mask for as long as the result lasts: bool [T, H, W]."""
  mask, size = np.asarray(request.mask), request.size
  if mask.dtype != bool or mask.shape[1:] != size[1:]:
    raise ValueError(
      f"task {request.task!r}: the mask is {mask.dtype} {mask.shape}, the "
      f"output {size}: give bool [T, H, W] of the source's size"
    )
  if len(mask) not in (1, size[0]):
    raise ValueError(
      f"task {request.task!r}: the mask has {len(mask)} frames and the output "
      f"{size[0]}: give as many, or one for all"
    )
  if not mask.any():
    raise ValueError(f"task {request.task!r}: the mask covers nothing")
  return np.broadcast_to(mask, size)
