"""Which autoencoder is best on clips that it has not seen, at equal time?

  python -m experiments.autoencoder --data=clips --clips=/path --minutes=3
  python -m experiments.autoencoder --data=world --minutes=3

Every point of the sweep trains for about the same time, a number of steps that
the first steps measure, and is then judged beside the linear yardstick: as many
principal components of crops of the training data as it is judged. The point
"large" is the one to run alone for an hour or two:

  python -m experiments.autoencoder --data=clips --clips=/path --points=large \
    --minutes=60

"longer" goes on from the weights that --init names, and runs only when it is
named: it begins ahead of the others. Those of the world that ship are what it
made of what "large" had made. So does "decoder", which keeps the encoder: what
a transformer has learned of the latents stays true. "shipped" are the weights
that --init names, as they are.

Of a folder of clips five are held out by name. Training takes crops of 64
pixels from 320-pixel frames at 24 frames per second, scaled down by up to 2.5,
thinned by up to 3, turned and recoloured; judged are all windows of 17 frames
at 8 frames per second and about 128 pixels. Of the world, training takes and
judges whole clips of all its sets at 64 pixels; what is judged of its split
"train" are the first clips of very many, hardly ever trained on. PSNR is the
mean over frames of 8-bit RGB, over the windows of a file (the clips of a set),
then over files (sets). Flicker and the like are the sheet's (evaluators/sheet),
of up to eight clips that were not seen.

--change takes JSON of config keys for every training: on a GPU larger batches,
and processes that draw the clips, '{"workers": 14, "autoencoder.batch": 64}'.
What is trained in --workdir resumes there, and what was judged is not judged
again. Other work on the machine falsifies the comparison.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from configs import video_folder
from experiments import record
from sora_jax import build
from sora_jax.data.world.sets import SETS
from sora_jax.evaluators import metrics
from sora_jax.evaluators.reconstruction import Reconstruction
from sora_jax.evaluators.sheet import Sheet
from sora_jax.run import Run
from sora_jax.training import step
from sora_jax.types import Clip
from sora_jax.utils import cache, files, logs, sections

HELD_OUT = ("cups.mp4", "dog.mp4", "elf.webm", "movi_c.gif", "rabbit.mp4")
START = 32  # batches of crops whose principal components training starts from
DEMO = "experiments/results/demo/autoencoder"
ON = ("longer", "decoder", "shipped")  # points that go on from weights
YARDSTICK = 128  # batches, of what is judged, that the yardstick is made of
# Steps that measure how many fit into the time, at their end: in the first
# epoch of a folder files are decoded, which later ones find in memory.
PACE = 140
SCORES = ("psnr", "psnr_first_frame", "ssim", "psnr_box")
# Of a point as a whole: column -> what the sheet calls it.
FLAWS = {
  "flicker": "flicker/levels",
  "flat": "flat/levels",
  "seam": "tiles/error",
  "leak": "causality/leak",
  "nats": "latents/nats",
}
# Flags that a training, or how it is judged, depends on.
TOLD = ("minutes", "clips", "each", "init", "change")
EACH = 16  # clips of each set of the world that are judged
LOOKED_AT = 8  # clips that the sheet looks at
TILE = 6  # cells of a side of its tiles: less than a clip of the world has


def clips(c: ConfigDict, judged: bool, path: str, each: int) -> None:
  """A folder, in detail for training and at 128 pixels to be judged."""
  del each  # all there are
  c.data.update(path=path, held_out=HELD_OUT, even=True)
  c.autoencoder.transforms = (
    {"name": "flip", "probability": 0.5},
    {"name": "turn", "probability": 0.5},
    {"name": "recolour", "probability": 0.5},
  )
  if not judged:
    c.data.update(frames=49, fps=24.0, stride=2.0)
    c.autoencoder.update(thin=3, zoom=2.5)
    c.update(tokens=400, cache_gib=6.0)
    c.dit.update(frames=13)  # its stage is not run
    c.dit.rows.length = 13 * 400


def world(c: ConfigDict, judged: bool, path: str, each: int) -> None:
  """All sets of the world at 64 pixels; of "train" a few to be judged."""
  del path
  count = each if judged else 100_000
  part = {"frames": 17, "height": 64, "width": 64, "fps": 8.0, "seed": 0}
  part |= {"count": count, "test_count": each, "length": "short"}
  part |= {"name": "world", "channels": 0, "rate": 16_000}
  c.tokens = 16  # of 16 pixels: nothing is scaled
  parts = {name: part | {"set": name} for name in SETS}
  c.data = {"name": "mixture", "frames": 17, "parts": parts, "repeat": {}}


DATA = {"clips": clips, "world": world}


def config_of(
  data: str, judged: bool, path: str, each: int = EACH
) -> ConfigDict:
  """The config of a training that all points share, or of what judges it."""
  c = video_folder.get_config()
  with c.unlocked():
    c.stages = ("autoencoder",)
    DATA[data](c, judged, path, each)
    c.autoencoder.schedule.update(log="20 steps", save="5 minutes")
    c.autoencoder.start = START
    c.autoencoder.evaluators = {}
  return c


def sweep(
  data: str, init: str = DEMO
) -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point; those of ON begin with `init`."""
  model, objective = "autoencoder.model.", "autoencoder.objective."
  yield "base", {}
  if data == "clips":
    yield "as they are", {"autoencoder.transforms": ()}
    yield (
      "one scale and speed",
      {"autoencoder.zoom": 1.0, "autoencoder.thin": 1, "tokens": 64}
      | {"data.fps": 8.0, "data.frames": 17},
    )
    yield (
      "larger crops",
      {"autoencoder.size": (17, 96, 96), "autoencoder.batch": 2},
    )
  rule = "autoencoder.optimizer."
  yield (
    "adamw",
    {rule + "name": "adamw", rule + "learning_rate": 1e-3, rule + "b1": 0.9},
  )
  yield "deeper", {model + "depth": 6}
  yield "wider", {model + "width": 192}
  yield "full kernels", {model + "factored": False}
  yield "attention", {model + "heads": 4}
  yield "parity", {model + "parity": True}
  yield "transformer", {model + "block": "transformer", model + "heads": 4}
  yield "l1", {objective + "reconstruction": "l1"}
  yield "psnr", {objective + "reconstruction": "psnr"}
  yield "gradient", {objective + "terms.gradient": 0.5}
  yield "wavelet", {objective + "terms.wavelet": 0.5}
  yield "temporal", {objective + "terms.temporal": 0.5}
  yield "equivariance", {objective + "equivariance": 0.25}
  yield (
    "adversary",
    {objective + "adversary.weight": 0.1, objective + "adversary.start": 100},
  )
  yield "from random weights", {objective + "start": "random"}
  large = {model + "width": 192, model + "depth": 4, model + "parity": True}
  yield "large", large
  low = {model + "matmul": "bfloat16", rule + "matmul": "bfloat16"}
  yield "bfloat16 operands", low
  if data == "world":
    begin = {"autoencoder.init": init, rule + "learning_rate": 1.5e-3}
    longer = large | low | begin | {"autoencoder.batch": 8}
    yield "longer", longer
    yield "decoder", longer | {objective + "part": "decoder"}
    yield "shipped", large | low | {"autoencoder.checkpoint": init}


def judged(
  run: Run, state, split: str, clips: Sequence[Clip | None]
) -> Iterator[dict[str, object]]:
  """One row a file or set of the split's clips."""
  context = dataclasses.replace(run.context("autoencoder"), clips=clips)
  evaluator = Reconstruction(context, 0, True, lpips="", sha256="")
  rows: dict[str, dict[str, list[float]]] = {}
  mixed = run.config.data.name == "mixture"
  for name, value in evaluator.run(state):
    clip, _, score = name.rpartition("/")
    if clip != "mean":
      # Clips of a mixture are named by their part first.
      one = clip.partition(":")[0] if mixed else clip
      row = rows.setdefault(one, {})
      row.setdefault(score, []).append(value)
  for clip, row in rows.items():
    scores = {k: round(float(np.mean(row[k])), 3) for k in SCORES}
    low, high = metrics.bootstrap(np.array(row["psnr"]))
    scores |= {"psnr_low": round(low, 3), "psnr_high": round(high, 3)}
    yield {"clip": clip, "split": split, "clips": len(row["psnr"])} | scores


def scored(name: str, run: Run, state, linear: Run) -> list[dict[str, object]]:
  """The rows of a point, on the clips that the linear run has read."""
  return [
    {"point": name, "steps": int(state.step)} | row
    for split in ("test", "train")
    for row in judged(run, state, split, linear.data.clips(split))
  ]


def flaws(run: Run, state, clips: Sequence[Clip | None]) -> dict[str, float]:
  """What the sheet says of a few clips, chosen at random."""
  some = np.random.default_rng(0).permutation(len(clips))[:LOOKED_AT]
  some = [clip for i in some if (clip := clips[int(i)]) is not None]
  context = dataclasses.replace(run.context("autoencoder"), clips=some)
  sheet = Sheet(context, clips=0, videos=0, tile=TILE)
  found = dict(sheet.run(state))
  return {k: round(found[name], 4) for k, name in FLAWS.items()}


def kept(file: pathlib.Path, make: Callable[[], Any]) -> Any:
  """What `make` returns, or returned before, as the file says."""
  if not file.exists():
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(file, json.dumps(make()))
  return json.loads(file.read_text())


def yardstick(run: Run):
  """The state before the first step: the linear autoencoder of many crops."""
  clips, seed = run.data.clips("train"), run.config.seed
  batches = iter(build.pixels(run.config, clips, False, seed))
  some = list(itertools.islice(batches, YARDSTICK))
  batch = {k: np.concatenate([b[k] for b in some]) for k in some[0]}
  optimizers = build.optimizers(run.config.autoencoder, run.codec.losses, 1)
  frozen = {"stats": run.codec.no_stats()}
  state = step.initial(
    run.codec, optimizers, jax.random.PRNGKey(0), batch, frozen
  )
  return nn.meta.unbox(state)


def mean(rows: list[dict[str, object]], split: str) -> float:
  """PSNR over the files or sets of a split."""
  return float(np.mean([r["psnr"] for r in rows if r["split"] == split]))


def steps_in(config: ConfigDict, minutes: float) -> int:
  """How many steps of a training take so long, by its first ones."""
  config = ConfigDict(config.to_dict())
  config.autoencoder.schedule.until = f"{PACE} steps"
  with tempfile.TemporaryDirectory() as folder:
    run = Run(config, pathlib.Path(folder))
    run.train_autoencoder()
    lines = map(json.loads, (run.workdir / "metrics.jsonl").open())
    rates = [x[k] for x in lines for k in x if k.endswith("steps_per_s")]
  return max(PACE, round(rates[-1] * 60 * minutes))


def trained(config: ConfigDict, minutes: float, folder: pathlib.Path):
  """The state of a point, trained in the folder, or found there or given."""
  if config.autoencoder.checkpoint:
    return Run(config, folder).restored("autoencoder")
  steps = kept(folder / "steps.txt", lambda: steps_in(config, minutes))
  config.autoencoder.schedule.until = f"{steps} steps"
  run = Run(config, folder)
  run.train_autoencoder()
  return run.restored("autoencoder")


def drawn(name: str, rows: Sequence[Mapping[str, object]]) -> pathlib.Path:
  """Plots the PSNR on clips that were not seen, a dot for each."""
  unseen = [row for row in rows if row["split"] == "test"]
  return record.plot(name, unseen, "psnr")


def main(argv: list[str]) -> None:
  """Trains, judges, prints and saves."""
  del argv
  cache.keep_compiled()
  asked = flags.FLAGS
  names = [name for name, _ in sweep(asked.data)]
  wanted, suffix = record.chosen(asked.points, names)
  if asked.data == "clips" and not asked.clips:
    raise ValueError("--data=clips needs --clips, a folder of captioned clips")
  asked_for = json.loads(asked.change)
  about = {"commit": record.commit(), "minutes": asked.minutes, "seeds": 1}
  about |= {"device": jax.devices()[0].device_kind, "change": asked.change}
  if asked.data == "clips":
    about["held_out"] = " ".join(HELD_OUT)
  if asked.points and not set(ON).isdisjoint(wanted):
    about["init"] = record.weights(pathlib.Path(asked.init))
  of = functools.partial(
    config_of, asked.data, path=asked.clips, each=asked.each
  )
  told = sections.digest(ConfigDict({k: asked[k].value for k in TOLD}))
  root = pathlib.Path(asked.workdir) / f"{asked.data}-{told}"
  rows: list[dict[str, object]] = []
  linear = Run(of(judged=True), root / "judge")

  def judge(name: str, folder: pathlib.Path, make: Callable) -> None:
    make, unseen = functools.cache(make), linear.data.clips("test")
    own = kept(folder / "judged.json", lambda: scored(name, *make(), linear))
    whole = kept(folder / "flaws.json", lambda: flaws(*make(), unseen))
    rows.extend(row | whole for row in own)
    logs.say(
      f"{name}: {mean(own, 'test'):.2f} dB on what it has not seen, "
      f"{mean(own, 'train'):.2f} on the split train, {own[0]['steps']} steps"
    )

  def point(changes: dict[str, object], folder: pathlib.Path):
    config, judging = of(judged=False), of(judged=True)
    with config.unlocked():
      config.update_from_flattened_dict(changes | asked_for)
    state = trained(config, asked.minutes, folder)
    judging.autoencoder.model = config.autoencoder.model
    return Run(judging, root / "judge"), state

  judge("linear", root / "judge", lambda: (linear, yardstick(linear)))
  for name, changes in sweep(asked.data, asked.init):
    if name not in wanted or (name in ON and not asked.points):
      continue
    folder = root / name.replace(" ", "-")
    judge(name, folder, functools.partial(point, changes, folder))
    result = f"autoencoder_{asked.data}{suffix}"
    logs.say(f"{record.save(result, rows, **about)}")
    logs.say(f"{drawn(result, rows)}")


if __name__ == "__main__":
  # Here, and not above: other experiments may import this one.
  flags.DEFINE_enum("data", "clips", list(DATA), "what to train on")
  flags.DEFINE_string("clips", None, "folder of clips, for --data=clips")
  flags.DEFINE_integer("each", EACH, "clips of each set that are judged")
  flags.DEFINE_float("minutes", 3.0, "of training for every point")
  flags.DEFINE_string("workdir", "runs/autoencoder", "where the points train")
  flags.DEFINE_string("init", DEMO, "weights that some begin with")
  flags.DEFINE_string("change", "{}", "JSON of config keys to change")
  flags.DEFINE_list("points", None, "names of the points to run; all")
  app.run(main)
