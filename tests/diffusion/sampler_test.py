"""The sampler and guidance: known cells, intervals, one scan."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import guidance, process, sampler, solvers

SHAPE = (2, 12, 3)
OPTIONS = {"ancestral": {"eta": 0.5}}
GUIDE = {"cfg": {"scale": 2.0, "low": 0.2, "high": 0.7}}
COEFFICIENTS = process.SCHEDULES["cosine"]


def denoise(xt, time):
  """Some smooth denoiser that mixes the tokens."""
  alpha, sigma = COEFFICIENTS(time)
  x0 = jnp.tanh(alpha * xt + xt.mean(axis=1, keepdims=True))
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-3)


def other(xt, time):
  alpha, sigma = COEFFICIENTS(time)
  x0 = -0.5 * xt
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-3)


def draw(index):
  return jax.random.normal(jax.random.fold_in(jax.random.key(7), index), SHAPE)


def solver(name):
  return functools.partial(solvers.SOLVERS[name], **OPTIONS.get(name, {}))


def guide(name):
  return functools.partial(guidance.GUIDANCE[name], **GUIDE.get(name, {}))


def run(step, known, mask, denoise=denoise, steps=4, start=1.0):
  grid = sampler.uniform_grid(steps, start)
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
  x = first
  for i, (t, s) in enumerate(itertools.pairwise(grid)):
    alpha, sigma = COEFFICIENTS(t)
    x = jnp.where(mask > 0, alpha * known + sigma * first, x)
    x = step(denoise, COEFFICIENTS, x, t, s, draw(i + 1))
  x = jnp.where(mask > 0, known, x)
  np.testing.assert_allclose(scanned, x, atol=1e-5)


def test_what_the_steps_are_given():
  seen = []

  def step(denoise, coefficients, xt, t, s, noise):
    seen.append((xt, t, s, noise))
    return xt

  known = draw(99)
  with jax.disable_jit():
    run(step, known, jnp.zeros(SHAPE), start=0.6)
  assert len(seen) == 4
  grid = sampler.uniform_grid(4, 0.6)
  alpha, sigma = COEFFICIENTS(grid[0])
  for i, (xt, t, s, noise) in enumerate(seen):
    # A late start is the known values with the noise of that level.
    np.testing.assert_allclose(xt, alpha * known + sigma * draw(0), atol=1e-6)
    assert (t, s) == (grid[i], grid[i + 1])
    np.testing.assert_array_equal(noise, draw(i + 1))  # fresh at every step


def test_grid():
  np.testing.assert_allclose(sampler.uniform_grid(4), [1, 0.75, 0.5, 0.25, 0])
  grid = sampler.uniform_grid(3, 0.6)
  assert (grid[0], grid[-1]) == (np.float32(0.6), 0)


@pytest.mark.parametrize("steps, start", [(0, 1.0), (4, 0.0), (4, 1.1)])
def test_grid_validation(steps, start):
  with pytest.raises(ValueError, match=f"steps={steps}, start={start}"):
    sampler.uniform_grid(steps, start)


def same(levels):
  return levels


@pytest.mark.parametrize("name", guidance.GUIDANCE)
def test_guided_pair_solves_the_process(name):
  xt = draw(0)
  guided = guide(name)(denoise, other, same)
  for time in (0.1, 0.5, 0.9):
    x0, noise = guided(xt, jnp.float32(time))
    alpha, sigma = COEFFICIENTS(jnp.float32(time))
    np.testing.assert_allclose(alpha * x0 + sigma * noise, xt, atol=1e-5)


def test_scale_one_is_no_guidance():
  zero = jnp.zeros(SHAPE)
  results = []
  for make in (
    guidance.none,
    functools.partial(guidance.cfg, scale=1.0, low=0.0, high=1.0),
  ):
    guided = make(denoise, other, same)
    results.append(run(solver("heun"), zero, zero, guided))
  np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
  "time, inside",
  [(0.1, False), (0.2, False), (0.21, True), (0.7, True), (0.71, False)],
)
def test_interval(time, inside):
  calls = []

  def null(xt, levels):
    jax.debug.callback(lambda: calls.append(1))
    return other(xt, levels)

  guided = jax.jit(guidance.cfg(denoise, null, same, **GUIDE["cfg"]))
  xt, level = draw(0), jnp.float32(time)
  found = guided(xt, level)
  jax.effects_barrier()
  assert len(calls) == inside
  conditional, free = denoise(xt, level), other(xt, level)
  for f, c, n in zip(found, conditional, free):
    expected = n + 2.0 * (c - n) if inside else c
    np.testing.assert_allclose(f, expected, atol=1e-5)
    assert not np.allclose(c, n, atol=1e-2)


def test_interval_holds_for_each_token():
  # Rows whose clips stand at different levels: only some are inside.
  levels = jnp.linspace(0.0, 1.0, SHAPE[1])[None, :, None]
  guided = guidance.cfg(denoise, other, same, **GUIDE["cfg"])
  xt = draw(0)
  (found, _), (c, _), (n, _) = (f(xt, levels) for f in (guided, denoise, other))
  inside = (levels > 0.2) & (levels <= 0.7)
  assert inside.any() and not inside.all()
  np.testing.assert_allclose(
    found, jnp.where(inside, n + 2.0 * (c - n), c), atol=1e-5
  )
