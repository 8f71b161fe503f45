"""Costs, against what a pencil says."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from configs import common
from sora_jax import estimate, modes
from sora_jax.models.dit import REMAT, DiT
from sora_jax.run import Run
from sora_jax.types import Packed, Stream

HERE = pathlib.Path(__file__)
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


def spread(x, w):
  rows, whole = PartitionSpec("data"), PartitionSpec()
  mesh = AbstractMesh((4,), ("data",))
  specs = {"in_specs": (rows, whole), "out_specs": rows}
  return jax.shard_map(matmul, mesh=mesh, **specs)(x, w)


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
  "shard_map": (spread, [(4 * A, B), (B, B)], 4 * ONE),
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
    clips=2,
    modulation="block",
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
  wanted = weights * tokens + modulation * levels
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
  flops = estimate.flops(made.step, made.abstract, batch)
  assert flops > 6 * sum(found.parameters.values())
  assert set(dataclasses.asdict(found)) == {
    "parameters",
    "state_bytes",
    "temporary_bytes",
  }


# Time -------------------------------------------------------------------------

SLOW = estimate.Device({"float32": 1e6, "bfloat16": 2e6}, 1e5, 1e9)


def test_a_matmul_takes_its_flops_or_its_bytes():
  """By hand; a roofline has two sides."""
  large = estimate.seconds(SLOW, matmul, shape(300, 300), shape(300, 300))
  assert large == pytest.approx(2 * 300**3 / 1e6)
  thin = estimate.seconds(SLOW, matmul, shape(300, 1), shape(1, 300))
  assert thin == pytest.approx(4 * (300 + 300 + 300 * 300) / 1e5)
  half = [shape(300, 300, dtype=jnp.bfloat16)] * 2
  assert estimate.seconds(SLOW, matmul, *half) == pytest.approx(large / 2)


def test_loops_take_as_long_as_their_turns():
  one = estimate.seconds(SLOW, matmul, shape(A, B), shape(B, B))
  six = estimate.seconds(SLOW, scanned, shape(A, B), shape(6, B, B))
  assert six == pytest.approx(6 * one)


def test_this_machine_is_measured():
  device = estimate.device("here")
  assert set(device.flops) == {"float32", "bfloat16"}
  for rate in (*device.flops.values(), device.bandwidth):
    assert 1e7 < rate < 1e16
  # Of memory that is at hand, so that two measurements agree.
  rates = sorted(estimate._bandwidth(256 << 20) for _ in range(3))
  assert rates[2] < 4 * rates[0]
  assert estimate.peak("float32") == device.flops["float32"]


@pytest.mark.parametrize(
  "kind, wanted",
  [("NVIDIA H100 80GB HBM3", 989e12), ("TPU v5 lite", 197e12)],
)
def test_known_devices_are_found_by_their_name(monkeypatch, kind, wanted):
  class Known:
    device_kind = kind

  monkeypatch.setattr(jax, "devices", lambda: [Known()])
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "device_count", lambda: 4)
  assert estimate.peak("bfloat16") == 4 * wanted
  assert estimate.present().flops["bfloat16"] == wanted  # of one


def test_model_flops_do_not_count_twice(tiny, tmp_path):
  """Whatever is computed again, and however attention is."""
  found = set()
  for remat, attention in (("none", "full"), ("full", "blocks")):
    changes = {"dit.model.remat": remat, "dit.model.attention": attention}
    run = Run(tiny(changes), tmp_path)
    batch, _ = run.abstract_inputs("dit")
    found.add(run.model_flops("dit", batch, {}))
  assert len(found) == 1


@pytest.mark.parametrize("stage", ["autoencoder", "dit"])
def test_model_flops_are_not_the_optimizers(tiny, tmp_path, stage):
  """Muon's iterations are matmuls, too."""
  found = set()
  for rule in ({}, common.muon("constant", 1e-3, warmup=1)):
    config = tiny()
    config[stage].optimizer.update(rule)
    run = Run(config, tmp_path)
    found.add(run.model_flops(stage, *run.abstract_inputs(stage)))
  assert len(found) == 1


def test_unknown_devices_list_the_valid_ones(tiny, tmp_path):
  with pytest.raises(ValueError, match=r"cost.device='b200' .*'a100'.*tpu_v4"):
    Run(tiny({"cost.device": "b200"}), tmp_path)


# Eight devices ----------------------------------------------------------------

EIGHT = """
import json, pathlib
import conftest, estimate_test
from sora_jax.run import Run
def run(changes):
  changes = {"cost.device": "h100", **changes}
  return Run(conftest.tiny(changes), pathlib.Path("unused"))
said = estimate_test.costs(run(estimate_test.SPREAD))
for rows in (2, 16):
  said[f"{rows} rows"] = estimate_test.pace(run({"sample.rows": rows}))
  here = run({"sample.rows": rows, "cost.device": "here"})
  said[f"{rows} rows here"] = estimate_test.pace(here)
print(json.dumps(said))
"""
# Attention whose loops end when the data says so, and nothing computed again.
SPREAD = {"dit.model.attention": "blocks", "dit.model.remat": "none"}


def costs(run):
  """What the dry run says of the transformer, as {cost: number}."""
  _, told = modes._training_costs(run, "dit", SLOW)
  return {
    row["cost"]: float(row["dit"].replace(",", ""))
    for row in told
    if "per step" in row["cost"]
  }


def pace(run):
  """Seconds that it says a clip takes, in each bucket."""
  told = modes._sampling_costs(run, SLOW)
  return [float(row["seconds per clip"]) for row in told]


@pytest.fixture(scope="module")
def eight(on_devices):
  """What a process with eight devices says."""
  return json.loads(on_devices(8, EIGHT, HERE.parent))


def test_a_dry_run_counts_the_work_of_all_devices(eight, tiny, tmp_path):
  """On any number of them, and however attention is computed."""
  run = Run(tiny(SPREAD | {"dit.model.attention": "full"}), tmp_path)
  batch, _ = run.abstract_inputs("dit")
  stage = run.stage("dit", batch, {}, epoch=1)
  flops = run.model_flops("dit", batch, {})
  told = ("model GFLOPs per step", "GFLOPs per step with all that it takes")
  for name in told:
    assert eight[name] == round(flops / 1e9, 1) > 0
  one = estimate.seconds(SLOW, stage.step, stage.abstract, batch)
  assert eight["seconds per step"] == pytest.approx(one / 8, rel=1e-3)


@pytest.mark.parametrize("rows, devices", [(2, 1), (16, 8)])
def test_a_dry_run_spreads_the_rows_of_a_call(
  eight, tiny, tmp_path, rows, devices
):
  """Eight devices sample two rows no faster than one does."""
  one = pace(Run(tiny({"sample.rows": rows}), tmp_path))
  wanted = [seconds / devices for seconds in one]
  assert eight[f"{rows} rows"] == pytest.approx(wanted, rel=1e-3)
  # Simulated ones share this machine.
  assert eight[f"{rows} rows here"] == pytest.approx(one, rel=1e-3)
