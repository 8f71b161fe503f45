"""Checkpoints: exact, portable between devices, and safe from kill -9."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax import types
from sora_jax.training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = {"name": "test", "model": {"width": 4, "patch": (1, 2, 2)}}


def make_state(seed=0):
  """A small state of the real structure: two dtypes, two players, adamw."""
  key = jax.random.key(seed)
  params = {
    "ae": {"dense": {"kernel": jax.random.normal(key, (8, 4))}},
    "disc": {"scale": jax.random.normal(key, (4,), jnp.bfloat16)},
  }
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.1)
  )
  opt = {}
  for player, tree in params.items():
    _, opt[player] = optimizer.update(tree, optimizer.init(tree), tree)
  return types.State(
    step=jnp.int32(seed),
    params=params,
    opt=opt,
    ema={"ae": jax.tree.map(lambda x: x / 3, params["ae"])},
    frozen={},
    rng=jax.random.key_data(key),
    bad=jnp.int32(0),
  )


def abstract(tree):
  return jax.eval_shape(lambda: tree)


def assert_equal(actual, expected):
  """Bit for bit, structure and dtypes included."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def opened(directory, keep=2):
  return checkpoint.Checkpointer(directory, keep=keep, config=CONFIG)


def numbers():
  """A shuffled grain pipeline, read ahead by threads."""
  data = grain.MapDataset.range(1000).shuffle(seed=0).repeat().batch(4)
  return data.to_iter_dataset(grain.ReadOptions(num_threads=2))


def script(source, *arguments, **environment):
  """Starts `source` in another python at the root of the repository."""
  return subprocess.Popen(
    [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
  )


def test_round_trip_is_bit_exact(tmp_path):
  state = make_state(5)
  with opened(tmp_path) as checkpoints:
    assert checkpoints.latest() is None
    checkpoints.save(5, state, meta={"seconds": 12.3})
  with opened(tmp_path) as checkpoints:
    assert checkpoints.latest() == 5
    assert_equal(checkpoints.restore(abstract(state)), state)
    assert checkpoints.meta() == {"seconds": 12.3}
    assert checkpoints.config()["model"] == {"width": 4, "patch": [1, 2, 2]}
  assert checkpoint.load_config(tmp_path, step=5)["name"] == "test"


def test_saved_as_of_the_call_though_the_state_is_donated(tmp_path):
  update = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  state = update({"x": jnp.arange(2_000_000)})
  with opened(tmp_path) as checkpoints:
    expected = np.array(state["x"])
    checkpoints.save(1, state)
    for _ in range(5):
      state = update(state)
    restored = checkpoints.restore(abstract(state))
  assert (np.asarray(restored["x"]) == expected).all()


def test_a_step_that_exists_is_kept(tmp_path):
  first, second = make_state(1), make_state(2)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, first)
    checkpoints.save(1, second, force=True)
    assert_equal(checkpoints.restore(abstract(first)), first)


def test_force_returns_when_it_is_on_disk(tmp_path):
  state = {"x": jnp.arange(5_000_000)}
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state, force=True)
    assert_equal(checkpoint.load(tmp_path, abstract(state)), state)


def test_keep_and_relative_paths(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  state = make_state()
  with opened("run/checkpoints", keep=2) as checkpoints:
    for step in (1, 2, 3, 4):
      checkpoints.save(step, state.replace(step=jnp.int32(step)))
  saved = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
  assert saved == ["3", "4"]
  with opened("run/checkpoints") as checkpoints:
    assert checkpoints.restore(abstract(state), step=3).step == 3
    with pytest.raises(FileNotFoundError, match=r"step 1 .*there: \[3, 4\]"):
      checkpoints.restore(abstract(state), step=1)
  with pytest.raises(ValueError, match="keep=0"):
    opened("run/checkpoints", keep=0)


def test_iterator_continues_where_it_was(tmp_path):
  state, data = make_state(), iter(numbers())
  for _ in range(3):
    next(data)
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, state, data)
    expected = [next(data) for _ in range(5)]  # While it is being written.
  resumed = iter(numbers())
  with opened(tmp_path) as checkpoints:
    checkpoints.restore(abstract(state), resumed)
  assert np.array_equal([next(resumed) for _ in range(5)], expected)


def test_iterator_that_was_not_saved(tmp_path):
  state = make_state()
  with opened(tmp_path) as checkpoints:
    checkpoints.save(3, state)
    with pytest.raises(ValueError, match=r"3 cannot be read: .*'data'"):
      checkpoints.restore(abstract(state), iter(numbers()))


def test_restore_on_another_number_of_devices(tmp_path):
  source = """
    import sys, jax, jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec
    from sora_jax.training import checkpoint
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    state = {
      "x": jax.device_put(jnp.arange(64.0).reshape(16, 4), rows),
      "step": jax.device_put(jnp.int32(7), everywhere),
    }
    with checkpoint.Checkpointer(sys.argv[1], keep=1, config={}) as saving:
      saving.save(7, state)
  """
  flags = "--xla_force_host_platform_device_count=8"
  assert script(source, tmp_path, XLA_FLAGS=flags).wait(120) == 0
  expected = {"x": jnp.arange(64.0).reshape(16, 4), "step": jnp.int32(7)}
  with opened(tmp_path) as checkpoints:
    restored = checkpoints.restore(abstract(expected))
  assert_equal(restored, expected)
  assert restored["x"].devices() == {jax.devices()[0]}


def test_killed_while_saving_loses_nothing(tmp_path):
  source = """
    import sys, numpy as np
    from sora_jax.training import checkpoint
    x = np.random.default_rng(0).integers(0, 2**32, 50_000_000, np.uint32)
    saving = checkpoint.Checkpointer(sys.argv[1], keep=5, config={})
    saving.save(1, {"x": x[:10]}, force=True)
    saving.save(2, {"x": x}, force=True)
  """
  expected = np.random.default_rng(0).integers(0, 2**32, 10, np.uint32)
  state = {"x": jnp.asarray(expected)}
  delays = {tmp_path / str(delay): delay for delay in (0.0, 0.1, 0.3)}
  writers = {path: script(source, path) for path in delays}
  unfinished = 0
  while writers:
    for path, writer in list(writers.items()):
      started = list(path.glob("2.*"))
      if not started and writer.poll() is None:
        continue
      time.sleep(delays[path])
      writers.pop(path).kill()
      assert writer.wait() in (0, -signal.SIGKILL)
      unfinished += bool(list(path.glob("2.*")))
    time.sleep(0.01)
  assert unfinished, "None of the kills came in the middle of a save."
  for path in delays:
    with opened(path, keep=5) as checkpoints:
      assert checkpoints.latest() in (1, 2)
      assert_equal(checkpoints.restore(abstract(state), step=1), state)
      if checkpoints.latest() == 1:
        checkpoints.save(2, state, force=True)
        assert_equal(checkpoints.restore(abstract(state)), state)
    assert sorted(child.name for child in path.iterdir()) == ["1", "2"]


def test_load_reads_a_part(tmp_path):
  state = make_state()
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state)
  part = {"ema": state.ema, "step": state.step}
  assert_equal(checkpoint.load(tmp_path, abstract(part)), part)
  cast = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), {"ema": state.ema}
  )
  loaded = checkpoint.load(tmp_path, cast, step=1)
  assert loaded["ema"]["ae"]["dense"]["kernel"].dtype == jnp.bfloat16


def test_what_does_not_fit_is_named(tmp_path):
  state = make_state()
  like = abstract(state)
  kernel = "params/ae/dense/kernel"
  wide = {"dense": {"kernel": jax.ShapeDtypeStruct((8, 5), jnp.float32)}}
  half = {"dense": {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.bfloat16)}}
  new = like.params["ae"] | {"bias": jax.ShapeDtypeStruct((4,), jnp.float32)}
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state)
    for tree, reason in [
      (wide, rf"{kernel}: saved float32\[8, 4\], asked for float32\[8, 5\]"),
      (half, rf"{kernel}: saved float32\[8, 4\], asked for bfloat16\[8, 4\]"),
      (new, r"params/ae/bias: not in the checkpoint"),
      ({}, rf"{kernel}: saved, but not asked for"),
    ]:
      changed = like.replace(params=like.params | {"ae": tree})
      with pytest.raises(ValueError, match=reason) as error:
        checkpoints.restore(changed)
      assert str(tmp_path / "1") in str(error.value)
  with pytest.raises(ValueError, match="ema/dit: not in the checkpoint"):
    # Orbax itself would return the ShapeDtypeStruct, without a word.
    checkpoint.load(tmp_path, {"ema": {"dit": like.step}})
  with pytest.raises(ValueError, match=r"asked for float32\[8, 5\]"):
    checkpoint.load(tmp_path, {"params": {"ae": wide}})


# Tensorstore's threads outlive the event loop of a read that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_true_reason_of_a_failed_read(tmp_path):
  state = make_state()
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, state)
  for path in (tmp_path / "1" / "state" / "d").iterdir():
    path.write_bytes(b"overwritten")
  with pytest.raises(ValueError, match=r"1 cannot be read: .") as error:
    checkpoint.load(tmp_path, {"step": abstract(state.step)})
  assert "incompatible handler" not in str(error.value)


def test_a_directory_that_is_no_checkpoint(tmp_path):
  (tmp_path / "1").mkdir()
  with pytest.raises(ValueError, match=r"1 has no 'state'.*Remove it"):
    checkpoint.load(tmp_path, {})


def test_no_checkpoints(tmp_path):
  (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
  for directory in (tmp_path, tmp_path / "missing"):
    for reads in (checkpoint.load_config, lambda d: checkpoint.load(d, {})):
      with pytest.raises(FileNotFoundError, match=r"No checkpoint in .*Train"):
        reads(directory)
  assert not (tmp_path / "missing").exists()


def test_config_has_to_be_json(tmp_path):
  with pytest.raises(TypeError, match="JSON"):
    checkpoint.Checkpointer(tmp_path, keep=1, config={"f": make_state})


def test_orbax_is_quiet_and_others_are_heard(tmp_path, caplog):
  # As absl's app.run does.
  caplog.set_level(logging.INFO, logger="absl")
  logging.getLogger("absl").info("heard")
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, make_state())
  heard = [record.message for record in caplog.records if record.name == "absl"]
  assert heard == ["heard"]
