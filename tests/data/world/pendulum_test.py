"""The pendulum: energy, period, the equation of motion, errors."""

import math

import numpy as np
import pytest
from scipy import special

from sora_jax.data.world import pendulum

PIVOT = (-4.0, 1.0)


def swing(angle, seconds=4.0, length=4.0, gravity=10.0):
  return pendulum.pendulum(PIVOT, length, angle, gravity, seconds)


@pytest.mark.parametrize("angle", [0.1, -1.0, 2.0, 3.0])
def test_energy_and_length_are_conserved(angle):
  path = swing(angle)
  start = -10.0 * 4.0 * math.cos(angle)

  def energy(times):
    position, velocity = path.at(times)
    return (velocity**2).sum(-1) / 2 - 10.0 * (position[:, 0] - PIVOT[0])

  np.testing.assert_allclose(energy(path.starts), start, atol=1e-6)
  times = np.random.default_rng(0).uniform(0, 4, 500)
  np.testing.assert_allclose(energy(times), start, atol=1e-2)
  apart = np.hypot(*(path.at(times)[0] - PIVOT).T)
  np.testing.assert_allclose(apart, 4.0, atol=1e-6)


def test_it_starts_at_rest_at_the_angle_clockwise():
  position, velocity = swing(0.5).at(np.zeros(1))
  away = 4.0 * np.array([math.cos(0.5), -math.sin(0.5)])
  np.testing.assert_allclose(position[0], PIVOT + away)
  np.testing.assert_allclose(velocity[0], 0.0, atol=1e-12)


@pytest.mark.parametrize("angle", [1e-3, 1.0, 2.5])
def test_the_period_is_that_of_theory(angle):
  small = 2 * math.pi * math.sqrt(4.0 / 10.0)
  exact = small * special.ellipk(math.sin(angle / 2) ** 2) / (math.pi / 2)
  path = swing(angle, seconds=2 * exact)
  times = np.array([0.0, exact / 4, exact / 2, exact])
  position, _ = path.at(times)
  theta = np.arctan2(PIVOT[1] - position[:, 1], position[:, 0] - PIVOT[0])
  expected = [angle, 0.0, -angle, angle]
  np.testing.assert_allclose(theta, expected, atol=1e-6)
  if angle < 0.01:
    assert exact == pytest.approx(small, rel=1e-6)


def test_the_motion_obeys_the_equation_of_motion():
  path = swing(1.5)
  position, velocity = path.at(path.starts)
  offset = position - PIVOT
  theta = np.unwrap(np.arctan2(-offset[:, 1], offset[:, 0]))
  step = 1 / pendulum.RATE
  bend = (theta[2:] - 2 * theta[1:-1] + theta[:-2]) / step**2
  expected = -10.0 / 4.0 * np.sin(theta[1:-1])
  np.testing.assert_allclose(bend, expected, atol=1e-4)
  moved = (position[2:] - position[:-2]) / (2 * step)
  np.testing.assert_allclose(velocity[1:-1], moved, atol=1e-3)


def test_no_duration_is_one_position():
  position, _ = swing(0.3, seconds=0.0).at(np.zeros(1))
  assert np.isfinite(position).all()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"length": 0.0}, "length=0.0: it must be > 0"),
    ({"gravity": -1.0}, "gravity=-1.0"),
    ({"angle": math.pi}, "angle=3.14"),
    ({"angle": float("nan")}, "angle=nan"),
    ({"seconds": -1.0}, "seconds=-1.0"),
  ],
)
def test_bad_input_is_one_clear_error(changes, message):
  with pytest.raises(ValueError, match=message):
    swing(**{"angle": 0.5} | changes)
