"""Moving handwritten digits: real shapes, exact captions, no downloads.

scikit-learn's 1,797 digits (8x8, Alpaydin & Kaynak 1998), one per clip,
coloured and in uniform motion at sub-pixel positions. Every clip is a pure
function of (config, split, index). Every fifth image of a class belongs to the
test split, so a test clip shows handwriting that no training clip shows.

A glyph g is drawn by separable interpolation. With the quadratic B-spline k
stretched to one glyph cell, the coverage of the pixel (y, x) is

  m[y, x] = sum_ij k(y - y_i) g[i, j] k(x - x_j) = (By g Bx^T)[y, x],

two small matrix products a frame. B-splines are a partition of unity, so m
stays in [0, 1] unclipped, and they alias so little that the centroid of a
uniformly moving glyph accelerates by 0.03 pixels per frame squared at most.
They blur, too; so glyphs are first refined to cells of half the size.

The picture is background + m * (colour - background). Backgrounds are neutral,
hence blending changes the saturation of a stroke's edge and never its hue.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import scipy

from sora_jax import types
from sora_jax.data.sources.generated import (
  Generated,
  GeneratedClips,
  check_split,
)
from sora_jax.data.world import splines

SPLITS = ("train", "test")
WORDS = (
  "zero",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
)
COLOURS = {
  "red": (230, 30, 30),
  "yellow": (230, 230, 30),
  "green": (30, 200, 30),
  "cyan": (30, 220, 220),
  "blue": (50, 70, 255),
  "magenta": (220, 30, 220),
}
BACKGROUNDS = {
  "black": (0, 0, 0),
  "gray": (128, 128, 128),
  "white": (255, 255, 255),
}
MOTIONS = {  # direction of travel as (down, right)
  "left": (0, -1),
  "right": (0, 1),
  "up": (-1, 0),
  "down": (1, 0),
  "still": (0, 0),
}
FORMS = 2  # paraphrases of a caption

MIN_SIDE = 16  # below it a stroke is thinner than a pixel
GRID = 20  # cells of a glyph: two for each of scikit-learn's 8, and a margin
SIZES = (0.45, 0.51)  # height of 16 cells, share of the frame's shorter side
MIN_TRAVEL = 0.35  # share of the frame; below 32 pixels, what there is room for


@dataclasses.dataclass(frozen=True)
class Attributes:
  """What a caption says.

  Attributes:
    digit: class in 0..9.
    colour: a key of `COLOURS`.
    motion: a key of `MOTIONS`; None for an image.
    background: a key of `BACKGROUNDS`.
  """

  digit: int
  colour: str
  motion: str | None
  background: str


def caption(attributes: Attributes, form: int = 0) -> str:
  """The caption of `attributes` in the paraphrase `form` < `FORMS`."""
  subject = f"a {attributes.colour} {WORDS[attributes.digit]}"
  if attributes.motion is not None:
    verb = "stays" if attributes.motion == "still" else "moves"
    subject += f" {verb} {attributes.motion}"
  place = f"on a {attributes.background} background"
  return f"{subject} {place}" if form == 0 else f"{place}, {subject}"


def parse(text: str) -> Attributes:
  """The attributes that a caption names, in any order of words.

  Raises:
    ValueError: unless the caption names exactly one digit, one colour, one
      background and at most one motion.
  """
  words = re.findall(r"[a-z]+", text.lower())

  def find(what, choices, optional=False):
    found = [word for word in words if word in choices]
    if optional and not found:
      return None
    if len(found) != 1:
      raise ValueError(
        f"Caption {text!r} names {len(found)} {what}s {found}; it must name "
        f"{'at most' if optional else 'exactly'} one of {', '.join(choices)}."
      )
    return found[0]

  return Attributes(
    digit=WORDS.index(find("digit", WORDS)),
    colour=find("colour", COLOURS),
    motion=find("motion", MOTIONS, optional=True),
    background=find("background", BACKGROUNDS),
  )


@functools.cache
def glyphs(split: str) -> tuple[np.ndarray, np.ndarray]:
  """The split's glyphs, float32 [N, GRID, GRID] in [0, 1], and labels [N]."""
  check_split(split, SPLITS)
  # Imported here: two seconds that runs on other sources need not pay.
  from sklearn.datasets import load_digits

  images, labels = load_digits(return_X_y=True)
  nth = np.zeros_like(labels)  # which image of its class
  for digit in range(10):
    nth[labels == digit] = np.arange(np.sum(labels == digit))
  chosen = (nth % 5 == 4) == (split == "test")
  images = images[chosen].reshape(-1, 8, 8).astype(np.float32) / 16
  margin = ((0, 0), (1, 1), (1, 1))
  fine = scipy.ndimage.zoom(
    np.pad(images, margin), (1, 2, 2), mode="grid-constant", grid_mode=True
  )
  # Cubic interpolation rings: what it adds beyond paper and ink is cut off.
  return np.where(fine > 0.05, np.minimum(fine, 1), 0), labels[chosen]


def reach(glyph: np.ndarray, cell: float) -> np.ndarray:
  """Distance (down, right) from the ink's centre to its outer edge, pixels."""
  spans = [np.ptp(np.flatnonzero(glyph.any(axis))) for axis in (1, 0)]
  return np.array(spans) / 2 * cell + 1.5 * max(cell, 1.0)


def draw(
  glyph: np.ndarray, centres: np.ndarray, cell: float, height: int, width: int
) -> np.ndarray:
  """Anti-aliased coverage in [0, 1], float32 [T, H, W].

  Args:
    glyph: [GRID, GRID] ink in [0, 1].
    centres: [T, 2] positions (y, x) of the ink's centre, pixels; pixel k spans
      [k, k + 1].
    cell: side of one glyph cell, pixels.
    height: H, pixels.
    width: W, pixels.
  """
  bases = []
  for axis, length in enumerate((height, width)):
    ink = np.flatnonzero(glyph.any(1 - axis))
    cells = (np.arange(GRID) - (ink[0] + ink[-1]) / 2) * cell  # [GRID]
    pixels = np.arange(length) + 0.5 - centres[:, axis, None]  # [T, length]
    weights = splines.basis(pixels, cells, cell)
    bases.append(weights.astype(np.float32))
  by, bx = bases  # [T, H, GRID], [T, W, GRID]
  return by @ glyph @ bx.transpose(0, 2, 1)


def paint(coverage: np.ndarray, colour: str, background: str) -> np.ndarray:
  """The picture, uint8 [T, H, W, 3], of a coverage [T, H, W]."""
  base = np.array(BACKGROUNDS[background], np.float32)
  ink = np.array(COLOURS[colour], np.float32)
  return (base + 0.5 + coverage[..., None] * (ink - base)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Digits(Generated):
  """A `types.Source` of captioned clips, or images, of one digit each.

  A moving digit starts and ends wholly inside the frame, at constant speed, and
  travels at least `MIN_TRAVEL` of it where it fits. A clip of one frame is an
  image: its caption names no motion.

  Attributes:
    count: clips in the split "train", >= 1.
    frames: T, >= 1.
    height: H in pixels, >= 16.
    width: W in pixels, >= 16.
    fps: frames per second, > 0.
    seed: >= 0; another seed gives other clips of the same digits.
    test_count: clips in the split "test", >= 1.
  """

  count: int
  frames: int
  height: int
  width: int
  fps: float
  seed: int
  test_count: int = 256

  splits = SPLITS
  min_side = MIN_SIDE

  def clips(self, split: str) -> DigitClips:
    """The split's clips; ValueError for a split that does not exist."""
    return DigitClips(self, split)


class DigitClips(GeneratedClips):
  """The clips of one split."""

  def __getitem__(self, index: int) -> types.Clip:
    index = self.check(index)
    config, rng = self.config, self.rng(index)
    attributes = self._choose(rng)
    form = rng.integers(FORMS)
    images, labels = glyphs(self.split)
    glyph = images[rng.choice(np.flatnonzero(labels == attributes.digit))]
    frame = np.array([config.height, config.width])
    cell = rng.uniform(*SIZES) * frame.min() / 16
    centres = _path(rng, attributes.motion, frame, reach(glyph, cell), config)
    coverage = draw(glyph, centres, cell, config.height, config.width)
    return types.Clip(
      video=paint(coverage, attributes.colour, attributes.background),
      fps=config.fps,
      text=caption(attributes, form),
      key=f"digits/{self.split}/{index:06d}",
    )

  def attributes(self, index: int) -> Attributes:
    """The truth about clip `index`, without drawing it."""
    return self._choose(self.rng(self.check(index)))

  def _choose(self, rng: np.random.Generator) -> Attributes:
    """Draws the attributes; always the first draws from a clip's generator."""
    digit, colour, motion, background = (
      int(rng.integers(len(table)))
      for table in (WORDS, COLOURS, MOTIONS, BACKGROUNDS)
    )
    moving = self.config.frames > 1
    return Attributes(
      digit=digit,
      colour=list(COLOURS)[colour],
      motion=list(MOTIONS)[motion] if moving else None,
      background=list(BACKGROUNDS)[background],
    )


def _path(
  rng: np.random.Generator,
  motion: str | None,
  frame: np.ndarray,
  margin: np.ndarray,
  config: Digits,
) -> np.ndarray:
  """Centres (y, x) of the digit in every frame, pixels, float [T, 2]."""
  direction = np.array(MOTIONS[motion or "still"])
  room = frame - 2 * margin  # of the centre's possible positions
  travel = rng.uniform(np.minimum(MIN_TRAVEL * frame, room), room) * direction
  # The path's middle is drawn from where both of its ends stay inside.
  middle = frame / 2 + rng.uniform(-0.5, 0.5, 2) * (room - np.abs(travel))
  time = np.linspace(-0.5, 0.5, config.frames)[:, None]
  return middle + time * travel
