"""Bucket tables: within the budget, near it, and fair to every shape."""

import math

import numpy as np
import pytest

from sora_jax.data import buckets

CASES = [
  (1, (8, 8)),
  (6, (8, 8)),
  (64, (16, 16)),
  (300, (16, 16)),
  (96, (8, 16)),
]


@pytest.mark.parametrize("tokens, unit", CASES)
def test_sizes_fill_the_budget_and_none_fits_into_another(tokens, unit):
  sizes = buckets.table(tokens, unit)
  cells = [(h // unit[0], w // unit[1]) for h, w in sizes]
  assert sizes == tuple((a * unit[0], b * unit[1]) for a, b in cells)
  for a, b in cells:
    assert a * b <= tokens
    others = [c for c in cells if c != (a, b)]
    assert not any(a <= c and b <= d for c, d in others)
    # One more column would break the budget or the aspect ratio.
    wider = (b + 1) * unit[1] / (a * unit[0])
    assert a * (b + 1) > tokens or wider > 3
  ratios = [h / w for h, w in sizes]
  assert ratios == sorted(set(ratios))
  assert all(1 / 3 - 1e-9 <= r <= 3 + 1e-9 for r in ratios)


@pytest.mark.parametrize("tokens", [64, 256, 1024])
def test_square_units_give_a_symmetric_table_that_wastes_little(tokens):
  sizes = buckets.table(tokens, (16, 16))
  assert {(w, h) for h, w in sizes} == set(sizes)
  side = math.isqrt(tokens) * 16
  assert (side, side) in sizes
  assert min(h * w / 256 / tokens for h, w in sizes) > 0.9
  # No clip loses much: neighbouring shapes are close.
  steps = np.diff(np.log([h / w for h, w in sizes]))
  assert steps.max() < 0.5


def test_nearest_is_symmetric_in_the_ratio():
  table = ((64, 128), (96, 96), (128, 64))
  assert buckets.nearest((720, 1280), table) == (64, 128)
  assert buckets.nearest((1280, 720), table) == (128, 64)
  assert buckets.nearest((500, 499), table) == (96, 96)
  # 1.4 : 1 is nearer to 1 : 1 than to 2 : 1, both ways.
  assert buckets.nearest((1400, 1000), table) == (96, 96)
  assert buckets.nearest((1000, 1400), table) == (96, 96)
  for size in buckets.table(100, (8, 8)):
    assert buckets.nearest(size, buckets.table(100, (8, 8))) == size


def test_aspects_limit_the_table():
  assert buckets.table(64, (8, 8), aspects=(1.0, 1.0)) == ((64, 64),)


def test_impossible_budgets_are_refused():
  with pytest.raises(ValueError, match="0 tokens"):
    buckets.table(0, (8, 8))
  with pytest.raises(ValueError, match="must be >= 1"):
    buckets.table(4, (0, 8))
  with pytest.raises(ValueError, match="raise the budget or widen"):
    buckets.table(1, (8, 64))


@pytest.mark.parametrize("tokens", [16, 64, 256])
@pytest.mark.parametrize(
  "size", [(90, 160), (480, 854), (120, 160), (30, 20), (40, 40), (20, 80)]
)
def test_a_picture_of_any_shape_is_hardly_cut_nor_made_small(size, tokens):
  shown = buckets.fitting(size, tokens, (8, 8))
  assert buckets.lost(size, shown) <= (0.1 if tokens == 16 else 0.064) + 1e-9
  used = shown[0] * shown[1] / 64 / tokens
  assert 0.7 <= used <= 1
  assert shown[0] % 8 == shown[1] % 8 == 0
  turned = buckets.fitting(size[::-1], tokens, (8, 8))
  assert turned == shown[::-1]


def test_the_size_that_wastes_least_is_taken():
  assert buckets.fitting((40, 40), 64, (8, 8)) == (64, 64)
  # Rather a size that models are trained on than one that cuts 5 % less.
  assert buckets.fitting((90, 160), 64, (8, 8)) == (48, 80)
  assert buckets.fitting((20, 80), 64, (8, 8)) == (32, 128)
  assert buckets.fitting((1000, 10), 4, (8, 8)) == (32, 8)
  assert buckets.lost((10, 20), (8, 8)) == 0.5
  assert buckets.lost((16, 16), (8, 8)) == 0
