"""What does each way of computing gain in a training step of the demo?

  python -m experiments.bench.switches
  python -m experiments.bench.switches --stage=autoencoder

Training steps of configs/demo.py on one batch of random numbers, in turns, with
one or two switches changed: of the transformer on packed latents, or of the
autoencoder. `gain` is how many times as long a step takes without what the
config chose: the median over rounds, side by side. All of these compute the
same function, up to the rounding of operands.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from configs import demo
from experiments import sweep
from experiments.bench import result, trainer, training
from sora_jax.sharding import mesh
from sora_jax.training import loop
from sora_jax.types import Batch
from sora_jax.utils import logs

BASE = "as configured"
Switches = dict[str, dict[str, object]]


def _operands(stage: str) -> Switches:
  model = {f"{stage}.model.matmul": "dtype"}
  rule = {f"{stage}.optimizer.matmul": "float32"}
  return {
    BASE: {},
    "operands of the model in float32": model,
    "operands of Muon in float32": rule,
    "both in float32": model | rule,
  }


TRANSFORMER: Switches = _operands("dit") | {
  "matmuls kept, the rest recomputed": {"dit.model.remat": "dots"},
  "all recomputed": {"dit.model.remat": "full"},
  "attention by blocks": {"dit.model.attention": "blocks"},
  "blocks scanned": {"dit.model.scan": True},
}


def _latents(config: ConfigDict) -> Batch:
  with tempfile.TemporaryDirectory() as folder:
    return next(training.dataset(config, pathlib.Path(folder)))


def _pixels(config: ConfigDict) -> Batch:
  size, rng = config.autoencoder.size, np.random.default_rng(0)
  size = (config.autoencoder.batch, *size)
  video = rng.integers(0, 256, (*size, 3), np.uint8)
  return {"video": video, "mask": np.ones(size, bool)}


# stage -> its switches, a batch of it, its trainer.
STAGES = {
  "dit": (TRANSFORMER, _latents, trainer.make),
  "autoencoder": (_operands("autoencoder"), _pixels, trainer.autoencoder),
}


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  base = demo.get_config()
  switches, some, make = STAGES[flags.FLAGS.stage]
  batch = loop.put(some(base), mesh.rows(mesh.make({"data": -1})))
  runs = {}
  for name, changes in switches.items():
    made = make(sweep.changed(base, name, changes), batch)
    runs[name] = (made.compiled(), made.fresh())
  times: dict[str, list[float]] = {name: [] for name in switches}
  for turn in range(flags.FLAGS.rounds + 1):
    for name, (update, state) in runs.items():
      start = time.perf_counter()
      for _ in range(flags.FLAGS.steps):
        state, _ = update(state, batch)
      jax.block_until_ready(state)
      times[name].append((time.perf_counter() - start) / flags.FLAGS.steps)
      runs[name] = (update, state)
    shown = {name: round(t[-1], 3) for name, t in times.items()}
    logs.say(f"round {turn}: {shown} s a step")
  gain = {}
  for name, found in times.items():
    # The first round compiles.
    ratios = [a / b for a, b in zip(found[1:], times[BASE][1:], strict=True)]
    gain[name] = round(statistics.median(ratios), 3)
  result.say(f"switches_{flags.FLAGS.stage}", {"gain": gain})


if __name__ == "__main__":
  flags.DEFINE_enum("stage", "dit", list(STAGES), "whose step")
  flags.DEFINE_integer("rounds", 5, "turns of each, after the first")
  flags.DEFINE_integer("steps", 3, "of a turn")
  app.run(main)
