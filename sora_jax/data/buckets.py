"""Frame sizes of one token budget and many aspect ratios.

Clips keep their own aspect ratio: each is scaled to the size in the table whose
shape is nearest to its own, and all sizes cost about the same in the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Size = tuple[int, int]  # Height, width.


def table(
  tokens: int,
  unit: Size,
  aspects: tuple[float, float] = (1 / 3, 3.0),
) -> tuple[Size, ...]:
  """Pixel sizes that fill the budget of a latent frame as far as they can.

  Each is the widest at its height and the highest at its width, so that no size
  fits into another.

  Args:
    tokens: cells of a latent frame at most, >= 1.
    unit: height and width of a cell in pixels: compression times patch size.
    aspects: the narrowest and the widest width / height wanted.

  Returns:
    (height, width) in pixels, multiples of `unit`, from wide to high.

  Raises:
    ValueError: for no tokens, or where no size has such an aspect ratio.
  """
  unit_height, unit_width = unit
  if tokens < 1 or min(unit) < 1:
    raise ValueError(
      f"a budget of {tokens} tokens of {unit} pixels: all must be >= 1"
    )
  narrowest, widest = aspects
  sizes, wider = [], 0
  for rows in range(tokens, 0, -1):
    # In cells; the small number forgives the rounding of 1 / 3.
    per_aspect = rows * unit_height / unit_width
    columns = min(tokens // rows, int(widest * per_aspect + 1e-6))
    if columns > wider and columns >= narrowest * per_aspect - 1e-6:
      sizes.append((rows * unit_height, columns * unit_width))
      wider = columns
  if not sizes:
    raise ValueError(
      f"no frame of at most {tokens} tokens of {unit} pixels has a width / "
      f"height in {aspects}: raise the budget or widen the aspects"
    )
  return tuple(reversed(sizes))


def nearest(size: Size, table: Sequence[Size]) -> Size:
  """The entry whose aspect ratio is nearest, by its logarithm."""
  height, width = size
  return min(table, key=lambda s: abs(math.log(s[1] * height / s[0] / width)))


def lost(size: Size, shown: Size) -> float:
  """Share of a picture that is cut off where it is scaled to cover `shown`."""
  scale = max(n / m for n, m in zip(shown, size))
  return 1 - math.prod(shown) / scale**2 / math.prod(size)


def fitting(size: Size, tokens: int, unit: Size) -> Size:
  """The size within a budget that suits a picture of any shape.

  Of all sizes the one that wastes least: a share of the picture that is cut off
  weighs four times as much as one of the budget that is not used.

  Args:
    size: (height, width) of the picture, in pixels.
    tokens: cells of a latent frame at most, >= 1.
    unit: height and width of a cell in pixels.

  Returns:
    (height, width) in pixels, multiples of `unit`.
  """
  every = (
    (rows * unit[0], columns * unit[1])
    for rows in range(1, tokens + 1)
    for columns in range(1, tokens // rows + 1)
  )
  budget = tokens * math.prod(unit)
  return min(
    every, key=lambda s: lost(size, s) + 0.25 * (1 - math.prod(s) / budget)
  )
