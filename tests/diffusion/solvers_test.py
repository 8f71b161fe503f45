"""Solvers against flows that are known exactly."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import process, solvers

# Options that make a solver deterministic, and so comparable with the flow.
BAND = {"low": 0.0, "high": 1.0}
CALM = {"ancestral": {"eta": 0.0}, "churn": {"amount": 0.0, **BAND}}
WILD = {"ancestral": {"eta": 0.7}, "churn": {"amount": 0.2, **BAND}}
# Of convergence; 1 for all others.
ORDER = {"heun": 2, "dpmpp_2m": 2, "unipc": 3, "churn": 2}
EVERY = [(n, s) for n in solvers.SOLVERS for s in process.SCHEDULES]
FLOWS = [(n, s) for n, s in EVERY if n != "renoise"]  # it leaves the flow


def bound(name, options):
  return functools.partial(solvers.SOLVERS[name], **options.get(name, {}))


def walk(step, denoise, coefficients, x, grid, noise):
  """x at every level of the grid."""
  past = solvers.Past.nothing(x, grid[0])
  for t, s in itertools.pairwise(grid):
    x, past = step(denoise, coefficients, x, t, s, noise, past)
    yield s, x


def alone(step, *args):
  """One step that has no past."""
  return step(*args, solvers.Past.nothing(args[2], args[3]))[0]


def perfect(x0, coefficients):
  """The denoiser that knows the data."""

  def denoise(xt, t):
    alpha, sigma = coefficients(t)
    return x0, (xt - alpha * x0) / sigma

  return denoise


def gaussian(std, coefficients):
  """The exact denoiser of data N(0, std^2)."""

  def denoise(xt, t):
    alpha, sigma = coefficients(t)
    variance = alpha**2 * std**2 + sigma**2
    return alpha * std**2 / variance * xt, sigma / variance * xt

  return denoise


@pytest.mark.parametrize("options", [CALM, WILD])
@pytest.mark.parametrize("name, schedule", EVERY)
def test_perfect_denoiser_lands_on_the_data(name, schedule, options):
  coefficients = process.SCHEDULES[schedule]
  x0, noise, fresh = jax.random.normal(jax.random.key(0), (3, 64))
  denoise, step = perfect(x0, coefficients), bound(name, options)
  grid = jnp.linspace(1.0, 0.0, 6)
  alpha, sigma = coefficients(grid[0])
  x = alpha * x0 + sigma * noise
  for s, xs in walk(step, denoise, coefficients, x, grid, fresh):
    if options is CALM and name != "renoise":
      # On the trajectory all along, in as few steps as one likes.
      alpha, sigma = coefficients(s)
      np.testing.assert_allclose(xs, alpha * x0 + sigma * noise, atol=1e-5)
  np.testing.assert_allclose(xs, x0, atol=1e-6)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_what_a_denoiser_says_of_clean_data_is_not_used(name):
  coefficients = process.SCHEDULES["rectified"]
  denoise = gaussian(0.5, coefficients)

  def undefined(xt, t):  # at time 0, as many denoisers are
    return tuple(jnp.where(t > 0, x, jnp.nan) for x in denoise(xt, t))

  xt, fresh = jax.random.normal(jax.random.key(0), (2, 8))
  t, s = jnp.float32(0.2), jnp.float32(0.0)
  last = alone(bound(name, CALM), undefined, coefficients, xt, t, s, fresh)
  np.testing.assert_allclose(last, denoise(xt, t)[0], rtol=1e-6)


@pytest.mark.parametrize("name, schedule", FLOWS)
def test_order_of_convergence(name, schedule):
  std, start, end = 0.5, 0.99, 0.1
  coefficients, step = process.SCHEDULES[schedule], bound(name, CALM)
  errors = []
  with jax.enable_x64(True):
    denoise = gaussian(std, coefficients)

    def spread(t):  # the flow scales x with the marginal deviation
      alpha, sigma = coefficients(t)
      return np.sqrt(alpha**2 * std**2 + sigma**2)

    for steps in (64, 128, 256):
      grid = jnp.linspace(start, end, steps + 1)
      x, zero = jnp.float64(1.0), jnp.float64(0.0)
      *_, (_, x) = walk(step, denoise, coefficients, x, grid, zero)
      exact = spread(grid[-1]) / spread(grid[0])
      errors.append(abs(float(x - exact)))
  slopes = np.log2(np.array(errors[:-1]) / errors[1:])
  assert slopes.min() >= 0.9 * ORDER.get(name, 1), errors


@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_ancestral_without_fresh_noise_is_euler(schedule):
  coefficients = process.SCHEDULES[schedule]
  xt, noise = jax.random.normal(jax.random.key(0), (2, 64))
  args = (gaussian(0.5, coefficients), coefficients, xt)
  at = jnp.float32(0.7), jnp.float32(0.4), noise
  np.testing.assert_array_equal(
    alone(bound("ancestral", CALM), *args, *at),
    alone(solvers.euler, *args, *at),
  )


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_fresh_noise_keeps_the_marginal_and_forgets_the_past(schedule, eta):
  # From N(alpha x0, sigma^2) at t to the same at s, around known data.
  coefficients, x0, count = process.SCHEDULES[schedule], 2.0, 40_000
  old, fresh = jax.random.normal(jax.random.key(0), (2, count))
  t, s = jnp.float32(0.8), jnp.float32(0.6)
  alpha, sigma = coefficients(t)
  xs = alone(
    functools.partial(solvers.ancestral, eta=eta),
    perfect(x0, coefficients),
    coefficients,
    alpha * x0 + sigma * old,
    t,
    s,
    fresh,
  )
  before, (alpha, sigma) = coefficients(t), coefficients(s)
  left = (xs - alpha * x0) / sigma
  assert abs(left.mean()) < 0.03 and abs(left.std() - 1) < 0.02
  kept = np.corrcoef(left, old)[0, 1]
  # Song et al. 2021, equation 16, as a share of sigma.
  ratio = before[0] * sigma / (alpha * before[1])
  share = eta * np.sqrt(1 - ratio**2)
  assert abs(kept - np.sqrt(1 - share**2)) < 0.03


STIRRED = [
  ("ancestral", {"eta": 0.5}),
  ("ancestral", {"eta": 1.0}),
  ("churn", {"amount": 0.05, **BAND}),
  ("churn", {"amount": 0.2, **BAND}),
]


@pytest.mark.parametrize("name, options", STIRRED)
def test_fresh_noise_keeps_the_distribution(name, options):
  # Data N(0, 1) with its exact denoiser: many small steps end in N(0, 1).
  coefficients = process.SCHEDULES["rectified"]
  denoise = gaussian(1.0, coefficients)
  key = jax.random.key(0)
  first = x = jax.random.normal(key, (20_000,))
  grid = jnp.linspace(1.0, 0.0, 101)
  step = functools.partial(solvers.SOLVERS[name], **options)
  for i, (t, s) in enumerate(itertools.pairwise(grid)):
    noise = jax.random.normal(jax.random.fold_in(key, i + 1), x.shape)
    x = alone(step, denoise, coefficients, x, t, s, noise)
  assert abs(float(x.std()) - 1) < 0.04
  # It has been stirred: a flow would be what it began with.
  assert np.corrcoef(first, x)[0, 1] < 0.97


@pytest.mark.parametrize("schedule", process.SCHEDULES)
def test_few_steps_of_a_consistency_model_keep_the_distribution(schedule):
  # The end of the flow of data N(0, std^2), at once from any level.
  std, coefficients = 0.5, process.SCHEDULES[schedule]

  def ends(xt, t):
    alpha, sigma = coefficients(t)
    x0 = std * xt / jnp.sqrt(alpha**2 * std**2 + sigma**2)
    return x0, (xt - alpha * x0) / sigma

  key = jax.random.key(0)
  for steps in (1, 2, 4):
    x = jax.random.normal(key, (20_000,))
    grid = jnp.linspace(1.0, 0.0, steps + 1)
    for i, (t, s) in enumerate(itertools.pairwise(grid)):
      noise = jax.random.normal(jax.random.fold_in(key, i + 1), x.shape)
      x = alone(solvers.renoise, ends, coefficients, x, t, s, noise)
    assert abs(float(x.std()) / std - 1) < 0.03
