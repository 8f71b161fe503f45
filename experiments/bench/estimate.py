"""Does a run take as long as `sora_jax.estimate` says?

  python -m experiments.bench.estimate

Training steps of three configs: the seconds that the roofline of this machine
gives, which is measured first, over the seconds that steps take. Batches are
random numbers in the shapes of the configs.
"""

from __future__ import annotations

import importlib
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.bench import result
from sora_jax import estimate
from sora_jax.run import Run
from sora_jax.types import PyTree
from sora_jax.utils import logs

CASES = (
  ("quickstart", "autoencoder", {}),
  ("quickstart", "dit", {}),
  ("dit_s", "dit", {"dit.rows.rows": 4, "dit.model.depth": 6}),
)


def arrays(shapes: PyTree) -> PyTree:
  """Random pixels and latents; all tokens of one clip."""
  rng = np.random.default_rng(0)

  def fill(x):
    if jnp.issubdtype(x.dtype, jnp.floating):
      return rng.standard_normal(x.shape, np.float32).astype(x.dtype)
    return np.ones(x.shape, x.dtype)

  return jax.tree.map(fill, shapes)


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  device = estimate.here()
  logs.say(f"{device}")
  ratios = []
  for name, stage, changes in CASES:
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict(changes)
    run = Run(config, pathlib.Path("unused"))
    shapes, _ = run.abstract_inputs(stage)
    batch = jax.device_put(arrays(shapes), run.rows)
    frozen = {"stats": run.codec.no_stats()} if stage == "autoencoder" else {}
    made = run.stage(stage, batch, frozen, epoch=1)
    predicted = estimate.seconds(device, made.step, made.abstract, batch)
    state, taken = made.make(), []
    for _ in range(flags.FLAGS.steps + 1):
      start = time.perf_counter()
      state, _ = made.step(state, batch)
      jax.block_until_ready(state)
      taken.append(time.perf_counter() - start)
    measured = statistics.median(taken[1:])  # the first compiles
    ratios.append(round(predicted / measured, 3))
    logs.say(f"{name}, {stage}: {predicted:.4f} s said, {measured:.4f} s taken")
  figures = {"predicted_over_measured": ratios}
  result.say("estimate", figures)


if __name__ == "__main__":
  flags.DEFINE_integer("steps", 10, "measured of each")
  app.run(main)
