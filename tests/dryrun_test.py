"""Dry runs of whole commands, on devices that are pretended."""

import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__)


def pretended(devices, config, *changes):
  """What a dry run prints."""
  done = subprocess.run(
    [
      *(sys.executable, "-m", "sora_jax.main", "--mode=dryrun"),
      *(f"--devices={devices}", f"--config={HERE.parents[1]}/configs/{config}"),
      *changes,
    ],
    env=os.environ,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_devices_that_are_pretended_are_machines(tmp_path):
  said = pretended(
    *(4, "dit_b.py:tiny", f"--workdir={tmp_path}"),
    "--config.stages=('sample',)",
  )
  assert "devices: 4 of 'here'" in said


def test_a_pod_of_the_largest_model_is_compiled_on_this_machine(tmp_path):
  said = pretended(
    *(256, "dit_xl.py", f"--workdir={tmp_path}", "--config.stages=('dit',)"),
    *("--config.mesh={'data': 4, 'fsdp': 64}", "--config.dit.rows.rows=256"),
    "--config.cost.device=tpu_v5p",
  )
  cells = dict(
    re.findall(r"^(\w[^\d\n]*?)\s{2,}([\d.,]+)$", said, re.MULTILINE)
  )
  parameters = int(cells["parameters"].replace(",", ""))
  assert parameters > 6e8
  # Weights, their average and AdamW's two moments, in float32, a 64th of each;
  # what no axis divides stays whole.
  least = 4 * 4 * parameters / 64 / 2**30
  assert least <= float(cells["GiB of state per device"]) < 1.1 * least
  assert "devices: 256 of 'tpu_v5p'" in said
