"""The sampler: known cells, grids, one scan."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import process, sampler, solvers

SHAPE = (2, 12, 3)
OPTIONS = {
  "ancestral": {"eta": 0.5},
  "churn": {"amount": 0.2, "low": 0.0, "high": 1.0},
}
COEFFICIENTS = process.SCHEDULES["cosine"]


def denoise(xt, time):
  """Some smooth denoiser that mixes the tokens."""
  alpha, sigma = COEFFICIENTS(time)
  x0 = jnp.tanh(alpha * xt + xt.mean(axis=1, keepdims=True))
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-3)


def draw(index):
  return jax.random.normal(jax.random.fold_in(jax.random.key(7), index), SHAPE)


def solver(name):
  return functools.partial(solvers.SOLVERS[name], **OPTIONS.get(name, {}))


def run(step, known, mask, denoise=denoise, steps=4, start=1.0):
  grid = start * sampler.uniform(steps)
  return sampler.sample(denoise, step, COEFFICIENTS, grid, draw, known, mask)


@functools.partial(jax.jit, static_argnums=0)
def compiled(name, known, mask):
  return run(solver(name), known, mask)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_known_comes_back_bit_exact(name, seed):
  rng = np.random.default_rng(seed)
  known = rng.normal(size=SHAPE).astype(np.float32)
  mask = (rng.random(SHAPE) < rng.random()).astype(np.float32)
  out = np.asarray(compiled(name, known, mask))
  np.testing.assert_array_equal(out[mask > 0], known[mask > 0])
  assert np.isfinite(out).all()
  assert (out[mask == 0] != known[mask == 0]).all()


def test_known_cells_steer_the_others():
  known, mask = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
  mask[:, :6] = 1
  free = compiled("euler", known, mask)[:, 6:]
  assert (free != compiled("euler", -known, mask)[:, 6:]).any()
  # What stands where nothing is known must not matter from pure noise.
  known[:, 6:] = 5
  again = compiled("euler", known, mask)[:, 6:]
  np.testing.assert_allclose(again, free, atol=1e-5)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_scan_equals_a_loop(name):
  rng = np.random.default_rng(0)
  known = rng.normal(size=SHAPE).astype(np.float32)
  mask = (rng.random(SHAPE) < 0.5).astype(np.float32)
  step, scanned = solver(name), compiled(name, known, mask)

  grid, first = np.linspace(1, 0, 5, dtype=np.float32), draw(0)
  x, past = first, solvers.Past.nothing(first, grid[0])

  def put_back(x, t):
    alpha, sigma = COEFFICIENTS(t)
    return jnp.where(mask > 0, alpha * known + sigma * first, x)

  def pinned(x, t):
    return denoise(put_back(x, t), t)

  for i, (t, s) in enumerate(itertools.pairwise(grid)):
    x = put_back(x, t)
    x, past = step(pinned, COEFFICIENTS, x, t, s, draw(i + 1), past)
  x = jnp.where(mask > 0, known, x)
  np.testing.assert_allclose(scanned, x, atol=1e-5)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_every_evaluation_sees_what_is_known(name):
  """Also the second one of a step, whatever the denoiser says of clean data."""
  rng = np.random.default_rng(0)
  known = rng.normal(size=SHAPE).astype(np.float32)
  mask = np.zeros(SHAPE, np.float32)
  mask[:, :4] = 1
  levels = np.broadcast_to(sampler.uniform(4)[:, None, None, None], (5, *SHAPE))
  levels = np.where(mask > 0, 0, levels)  # clean where known
  seen = []

  def ill(xt, time):
    jax.debug.callback(lambda x: seen.append(x[:, :4]), xt)
    x0, n = denoise(xt, time)
    return jnp.where(time > 0, x0, 0.0), jnp.where(time > 0, n, 1e5)

  jax.jit(
    lambda: sampler.sample(
      ill, solver(name), COEFFICIENTS, levels, draw, known, mask
    )
  )()
  jax.effects_barrier()
  assert len(seen) >= 4
  for x in seen:
    np.testing.assert_array_equal(x, known[:, :4])


def cached(threshold, name="euler", steps=8):
  """The result, and how often the denoiser was asked."""
  calls = []

  def spy(xt, time):
    jax.debug.callback(lambda: calls.append(1))
    return denoise(xt, time)

  grid, zero = sampler.uniform(steps), jnp.zeros(SHAPE)
  out = jax.jit(
    lambda: sampler.sample(
      spy, solver(name), COEFFICIENTS, grid, draw, zero, zero, threshold
    )
  )()
  jax.effects_barrier()
  return np.asarray(out), len(calls)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_a_cache_that_forgives_nothing_changes_nothing(name):
  plain, asked = cached(0.0, name)
  found, again = cached(1e-9, name)
  np.testing.assert_allclose(found, plain, atol=1e-5)
  assert asked == again


def test_the_more_a_cache_forgives_the_less_is_asked():
  plain, asked = cached(0.0)
  assert asked == 8
  found = [cached(threshold) for threshold in (0.1, 0.3, 0.6, 1e9)]
  counts = [count for _, count in found]
  assert 8 >= counts[0] > counts[1] > counts[2] > counts[3] == 1
  errors = [np.abs(out - plain).mean() for out, _ in found]
  assert errors[0] < errors[1] < errors[3]
  # One answer for all: a straight line in the velocity.
  x0, n = denoise(draw(0), jnp.float32(1.0))
  x, velocity = draw(0), n - x0
  for t, s in itertools.pairwise(sampler.uniform(8)):
    (at, st), (alpha, sigma) = COEFFICIENTS(t), COEFFICIENTS(s)
    x0 = (x - st * velocity) / (at + st)
    x = alpha * x0 + sigma * (x0 + velocity)
  np.testing.assert_allclose(found[-1][0], x, atol=1e-4)


def test_what_the_steps_are_given():
  seen = []

  def step(denoise, coefficients, xt, t, s, noise, past):
    seen.append((xt, t, s, noise))
    return xt, past

  known = draw(99)
  with jax.disable_jit():
    run(step, known, jnp.zeros(SHAPE), start=0.6)
  assert len(seen) == 4
  grid = 0.6 * sampler.uniform(4)
  alpha, sigma = COEFFICIENTS(grid[0])
  for i, (xt, t, s, noise) in enumerate(seen):
    # A late start is the known values with the noise of that level.
    np.testing.assert_allclose(xt, alpha * known + sigma * draw(0), atol=1e-6)
    assert (t, s) == (grid[i], grid[i + 1])
    np.testing.assert_array_equal(noise, draw(i + 1))  # fresh at every step


OF_GRID = {
  "power": {"rho": 2.0},
  "logit": {"span": 4.0},
  "shifted": {"by": 3.0},
  "gaussian": {"stds": (0.3, 1.0)},
  "given": {"times": (1.0, 0.9, 0.5, 0.2, 0.0)},
}


@pytest.mark.parametrize("name", sampler.GRIDS)
def test_grids_fall_from_noise_to_data(name):
  grid = np.asarray(sampler.GRIDS[name](4, **OF_GRID.get(name, {})))
  assert grid.shape == (5,) and (grid[0], grid[-1]) == (1, 0)
  assert (np.diff(grid) < 0).all()


def test_what_grids_are():
  np.testing.assert_allclose(sampler.uniform(4), [1, 0.75, 0.5, 0.25, 0])
  np.testing.assert_allclose(sampler.power(2, rho=2.0), [1, 0.25, 0])
  inner = sampler.logit(6, span=3.0)[1:-1]
  np.testing.assert_allclose(
    np.log(inner / (1 - inner)), [2, 1, 0, -1, -2], atol=1e-5
  )
  np.testing.assert_allclose(sampler.shifted(2, by=3.0), [1, 0.75, 0])
  np.testing.assert_array_equal(sampler.shifted(4, by=1.0), sampler.uniform(4))


def strays(grid, std):
  """How far Euler's steps end from the flow of data N(0, std^2)."""
  coefficients = process.SCHEDULES["rectified"]

  def exact(xt, t):
    alpha, sigma = coefficients(t)
    variance = alpha**2 * std**2 + sigma**2
    return alpha * std**2 / variance * xt, sigma / variance * xt

  x, past = jnp.ones(()), solvers.Past.nothing(jnp.ones(()), grid[0])
  for t, s in itertools.pairwise(grid):
    x, past = solvers.euler(exact, coefficients, x, t, s, 0.0, past)
  return abs(float(x) / std - 1)


@pytest.mark.parametrize("steps", [4, 8, 16])
@pytest.mark.parametrize("stds", [(0.5,), (1.0,), (0.1, 0.3, 1.0)])
def test_times_for_gaussians_stray_least(stds, steps):
  """Than those that nobody told what deviations the data have."""

  def of(grid):
    return np.mean([strays(grid, std) ** 2 for std in stds])

  best = of(sampler.gaussian(steps, stds=stds))
  others = [sampler.power(steps, rho=rho) for rho in (1.0, 1.5, 2.0)]
  others += [sampler.logit(steps, span=span) for span in (2.0, 3.0, 4.0)]
  others += [sampler.shifted(steps, by=by) for by in (0.5, 2.0)]
  assert best < min(map(of, others))


@pytest.mark.parametrize(
  "steps, stds", [(4, ()), (4, (1.0, 0.0)), (sampler.LEVELS + 1, (1.0,))]
)
def test_times_for_gaussians_need_deviations(steps, stds):
  with pytest.raises(ValueError, match="need deviations above 0, and at most"):
    sampler.gaussian(steps, stds=stds)


@pytest.mark.parametrize(
  "times", [(1.0, 0.5, 0.0), (1.0, 0.5, 0.5, 0.0), (0.9, 0.5, 0.2, 0.0)]
)
def test_given_times_must_fit(times):
  with pytest.raises(ValueError, match="steps \\+ 1 = 4, falling from 1 to 0"):
    sampler.given(3, times=times)
