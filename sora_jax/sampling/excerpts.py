"""What sampling tasks are given of a real clip that is to be their answer."""

from __future__ import annotations

import numpy as np

from sora_jax.sampling.request import Size
from sora_jax.sampling.tasks import NEEDS, TASKS

# Of those that need a source, these have no clip for an answer.
OPEN = ("loop", "edit")
ANSWERED = tuple(task for task in TASKS if task not in OPEN)


def excerpt(
  task: str, video: np.ndarray, cell: Size, keep: int = 2
) -> dict[str, np.ndarray]:
  """What a task is given of a real clip if the clip is to be its answer.

  Inpainting makes the right half anew, outpainting all but the middle quarter;
  `frames` has the first frame and one in the middle, for which its whole latent
  frame stands.

  Args:
    task: key of TASKS, of those whose answer a clip can be.
    video: uint8 [T, H, W, 3].
    cell: frames, height and width of a latent cell in pixels.
    keep: latent frames that are kept.

  Returns:
    fields of a Request.
  """
  if task not in ANSWERED:
    raise ValueError(
      f"task {task!r}: no clip of the data says what is right; choose one of "
      f"{sorted(ANSWERED)}"
    )
  ct, height, width = cell[0], *video.shape[1:3]
  begin, end = video[: 1 + ct * (keep - 1)], video[-ct * keep :]
  at = tuple(sorted({0, len(video) // (2 * ct) * ct}))
  right = np.zeros((1, height, width), bool)
  right[:, :, width // 2 :] = True
  tall, wide = ((n + 1) // 2 for n in (height, width))
  top, left = (
    n // 4 // c * c for n, c in zip((height, width), cell[1:], strict=True)
  )
  middle = video[:, top : top + tall, left : left + wide]
  given = {
    "i2v": {"source": video[:1]},
    "last_frame": {"source": video[-ct:]},
    "first_last": {"source": video},
    "frames": {"source": video[list(at)], "at": at},
    "extend": {"source": begin},
    "extend_back": {"source": end},
    "connect": {"source": begin, "target": end},
    "interpolate": {"source": video[::2]},
    "inpaint": {"source": video, "mask": right},
    "outpaint": {"source": middle},
  }
  return given[task] if task in NEEDS else {}
