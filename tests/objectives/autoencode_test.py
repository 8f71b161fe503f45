"""The autoencoder's loss: padding does not count, and training helps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.models import autoencoder as ae
from sora_jax.models.discriminator import Discriminator
from sora_jax.objectives import autoencode, penalties
from tests.conftest import autoencoder
from tests.models.perceptual_test import thin

FRAMES = 5


def objective(reconstruction="l2", kl=1e-6, start="pca", **more):
  model = autoencoder((2, 4, 4), channels=3, width=24)
  more = {"terms": {}, "equivariance": 0.0} | more
  return autoencode.Autoencode(
    model, reconstruction, kl=kl, start=start, **more
  )


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
@pytest.mark.parametrize("name", penalties.RECONSTRUCTION)
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


@pytest.mark.parametrize("name", penalties.RECONSTRUCTION)
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


def test_half_the_scale_by_hand():
  """Clips end early and must not count; noise of the latents is left out."""
  data = batch()
  data["mask"][1, :, 9:, 7:] = False  # ends within a pair of pixels, too
  own, bias = noisy()["ae"], jnp.array([0.0] * 3 + [-60.0] * 3)  # no noise
  own = own | {"enc_out": own["enc_out"] | {"bias": bias}}
  params = {"ae": own}
  o = objective(equivariance=0.5)
  loss, metrics = o.loss(params, {}, data, jax.random.key(0), 0)
  apply = functools.partial(o.model.apply, {"params": params["ae"]})
  video = ae.from_uint8(data["video"])
  z, _ = apply(video, method="encode")
  pooled = np.mean(
    [z[:, :, i::2, k::2] for i in range(2) for k in range(2)], axis=0
  )
  small = np.mean(
    [video[:, :, i::2, k::2] for i in range(2) for k in range(2)], axis=0
  )
  error = np.square(apply(pooled, method="decode") - small).mean(-1)
  shown = np.all(
    [data["mask"][:, :, i::2, k::2] for i in range(2) for k in range(2)], axis=0
  )
  expected = error[shown].mean()
  np.testing.assert_allclose(metrics["half"].compute(), expected, rtol=1e-4)
  rest = metrics["reconstruction"].compute() + 1e-6 * metrics["kl"].compute()
  np.testing.assert_allclose(loss, rest + 0.5 * expected, rtol=1e-4)


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


def test_lpips_is_added_with_its_weight_and_masked():
  o = objective(perceptual=0.5)
  data, key = batch(), jax.random.key(0)
  frozen = {"perceptual": thin()}
  loss, metrics = o.losses["ae"](noisy(), frozen, data, key, 0)
  plain, _ = losses()(noisy(), data, key)
  away = float(metrics["lpips"].compute())
  assert away > 0
  np.testing.assert_allclose(loss, plain + 0.5 * away, rtol=1e-5)
  changed = data["video"].copy()
  changed[~data["mask"]] = 200
  again, _ = o.losses["ae"](noisy(), frozen, data | {"video": changed}, key, 0)
  np.testing.assert_allclose(again, loss, rtol=1e-5)


# Two players ------------------------------------------------------------------


def padded():
  """The batch with an image and a clip that fills a quarter of its frame."""
  data = batch()
  mask = data["mask"].copy()
  mask[1, 1:], mask[2, :, 8:], mask[2, :, :, 8:] = False, False, False
  return {"video": data["video"], "mask": mask}


def adversary(weight=0.5, start=0, r1=1.0):
  judge = Discriminator(width=4, depth=2, dtype=jnp.float32)
  return autoencode.Adversary(judge, weight, start, r1)


def players(**options):
  o = objective(adversary=adversary(**options))
  params = nn.meta.unbox(jax.jit(o.init)(jax.random.key(0), batch()))
  return o, params


def test_without_an_adversary_there_is_one_player():
  assert set(objective().losses) == {"ae"}
  o, params = players()
  assert set(o.losses) == set(params) == {"ae", "disc"}


def test_the_adversary_has_no_say_before_its_start():
  o, params = players(start=5)
  params["ae"] = noisy()["ae"]
  key, data = jax.random.key(0), batch()

  @jax.jit
  def slope(own, step):
    def loss(own):
      return o.losses["ae"]({**params, "ae": own}, {}, data, key, step)[0]

    return jax.grad(loss)(own)

  # Compiled, too: op by op it rounds otherwise.
  alone = jax.jit(
    jax.grad(
      lambda own: objective().losses["ae"]({"ae": own}, {}, data, key, 0)[0]
    )
  )(params["ae"])
  for wanted, found in zip(
    jax.tree.leaves(alone), jax.tree.leaves(slope(params["ae"], 4))
  ):
    np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=1e-4)
  changed = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), alone, slope(params["ae"], 5)
  )
  assert max(jax.tree.leaves(changed)) > 1e-4


def test_the_adaptive_weight_balances_the_slopes():
  """By the decoded pixels both terms pull as hard, times the weight."""
  o, params = players(weight=0.3)
  made = jnp.asarray(batch()["video"], jnp.float32) / 255
  slope = jnp.asarray(np.random.default_rng(0).normal(size=made.shape))
  mask = jnp.asarray(padded()["mask"][..., None], jnp.float32)
  slope *= mask
  fooled, share = o._fooled(params["disc"], made, mask, slope, 7)
  seen = o.adversary.model.seen(mask)

  def minus(x):
    logits = o.adversary.model.apply({"params": params["disc"]}, x * mask)
    return -(logits * seen).sum() / seen.sum()

  own = jax.grad(minus)(made)
  assert fooled == pytest.approx(float(minus(made)), rel=1e-4)
  ratio = float(share * jnp.linalg.norm(own) / jnp.linalg.norm(slope))
  assert ratio == pytest.approx(0.3, rel=1e-4)


def test_padding_is_not_what_the_players_pay_for():
  """Clips of half the size in a frame of the whole, or alone."""
  o, params = players()
  data = batch()
  small = {
    "video": data["video"][:, :, :8, :8],
    "mask": np.ones((4, FRAMES, 8, 8), bool),
  }
  large = {"video": data["video"].copy(), "mask": np.zeros_like(data["mask"])}
  large["mask"][:, :, :8, :8] = True
  values = []
  for one in (small, large):
    _, metrics = o.losses["disc"](params, {}, one, jax.random.key(0), 0)
    values.append({k: float(v.compute()) for k, v in metrics.items()})
  # Above the first layer a border is zeros or what overlaps it: near only.
  for name in ("r1", "loss"):
    assert 0.5 < values[1][name] / values[0][name] < 2, name


def test_the_gradient_penalty_is_that_of_the_real_clips():
  o, params = players(r1=2.0)
  key, data = jax.random.key(0), padded()
  loss, metrics = o.losses["disc"](params, {}, data, key, 0)
  mask = jnp.asarray(data["mask"][..., None], jnp.float32)
  seen = o.adversary.model.seen(mask)

  def total(x):
    logits = o.adversary.model.apply({"params": params["disc"]}, x * mask)
    return (logits * seen).sum()

  slope = jax.grad(total)(ae.from_uint8(data["video"]))
  wanted = float(jnp.square(slope).sum() / seen.sum())
  assert float(metrics["r1"].compute()) == pytest.approx(wanted, rel=1e-4)
  hinge = float(metrics["loss"].compute())
  assert float(loss) == pytest.approx(hinge + wanted, rel=1e-4)


def test_the_discriminator_learns_and_never_sees_the_padding():
  o, params = players(r1=0.0)
  data, key = batch(), jax.random.key(0)
  run = jax.jit(
    jax.value_and_grad(
      lambda own, data: o.losses["disc"](
        {**params, "disc": own}, {}, data, key, 0
      )[0]
    )
  )
  optimizer = optax.adam(3e-3)
  own, state = params["disc"], optimizer.init(params["disc"])
  history = []
  for _ in range(40):
    value, grads = run(own, data)
    updates, state = optimizer.update(grads, state)
    own = optax.apply_updates(own, updates)
    history.append(float(value))
  assert history[-1] < 0.7 * history[0]
  changed = data["video"].copy()
  changed[~data["mask"]] = 77
  again = run(own, data | {"video": changed})[0]
  np.testing.assert_allclose(again, run(own, data)[0], rtol=1e-5)
