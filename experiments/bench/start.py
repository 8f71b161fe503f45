"""How long from the command to the first step of training?

  python -m experiments.bench.start

A new process builds the run of configs/dit_b.py, makes the state of its
transformer and takes a step on one row of 640 tokens; once with an empty
compilation cache, then with what that left in it. `first_step_cold_s` and
`first_step_warm_s` are from the start of the process to the end of the step,
`step_s` is a later step alone, the best of three.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

# All else is imported by what is measured.
CHILD = "--child="


def child(began: float) -> None:
  """Takes the first steps, and prints the seconds since `began`."""
  import jax
  import numpy as np

  from configs import dit_b
  from sora_jax.run import Run
  from sora_jax.utils import cache

  cache.keep_compiled()
  config = dit_b.get_config()
  with config.unlocked():
    config.dit.rows.rows = 1
  run = Run(config, pathlib.Path("unused"))
  # Not `estimate.arrays`, which imports what no run does.
  shapes = run.abstract_inputs("dit")
  ones = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
  batch, frozen = jax.device_put(ones)
  stage = run.stage("dit", batch, frozen, epoch=1)
  state = stage.make()
  state, _ = jax.block_until_ready(stage.step(state, batch))
  first, steps = time.time() - began, []
  for _ in range(3):
    start = time.perf_counter()
    state, _ = jax.block_until_ready(stage.step(state, batch))
    steps.append(time.perf_counter() - start)
  kind = jax.devices()[0].device_kind
  found = {"first": first, "step": min(steps), "device": kind}
  sys.stdout.write(json.dumps(found) + "\n")


def main(say: Callable[..., None]) -> None:
  """Starts twice, and says what that took by `result.say`."""
  found = []
  with tempfile.TemporaryDirectory() as folder:
    for _ in range(2):
      done = subprocess.run(
        [sys.executable, "-m", __spec__.name, f"{CHILD}{time.time()}"],
        env=os.environ | {"XDG_CACHE_HOME": folder},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
      )
      found.append(json.loads(done.stdout.splitlines()[-1]))
  figures = {
    "first_step_cold_s": found[0]["first"],
    "first_step_warm_s": found[1]["first"],
    "step_s": min(one["step"] for one in found),
  }
  rounded = {key: round(v, 2) for key, v in figures.items()}
  say("start", rounded, found[0]["device"])


if __name__ == "__main__":
  if sys.argv[-1].startswith(CHILD):
    child(float(sys.argv[-1].removeprefix(CHILD)))
  else:
    from absl import app

    from experiments.bench import result

    app.run(lambda _: main(result.say))
