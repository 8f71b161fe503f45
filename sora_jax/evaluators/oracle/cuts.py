"""Where a video cuts from one shot to the next.

Two frames of one shot show the same background, moved a little. The later one
is laid on the earlier by the best small shift; a pixel that is clean in both is
explained if its grey lies in the range of the other frame's pixels around its
place. A cut is where a large share is not explained, forwards or backwards: the
texture of one frame may hide the plain tone of the next, never both ways.

Bodies, which may do anything, are left out, and with them impacts, fading
colours and fluids. Limit: a cut between backgrounds of one kind and tone is
seen only as far as their patterns differ.
"""

from __future__ import annotations

import numpy as np
import scipy

from sora_jax.data.world.nouns import UNITS
from sora_jax.evaluators.oracle import align, ground

REACH = 0.8  # units that the camera may move between two frames
AROUND = 0.2  # units around a place in which its grey may lie
LEVELS = 7.0  # grey levels of tolerance
SHARE = 0.25  # of the background that must be unexplained
LEAST = 0.05  # share of the frame that must be clean in both


def cuts(video: np.ndarray) -> tuple[int, ...]:
  """First frames of all shots but the first, ascending.

  A dissolve over neighbouring frames counts once, at its largest step.

  Args:
    video: uint8 [T, H, W, 3].
  """
  steps = changes(video)
  labels, count = scipy.ndimage.label(steps > SHARE)
  peaks = scipy.ndimage.maximum_position(steps, labels, np.arange(1, count + 1))
  return tuple(int(frame) for (frame,) in peaks)


def changes(video: np.ndarray) -> np.ndarray:
  """Share of the background that is not explained by the frame before.

  Args:
    video: uint8 [T, H, W, 3].

  Returns:
    float64 [T] in [0, 1]; the first is 0.
  """
  seen = ground.clean(video)
  unit = min(video.shape[1:3]) / UNITS
  grey = ground.smooth(
    video.mean(-1, dtype=np.float32), seen, max(0.5, 0.1 * unit)
  )
  out = np.zeros(len(video))
  for t in range(1, len(video)):
    pair = (grey[t - 1], grey[t])
    masks = (seen[t - 1], seen[t])
    if (masks[0] & masks[1]).mean() < LEAST:  # colour fills the frame
      pair = tuple(video[t - 1 : t + 1].mean(-1, dtype=np.float32))
      masks = (np.ones_like(seen[t]),) * 2
    out[t] = _unexplained(*pair, *masks, unit)
  return out


def _unexplained(before, after, seen_before, seen, unit) -> float:
  lag = align.shift(
    before, after, seen_before, seen, max(1, round(REACH * unit))
  )
  parts = []
  for axis, step in enumerate(lag):
    side = before.shape[axis]
    parts.append(slice(max(0, step), side + min(0, step)))
  there = tuple(parts)
  here = tuple(slice(p.start - k, p.stop - k) for p, k in zip(parts, lag))
  before, seen_before = before[there], seen_before[there]
  after, seen = after[here], seen[here]
  both = seen_before & seen
  if not both.any():
    return 0.0
  size = 2 * max(1, round(AROUND * unit)) + 1
  shares = []
  for a, b in ((before, after), (after, before)):
    low = scipy.ndimage.minimum_filter(a, size) - LEVELS
    high = scipy.ndimage.maximum_filter(a, size) + LEVELS
    shares.append(((b < low) | (b > high))[both].mean())
  return float(max(shares))
