"""Eight devices compute what one does, whatever the strategy and the mesh."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest

from sora_jax.run import Run
from sora_jax.sharding.rules import STRATEGIES
from sora_jax.types import Clip
from sora_jax.utils import tree

HERE = pathlib.Path(__file__)
STAGES = ("autoencoder", "dit")
STEPS = 20
SAME = 1e-5  # by how much parameters may differ
# The meshes of eight devices on which each strategy trains.
MESHES = {
  "replicated": [{"data": 8}],
  "fsdp": [{"data": 1, "fsdp": 8}, {"data": 2, "fsdp": 4}],
  "tensor": [{"data": 4, "tensor": 2}],
  "sequence": [{"data": 4, "sequence": 2}],
  "fsdp_tensor": [{"data": 1, "fsdp": 4, "tensor": 2}],
  "fsdp_sequence": [{"data": 2, "fsdp": 2, "sequence": 2}],
  "fsdp_tensor_sequence": [{"fsdp": 2, "tensor": 2, "sequence": 2}],
}
JUDGED = ("fsdp", {"data": 2, "fsdp": 4}), ("fsdp_sequence", None)
# Where the transformer also trains with operands in bfloat16.
ROUNDED = "fsdp_tensor_sequence"
COMBINATIONS = [
  (stage, strategy, mesh)
  for strategy, meshes in MESHES.items()
  for mesh in meshes
  for stage in STAGES
  if stage == "dit" or "sequence" not in strategy  # it has no such axis
]


def name_of(value):
  if isinstance(value, dict):
    return "x".join(map(str, value.values()))
  return str(value)


def batch_of(run, stage):
  """Random data in the shapes that the stage trains on."""
  rng = np.random.default_rng(0)
  shapes, _ = run.abstract_inputs(stage)
  if stage == "autoencoder":
    size = shapes["video"].shape
    return {
      "video": rng.integers(0, 255, size, np.uint8),
      "mask": rng.random(size[:-1]) < 0.9,
    }
  rows, length = shapes["video_segments"].shape
  words = shapes["text"].shape[1]
  segments = np.repeat([[1, 2, 0]], rows, 0).repeat(length // 3 + 1, 1)
  said = np.repeat([[1, 2, 0]], rows, 0).repeat(words // 3 + 1, 1)
  positions = rng.integers(0, 2, (rows, length, 3))
  return {
    "video": rng.normal(size=shapes["video"].shape).astype(np.float32),
    "video_positions": positions.astype(np.int32),
    "video_segments": segments[:, :length].astype(np.int32),
    "text": rng.integers(3, 250, (rows, words), np.int32),
    "text_positions": np.zeros((rows, words, 3), np.int32),
    "text_segments": said[:, :words].astype(np.int32),
  }


def train(config, stage_name, judged):
  """Losses of a few steps, the parameters after them, and the stage."""
  import optax

  from sora_jax import build
  from sora_jax.training import loop

  # Adam turns rounding of tiny gradients into whole steps; this shows them
  # as they are, and its momentum is sharded like any other state.
  build.optimizers = lambda section, players, steps_per_epoch: {
    player: optax.sgd(0.05, momentum=0.9) for player in players
  }
  run = Run(config, pathlib.Path("unused"))
  _, frozen = run.abstract_inputs(stage_name)
  # The step needs no frozen parameters, and a state without them is simpler.
  frozen = {} if stage_name == "dit" else frozen
  batch = batch_of(run, stage_name)
  stage = run.stage(stage_name, batch, frozen, epoch=1)
  state, losses = noisy(stage.make()), []
  # A copy, for a step gives the state's memory away.
  start = dict(tree.named(jax.tree.map(np.array, state.params)))
  for _ in range(STEPS):
    state, metrics = stage.step(state, loop.put(batch, run.rows))
    jax.block_until_ready(state)  # steps side by side would need more threads
    losses.append(float(metrics["loss"].compute()))
  params = dict(tree.named(jax.device_get(state.params)))
  placed = all(
    x.sharding.is_equivalent_to(y.sharding, x.ndim)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(stage.abstract))
  )
  local = sum(x.addressable_shards[0].data.nbytes for x in _opt(state))
  whole = sum(x.nbytes for x in _opt(state))
  facts = {"losses": losses, "placed": placed, "local": local, "whole": whole}
  facts["moved"] = {k: float(abs(params[k] - start[k]).max()) for k in params}
  if judged:
    facts["judged"] = judge(run, stage_name, state, batch)
  return facts, params


def noisy(state):
  """The state, away from the zeros at which most parameters would stay."""
  rng = np.random.default_rng(0)

  def move(x):
    noise = 0.1 * rng.normal(size=x.shape)
    return jax.device_put(np.asarray(x + noise, x.dtype), x.sharding)

  return state.replace(params=jax.tree.map(move, state.params))


def judge(run, stage, state, batch):
  """What an evaluator of the stage says of the state as it is placed."""
  from sora_jax.evaluators.context import Context
  from sora_jax.evaluators.fixed_times import FixedTimes
  from sora_jax.evaluators.reconstruction import Reconstruction

  clips = []
  if stage == "autoencoder":
    clips = [Clip(v, 8.0, "", str(i)) for i, v in enumerate(batch["video"][:2])]
  context = Context(
    stage=stage,
    workdir=run.workdir,
    writer=None,
    autoencoder=run.codec,
    clips=clips,
    diffusion=run.diffusion,
    batch=batch,
  )
  if stage == "autoencoder":
    return dict(Reconstruction(context, 2, False, "", "").run(state))
  return dict(FixedTimes(context, 2).run(state))


def _opt(state):
  return jax.tree.leaves((state.params, state.ema, state.opt))


def config_of(tiny, strategy, mesh, matmul="dtype"):
  """A principal start would rest on eigenvectors, whose signs are free."""
  config = tiny(
    {
      "strategy": strategy,
      "autoencoder.objective.start": "random",
      "dit.model.heads": 4,
      "dit.model.matmul": matmul,
      "dit.model.text.heads": 4,
    }
  )
  with config.unlocked():
    config.mesh = mesh
  return config


def collectives(run):
  """Kinds and result shapes of what the transformer's step exchanges."""
  batch, _ = run.abstract_inputs("dit")
  stage = run.stage("dit", batch, {}, epoch=1)
  text = stage.step.lower(stage.abstract, batch).compile().as_text()
  kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
  found = re.findall(rf"= (.*) ({kinds})(?:-start)?\(", text)
  return [
    (
      kind,
      [
        [int(n) for n in re.findall(r"\d+", shape)]
        for shape in re.findall(r"\[([\d,]*)\]", result)
      ],
    )
    for result, kind in found
  ]


def main(folder):
  """In the process with eight devices: every combination into a folder.

  What an earlier process has left there is not made again.
  """
  import conftest

  assert jax.device_count() == 8
  for i, (stage, strategy, mesh) in enumerate(COMBINATIONS):
    if (folder / f"{i}.json").exists():
      continue
    config = config_of(conftest.tiny, strategy, mesh)
    judged = (strategy, mesh) in JUDGED or (strategy, None) in JUDGED
    if stage == "dit":
      run = Run(config, pathlib.Path("unused"))
      text = json.dumps(collectives(run))
      (folder / f"{strategy}.exchanged.json").write_text(text)
    facts, params = train(config, stage, judged)
    np.savez(folder / f"{i}.npz", **params)
    (folder / f"{i}.json").write_text(json.dumps(facts))
  config = config_of(conftest.tiny, ROUNDED, MESHES[ROUNDED][0], "bfloat16")
  facts, _ = train(config, "dit", judged=False)
  (folder / "rounded.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def eight(tmp_path_factory, on_devices):
  """(facts, parameters) of every combination on eight devices."""
  folder = tmp_path_factory.mktemp("eight")
  code = "import pathlib, sharding_test as t; t.main(pathlib.Path(sys.argv[2]))"
  on_devices(8, code, HERE.parent, folder)
  found = {
    i: (
      json.loads((folder / f"{i}.json").read_text()),
      dict(np.load(folder / f"{i}.npz")),
    )
    for i in range(len(COMBINATIONS))
  }
  for strategy in MESHES:
    text = (folder / f"{strategy}.exchanged.json").read_text()
    found[strategy] = json.loads(text)
  found["rounded"] = json.loads((folder / "rounded.json").read_text())
  return found


@pytest.fixture(scope="module")
def one(tiny):
  """The same on this process's one device."""
  assert jax.device_count() == 1
  with pytest.MonkeyPatch.context() as patch:
    from sora_jax import build

    patch.setattr(build, "optimizers", build.optimizers)  # `train` sets it
    mesh = {"data": 1, "fsdp": 1}
    return {
      s: train(config_of(tiny, "fsdp", mesh), s, judged=True) for s in STAGES
    }


@pytest.mark.parametrize(
  "index",
  range(len(COMBINATIONS)),
  ids=["-".join(map(name_of, c)) for c in COMBINATIONS],
)
def test_eight_devices_learn_what_one_does(eight, one, index, tiny, tmp_path):
  stage, strategy, mesh = COMBINATIONS[index]
  (facts, params), (wanted, expected) = eight[index], one[stage]
  np.testing.assert_allclose(facts["losses"], wanted["losses"], rtol=1e-5)
  least = min(facts["moved"].values())
  assert least > 20 * SAME, "equal because they hardly moved"
  assert params.keys() == expected.keys()
  for name in params:
    np.testing.assert_allclose(
      params[name], expected[name], atol=SAME, err_msg=name
    )
  if "judged" in facts:
    assert facts["judged"] == pytest.approx(wanted["judged"], rel=1e-3)
  assert facts["placed"]
  run = Run(config_of(tiny, "fsdp", {"data": 1, "fsdp": 1}), tmp_path)
  # Parameters, their average, and the momentum.
  assert facts["local"] == 3 * bytes_by_hand(run, stage, strategy, mesh)
  assert facts["whole"] == 3 * bytes_by_hand(run, stage, "replicated", mesh)


def test_rounded_operands_on_eight_devices_learn_what_one_does(
  eight, one, tiny, monkeypatch
):
  from sora_jax import build

  monkeypatch.setattr(build, "optimizers", build.optimizers)
  config = config_of(tiny, "fsdp", {"data": 1, "fsdp": 1}, "bfloat16")
  facts, _ = train(config, "dit", judged=False)
  found, exact = eight["rounded"]["losses"], one["dit"][0]["losses"]
  np.testing.assert_allclose(found, facts["losses"], rtol=1e-3)
  np.testing.assert_allclose(found, exact, rtol=2e-2)
  assert found != exact


CUT = {"embed": "fsdp", "mlp": "tensor", "heads": "tensor", "vocab": "tensor"}


def bytes_by_hand(run, stage, strategy, mesh):
  """Of one device: weights with axes that the strategy's name says are cut."""
  objective = run.codec if stage == "autoencoder" else run.diffusion
  batch, _ = run.abstract_inputs(stage)
  boxed = jax.eval_shape(objective.init, jax.random.PRNGKey(0), batch)
  total = 0
  for box in jax.tree.leaves(boxed, is_leaf=lambda x: hasattr(x, "names")):
    cut = 1
    for axis, size in zip(box.names, box.value.shape):
      over = CUT.get(axis, "none")
      ways = mesh[over] if over in strategy.split("_") else 1
      cut *= ways if size % ways == 0 else 1
    total += box.value.size * box.value.dtype.itemsize // cut
  return total


# What a strategy may exchange, and what it must. On the CPU a scattered sum is
# an "all-reduce" of which each device keeps its share.
EXCHANGES = {
  "replicated": {"all-reduce"},
  "fsdp": {"all-reduce", "all-gather"},
  "tensor": {"all-reduce"},
  "sequence": {"all-reduce", "all-gather", "all-to-all"},
  "fsdp_tensor": {"all-reduce", "all-gather"},
  "fsdp_sequence": {"all-reduce", "all-gather", "all-to-all"},
  "fsdp_tensor_sequence": {"all-reduce", "all-gather", "all-to-all"},
}


@pytest.mark.parametrize("strategy", MESHES)
def test_the_step_exchanges_what_its_strategy_says(eight, strategy):
  assert {kind for kind, _ in eight[strategy]} == EXCHANGES[strategy]


def test_fsdp_gathers_weights_and_nothing_else(eight, tiny, tmp_path):
  """Gathered activations would be the sign of a strategy gone wrong."""
  run = Run(config_of(tiny, "fsdp", {"data": 1, "fsdp": 1}), tmp_path)
  batch, _ = run.abstract_inputs("dit")
  boxed = jax.eval_shape(run.diffusion.init, jax.random.PRNGKey(0), batch)
  weights = set()
  for box in jax.tree.leaves(boxed, is_leaf=lambda x: hasattr(x, "names")):
    layers = box.names[0] == "layers"
    weights.add(tuple(sorted(box.value.shape[layers:])))
  gathered = {
    tuple(sorted(n for n in shape if n > 1))
    for kind, shapes in eight["fsdp"]
    for shape in shapes
    if kind == "all-gather"
  }
  assert gathered <= weights


def test_tokens_and_heads_change_places_twice_an_attention(eight):
  """Of the blocks and of the text encoder, forwards and backwards."""
  count = sum(kind == "all-to-all" for kind, _ in eight["sequence"])
  modules, places, directions = 2, 2, 2
  again = 2  # remat's backward pass computes the blocks' attention anew
  assert count == modules * places * directions + again, eight["sequence"]


def test_every_strategy_trains_here():
  assert set(MESHES) == set(STRATEGIES)
