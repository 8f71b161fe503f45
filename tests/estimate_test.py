"""Costs, against what a pencil says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax import estimate
from sora_jax.models.dit import REMAT, DiT
from sora_jax.run import Run
from sora_jax.types import Packed, Stream

A, B, C = 3, 5, 7


def shape(*sizes, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(sizes, dtype)


def matmul(x, w):
  return x @ w


def conv(x, w):
  return jax.lax.conv_general_dilated(
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def grouped(x, w):
  return jax.lax.conv_general_dilated(
    x,
    w,
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=2,
  )


def scanned(x, ws):
  return jax.lax.scan(lambda x, w: (x @ w, None), x, ws)[0]


def branch(x, w):
  return jax.lax.cond(x.sum() > 0, lambda: (x @ w) @ w, lambda: x @ w)


def gradients(x, w):
  return jax.grad(lambda x, w: (x @ w).sum(), argnums=(0, 1))(x, w)


ONE = 2 * A * B * B
BY_HAND = {
  "matmul": (matmul, [(A, B), (B, C)], 2 * A * B * C),
  "batch": (matmul, [(4, A, B), (4, B, C)], 4 * 2 * A * B * C),
  "no matmul": (lambda x: jnp.tanh(x) + 1, [(A, B)], 0),
  # Every pixel of the output: 3 x 3 x 5 inputs for each of the 7 outputs.
  "conv": (conv, [(2, 8, 9, B), (3, 3, B, C)], 2 * 2 * 8 * 9 * 9 * B * C),
  "grouped": (
    grouped,
    [(2, 8, 9, 4), (3, 3, 2, 6)],
    2 * 2 * 8 * 9 * 9 * 2 * 6,
  ),
  "scan": (scanned, [(A, B), (6, B, B)], 6 * ONE),
  "cond": (branch, [(A, B), (B, B)], 2 * ONE),
  "jit": (jax.jit(matmul), [(A, B), (B, B)], ONE),
  # The forward pass is traced too, though nothing uses its result.
  "grad": (gradients, [(A, B), (B, B)], 3 * ONE),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_flops_by_hand(name):
  fn, shapes, wanted = BY_HAND[name]
  found = estimate.flops(fn, *(shape(*s) for s in shapes))
  assert found == wanted


def test_gradients_of_a_scan():
  def loss(x, ws):
    return jnp.square(scanned(x, ws)).sum()

  fn = jax.grad(loss, argnums=(0, 1))
  assert estimate.flops(fn, shape(A, B), shape(6, B, B)) == 3 * 6 * ONE


def test_remat_counts_what_is_computed_again():
  def loss(x, ws, policy):
    body = lambda x, w: (jnp.tanh(x @ w), None)  # noqa: E731
    if policy:
      body = jax.checkpoint(body)
    return jax.lax.scan(body, x, ws)[0].sum()

  def cost(policy):
    fn = jax.grad(lambda x, ws: loss(x, ws, policy), argnums=(0, 1))
    return estimate.flops(fn, shape(A, B), shape(6, B, B))

  assert cost(False) == 3 * 6 * ONE
  assert cost(True) == 4 * 6 * ONE


# A transformer ----------------------------------------------------------------

ROWS, LENGTH, WORDS, LEVELS, PATCH = 2, 24, 8, 3, 4
WIDTH, MLP, DEPTH, HEADS = 16, 32, 3, 2


def dit(**changes):
  options = dict(
    patch_size=PATCH,
    width=WIDTH,
    depth=DEPTH,
    heads=HEADS,
    mlp=MLP,
    attention="full",
    rope_base=100.0,
    remat="none",
    scan=True,
    text={"vocab_size": 50, "width": 8, "depth": 0, "heads": 2},
    dtype=jnp.float32,
  )
  return DiT(**(options | changes))


def packed():
  def stream(length, tokens):
    return Stream(
      tokens,
      shape(ROWS, length, 3, dtype=jnp.int32),
      shape(ROWS, length, dtype=jnp.int32),
      shape(ROWS, length, dtype=jnp.int32),
    )

  return Packed(
    {
      "video": stream(LENGTH, shape(ROWS, LENGTH, PATCH)),
      "text": stream(WORDS, shape(ROWS, WORDS, dtype=jnp.int32)),
    },
    shape(ROWS, LEVELS),
  )


def parameters(model):
  import flax.linen as nn

  made = jax.eval_shape(model.init, jax.random.PRNGKey(0), packed())
  return nn.meta.unbox(made)["params"]


def cost(model):
  def forward(params, batch):
    return model.apply({"params": params}, batch)

  return estimate.flops(forward, parameters(model), packed())


@pytest.mark.parametrize("scan", [True, False])
def test_one_block_by_hand(scan):
  """2 * parameters * tokens, and the two matmuls of attention."""
  block = cost(dit(depth=DEPTH + 1, scan=scan)) - cost(dit(scan=scan))
  tokens, levels = ROWS * (LENGTH + WORDS), ROWS * LEVELS
  weights = WIDTH * (3 * WIDTH + WIDTH + 2 * MLP)  # qkv, out, up, down
  attention = 2 * (2 * ROWS * (LENGTH + WORDS) ** 2 * WIDTH)
  modulation = WIDTH * 6 * WIDTH
  # A token looks its modulation up among those of its row's levels.
  lookup = tokens * LEVELS * 6 * WIDTH
  wanted = weights * tokens + modulation * levels + lookup
  assert block == 2 * wanted + attention


def test_remat_costs_about_a_forward_pass(tiny, tmp_path):
  def step(remat):
    run = Run(tiny({"dit.model.remat": remat}), tmp_path)
    batch, frozen = run.abstract_inputs("dit")
    stage = run.stage("dit", batch, frozen, epoch=1)
    return estimate.flops(stage.step, stage.abstract, batch)

  costs = {name: step(name) for name in REMAT}
  assert costs["none"] < costs["full"] < costs["none"] * 4 / 3 + 1
  assert costs["none"] <= costs["dots"] <= costs["full"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_modules_sum_to_the_total(depth):
  params = {"dit": parameters(dit())}
  total = sum(x.size for x in jax.tree.leaves(params))
  found = estimate.modules(params, depth)
  assert sum(found.values()) == total
  assert list(found.values()) == sorted(found.values(), reverse=True)
  assert all(len(name.split("/")) <= depth for name in found)


@pytest.mark.parametrize("stage", ["autoencoder", "dit"])
def test_the_estimate_of_a_stage(tiny, tmp_path, stage):
  """State bytes are those of the arrays that a run would make."""
  run = Run(tiny(), tmp_path)
  batch, frozen = run.abstract_inputs(stage)
  made = run.stage(stage, batch, frozen, epoch=1)
  found = estimate.estimate(made.step, made.abstract, batch, compile=False)
  leaves = jax.tree.leaves(made.abstract)
  assert found.state_bytes == sum(
    np.dtype(x.dtype).itemsize * x.size for x in leaves
  )
  parameters = jax.tree.leaves(made.abstract.params)
  assert sum(found.parameters.values()) == sum(x.size for x in parameters)
  assert found.temporary_bytes is None
  # At least forward and backward through each weight, once a row.
  assert found.flops > 6 * sum(found.parameters.values())
  assert set(dataclasses.asdict(found)) == {
    "parameters",
    "flops",
    "state_bytes",
    "temporary_bytes",
  }
