"""Two processes train one model, die, and go on."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from sora_jax import modes
from sora_jax.run import Run
from sora_jax.training import checkpoint
from sora_jax.utils import logs, tree

ROOT = pathlib.Path(__file__).parents[1]
STAGES = ("autoencoder", "dit")
CONFIG = """
from configs import dit_b

def get_config(arg=None):
  c = dit_b.get_config("tiny")
  with c.unlocked():
    c.stages = ("autoencoder", "dit")
    for stage in (c.autoencoder, c.dit):
      stage.evaluators = {}
    c.dit.evaluators = {"fixed_times": {"name": "fixed_times", "times": 2}}
  return c
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "two.py"
  path.write_text(CONFIG)
  return path


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def train(config, folder, interrupt=None, other=None):
  """Both processes' exit codes and words; the second may be interrupted."""
  port, running = free_port(), []
  for index in range(2):
    head = ["-m", "sora_jax.main"]
    if interrupt and index:
      script = str(ROOT / "tests" / "interrupted.py")
      head = [script, *map(str, interrupt), str(folder)]
    running.append(
      subprocess.Popen(
        [
          *(sys.executable, *head),
          f"--config={config}",
          f"--workdir={other if other and index else folder}",
          *(f"--coordinator=localhost:{port}", "--processes=2"),
          f"--process={index}",
        ],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  try:
    said = [one.communicate(timeout=300)[0] for one in running]
  finally:
    for one in running:
      one.kill()
  return [one.returncode for one in running], said


@pytest.fixture(scope="module")
def state_of(tiny):
  """(folder, stage) -> every array of the checkpoint of step 4, by name."""
  run = Run(tiny({"stages": STAGES}), pathlib.Path("unused"))
  abstract = {
    stage: run.stage(stage, *run.abstract_inputs(stage), epoch=1).abstract
    for stage in STAGES
  }

  def load(folder, stage):
    return tree.named(checkpoint.load(folder / stage, abstract[stage], step=4))

  return load


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
  """The folder of a run of two processes that nothing interrupted."""
  folder = tmp_path_factory.mktemp("two") / "run"
  codes, said = train(config, folder)
  assert codes == [0, 0], "\n".join(said)
  assert "dit: 21,440 parameters, 2 x cpu" in said[0]
  assert "parameters" not in said[1], "only the first process talks"
  return folder


def test_each_process_reads_and_writes_its_share(whole):
  manifest = json.loads((whole / "latents" / "manifest.json").read_text())
  assert manifest["shards"] == [
    "latents-000-00000.array_record",
    "latents-001-00000.array_record",
  ]
  assert manifest["count"] == 24
  places = sorted((whole / "dit" / "4" / "data").glob("process_*"))
  assert [p.name for p in places] == [
    "process_0-of-2.json",
    "process_1-of-2.json",
  ]


def test_metrics_are_written_once(whole):
  steps = [
    (line["stage"], line["step"])
    for line in logs.read_metrics(whole / "metrics.jsonl")
    if "grad_norm" in line
  ]
  assert steps == sorted(set(steps), key=steps.index)
  assert {stage for stage, _ in steps} == set(STAGES)


def test_the_pace_is_that_of_all_processes(whole, tiny):
  clips = [
    line["clips_per_s"] / line["steps_per_s"]
    for line in logs.read_metrics(whole / "metrics.jsonl")
    if line["stage"] == "autoencoder" and "clips_per_s" in line
  ]
  assert clips == pytest.approx([tiny().autoencoder.batch] * 4)


def test_a_killed_process_ends_both_and_both_go_on(
  config, whole, tmp_path, state_of
):
  folder = tmp_path / "run"
  codes, said = train(config, folder, ("dit", 4, "SIGKILL"))
  assert codes[1] == -signal.SIGKILL
  assert codes[0] not in (0, None), said[0]
  assert not (folder / "dit" / "4").exists()
  codes, said = train(config, folder)
  assert codes == [0, 0], "\n".join(said)
  assert "dit: resumed at step 2" in said[0]
  for stage in STAGES:
    pairs = zip(state_of(whole, stage), state_of(folder, stage), strict=True)
    for (name, one), (_, other) in pairs:
      assert np.array_equal(one, other), f"{stage}: {name}"


def test_a_sigterm_of_one_saves_and_stops_both(config, tmp_path):
  folder = tmp_path / "run"
  codes, said = train(config, folder, ("autoencoder", 2, "SIGTERM"))
  assert codes == [143, 143], "\n".join(said)
  assert "SIGTERM; saved step" in said[0]


def test_one_process_goes_on_where_two_stopped(whole, tiny, capsys):
  changes = {"dit.schedule.until": "6 steps", "dit.evaluators": {}}
  run = Run(tiny(changes | {"stages": STAGES}), whole)
  modes.train(run)
  run.writer.close()
  said = capsys.readouterr().out
  assert "1 processes read 1 shares of the data, which were 2 and 2" in said
  assert "dit: resumed at step 4" in said
  assert checkpoint.load_meta(whole / "dit", 6)["seed"] == 4  # its step
  # Once more, and the new order goes on where it was.
  run = Run(tiny(changes | {"dit.schedule.until": "8 steps"}), whole)
  run.config.stages = ("dit",)
  modes.train(run)
  run.writer.close()
  said = capsys.readouterr().out
  assert "dit: resumed at step 6" in said and "starts again" not in said
  assert checkpoint.load_meta(whole / "dit", 8)["seed"] == 4


def test_folders_that_are_not_shared_are_refused(config, tmp_path):
  codes, said = train(config, tmp_path / "one", other=tmp_path / "other")
  assert 0 not in codes
  for words in said:
    assert "has to be on a file system in common" in words


def test_four_devices_go_on_where_one_stopped(config, tiny, tmp_path, state_of):
  """And end where one would have."""
  one, four = tmp_path / "one", tmp_path / "four"
  changes = {"stages": STAGES, "autoencoder.evaluators": {}}
  run = Run(tiny(changes | {"dit.evaluators": {}}), one)
  modes.train(run)
  run.writer.close()
  shutil.copytree(one, four)
  shutil.rmtree(four / "dit" / "4")
  devices = "--xla_force_host_platform_device_count=4"
  done = subprocess.run(
    [
      *(sys.executable, "-m", "sora_jax.main"),
      *(f"--config={config}", f"--workdir={four}"),
      *("--config.mesh={'data': 1, 'fsdp': 4}", "--config.strategy=fsdp"),
    ],
    env=os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {devices}"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  assert "4 x cpu" in done.stdout and "dit: resumed at step 2" in done.stdout
  pairs = zip(state_of(one, "dit"), state_of(four, "dit"), strict=True)
  for (name, a), (_, b) in pairs:
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
  "flags, message",
  [
    (("--coordinator=localhost:1",), "need a --workdir in common"),
    (("--workdir=gs://a/b",), "gs://a/b: mount it"),
    (
      ("--coordinator=localhost", "--workdir=x"),
      "process 0 of 1 at 'localhost': give --coordinator=HOST:PORT",
    ),
    (
      ("--coordinator=h:1", "--processes=2", "--process=2", "--workdir=x"),
      "process 2 of 2 at 'h:1'",
    ),
  ],
)
def test_mistakes_are_named_before_anything_is_joined(config, flags, message):
  done = subprocess.run(
    [sys.executable, "-m", "sora_jax.main", f"--config={config}", *flags],
    env=os.environ,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode
  assert message in done.stdout + done.stderr
