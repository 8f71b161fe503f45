"""Contacts: roots against brute force, outlines against drawn shapes."""

import itertools
import math

import numpy as np
import pytest

from sora_jax.data.world import contact, vocabulary


def test_wall_times_solve_the_flight():
  rng = np.random.default_rng(0)
  never = 0
  for _ in range(500):
    gap, speed, pull = rng.uniform(0, 3), rng.uniform(-5, 5), rng.normal() * 5
    s = contact.wall(gap, speed, pull)
    times = np.linspace(0, min(s, 20.0), 1000)[:-1]
    travel = speed * times + pull * times**2 / 2
    assert (travel < gap + 1e-9).all()  # not earlier
    if s == math.inf:
      never += 1
    else:
      assert speed * s + pull * s * s / 2 == pytest.approx(gap, abs=1e-9)
  assert 0 < never < 400


@pytest.mark.parametrize("fall", [0.0, 10.0, -10.0])
def test_disc_times_are_the_first_contact(fall):
  rng = np.random.default_rng(1)
  hits = 0
  for _ in range(300):
    d, u = rng.uniform(-4, 4, 2), rng.uniform(-5, 5, 2)
    if np.hypot(*d) < 1.5:
      continue
    if fall:
      s = contact.falling_discs(tuple(d), tuple(u), fall, 1.5, 3.0)
    else:
      s = contact.discs(tuple(d), tuple(u), 1.5)
    times = np.linspace(0, min(s, 3.0), 2000)
    y = d[0] + u[0] * times + fall * times**2 / 2
    apart = np.hypot(y, d[1] + u[1] * times)
    assert apart.min() > 1.5 - 1e-9
    if s <= 3.0:
      hits += 1
      assert apart[-1] == pytest.approx(1.5, abs=1e-9)
  assert hits > 30


def profile(shape, radius, rows):
  """The half width by supersampled rows, straight from the corners."""
  corners = vocabulary.SHAPES[shape]
  if corners is None:
    return np.sqrt(np.maximum(radius**2 - rows**2, 0)), np.abs(rows) < radius
  y, x = np.array([*corners, corners[0]]).T * radius
  widest = np.full(len(rows), -np.inf)
  for k in range(len(corners)):
    ends = sorted([(y[k], x[k]), (y[k + 1], x[k + 1])])
    inside = (rows >= ends[0][0]) & (rows <= ends[1][0])
    at = np.interp(rows, [e[0] for e in ends], [e[1] for e in ends])
    widest = np.where(inside, np.maximum(widest, at), widest)
  return widest, widest > -np.inf


def test_outlines_touch_where_their_pixels_would():
  shapes = ("disc", "square", "triangle", "star")
  rng = np.random.default_rng(2)
  rows = np.linspace(-4, 4, 40001)
  for a, b in itertools.product(shapes, shapes):
    for below in (0.0, *rng.uniform(-1.5, 1.5, 3)):
      ra, rb = rng.uniform(0.5, 1.4, 2)
      left, here = profile(a, ra, rows)
      right, there = profile(b, rb, rows - below)
      sums = np.where(here & there, left + right, -np.inf)
      distance, row = contact.outlines((a, ra), (b, rb), below)
      assert distance == pytest.approx(sums.max(), abs=2e-3), (a, b, below)
      if distance == -math.inf:
        continue
      mirrored, _ = contact.outlines((b, rb), (a, ra), -below)
      assert mirrored == pytest.approx(distance, abs=1e-9)
      width = contact.half_width((a, ra), row)
      assert width >= -1e-9 and abs(row) <= 2 * ra


def test_outlines_in_different_rows_never_touch():
  distance, _ = contact.outlines(("square", 1.0), ("disc", 1.0), 2.5)
  assert distance == -math.inf
