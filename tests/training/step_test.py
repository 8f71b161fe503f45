"""The train step, on an objective whose gradients are known by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.training import loop
from sora_jax.training import step as step_lib
from sora_jax.types import Mean

RATE = 0.1
EMA = 0.5


@dataclasses.dataclass(frozen=True)
class Toy:
  """Two players who pull at each other's number, as in a GAN.

  loss_a = mean(x) a**2 + a b,  loss_b = b**2 - 3 a b.
  """

  @property
  def losses(self):
    return {"a": self.loss_a, "b": self.loss_b}

  def init(self, rng, batch):
    del rng, batch
    return {"a": {"w": jnp.float32(2.0)}, "b": {"w": jnp.float32(3.0)}}

  def loss_a(self, params, frozen, batch, rng, step):
    del rng, step
    a, b = params["a"]["w"], params["b"]["w"]
    loss = batch["x"].mean() * a**2 + a * b + frozen["c"]
    return loss, {"loss": Mean.of(loss), "x": Mean.of(batch["x"])}

  def loss_b(self, params, frozen, batch, rng, step):
    del frozen, rng, step
    a, b = params["a"]["w"], params["b"]["w"]
    return b**2 - 3 * a * b + batch["y"].mean(), {"loss": Mean.of(b)}


def batch_of(*x, y=0.0):
  return {"x": jnp.array(x, jnp.float32), "y": jnp.full(1, y)}


@pytest.fixture(name="state")
def fresh():
  return step_lib.initial(
    Toy(), optimizers(), jax.random.PRNGKey(0), {}, {"c": jnp.float32(7)}
  )


def optimizers():
  return {p: optax.sgd(RATE, momentum=0.9) for p in ("a", "b")}


@pytest.fixture(scope="module")
def step():
  return jax.jit(step_lib.make(Toy(), optimizers(), EMA))


def assert_same(one, other):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_each_player_follows_its_own_loss_alone(step, state):
  new, metrics = step(state, batch_of(1.0, 4.0))
  # At a = 2, b = 3, mean(x) = 2.5: both gradients at the *old* numbers.
  a = 2 - RATE * (2 * 2.5 * 2 + 3)
  b = 3 - RATE * (2 * 3 - 3 * 2)
  assert new.params["a"]["w"] == pytest.approx(a)
  assert new.params["b"]["w"] == pytest.approx(b)
  assert metrics["a/loss"].compute() == pytest.approx(2.5 * 4 + 6 + 7)
  assert metrics["a/grad_norm"].compute() == pytest.approx(13)
  assert metrics["b/grad_norm"].compute() == pytest.approx(0)
  assert metrics["skipped"].compute() == 0
  assert_same(new.frozen, state.frozen)
  assert_same(new.rng, state.rng)
  assert int(new.step) == 1 and int(new.bad) == 0


def test_average_is_over_fewer_steps_at_first(step, state):
  average = {"a": 2.0, "b": 3.0}
  for n in range(12):
    state, _ = step(state, batch_of(0.1))
    decay = min(EMA, (1 + n) / (10 + n))
    for player in average:
      average[player] *= decay
      average[player] += (1 - decay) * float(state.params[player]["w"])
      assert state.ema[player]["w"] == pytest.approx(average[player], rel=1e-5)
  assert decay == EMA  # long enough for both sides of the minimum


@pytest.mark.parametrize(
  "batch", [batch_of(np.nan), batch_of(np.inf), batch_of(1.0, y=np.nan)]
)
def test_steps_that_are_not_finite_change_nothing(step, state, batch):
  """Not even for the player whose own loss is fine."""
  state, _ = step(state, batch_of(1.0))
  new, metrics = step(state, batch)
  for name in ("params", "opt", "ema", "frozen", "rng"):
    assert_same(getattr(new, name), getattr(state, name))
  assert int(new.step) == 2 and int(new.bad) == 1
  assert metrics["skipped"].compute() == 1
  for metric in jax.tree.leaves(metrics):
    assert np.isfinite(metric)
  again, _ = step(new, batch)
  assert int(again.bad) == 2
  good, _ = step(again, batch_of(1.0))
  assert int(good.bad) == 0
  expected, _ = step(state, batch_of(1.0))
  assert_same(good.params, expected.params)


def test_means_merge_by_what_they_count(step, state):
  """Skipped steps count for nothing but `skipped`."""
  found = []
  for x in ([1.0, 2.0, 3.0], [10.0], [np.nan, 1.0]):
    state, metrics = step(state, batch_of(*x))
    found.append(metrics)
  merged = loop.merge(found)
  assert merged["a/x"] == pytest.approx(16 / 4)
  assert merged["skipped"] == pytest.approx(1 / 3)
  only = loop.merge(found[2:])
  assert np.isnan(only["a/x"]) and only["skipped"] == 1


def test_one_player_needs_no_prefix():
  class One:
    def __init__(self):
      self.losses = {
        "a": lambda params, *_: (params["a"] ** 2, {"loss": Mean.of(1.0)})
      }

    def init(self, rng, batch):
      del rng, batch
      return {"a": jnp.float32(2)}

  one = {"a": optax.sgd(RATE)}
  state = step_lib.initial(One(), one, jax.random.PRNGKey(0), {}, {})
  new, metrics = step_lib.make(One(), one, EMA)(state, batch_of(1.0))
  assert set(metrics) == {"loss", "grad_norm", "skipped"}
  assert set(new.opt) == {"a"}


def test_every_step_has_its_own_key_and_keeps_it():
  class Noise:
    def __init__(self):
      self.losses = {"p": self.loss}

    def loss(self, params, frozen, batch, rng, step):
      del frozen, batch, step
      return params["p"] * 0.0, {"draw": Mean.of(jax.random.normal(rng))}

    def init(self, rng, batch):
      del rng, batch
      return {"p": jnp.float32(0)}

  one = {"p": optax.sgd(RATE)}
  state = step_lib.initial(Noise(), one, jax.random.PRNGKey(3), {}, {})
  step = step_lib.make(Noise(), one, EMA)
  draws = []
  for _ in range(3):
    again = step(state, {})[1]["draw"].compute()
    state, metrics = step(state, {})
    draws.append(float(metrics["draw"].compute()))
    assert draws[-1] == float(again)
  assert len(set(draws)) == 3
