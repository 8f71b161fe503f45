"""The autoencoder's loss: padding does not count, and training helps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.models import autoencoder as ae
from sora_jax.objectives import autoencode

FRAMES = 5


def objective(reconstruction="l2", kl=1e-6, start="pca"):
  model = ae.Autoencoder(
    (2, 4, 4),
    channels=3,
    width=24,
    depth=1,
    kernel=(3, 3),
    factored=True,
    lowering="fastest",
    heads=0,
    logvar=-8.0,
    dtype=jnp.float32,
  )
  return autoencode.Autoencode(model, reconstruction, kl, start)


def batch(count=4):
  """Discs that move; every second clip ends after three frames."""
  rng = np.random.default_rng(0)
  x, y = np.meshgrid(np.arange(16), np.arange(16))
  video = np.zeros((count, FRAMES, 16, 16, 3), np.uint8)
  for clip in video:
    at, way = rng.uniform(4, 12, 2), rng.uniform(-1, 1, 2)
    colour = rng.uniform(100, 255, 3)
    for t, frame in enumerate(clip):
      cx, cy = at + t * way
      inside = np.clip(4 - np.hypot(x - cx, y - cy), 0, 1)
      frame[:] = (inside[..., None] * colour).astype(np.uint8)
  mask = np.ones(video.shape[:4], bool)
  mask[::2, 3:] = False
  video[::2, 3:] = video[::2, 2:3]
  return {"video": video, "mask": mask}


@functools.cache
def fresh(start="pca"):
  init = functools.partial(objective(start=start).init, jax.random.key(0))
  return nn.meta.unbox(jax.jit(init)(batch()))


@functools.cache
def noisy():
  """Parameters with nothing at 0, so that all paths speak."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: x + (0.1 * rng.normal(size=x.shape)).astype(x.dtype), fresh()
  )


@functools.cache
def losses(**options):
  o = objective(**options)
  return jax.jit(lambda p, b, rng: o.losses["ae"](p, {}, b, rng, 0))


@pytest.mark.parametrize("kl", [0.0, 1.0])
@pytest.mark.parametrize("name", autoencode.RECONSTRUCTION)
def test_what_lies_after_the_end_does_not_count(name, kl):
  run = losses(reconstruction=name, kl=kl)
  data, key = batch(), jax.random.key(0)
  before, metrics = run(noisy(), data, key)
  changed = data["video"].copy()
  changed[~data["mask"]] = 200
  after, again = run(noisy(), data | {"video": changed}, key)
  np.testing.assert_allclose(after, before, atol=1e-6, rtol=1e-6)
  for k, v in metrics.items():
    np.testing.assert_allclose(again[k].compute(), v.compute(), rtol=1e-5)
  changed = data["video"].copy()
  changed[1, 3:] = 200
  after, _ = run(noisy(), data | {"video": changed}, key)
  assert abs(after - before) > 1e-3


@pytest.mark.parametrize("name", autoencode.RECONSTRUCTION)
def test_loss_is_reconstruction_and_kl(name):
  data, key = batch(), jax.random.key(0)
  loss, metrics = losses(reconstruction=name, kl=0.3)(noisy(), data, key)
  values = {k: float(v.compute()) for k, v in metrics.items()}
  assert values["kl"] > 0
  expected = values["reconstruction"] + 0.3 * values["kl"]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(values["loss"], expected, rtol=1e-5)
  if name == "l2":
    psnr = 10 * np.log10(4 / values["reconstruction"])
    np.testing.assert_allclose(values["psnr"], psnr, rtol=1e-4)


def test_kl_is_zero_for_the_unit_gaussian_alone():
  tree = jax.tree.map(jnp.zeros_like, fresh())
  run = losses(reconstruction="l2", kl=1.0)
  for shift in (0.0, -1.0, 2.0):
    # All latents N(0, exp(-8 + 8 + shift)).
    bias = jnp.array([0.0] * 3 + [8.0 + shift] * 3)
    tree["ae"]["enc_out"]["bias"] = bias
    _, metrics = run(tree, batch(), jax.random.key(0))
    exact = 0.5 * (np.exp(shift) - shift - 1)
    np.testing.assert_allclose(metrics["kl"].compute(), exact, atol=1e-5)


def test_training_beats_principal_components():
  run = losses(reconstruction="l2", kl=0.0)
  key, data = jax.random.key(0), batch()

  @jax.jit
  def update(params, state):
    (loss, _), grads = jax.value_and_grad(run, has_aux=True)(params, data, key)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, loss

  optimizer = optax.adam(3e-3)
  params, state, history = fresh(), optimizer.init(fresh()), []
  for _ in range(30):
    params, state, loss = update(params, state)
    history.append(float(loss))
  assert history[-1] < 0.8 * history[0]
  random, _ = run(fresh("random"), data, key)
  assert history[0] < 0.5 * random


def test_normalised_latents_round_trip():
  o, params, data = objective(), fresh()["ae"], batch()
  stats = {"mean": jnp.array([1.0, -2.0, 0.5]), "std": jnp.array([2.0, 0.5, 1])}
  plain = o.encode(params, o.no_stats(), data["video"])
  mean, _ = o.model.apply(
    {"params": params}, ae.from_uint8(data["video"]), method="encode"
  )
  np.testing.assert_array_equal(plain, mean)
  z = o.encode(params, stats, data["video"])
  np.testing.assert_allclose(
    z, (plain - stats["mean"]) / stats["std"], atol=1e-6
  )
  video = o.decode(params, o.no_stats(), plain)
  assert video.dtype == jnp.uint8 and video.shape == data["video"].shape
  again = o.decode(params, stats, z)
  assert np.abs(np.subtract(again, video, dtype=int)).max() <= 1


@pytest.mark.parametrize(
  "options", [{"reconstruction": "l3"}, {"start": "zeros"}]
)
def test_invalid_option_is_an_error(options):
  (value,) = options.values()
  with pytest.raises(ValueError, match=f"'{value}' is not one of .*'"):
    objective(**options)
