"""Launch files name flags, configs and extras that there are."""

import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from absl import flags

from experiments.launch import slurm

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "experiments" / "launch"
FILES = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".yaml", ".sh"))


def our_flags():
  """Those that sora_jax.main defines."""
  main = importlib.import_module("sora_jax.main")
  known = flags.FLAGS.flags_by_module_dict()[main.__name__]
  return {flag.name for flag in known}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_commands_are_of_this_package(path):
  text = path.read_text()
  after = text[text.index("sora_jax.main") :]
  used = set(re.findall(r"(?<=--)[a-z]+(?==)", after))
  assert {"config", "workdir", "coordinator"} <= used <= our_flags()
  for config in re.findall(r"configs/\w+\.py", text):
    assert (ROOT / config).is_file()
  setup = (ROOT / "setup.py").read_text()
  for extra in re.findall(r"'\.\[(\w+)\]'", text):
    assert f'"{extra}":' in setup


# Stands for gcloud and xpk: says what each host would be told to run.
STUB = """#!/usr/bin/env bash
while [ $# -gt 1 ] && [ "$1" != --command ]; do shift; done
printf '%s' "$2"
"""


@pytest.mark.parametrize(
  "flags", [[], ["--config.seed=1", "--config.mesh={'data': -1}"]]
)
@pytest.mark.parametrize(
  "script, tool, where",
  [("tpu_vm.sh", "gcloud", ["pod", "zone"]), ("xpk.sh", "xpk", ["cluster"])],
)
def test_scripts_hand_on_the_flags_that_they_get(
  script, tool, where, flags, tmp_path
):
  (tmp_path / tool).write_text(STUB)
  (tmp_path / tool).chmod(0o755)
  path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", LAUNCH / script, *where, "/runs/one", "configs/dit_b.py", *flags],
    env=os.environ | {"PATH": path, "STORAGE": "disk"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  _, words = done.stdout.split("sora_jax.main")
  assert shlex.split(words) == [
    "--config=configs/dit_b.py",
    "--workdir=/runs/one",
    "--coordinator=auto",
    *flags,
  ]


@pytest.mark.parametrize(
  "path", [p for p in FILES if p.suffix == ".yaml"], ids=lambda p: p.name
)
def test_yaml_is_yaml(path):
  found = yaml.safe_load(path.read_text())
  assert "sora_jax" in str(found)


def test_every_file_is_in_the_table():
  table = (LAUNCH / "README.md").read_text()
  for path in FILES:
    assert path.name in table


def test_slurm_runs_one_process_a_node():
  found = slurm.command("/runs/one", ["--config=configs/dit_xl.py"])
  assert found[1:] == [
    "-m",
    "sora_jax.main",
    "--workdir=/runs/one",
    "--coordinator=auto",
    "--config=configs/dit_xl.py",
  ]


@pytest.mark.parametrize("code, fine", [(0, True), (143, True), (1, False)])
def test_a_slurm_job_that_saved_and_stopped_is_no_failure(
  code, fine, monkeypatch
):
  end = ["python", "-c", f"raise SystemExit({code})"]
  monkeypatch.setattr(slurm, "command", lambda workdir, arguments: end)
  job = slurm.Training("/runs/one", (), 1)
  if fine:
    job()
  else:
    with pytest.raises(slurm.subprocess.CalledProcessError):
      job()


# What submitit does: the signal's handler stops the job that main is in.
WARNED = """
import os, pickle, signal, sys, threading, time
from experiments.launch import slurm
child = (
  "import os, signal, sys, time\\n"
  "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\\n"
  "print(os.environ['JAX_LOCAL_DEVICE_IDS'], flush=True)\\n"
  "time.sleep(60)"
)
slurm.command = lambda workdir, arguments: [sys.executable, "-c", child]
job = slurm.Training("/runs/one", ("--config=x",), 2)
def warned(*_):
  again = pickle.loads(pickle.dumps(job.stop()))
  print(again, flush=True)
signal.signal(signal.SIGUSR2, warned)
def warn():
  time.sleep(2)
  os.killpg(0, signal.SIGUSR2)  # the child hears it too
threading.Thread(target=warn).start()
job()
print("ended", flush=True)
"""


def test_a_slurm_job_that_is_warned_saves_and_goes_on():
  done = subprocess.run(
    [sys.executable, "-c", WARNED],
    capture_output=True,
    text=True,
    timeout=50,
    start_new_session=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    "0,1",
    "Training(workdir='/runs/one', arguments=('--config=x',), gpus=2)",
    "ended",
  ]


@pytest.mark.parametrize(
  "path, devices", [("jobset.yaml", 32), ("sky.yaml", 16)]
)
def test_rows_divide_over_the_devices_of_the_file(path, devices):
  text = (LAUNCH / path).read_text()
  found = re.findall(
    r"--config\.(?:dit\.rows\.rows|autoencoder\.batch)=(\d+)", text
  )
  assert len(found) == 2
  assert all(int(n) % devices == 0 for n in found)
