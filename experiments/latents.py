"""Which latents does diffusion like?

  python -m experiments.latents

Every point trains an autoencoder with one thing changed and then the same
transformer on its latents, in the quickstart's settings with fewer steps, so
that nothing is saturated. An autoencoder's PSNR is one column; what counts is
what the oracle reads back from videos generated from 256 fresh captions, and
how far that is from the same captions' real clips through the autoencoder.

All points take as many steps, but those of the last one are dearer and learn in
more noise: with four frames to a cell a clip has 48 tokens, with eight 32, and
`dit.shift` moves times by the root of the tokens over eight, 2.4 and not 2. It
is not compared at equal compute; `compression.py` does that.

What is trained in --workdir resumes there.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping

from absl import app, flags
from ml_collections import ConfigDict

from configs import quickstart
from experiments import judging, record
from sora_jax import modes
from sora_jax.run import Run
from sora_jax.utils import cache, logs

READ = ("colour", "background", "motion", "digit")


def config(seed: int, steps: int, changes: Mapping[str, object]) -> ConfigDict:
  """What all points share, with what one changes."""
  c = judging.only(quickstart.get_config(), captions={})
  with c.unlocked():
    c.seed = seed
    c.dit.schedule.until = f"{steps} steps"
    c.dit.optimizer.warmup = min(c.dit.optimizer.warmup, steps // 5)
    c.update_from_flattened_dict(changes)
    c.dit.rows.length = max(32, 16 * c.dit.frames)
  return c


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  model, objective = "autoencoder.model.", "autoencoder.objective."
  yield "base", {}
  yield "from random weights", {objective + "start": "random"}
  yield "kl 1e-4", {objective + "kl": 1e-4}
  yield "kl 1e-2", {objective + "kl": 1e-2}
  yield "equivariance 0.25", {objective + "equivariance": 0.25}
  yield "half the channels", {model + "channels": 32}
  yield (
    "4 frames a cell and 32 channels",
    {model + "channels": 32, model + "compression": (4, 8, 8), "dit.frames": 3},
  )


def main(argv: list[str]) -> None:
  """Trains, judges, prints and saves."""
  del argv
  cache.keep_compiled()
  asked, names = flags.FLAGS, [name for name, _ in sweep()]
  wanted, suffix = record.chosen(asked.points, names)
  about = {"commit": record.commit(), "steps": asked.steps}
  about |= {"seed": asked.seed, "seeds": 1, "captions": 256}
  root = pathlib.Path(asked.workdir) / f"seed{asked.seed}-{asked.steps}steps"
  rows = []
  for name, changes in sweep():
    if name not in wanted:
      continue
    made = config(asked.seed, asked.steps, changes)
    run = Run(made, root / name.replace(" ", "-"))
    # Nothing is said by a stage that an earlier call has trained to its end.
    codec = run.train_autoencoder() or modes.judged(run, "autoencoder")
    found = run.train_dit() or modes.judged(run, "dit")
    rows.append(
      {"point": name}
      | {"psnr": round(codec["reconstruction/mean/psnr"], 2)}
      | {
        f"{who}/{what}": round(found[f"captions/{who}/{what}"], 3)
        for who in ("autoencoder", "generated", "shuffled")
        for what in (*READ, "all")
      }
    )
    logs.say(str(rows[-1]))
    logs.say(f"{record.save('latents' + suffix, rows, **about)}")
    logs.say(f"{record.plot('latents' + suffix, rows, 'generated/motion')}")


if __name__ == "__main__":
  flags.DEFINE_integer("seed", 0, "of everything")
  flags.DEFINE_integer("steps", 1000, "of the transformer")
  flags.DEFINE_string("workdir", "runs/latents", "where the points train")
  flags.DEFINE_list("points", None, "names of the points to run; all")
  app.run(main)
