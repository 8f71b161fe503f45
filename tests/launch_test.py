"""Launch files name flags, configs and extras that there are."""

import importlib
import pathlib
import re

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
  job = slurm.Training("/runs/one", ())
  if fine:
    job()
  else:
    with pytest.raises(slurm.subprocess.CalledProcessError):
      job()
