"""Videos spoilt in ways that a score must catch: uint8 [T, H, W, 3] to same."""

import numpy as np
from scipy import ndimage


def frozen(video):
  """The first frame, T times."""
  return np.repeat(video[:1], len(video), axis=0)


def shuffled(video, seed=0):
  """All frames in another order: none stays beside its old neighbour."""
  rng = np.random.default_rng(seed)
  for _ in range(10_000):
    order = rng.permutation(len(video))
    if (np.abs(np.diff(order)) > 1).all():
      return video[order]
  raise ValueError(f"shuffled: {len(video)} frames are too few; give 4 or more")


def doubled(video):
  """At twice the speed; the last frame holds for the rest of the time."""
  return video[np.minimum(2 * np.arange(len(video)), len(video) - 1)]


def recoloured(video):
  """Red becomes green, green blue, blue red; greys stay."""
  return np.roll(video, 1, axis=-1)


def reversed(video):
  """Backwards in time."""
  return video[::-1]


def cut_moved(video, cut, by):
  """The cut at frame `cut` comes `by` frames later, or earlier if negative.

  The frames in between show the last of the old shot, or the first of the new.
  """
  out = video.copy()
  if by > 0:
    out[cut : cut + by] = video[cut - 1]
  else:
    out[cut + by : cut] = video[cut]
  return out


def blurred_and_noisy(video, sigma=1.0, levels=5.0, seed=0):
  """As from a lossy decoder: a blur of `sigma` pixels, noise of some greys."""
  soft = ndimage.gaussian_filter(video.astype(float), (0, sigma, sigma, 0))
  noise = np.random.default_rng(seed).normal(0, levels, video.shape)
  return np.clip(soft + noise, 0, 255).round().astype(np.uint8)
