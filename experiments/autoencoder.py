"""Which autoencoder is best on clips that it has not seen, at equal time?

  python -m experiments.autoencoder --clips=/path/to/clips --minutes=20

A folder of captioned clips, of which five are held out by name. Every point of
the sweep trains for the same time on the others and is then judged on the five
and on what it was trained on, clip by clip, beside the linear yardstick: the
principal components of the training clips with as many channels, which is what
all points but the last start from. PSNR is the mean over frames of 8-bit RGB at
about 128 pixels, over all windows of a clip; then over clips.

What is trained in --workdir resumes there. Other work on the machine falsifies
the comparison.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

import flax.linen as nn
import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from configs import video_folder
from experiments import record
from sora_jax import build
from sora_jax.evaluators.reconstruction import Reconstruction
from sora_jax.run import Run
from sora_jax.training import step
from sora_jax.utils import logs

HELD_OUT = ("cups.mp4", "dog.mp4", "elf.webm", "movi_c.gif", "rabbit.mp4")
YARDSTICK = 32  # batches of crops that the principal components are of


def base(clips: str, minutes: float) -> ConfigDict:
  """What all points share."""
  c = video_folder.get_config()
  with c.unlocked():
    c.stages = ("autoencoder",)
    c.data.update(path=clips, held_out=HELD_OUT)
    c.autoencoder.transforms = (
      {"name": "flip", "probability": 0.5},
      {"name": "recolour", "probability": 0.5},
    )
    c.autoencoder.schedule.update(until=f"{minutes} minutes", save="5 minutes")
    # The moving average stands for a decay.
    c.autoencoder.optimizer.schedule = "constant"
    c.autoencoder.start = YARDSTICK
    c.autoencoder.evaluators = {}
  return c


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  yield "base", {}
  yield "own colours", {"autoencoder.transforms": ()}
  yield "deeper", {"autoencoder.model.depth": 4}
  yield "wider", {"autoencoder.model.width": 256}
  yield "full kernels", {"autoencoder.model.factored": False}
  yield "attention", {"autoencoder.model.heads": 4}
  yield "l1", {"autoencoder.objective.reconstruction": "l1"}
  yield "from random weights", {"autoencoder.objective.start": "random"}


def judged(run: Run, state) -> Iterator[dict[str, object]]:
  """One row a clip and split."""
  for split in ("test", "train"):
    context = dataclasses.replace(
      run.context("autoencoder"), clips=run.clips(split)
    )
    evaluator = Reconstruction(context, 0, per_origin=True, lpips="")
    found = dict(evaluator.run(state))
    clips = dict.fromkeys(name.rpartition("/")[0] for name in found)
    for clip in (c for c in clips if c != "mean"):
      row = {"clip": clip, "split": split}
      for score in ("psnr", "psnr_first_frame", "ssim", "psnr_box"):
        row[score] = round(found[f"{clip}/{score}"], 3)
      yield row


def yardstick(run: Run):
  """The state before the first step: the linear autoencoder of many crops."""
  batches = iter(build.pixels(run.config, run.clips("train"), run.config.seed))
  some = list(itertools.islice(batches, YARDSTICK))
  batch = {k: np.concatenate([b[k] for b in some]) for k in some[0]}
  optimizers = build.optimizers(run.config.autoencoder, run.codec.losses, 1)
  frozen = {"stats": run.codec.no_stats()}
  state = step.initial(
    run.codec, optimizers, jax.random.PRNGKey(0), batch, frozen
  )
  return nn.meta.unbox(state)


def mean(rows: list[dict[str, object]], split: str) -> float:
  """PSNR over the clips of a split."""
  return float(np.mean([r["psnr"] for r in rows if r["split"] == split]))


def main(argv: list[str]) -> None:
  """Trains, judges, prints and saves."""
  del argv
  wanted = flags.FLAGS.points or [name for name, _ in sweep()]
  unknown = set(wanted) - {name for name, _ in sweep()}
  if unknown:
    raise ValueError(
      f"--points={sorted(unknown)}: choose of {[n for n, _ in sweep()]}"
    )
  about = {"commit": record.commit(), "minutes": flags.FLAGS.minutes}
  about |= {"held_out": " ".join(HELD_OUT), "seeds": 1}
  rows: list[dict[str, object]] = []
  for name, changes in sweep():
    if name not in wanted:
      continue
    config = base(flags.FLAGS.clips, flags.FLAGS.minutes)
    with config.unlocked():
      config.update_from_flattened_dict(changes)
    folder = pathlib.Path(flags.FLAGS.workdir) / name.replace(" ", "-")
    run = Run(config, folder)
    if not rows:
      linear = Run(base(flags.FLAGS.clips, flags.FLAGS.minutes), folder)
      rows += [
        {"point": "linear"} | r for r in judged(linear, yardstick(linear))
      ]
      logs.say(f"linear: {mean(rows, 'test'):.2f} dB on clips not seen")
    run.train_autoencoder()
    state = run.restored("autoencoder")
    own = [{"point": name} | row for row in judged(run, state)]
    rows += own
    logs.say(
      f"{name}: {mean(own, 'test'):.2f} dB on clips not seen, "
      f"{mean(own, 'train'):.2f} on the others, {int(state.step)} steps"
    )
    whole = len(wanted) == len(list(sweep()))
    path = record.save(
      "autoencoder" if whole else "autoencoder_some", rows, **about
    )
  logs.say(f"{path}")


if __name__ == "__main__":
  # Here, and not above: other experiments may import this one.
  flags.DEFINE_string("clips", None, "folder of clips", required=True)
  flags.DEFINE_float("minutes", 20.0, "of training for every point")
  flags.DEFINE_string("workdir", "runs/autoencoder", "where the points train")
  flags.DEFINE_list("points", None, "names of the points to run; all")
  app.run(main)
