"""Guidance: what each combination promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import guidance, process

SHAPE = (2, 12, 3)
COEFFICIENTS = process.SCHEDULES["cosine"]
WHOLE = {"scale": 2.5, "low": 0.0, "high": 1.0}
GUIDE = {
  "cfg": WHOLE,
  "rescaled": WHOLE | {"share": 1.0},
  "perpendicular": WHOLE | {"parallel": 0.0, "most": 0.0},
  "zero": WHOLE | {"start": 0.8},
}


def denoise(xt, time):
  """Some smooth denoiser that mixes the tokens."""
  alpha, sigma = COEFFICIENTS(time)
  x0 = jnp.tanh(alpha * xt + xt.mean(axis=1, keepdims=True))
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-3)


def other(xt, time):
  alpha, sigma = COEFFICIENTS(time)
  x0 = -0.5 * xt
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-3)


def both(xt, time):
  return denoise(xt, time), other(xt, time)


def mean(x):
  return jnp.mean(x, axis=(1, 2), keepdims=True)


SPACE = guidance.Space(lambda x: x, COEFFICIENTS, mean, jnp.float32(1.0))


def noise(seed=0):
  return jax.random.normal(jax.random.key(seed), SHAPE)


def guide(name, space=SPACE, **changes):
  options = GUIDE.get(name, {}) | changes
  return guidance.GUIDANCE[name](denoise, both, space, **options)


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", guidance.GUIDANCE)
def test_guided_pairs_solve_the_process(name, time):
  xt, time = noise(), jnp.float32(time)
  x0, n = guide(name)(xt, time)
  alpha, sigma = COEFFICIENTS(time)
  np.testing.assert_allclose(alpha * x0 + sigma * n, xt, atol=1e-5)


# What makes each of them say what the conditional denoiser says.
OFF = {
  "none": {},
  "cfg": {"scale": 1.0},
  "rescaled": {"scale": 1.0},
  "perpendicular": {"scale": 1.0},
  "zero": {"scale": 1.0, "start": 1.0},
}


@pytest.mark.parametrize("name", guidance.GUIDANCE)
def test_each_can_be_switched_off(name):
  xt, time = noise(), jnp.float32(0.5)
  for found, wanted in zip(
    guide(name, **OFF[name])(xt, time), denoise(xt, time)
  ):
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in guidance.GUIDANCE if n != "none"])
def test_a_factor_of_none_switches_off_where_it_is(name):
  factor = jnp.ones((1, SHAPE[1], 1)).at[:, :5].set(0)
  space = guidance.Space(lambda x: x, COEFFICIENTS, mean, factor)
  # The correction of a whole clip is not local.
  more = {"rescaled": {"share": 0.0}, "zero": {"start": 1.0}}.get(name, {})
  xt, time = noise(), jnp.float32(0.5)
  found = guide(name, space, **more)(xt, time)[0]
  full = guide(name, **more)(xt, time)[0]
  plain = denoise(xt, time)[0]
  np.testing.assert_allclose(found[:, :5], plain[:, :5], atol=1e-5)
  np.testing.assert_allclose(found[:, 5:], full[:, 5:], atol=1e-5)
  assert np.abs(full - plain).max() > 0.1


def test_scale_one_is_no_guidance_and_costs_none():
  assert guide("cfg", scale=1.0) is denoise
  assert guide("none") is denoise


@pytest.mark.parametrize(
  "time, inside",
  [(0.1, False), (0.2, False), (0.21, True), (0.7, True), (0.71, False)],
)
@pytest.mark.parametrize("name", [n for n in guidance.GUIDANCE if n != "none"])
def test_interval(name, time, inside):
  calls = []

  def spy(xt, levels):
    jax.debug.callback(lambda: calls.append(1))
    return both(xt, levels)

  options = GUIDE[name] | {"low": 0.2, "high": 0.7}
  guided = jax.jit(guidance.GUIDANCE[name](denoise, spy, SPACE, **options))
  xt, level = noise(), jnp.float32(time)
  found = guided(xt, level)
  jax.effects_barrier()
  assert len(calls) == inside
  wanted = (guide(name) if inside else denoise)(xt, level)
  for f, w in zip(found, wanted):
    np.testing.assert_allclose(f, w, atol=1e-5)
  assert np.allclose(found[0], denoise(xt, level)[0], atol=1e-2) != inside


def test_interval_holds_for_each_token():
  # Rows whose clips stand at different levels: only some are inside.
  levels = jnp.linspace(0.0, 1.0, SHAPE[1])[None, :, None]
  guided, xt = guide("cfg", low=0.2, high=0.7), noise()
  (found, _), (c, _), (n, _) = (f(xt, levels) for f in (guided, denoise, other))
  inside = (levels > 0.2) & (levels <= 0.7)
  assert inside.any() and not inside.all()
  np.testing.assert_allclose(
    found, jnp.where(inside, n + 2.5 * (c - n), c), atol=1e-5
  )


def test_plain_guidance_extrapolates():
  xt, time = noise(), jnp.float32(0.5)
  for f, c, n in zip(
    guide("cfg")(xt, time), denoise(xt, time), other(xt, time)
  ):
    np.testing.assert_allclose(f, n + 2.5 * (c - n), atol=1e-5)


def test_rescaling_keeps_the_contrast():
  xt, time = noise(), jnp.float32(0.5)

  def contrast(name, **changes):
    return np.asarray(guide(name, **changes)(xt, time)[0]).std(axis=(1, 2))

  plain = np.asarray(denoise(xt, time)[0]).std(axis=(1, 2))
  assert (contrast("cfg") > 1.2 * plain).all()
  np.testing.assert_allclose(contrast("rescaled"), plain, rtol=1e-4)
  np.testing.assert_allclose(
    contrast("rescaled", share=0.0), contrast("cfg"), rtol=1e-5
  )


def test_perpendicular_adds_nothing_along_the_prediction():
  xt, time = noise(), jnp.float32(0.5)
  x0 = denoise(xt, time)[0]
  added = guide("perpendicular")(xt, time)[0] - x0
  assert np.abs(mean(added * x0)).max() < 1e-5 < np.abs(added).max()
  whole = guide("perpendicular", parallel=1.0)(xt, time)[0]
  np.testing.assert_allclose(whole, guide("cfg")(xt, time)[0], atol=1e-5)
  # A bound on the change of every clip.
  short = guide("perpendicular", parallel=1.0, most=0.01)(xt, time)[0] - x0
  np.testing.assert_allclose(
    np.sqrt(mean(jnp.square(short))), 1.5 * 0.01, rtol=1e-4
  )


def test_zero_waits_and_then_scales_the_unconditional_one():
  xt, time = noise(), jnp.float32(0.5)
  x0, n = guide("zero")(xt, jnp.float32(0.9))
  np.testing.assert_allclose(n - x0, 0, atol=1e-6)
  x0, n = guide("zero")(xt, time)
  (c0, cn), (f0, fn) = both(xt, time)
  best = mean((cn - c0) * (fn - f0)) / mean(jnp.square(fn - f0))
  wanted = 2.5 * (cn - c0) - 1.5 * best * (fn - f0)
  np.testing.assert_allclose(n - x0, wanted, atol=1e-5)
  # It waits above the interval of guidance, too.
  x0, n = guide("zero", high=0.6)(xt, jnp.float32(0.9))
  np.testing.assert_allclose(n - x0, 0, atol=1e-6)
  # An unconditional prediction that only has another length changes nothing.
  scaled = functools.partial(guidance.zero, **GUIDE["zero"])

  def twins(xt, time):
    alpha, sigma = COEFFICIENTS(time)
    d = 0.3 * (cn - c0)
    half = (
      (xt - sigma * d) / (alpha + sigma),
      (xt + alpha * d) / (alpha + sigma),
    )
    return denoise(xt, time), half

  for found, wanted in zip(scaled(denoise, twins, SPACE)(xt, time), (c0, cn)):
    np.testing.assert_allclose(found, wanted, atol=1e-4)
