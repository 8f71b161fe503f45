"""Reads the captions of moving digits back from pixels alone.

The oracle knows the world of `data.sources.digits` and nothing about the model
or the caption: the background from the frame's border, the ink from its
distance to the background, the colour from the ink's hue (blending with a
neutral background keeps it, and so do blur and darkening), the motion from the
line through the ink's centroids, the digit from a support vector machine that
sees the ink alone and votes over the frames.

Limits: one digit a clip; a diagonal drift counts as its larger component; a
torn digit is seen in `debris`, not always in the digit's class.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import scipy

from sora_jax.data.sources import digits

if TYPE_CHECKING:
  from sklearn.svm import SVC

FAINT = 0.35  # share of the ink's full contrast below which a pixel is no ink
CONTRAST = 60.0  # least full contrast, RGB distance from the background
GRAY = 30.0  # chroma, as an RGB distance, below which ink has no colour
STILL = 0.15  # of the frame; real clips move by 0 or by digits.MIN_TRAVEL
STEADY = 0.9  # least correlation of place with time; one jump reaches 0.87
WINDOW = 0.75  # side of the classifier's view, share of the shorter side
CELLS = 16  # resolution of that view
COPIES = 4  # renders of each training glyph
NO_DIGIT, NONE = -1, "none"  # what no caption says: nothing to be seen


@dataclasses.dataclass(frozen=True)
class DigitsOracle:
  """Scores uint8 RGB videos [T, H, W, 3] of one size against captions.

  Attributes:
    height: H in pixels, >= 16.
    width: W in pixels, >= 16.
  """

  height: int
  width: int

  def __post_init__(self):
    if min(self.height, self.width) < digits.MIN_SIDE:
      raise ValueError(
        f"DigitsOracle(height={self.height}, width={self.width}): both must "
        f"be >= {digits.MIN_SIDE}."
      )

  def read(self, video: np.ndarray) -> digits.Attributes:
    """What the video shows; `NO_DIGIT` and `NONE` where nothing is seen."""
    return self._read(video)[0]

  def score(self, video: np.ndarray, caption: str) -> dict[str, float]:
    """1 for each attribute that the video shows as the caption says, else 0.

    "all" is 1 when every attribute is right; "motion" is absent when the
    caption names none. "debris" is the share of the ink outside the largest
    connected blob, mean over frames; real renders have a little.

    Raises:
      ValueError: for a video of another size, or a caption that
        `digits.parse` cannot read.
    """
    truth = dataclasses.asdict(digits.parse(caption))
    seen, debris = self._read(video)
    scores = {
      name: float(getattr(seen, name) == value)
      for name, value in truth.items()
      if value is not None
    }
    return scores | {"all": min(scores.values()), "debris": debris}

  def _read(self, video: np.ndarray) -> tuple[digits.Attributes, float]:
    expected = (self.height, self.width, 3)
    if video.ndim != 4 or video.shape[1:] != expected or not len(video):
      raise ValueError(
        f"Video of shape {video.shape}; this oracle reads [T, *{expected}]."
      )
    if video.dtype != np.uint8:
      raise ValueError(f"Video of type {video.dtype}; the oracle reads uint8.")
    base = _border(video)
    ink = _ink(video, base)
    inked = ink.any((1, 2))
    digit, colour = NO_DIGIT, NONE
    if inked.any():
      votes = classifier(min(ink.shape[1:])).decision_function(
        [view(frame).ravel() for frame in ink[inked]]
      )
      digit = int(votes.sum(0).argmax())
      colour = _colour(video, ink, base)
    seen = digits.Attributes(
      digit=digit,
      colour=colour,
      motion=_motion(ink) if len(video) > 1 else None,
      background=_nearest(base, digits.BACKGROUNDS),
    )
    return seen, float(np.mean([_debris(frame) for frame in ink]))


def _nearest(colour: np.ndarray, table: dict[str, tuple]) -> str:
  """The name of the nearest colour of `table` in RGB."""
  distance = np.linalg.norm(np.array(list(table.values())) - colour, axis=-1)
  return list(table)[distance.argmin()]


def _border(video: np.ndarray) -> np.ndarray:
  """Median colour of the frames' outermost pixels, [3]."""
  inner = np.zeros(video.shape[1:3], bool)
  inner[1:-1, 1:-1] = True
  return np.median(video[:, ~inner], axis=(0, 1))


def _ink(video: np.ndarray, base: np.ndarray) -> np.ndarray:
  """Contrast of the ink in [0, 1], [T, H, W]; 0 where it is faint.

  1 is the strongest pixel of a typical frame, so that the threshold cuts the
  edge of a stroke at one place in any colour on any background.
  """
  contrast = np.linalg.norm(video - base, axis=-1)
  full = max(np.median(contrast.max((1, 2))), CONTRAST)
  ink = np.minimum(contrast / full, 1)
  return np.where(ink > FAINT, ink, 0)


def _colour(video: np.ndarray, ink: np.ndarray, base: np.ndarray) -> str:
  """The palette's nearest hue, by the direction of the ink's mean chroma."""
  solid = ink > ink.max() / 2  # a stroke's edge is mostly background
  chroma = _chroma(np.mean(video[solid] - base, axis=0))
  if np.linalg.norm(chroma) < GRAY:
    return NONE
  palette = _chroma(np.array(list(digits.COLOURS.values()), float))
  cosine = palette @ chroma / np.linalg.norm(palette, axis=-1)
  return list(digits.COLOURS)[cosine.argmax()]


def _chroma(rgb: np.ndarray) -> np.ndarray:
  """RGB less its gray part: blending with a neutral only shortens it."""
  return rgb - rgb.mean(-1, keepdims=True)


def _motion(ink: np.ndarray) -> str:
  """Direction of the line through the ink's centroids over time."""
  time = np.flatnonzero(ink.any((1, 2)))
  if len(time) <= len(ink) / 2:  # what flashes up neither rests nor moves
    return NONE
  centres = np.array([scipy.ndimage.center_of_mass(ink[t]) for t in time])
  velocity = np.polyfit(time, centres, 1)[0]  # [2] pixels per frame
  travel = velocity * (len(ink) - 1) / ink.shape[1:]  # [2] share of the frame
  axis = np.abs(travel).argmax()
  if abs(travel[axis]) < STILL:
    wander = np.ptp(centres, axis=0) / ink.shape[1:]  # away and back again
    return "still" if wander.max() < 2 * STILL else NONE
  if abs(np.corrcoef(time, centres[:, axis])[0, 1]) < STEADY:
    return NONE
  directions = np.array(list(digits.MOTIONS.values()))
  return list(digits.MOTIONS)[(directions @ travel).argmax()]


def _debris(ink: np.ndarray) -> float:
  """Share of one frame's ink area outside its largest blob, [H, W]."""
  blobs, _ = scipy.ndimage.label(ink > 0, structure=np.ones((3, 3)))
  areas = np.bincount(blobs.ravel())[1:]
  return 1 - areas.max() / areas.sum() if len(areas) else 0.0


def view(ink: np.ndarray) -> np.ndarray:
  """A frame's ink [H, W] around its centroid, resampled to [CELLS, CELLS]."""
  step = WINDOW * min(ink.shape) / CELLS  # pixels per cell
  # Or the resampling aliases.
  smooth = scipy.ndimage.gaussian_filter(ink, step / 2)
  corner = np.array(scipy.ndimage.center_of_mass(ink)) - step * (CELLS - 1) / 2
  return scipy.ndimage.affine_transform(
    smooth, np.full(2, step), corner, (CELLS, CELLS), order=1
  )


@functools.cache
def classifier(side: int, sizes: tuple[float, float] = digits.SIZES) -> SVC:
  """Digit classifier of what `view` shows; takes seconds.

  It is trained on renders of the training glyphs at random sizes and sub-pixel
  positions, half of them blurred as a lossy decoder would.

  Args:
    side: the frames' shorter side, pixels.
    sizes: heights of 16 cells of a glyph, shares of that side.
  """
  # Imported here: a second that runs without digits need not pay.
  from sklearn import svm

  rng = np.random.default_rng(0)
  views, labels = [], []
  for glyph, label in zip(*digits.glyphs("train"), strict=True):
    for copy in range(COPIES):
      cell = rng.uniform(*sizes) * side / 16
      centre = side / 2 + rng.uniform(-0.5, 0.5, (1, 2))
      cover = digits.draw(glyph, centre, cell, side, side)[0]
      blur = rng.uniform(0.3, 0.8) * math.sqrt(cell) if copy % 2 else 0
      cover = scipy.ndimage.gaussian_filter(cover, blur)
      ink = cover / cover.max()
      views.append(view(np.where(ink > FAINT, ink, 0)).ravel())
      labels.append(label)
  return svm.SVC(C=10, gamma="scale").fit(views, labels)
