"""Every optimizer with every schedule; what decays, and what is a matrix."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib._muon import orthogonalize_via_newton_schulz

from sora_jax import build
from sora_jax.run import Run
from sora_jax.training import optimizer

OPTIONS = {
  "adamw": {"b1": 0.9, "b2": 0.99, "weight_decay": 0.0},
  "muon": {"b1": 0.9, "b2": 0.99, "weight_decay": 0.0},
}
STEPS = 40


def make(
  name,
  schedule="constant",
  clip=1e9,
  rate=0.05,
  clip_unit=0.0,
  narrower=1.0,
  **options,
):
  row = optimizer.OPTIMIZERS[name]
  return optimizer.make(
    functools.partial(row, **(OPTIONS[name] | options)),
    optimizer.SCHEDULES[schedule],
    learning_rate=rate,
    warmup=4,
    clip=clip,
    clip_unit=clip_unit,
    narrower=narrower,
    steps=STEPS,
  )


def weights(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  return {
    "blocks": {
      "attention": {"qkv": {"kernel": draw(2, 4, 6), "bias": draw(2, 6)}},
      "mlp": {"up": {"kernel": draw(2, 4, 8), "bias": draw(2, 8)}},
    },
    "patch": {"kernel": draw(3, 4), "bias": draw(4)},
    "norm": {"scale": draw(4)},
    "embedding": draw(5, 4),
  }


def test_the_table_of_options_is_whole():
  assert set(OPTIONS) == set(optimizer.OPTIMIZERS)


@pytest.mark.parametrize(
  "name, schedule",
  itertools.product(optimizer.OPTIMIZERS, optimizer.SCHEDULES),
)
def test_every_pair_goes_down_a_bowl(name, schedule):
  rule, params = make(name, schedule), weights()

  def loss(p):
    return sum(jnp.square(x).sum() for x in jax.tree.leaves(p))

  @jax.jit
  def step(params, state):
    updates, state = rule.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  state, before = rule.init(params), loss(params)
  for _ in range(STEPS):
    params, state = step(params, state)
  assert loss(params) < 0.5 * before


@pytest.mark.parametrize("name", optimizer.SCHEDULES)
def test_schedules_warm_up_to_their_peak(name):
  rate = optimizer.SCHEDULES[name](0.3, 4, STEPS)
  rates = np.array([float(rate(n)) for n in range(STEPS + 1)])
  np.testing.assert_allclose(rates[:5], np.linspace(0, 0.3, 5), rtol=1e-5)
  assert rates.max() <= 0.3 * (1 + 1e-6)
  ends = {"constant": 0.3, "cosine": 0.02 * 0.3}
  assert rates[-1] == pytest.approx(ends.get(name, 0.0), abs=1e-6)
  assert (np.diff(rates[5:]) <= 1e-8).all()


@pytest.mark.parametrize("name", optimizer.OPTIMIZERS)
def test_only_kernels_decay(name):
  """With no gradient, decay is all that moves anything."""
  rule, params = make(name, weight_decay=0.1), weights()
  state = rule.init(params)
  nothing = jax.tree.map(jnp.zeros_like, params)
  updates = None
  for _ in range(6):  # past the warm-up
    updates, state = rule.update(nothing, state, params)
  for path, moved in jax.tree_util.tree_leaves_with_path(updates):
    if "kernel" in jax.tree_util.keystr(path):
      assert (np.asarray(moved) != 0).all()
    else:
      assert (np.asarray(moved) == 0).all()
  kernel = params["patch"]["kernel"]
  np.testing.assert_allclose(
    updates["patch"]["kernel"], -0.05 * 0.1 * kernel, rtol=1e-5
  )


def test_muon_takes_scanned_kernels_as_a_batch_of_matrices():
  """Two layers in one array move as they would on their own."""
  rng = np.random.default_rng(1)
  kernels = jnp.asarray(rng.normal(size=(2, 4, 6)), jnp.float32)
  grads = jnp.asarray(rng.normal(size=(2, 4, 6)), jnp.float32)
  grads = grads * jnp.array([1.0, 30.0])[:, None, None]  # a scale each

  def run(kernel, grad):
    params = {"mlp": {"up": {"kernel": kernel}}}
    rule = make("muon")
    state = rule.init(params)
    for _ in range(6):
      updates, state = rule.update(
        {"mlp": {"up": {"kernel": grad}}}, state, params
      )
    return np.asarray(updates["mlp"]["up"]["kernel"])

  together = run(kernels, grads)
  for i in range(2):
    np.testing.assert_allclose(
      together[i], run(kernels[i], grads[i]), rtol=1e-4, atol=1e-6
    )


def test_muon_takes_a_convolution_as_one_matrix():
  """From all that it sees to a channel, whatever the kernel's shape."""
  rng = np.random.default_rng(1)
  kernel, grad = rng.normal(size=(2, 3, 3, 4, 8)).astype(np.float32)

  def run(*layer, shape):
    def tree(x):
      x = jnp.asarray(x.reshape(shape))
      for name in layer:
        x = {name: x}
      return x

    params, rule = tree(kernel), make("muon")
    state = rule.init(params)
    for _ in range(6):
      updates, state = rule.update(tree(grad), state, params)
    return np.asarray(jax.tree.leaves(updates)[0]).reshape(36, 8)

  found = run("spatial", "conv", shape=kernel.shape)
  flat = run("kernel", "up", shape=(36, 8))
  np.testing.assert_allclose(found, flat, rtol=1e-4, atol=1e-6)
  values = np.linalg.svd(found, compute_uv=False)
  assert values.max() / values.min() < 2


def test_muon_orthogonalises_matrices_and_leaves_the_rest_to_adam():
  params = weights()
  rng = np.random.default_rng(2)
  grads = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params
  )

  def updates(rule):
    state = rule.init(params)
    for _ in range(6):
      moved, state = rule.update(grads, state, params)
    return moved

  muon = updates(make("muon"))
  adam = updates(optax.nadamw(0.05, b1=0.9, b2=0.99, weight_decay=0.0))
  for name in ("up", "qkv"):
    parent = "mlp" if name == "up" else "attention"
    for tree, least, most in ((muon, 1, 2), (grads, 2, 100)):
      matrix = np.asarray(tree["blocks"][parent][name]["kernel"][0])
      values = np.linalg.svd(matrix, compute_uv=False)
      assert least <= values.max() / values.min() < most
  for name in ("patch", "norm", "embedding"):
    for one, other in zip(
      jax.tree.leaves(muon[name]), jax.tree.leaves(adam[name])
    ):
      np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (3, 8, 20), (3, 20, 8)])
def test_orthogonalised_is_what_optax_makes_of_each_matrix(shape):
  x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
  coefficients = jnp.array([3.4445, -4.7750, 2.0315])
  matrices = x.reshape(-1, *shape[-2:])
  expected = [
    orthogonalize_via_newton_schulz(jnp.asarray(matrix), coefficients)
    for matrix in matrices
  ]
  found = np.asarray(optimizer.orthogonalised(x))
  np.testing.assert_allclose(
    found.reshape(matrices.shape), np.stack(expected), atol=1e-5
  )
  low = np.asarray(optimizer.orthogonalised(x, jnp.bfloat16))
  assert low.dtype == np.float32
  values = np.linalg.svd(low, compute_uv=False)
  assert values.min() > 0.5 and values.max() < 1.3
  assert 0 < np.abs(low - found).max() < 0.05


def test_muon_names_the_formats_that_it_knows():
  with pytest.raises(ValueError, match=r"matmul='float8'.*bfloat16"):
    make("muon", matmul="float8")


def test_gradients_are_clipped_by_their_common_norm():
  rule = optimizer.make(
    optax.sgd,
    optimizer.SCHEDULES["constant"],
    learning_rate=1.0,
    warmup=0,
    clip=1.0,
    clip_unit=0.0,
    steps=STEPS,
  )
  params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  state = rule.init(params)
  grads = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
  updates, _ = rule.update(grads, state, params)
  np.testing.assert_allclose(updates["a"], [-0.6], rtol=1e-5)
  np.testing.assert_allclose(updates["b"], [-0.8], rtol=1e-5)


@pytest.mark.parametrize(
  "name, stage",
  itertools.product(optimizer.OPTIMIZERS, ("autoencoder", "dit")),
)
def test_every_optimizer_fits_the_models(tiny, name, stage, tmp_path):
  """Whose parameters are boxed at first, and bare in the step."""
  run = Run(tiny({f"{stage}.optimizer.name": name}), tmp_path)
  batch, frozen = run.abstract_inputs(stage)
  made = run.stage(stage, batch, frozen, epoch=1)
  after, _ = jax.eval_shape(made.step, made.abstract, batch)
  assert jax.tree.structure(after) == jax.tree.structure(made.abstract)


def test_muon_takes_hidden_matrices_by_their_whole_name():
  """linear_out, dec_out and the like of the autoencoder are no hidden ones."""
  kernel = jnp.ones((4, 4))
  params = {name: {"kernel": kernel} for name in ("out", "linear_out", "upper")}
  state = make("muon").init(params)
  moments = {
    path
    for path, x in jax.tree_util.tree_leaves_with_path(state)
    if x.shape == kernel.shape
  }
  count = {
    name: sum(f"'{name}'" in jax.tree_util.keystr(p) for p in moments)
    for name in params
  }
  # Adam keeps two moments of each number, Muon one.
  assert count == {"out": 1, "linear_out": 2, "upper": 2}


def test_adaptive_clipping_looks_at_each_unit():
  """A unit's gradient is as long as its weights say, or as it was."""
  rng = np.random.default_rng(3)

  def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)

  params = {
    "blocks": {"up": {"kernel": draw(2, 6, 4), "bias": draw(2, 4)}},
    "spatial": {"conv": draw(3, 3, 4, 8)},
    "new": {"kernel": np.zeros((5, 3), np.float32)},
  }
  axes = {"kernel": -2, "bias": -1, "conv": (0, 1, 2)}
  grads = jax.tree.map(lambda x: 10 * draw(*x.shape), params)
  grads["blocks"]["up"]["kernel"][0, :, 1] *= 1e-4  # a unit that is calm
  rule = optimizer.adaptive_clip(0.1)
  found, _ = rule.update(grads, rule.init(params), params)
  for path, x in jax.tree_util.tree_leaves_with_path(found):
    name = path[-1].key
    grad, weight = (
      functools.reduce(lambda t, k: t[k.key], path, tree)
      for tree in (grads, params)
    )
    length, before, size = (
      np.sqrt(np.square(a).sum(axes[name], keepdims=True))
      for a in (x, grad, weight)
    )
    wanted = np.minimum(before, 0.1 * np.maximum(size, 1e-3))
    np.testing.assert_allclose(length, wanted, rtol=1e-5)
    # Its direction stays.
    np.testing.assert_allclose(x * before, grad * length, rtol=1e-4)
  calm = found["blocks"]["up"]["kernel"][0, :, 1]
  np.testing.assert_array_equal(calm, grads["blocks"]["up"]["kernel"][0, :, 1])


@pytest.mark.parametrize("name, power", [("adamw", 1.0), ("muon", 0.5)])
def test_a_rate_is_transferred_to_kernels_that_grow(name, power):
  params = weights()
  grads = jax.tree.map(lambda x: x + 0.1, params)

  def first(narrower):
    rule = make(name, narrower=narrower)
    state = rule.init(params)
    for _ in range(3):
      updates, state = rule.update(grads, state, params)
    return updates

  ratios = jax.tree.map(
    lambda a, b: float((a / b).mean()), first(0.25), first(1)
  )
  attention = ratios["blocks"]["attention"]["qkv"]
  assert attention["kernel"] == pytest.approx(0.25**power, rel=1e-4)
  for same in (
    attention["bias"],
    ratios["embedding"],
    *ratios["patch"].values(),
  ):
    assert same == pytest.approx(1, rel=1e-4)


def test_configs_say_the_width_at_which_a_rate_was_found(tiny, tmp_path):
  """Twice as wide: half the rate in a block, the same at the patches."""

  def moved(base):
    config = tiny({"dit.optimizer.base_width": base})
    optimizers = build.optimizers(config.dit, ("dit",), 1)
    params = {n: {"kernel": jnp.ones((2, 2))} for n in ("up", "patch")}
    state = optimizers["dit"].init(params)
    for _ in range(3):
      updates, state = optimizers["dit"].update(params, state, params)
    return {n: float(x["kernel"][0, 0]) for n, x in updates.items()}

  plain, transferred = moved(0), moved(8)  # tiny is 16 wide
  assert transferred["up"] == pytest.approx(plain["up"] / 2)
  assert transferred["patch"] == pytest.approx(plain["patch"])


def test_an_autoencoder_has_no_rate_to_transfer(tiny):
  config = tiny({"autoencoder.optimizer.base_width": 8})
  with pytest.raises(ValueError, match=r"base_width=8.*set 0"):
    build.everything(config)
