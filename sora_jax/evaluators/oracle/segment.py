"""Coloured things from their chroma: coverage by hue, and connected blobs.

Backgrounds, walls and rods are grey, so a pixel that bodies of the hues h cover
by the shares c_h has the chroma sum_h c_h C_h, with C_h that of the palette;
white and black that a material adds only shorten it. Chroma has two dimensions,
so it is a sum of the two hues around it in exactly one way. Which hues there
are is asked of each frame first: a seam between a red and a green thing looks
yellow, and is read as red and green unless something else there is yellow.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy
from skimage import measure, segmentation

from sora_jax.data.world.vocabulary import COLOURS

FAINT = 0.25  # coverage that a blob's pixels have at least
PEAK = 0.4  # coverage that one of them has; what is small never reaches 1
EDGE = 1.5  # pixels around a blob in which its soft edge is counted
OPPOSITE = 0.5  # sine of the angle between hues whose blend is still told
PURE = 0.97  # cosine of the angle to a hue within which it is no blend
SEAM = 2.9  # pixels from both of two hues within which they may blend
CUT = 0.92  # share of its coverage that a blob has where the frame cuts it off
AROUND = np.ones((3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Blob:
  """A connected region of one hue in one frame.

  Attributes:
    hue: index into COLOURS.
    pixels: float64 [2] centre of mass (y, x); pixel k spans [k, k + 1].
    area: sum of the coverage, pixels squared.
    corner: (y, x) of the crop's first pixel.
    cover: float32 [h, w] coverage of this blob alone.
    outside: whether it touches the frame's edge, so may be cut off.
  """

  hue: int
  pixels: np.ndarray
  area: float
  corner: tuple[int, int]
  cover: np.ndarray
  outside: bool


def coverage(video: np.ndarray) -> np.ndarray:
  """Share of each pixel that things of each hue cover.

  Args:
    video: uint8 [T, H, W, 3].

  Returns:
    float32 [T, 6, H, W] in [0, 1], by the order of vocabulary.COLOURS.
  """
  return np.stack([_frame(chroma) for chroma in _plane(video)])


def blobs(cover: np.ndarray) -> list[Blob]:
  """The connected regions of a frame's coverage [6, H, W]."""
  found = []
  for hue, plane in enumerate(cover):
    labels = measure.label(plane > FAINT, connectivity=2)
    labels = segmentation.expand_labels(labels, EDGE)
    for region in measure.regionprops(labels, plane):
      if region.intensity_max > PEAK:
        part = np.where(region.image, region.image_intensity, 0)
        found.append(blob(hue, part, region.bbox[:2], plane.shape))
  return found


def blob(hue: int, cover: np.ndarray, corner, size) -> Blob:
  """The blob of a crop [h, w] of coverage at `corner` of a frame of `size`."""
  centre = np.array(scipy.ndimage.center_of_mass(cover)) + corner + 0.5
  low, high = np.array(corner), np.array(corner) + cover.shape
  # Only what covers the outermost pixels themselves may go on beyond them.
  edges = [
    cover[line].max(initial=0)
    for line, cut in (
      (np.s_[0], low[0] <= 0),
      (np.s_[-1], high[0] >= size[0]),
      (np.s_[:, 0], low[1] <= 0),
      (np.s_[:, -1], high[1] >= size[1]),
    )
    if cut
  ]
  return Blob(
    hue=hue,
    pixels=centre,
    area=float(cover.sum(dtype=np.float64)),
    corner=(int(corner[0]), int(corner[1])),
    cover=cover.astype(np.float32),
    outside=max(edges, default=0) > CUT * cover.max(),
  )


def union(one: Blob, other: Blob) -> Blob:
  """Two blobs of one hue as one."""
  low = np.minimum(one.corner, other.corner)
  ends = [np.array(b.corner) + b.cover.shape for b in (one, other)]
  cover = np.zeros(np.maximum(*ends) - low, np.float32)
  for part in (one, other):
    y, x = part.corner - low
    h, w = part.cover.shape
    cover[y : y + h, x : x + w] += part.cover
  area = one.area + other.area
  centre = (one.pixels * one.area + other.pixels * other.area) / area
  outside = one.outside or other.outside
  return Blob(one.hue, centre, area, tuple(low.tolist()), cover, outside)


def _plane(rgb: np.ndarray) -> np.ndarray:
  """Chroma: [..., 3] colours on an orthonormal basis of what is not grey."""
  basis = np.array([[2, -1, -1], [0, np.sqrt(3), -np.sqrt(3)]]) / np.sqrt(6)
  return (rgb.astype(np.float64) @ basis.T).astype(np.float32)


@functools.cache
def _palette() -> np.ndarray:
  """Chroma of the palette, [6, 2]."""
  return _plane(np.array(list(COLOURS.values())))


def _frame(chroma: np.ndarray) -> np.ndarray:
  """Coverage [6, H, W] of a frame's chroma [H, W, 2]."""
  palette = _palette()
  unit = palette / np.linalg.norm(palette, axis=1, keepdims=True)
  along = chroma @ (unit / np.linalg.norm(palette, axis=1, keepdims=True)).T
  nearest = (chroma @ unit.T).argmax(-1)
  amount = np.take_along_axis(along, nearest[..., None], -1)[..., 0]
  out = np.zeros((len(palette), *amount.shape), np.float32)
  hues = _present(np.where(amount > FAINT, nearest, -1))
  if not hues:
    return out
  hues = sorted(hues, key=lambda h: np.arctan2(*palette[h]))
  best = (chroma @ unit[hues].T).argmax(-1)
  purity = (chroma @ unit.T) / np.maximum(np.linalg.norm(chroma, axis=-1), 1)[
    ..., None
  ]
  pure = {h: (amount > FAINT) & (purity[..., h] > PURE) for h in hues}
  for k, hue in enumerate(hues):
    out[hue] = np.where(best == k, along[..., hue], 0)
  for one, other in zip(hues, hues[1:] + hues[:1]):
    if np.linalg.det(unit[[one, other]]) > -OPPOSITE:
      continue  # half a turn apart or more: their blend has no hue of its own
    # Of all neighbours in hue, only those around the pixel's give no share < 0.
    both = chroma @ np.linalg.inv(palette[[one, other]].astype(np.float64))
    inside = (both >= 0).all(-1) & _close(pure[one], pure[other])
    for k, hue in enumerate((one, other)):
      out[hue] = np.where(inside, both[..., k], out[hue])
  return np.clip(out, 0, 1)


def _present(nearest: np.ndarray) -> list[int]:
  """Hues that are not only seams between others, of hue or -1 [H, W]."""
  return [h for h in np.unique(nearest) if h >= 0 and _own(nearest, h)]


def _close(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """The pixels within `SEAM` of both of two masks [H, W]."""
  if not (one.any() and other.any()):
    return np.zeros(one.shape, bool)
  near = (
    scipy.ndimage.distance_transform_edt(~mask) <= SEAM for mask in (one, other)
  )
  return np.logical_and(*near)


def _own(nearest: np.ndarray, hue: int) -> bool:
  """Whether a hue has a region that is solid, or by itself."""
  mask = nearest == hue
  if scipy.ndimage.binary_erosion(mask, AROUND).any():
    return True
  foreign = scipy.ndimage.binary_dilation((nearest >= 0) & ~mask, AROUND)
  labels = measure.label(mask, connectivity=2)
  touched = np.unique(labels[foreign & mask])
  return len(np.setdiff1d(np.arange(1, labels.max() + 1), touched)) > 0
