"""What do noise levels by frame cost, and does a step wait for its data?

  python -m experiments.bench.training

Training steps of a small transformer on packed rows of the quickstart's shapes
with longer clips, in turns: with a noise level for every latent frame, with one
for every clip, and with data that is read, packed and copied anew for every
step from a cache on disk, as training does, instead of one batch again and
again. Latents are random numbers. `levels_overhead` is how much longer a step
takes with levels by frame; `input_overhead` how much longer with real input.
"""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from absl import app, flags

from configs import dit_b
from experiments.bench import result, trainer
from sora_jax import build
from sora_jax.data import latents as cache
from sora_jax.data import tokenizer
from sora_jax.data.latents import Item
from sora_jax.sharding import mesh
from sora_jax.training import loop
from sora_jax.utils import logs

CLIPS, FRAMES = 512, 5
CAPTION = "a red three"
SIDES = ("by frame", "by clip", "input")


def config(by_clip: bool):
  """S at rows of several clips."""
  c = dit_b.get_config()
  with c.unlocked():
    c.dit.model.update(width=384, depth=6, heads=6, mlp=1536)
    c.dit.rows.update(rows=4, length=640, text=64, clips=4)
    if by_clip:
      c.dit.frames, c.dit.mixture = 1, {"clip": 1.0}
  return c


def dataset(c, folder: pathlib.Path):
  """Endless batches from a cache of random latents."""
  rng = np.random.default_rng(0)
  size = (FRAMES, 8, 8, c.autoencoder.model.channels)
  items = (
    Item(rng.standard_normal(size).astype(np.float16), CAPTION, str(i))
    for i in range(CLIPS)
  )
  cache.write(folder, items, {})
  words = build.words(c, tokenizer.train([CAPTION], c.text.vocab_size))
  return iter(build.packed(c, cache.Latents(folder), words, c.seed))


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv

  sharding = mesh.rows(mesh.make({"data": -1}))
  with tempfile.TemporaryDirectory() as folder:
    c = config(by_clip=False)
    data = dataset(c, pathlib.Path(folder) / "latents")
    fixed = next(data)
    made = {
      "by frame": trainer.make(c, fixed),
      "by clip": trainer.make(config(by_clip=True), fixed),
    }
    runs = {name: one.compiled() for name, one in made.items()}
    runs["input"] = runs["by frame"]
    states = {name: one.fresh() for name, one in made.items()}
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in range(flags.FLAGS.rounds + 1):
      for name in SIDES:
        update = runs[name]
        key = "by clip" if name == "by clip" else "by frame"
        start = time.perf_counter()
        for _ in range(flags.FLAGS.steps):
          batch = next(data) if name == "input" else fixed
          states[key], _ = update(states[key], loop.put(batch, sharding))
        jax.block_until_ready(states[key])
        times[name].append((time.perf_counter() - start) / flags.FLAGS.steps)
      shown = {name: round(t[-1], 4) for name, t in times.items()}
      logs.say(f"round {turn}: {shown} s a step")
  figures = {}
  for key, (over, under) in {
    "levels_overhead": ("by frame", "by clip"),
    "input_overhead": ("input", "by frame"),
  }.items():
    # The first round compiles.
    ratios = [a / b - 1 for a, b in zip(times[over][1:], times[under][1:])]
    figures[key] = round(statistics.median(ratios), 4)
  result.say("training", figures)


if __name__ == "__main__":
  flags.DEFINE_integer("rounds", 5, "turns of each, after the first")
  flags.DEFINE_integer("steps", 4, "of a turn")
  app.run(main)
