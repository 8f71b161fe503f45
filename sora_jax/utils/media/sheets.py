"""Many clips on one page."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sora_jax.utils.media import files, video

Rows = Sequence[tuple[str, np.ndarray]]  # Label and video of each.
_BACKGROUND = 24  # Grey level, dark enough for light text.
_GAP = 4  # Pixels between the frames of a sheet.


def contact_sheet(path: files.Path, rows: Rows, columns: int = 8) -> None:
  """Writes `sheet(rows, columns)` as one png to look at."""
  video.write(path, sheet(rows, columns)[None], fps=1)


def sheet(rows: Rows, columns: int = 8) -> np.ndarray:
  """One row per clip: its label above evenly spaced frames, in time order.

  Frames are scaled by whole numbers, so that pixels stay what they are: small
  ones enlarged (nearest neighbour), large ones reduced (box).

  Args:
    rows: (label, uint8 [T, H, W, 3]); sizes and lengths may differ.
    columns: frames per row; a shorter clip shows all it has.
  """
  if not rows or columns < 1:
    raise ValueError(f"a sheet needs rows and columns: {len(rows)}, {columns}")
  strips = [_strip(clip, columns) for _, clip in rows]
  width = max(strip.shape[1] for strip in strips)
  parts = []
  for (label, _), strip in zip(rows, strips):
    parts += [_caption(label, width), _pad_right(strip, width)]
  return np.concatenate(parts)


def _strip(clip: np.ndarray, columns: int) -> np.ndarray:
  files.check_video(clip)
  length, height, width, _ = clip.shape
  picks = np.linspace(0, length - 1, min(columns, length)).round().astype(int)
  side = max(height, width)
  grow, shrink = max(1, 160 // side), math.ceil(side / 320)
  cells = []
  for frame in clip[picks]:
    cell = np.asarray(Image.fromarray(frame).reduce(shrink))
    cell = cell.repeat(grow, axis=0).repeat(grow, axis=1)
    cells.append(_pad_right(cell, cell.shape[1] + _GAP))
  return np.concatenate(cells, axis=1)


def _pad_right(image: np.ndarray, width: int) -> np.ndarray:
  missing = ((0, 0), (0, width - image.shape[1]), (0, 0))
  return np.pad(image, missing, constant_values=_BACKGROUND)


def _caption(label: str, width: int) -> np.ndarray:
  font = ImageFont.load_default(size=14)
  lines = textwrap.wrap(label, max(1, int(width / font.getlength("n"))))
  image = Image.new("RGB", (width, 18 * len(lines) + 8), (_BACKGROUND,) * 3)
  ImageDraw.Draw(image).text((2, 4), "\n".join(lines), font=font)
  return np.asarray(image)
