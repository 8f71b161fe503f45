"""Meshes and strategies: what is cut, and what is refused."""

import jax
import pytest

from sora_jax import build
from sora_jax.run import Run
from sora_jax.sharding import mesh as mesh_lib
from sora_jax.sharding import rules
from sora_jax.sharding import state as state_lib
from sora_jax.sharding.placement import Placement
from sora_jax.sharding.rules import STRATEGIES

# On shapes alone: sizes and devices that no test machine has ------------------


def abstract_mesh(**sizes):
  return jax.sharding.AbstractMesh(tuple(sizes.values()), tuple(sizes))


@pytest.mark.parametrize("ways", [2, 8, 64])
def test_fsdp_cuts_the_full_size_model(ways, tmp_path):
  """Nearly all of DiT-B is cut: what stays whole is biases and norms."""
  import functools

  from configs import dit_b
  from sora_jax import build
  from sora_jax.estimate import _local_bytes
  from sora_jax.training import step as step_lib

  config = dit_b.get_config()
  run = Run(config, tmp_path)
  batch, _ = run.abstract_inputs("dit")
  optimizers = build.optimizers(config.dit, ("dit",), 1)
  initial = functools.partial(step_lib.initial, run.diffusion, optimizers)
  mesh = abstract_mesh(data=1, fsdp=ways)
  local = {}
  for strategy in ("replicated", "fsdp"):
    _, abstract = state_lib.create(
      initial,
      (jax.random.PRNGKey(0), batch, {}),
      mesh,
      rules.pick(strategy, mesh.axis_names),
    )
    leaves = jax.tree.leaves((abstract.params, abstract.opt, abstract.ema))
    local[strategy] = sum(map(_local_bytes, leaves))
  assert local["replicated"] == sum(x.size * x.dtype.itemsize for x in leaves)
  assert local["fsdp"] < local["replicated"] * (1 / ways + 0.01)


def test_every_strategy_covers_every_axis():
  for table in STRATEGIES.values():
    assert set(table) == set(rules.AXES)


def test_what_does_not_divide_is_said(tiny, tmp_path, caplog):
  """Width 16 over 3 devices: all of it stays whole."""
  run = Run(tiny(), tmp_path)
  batch, _ = run.abstract_inputs("dit")
  init = run.diffusion.init
  args = (jax.random.PRNGKey(0), batch)
  boxed = jax.eval_shape(init, *args)
  for ways, some in ((3, True), (4, False)):
    mesh = abstract_mesh(data=1, fsdp=ways)
    found = rules.pick("fsdp", mesh.axis_names)
    share, why = state_lib.whole(boxed, mesh, found)
    assert (share > 0.9) == some
    assert ("embed 16 over fsdp=3" in why) == some
    caplog.clear()
    state_lib.create(init, args, mesh, found)
    assert ("stays whole" in caplog.text) == some


# Mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize(
  "axes, wanted",
  [
    ({"data": 3}, r"does not fit 1 devices: .* multiply to 1"),
    ({"data": 2, "fsdp": -1}, r"does not fit 1 devices"),
    ({"data": -1, "fsdp": -1}, r"at most one -1"),
    ({"data": 0, "fsdp": -1}, r"does not fit"),
  ],
)
def test_meshes_that_do_not_multiply(axes, wanted):
  with pytest.raises(ValueError, match=wanted):
    mesh_lib.make(axes)


def test_what_is_left_is_filled_in():
  assert dict(mesh_lib.make({"data": 1, "fsdp": -1}).shape) == {
    "data": 1,
    "fsdp": 1,
  }


def test_unknown_strategies_list_the_valid_ones():
  with pytest.raises(ValueError, match=r"'fdsp'.*fsdp.*replicated"):
    rules.pick("fdsp", ("data", "fsdp"))


def test_a_missing_axis_is_named_with_the_fix():
  with pytest.raises(ValueError, match=r"'fsdp'.*\('data',\) lacks: add"):
    rules.pick("fsdp", ("data",))


@pytest.mark.parametrize(
  "strategy, axis, size, said",
  [
    ("tensor", "attend", 6, r"is 6, .* over 4 devices .*'tensor'.* of 4,"),
    ("sequence", "attend", 9, r"is 9, .* over 2 devices .*'sequence'"),
    ("fsdp_tensor_sequence", "attend", 12, r"is 12, .* over 8 devices"),
    ("sequence", "length", 77, r"is 77, .* over 2 devices .*'sequence'"),
    ("tensor", "length", 77, None),
    ("fsdp", "attend", 7, None),
  ],
)
def test_heads_and_tokens_that_would_stay_whole(strategy, axis, size, said):
  mesh = abstract_mesh(fsdp=3, tensor=4, sequence=2)
  placement = Placement(mesh, rules.pick(strategy, mesh.axis_names))
  placement.check(axis, 24, "that")
  if said is None:
    placement.check(axis, size, "that")
  else:
    with pytest.raises(ValueError, match="that " + said):
      placement.check(axis, size, "that")


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"dit.model.heads": 4}, r"dit.model.heads is 4, .* over 3 devices"),
    ({"dit.rows.length": 65}, r"dit.rows.length \+ dit.rows.text is 385, .* 3"),
  ],
)
def test_a_run_says_what_would_stay_whole(
  tiny, tmp_path, monkeypatch, changes, said
):
  mesh = abstract_mesh(data=1, sequence=3)
  monkeypatch.setattr(mesh_lib, "make", lambda axes: mesh)
  fine = {"strategy": "sequence", "dit.model.width": 24, "dit.model.heads": 6}
  fine |= {"dit.rows.length": 64}
  Run(tiny(fine), tmp_path)
  with pytest.raises(ValueError, match=said):
    Run(tiny(fine | changes), tmp_path)
  alone = tiny(fine | changes | {"stages": ("autoencoder",)})
  Run(alone, tmp_path)  # has no attention to be cut


def test_rows_that_do_not_divide():
  mesh = abstract_mesh(data=2, fsdp=4, model=3)
  placement = Placement(mesh, rules.pick("replicated", mesh.axis_names))
  placement.check("rows", 16, "dit.rows.rows")
  with pytest.raises(
    ValueError, match=r"dit.rows.rows is 12, .* over 8 .* multiple of 8"
  ):
    placement.check("rows", 12, "dit.rows.rows")


def test_rows_of_buckets_that_do_not_divide(tiny):
  mesh = abstract_mesh(data=3)
  placement = Placement(mesh, rules.pick("replicated", mesh.axis_names))
  config = tiny({"dit.rows.rows": 12})
  build.check_rows(config, placement, ["dit"])
  config.dit.rows.layout = "bucketed"
  with pytest.raises(
    ValueError, match=r"power of two in dit.rows.rows=12 is 4, .* over 3"
  ):
    build.check_rows(config, placement, ["dit"])
