"""The four tables of the process, every row of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import process

EVERY = [(s, t) for s in process.SCHEDULES for t in process.TARGETS]
INTERIOR = jnp.linspace(0.03, 0.97, 25)[:, None]


def data(shape=(25, 8)):
  x0, noise = jax.random.normal(jax.random.key(0), (2, *shape))
  return x0, noise


@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_schedule_goes_from_data_to_noise(schedule):
  time = jnp.linspace(0, 1, 101)
  alpha, sigma = process.SCHEDULES[schedule](time)
  assert (alpha[0], sigma[0]) == (1, 0)
  np.testing.assert_allclose((alpha[-1], sigma[-1]), (0, 1), atol=1e-6)
  assert (jnp.diff(alpha / jnp.maximum(sigma, 1e-6)) < 0).all()


@pytest.mark.parametrize("schedule, target", EVERY)
def test_round_trip(schedule, target):
  p = process.Process(schedule, target)
  x0, noise = data()
  xt = p.corrupt(x0, noise, INTERIOR)
  found = p.solve(p.target_of(x0, noise, INTERIOR), xt, INTERIOR)
  np.testing.assert_allclose(found[0], x0, atol=1e-4)
  np.testing.assert_allclose(found[1], noise, atol=1e-4)


@pytest.mark.parametrize("schedule, target", EVERY)
def test_solution_reproduces_what_it_was_given(schedule, target):
  # Also for a wrong prediction: alpha x0 + sigma n = xt is what makes any
  # affine combination of two solutions (guidance) a solution.
  p = process.Process(schedule, target)
  prediction, xt = data()
  x0, noise = p.solve(prediction, xt, INTERIOR)
  again = p.corrupt(x0, noise, INTERIOR)
  np.testing.assert_allclose(again, xt, atol=1e-3)
  np.testing.assert_allclose(
    p.target_of(x0, noise, INTERIOR), prediction, atol=1e-3
  )


@pytest.mark.parametrize("schedule, target", EVERY)
def test_ends(schedule, target):
  p = process.Process(schedule, target)
  x0, noise = data((8,))
  np.testing.assert_array_equal(p.corrupt(x0, noise, 0.0), x0)
  for time in (0.0, 1.0):
    found = p.solve(noise, x0, jnp.float32(time))
    assert all(jnp.isfinite(x).all() for x in found)


@pytest.mark.parametrize("weight", process.WEIGHTS)
@pytest.mark.parametrize("schedule, target", EVERY)
def test_perfect_prediction_gives_zero_loss(schedule, target, weight):
  p = process.Process(schedule, target)
  x0, noise = data()

  def loss(prediction):
    found, _ = p.solve(prediction, p.corrupt(x0, noise, INTERIOR), INTERIOR)
    w = process.WEIGHTS[weight](*p.coefficients(INTERIOR))
    return (w * jnp.square(found - x0)).mean()

  perfect = p.target_of(x0, noise, INTERIOR)
  assert loss(perfect) < 1e-7
  assert loss(perfect + 0.5) > 1e-2


@pytest.mark.parametrize("weight", process.WEIGHTS)
@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_weights_are_finite_and_not_negative(schedule, weight):
  time = jnp.linspace(0, 1, 101).reshape(-1, 1)
  w = process.WEIGHTS[weight](*process.SCHEDULES[schedule](time))
  assert w.shape == time.shape
  assert jnp.isfinite(w).all() and (w >= 0).all() and w.max() > 0


def test_velocity_weight_is_the_plain_velocity_loss():
  p = process.Process("rectified", "velocity")
  x0, noise = data()
  time = jnp.linspace(0.1, 0.9, 25)[:, None]
  xt = p.corrupt(x0, noise, time)
  wrong = p.target_of(x0, noise, time) + noise
  found, _ = p.solve(wrong, xt, time)
  w = process.WEIGHTS["velocity"](*p.coefficients(time))
  np.testing.assert_allclose(w * (found - x0) ** 2, noise**2, rtol=2e-3)


@pytest.mark.parametrize("times", process.TIMES)
def test_times(times):
  draw = functools.partial(process.TIMES[times], shape=(40, 100))
  u = draw(jax.random.key(0))
  assert u.shape == (40, 100)
  assert (u >= 0).all() and (u <= 1).all()
  assert u.std() > 0.1
  np.testing.assert_array_equal(u, draw(jax.random.key(0)))
  assert (u != draw(jax.random.key(1))).mean() > 0.99


TIME = jnp.linspace(0, 1, 101)


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("tokens", [1, 30, 320, 1000])
def test_shift_is_a_monotonic_map_of_the_interval(tokens, power):
  moved = process.shift(TIME, tokens, 320, power)
  np.testing.assert_allclose((moved[0], moved[-1]), (0, 1), atol=1e-5)
  assert (jnp.diff(moved) > 0).all()


def test_shift_moves_longer_clips_towards_noise():
  tokens = jnp.array([40, 320, 1000])[:, None]
  moved = process.shift(TIME[1:-1], tokens, 320, 0.5)
  assert (moved[0] < TIME[1:-1]).all() and (moved[2] > TIME[1:-1]).all()


def test_shift_is_the_identity_at_base_and_without_power():
  np.testing.assert_array_equal(process.shift(TIME, 320, 320, 0.5), TIME)
  np.testing.assert_array_equal(process.shift(TIME, 77, 320, 0.0), TIME)


def test_shift_of_an_absent_clip_is_finite():
  assert jnp.isfinite(process.shift(TIME, jnp.int32(0), 320, 0.5)).all()
