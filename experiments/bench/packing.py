"""What does packing gain over padding and over bucketing?

  python -m experiments.bench.packing --clips=/path/to/clips

One transformer, one training step, the same clips of many sizes and lengths in
three layouts: packed, several clips a row; padded, one clip a row that is as
long as the longest; bucketed, one clip a row of its own length, a batch and a
compilation for every length. Batches hold about as many token places in all
three, and the layouts run in turns, each with the attention that suits it:
packed rows in tiles, which skips what lies in other clips; buckets in full,
since nothing is masked; padded rows with the fastest of these and blocks. Clips
are those of a folder, if one is given, and of the world in several lengths, at
three scales. Latents are random numbers of the clips' sizes: what is measured
does not depend on them.

Figures: `fill`, the share of token places that hold data; real tokens a second
against the other two, and against packed rows by blocks, compilations left out;
and how often the packed step compiles after its first batch, over an epoch.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from configs import dit_b
from experiments.bench import result, trainer
from sora_jax import build
from sora_jax.data import loader, tokenizer
from sora_jax.data.latents import Item
from sora_jax.data.words import Words
from sora_jax.models.autoencoder import latent_size
from sora_jax.packing import patchify
from sora_jax.run import Run
from sora_jax.utils import logs

PLACES = 2560  # token places in a batch, about
TEXT = 48


def config(clips: str) -> ConfigDict:
  """A small transformer on clips of mixed size."""
  c = dit_b.get_config()
  part = {"name": "world", "set": "composition", "count": 60, "test_count": 1}
  part |= {"fps": 8.0, "seed": 0, "length": "short"}
  part |= {"channels": 0, "rate": 16_000}
  sizes = {"long": (17, 128, 128), "wide": (9, 96, 160), "image": (1, 160, 96)}
  parts = {
    name: part | {"frames": t, "height": h, "width": w}
    for name, (t, h, w) in sizes.items()
  }
  if clips:
    folder = {"name": "video_folder", "path": clips, "frames": 17, "fps": 8.0}
    parts["folder"] = folder | {"stride": 2.0, "held_out": (), "even": False}
  with c.unlocked():
    c.data = {"name": "mixture", "frames": 17, "parts": parts, "repeat": {}}
    c.scales = (1.0, 0.5, 0.25)
    c.dit.patch = (1, 2, 2)
    c.dit.model.update(width=256, depth=4, heads=4, mlp=1024, remat="none")
    c.dit.model.text.update(width=128, depth=1, heads=2)
    c.text.max_tokens = TEXT
    c.dit.evaluators = {}
    c.dit.rows.update(rows=2, length=1280, text=160, clips=24, bins=64)
  return c


def items(run: Run) -> list[Item]:
  """Random latents of the clips' sizes, with the clips' captions."""
  rng, out = np.random.default_rng(0), []
  model = run.config.autoencoder.model
  clips = run.data.clips("train")
  for clip in (c for c in (clips[i] for i in range(len(clips))) if c):
    size = latent_size(clip.video.shape[:3], model.compression)
    z = rng.standard_normal((*size, model.channels)).astype(np.float16)
    out.append(Item(z, clip.caption[:80], clip.key))
  return out


@dataclasses.dataclass
class Layout:
  """One way to put clips into batches.

  Attributes:
    batches: an epoch of them.
    places: for tokens, in all of them.
    tokens: in these places.
  """

  batches: list[dict[str, np.ndarray]]
  places: int
  tokens: int

  @staticmethod
  def of(batches: Sequence[dict[str, np.ndarray]]) -> Layout:
    segments = [b["video_segments"] for b in batches]
    tokens = int(sum((s > 0).sum() for s in segments))
    return Layout(list(batches), int(sum(s.size for s in segments)), tokens)


def words_of(c: ConfigDict, found: Sequence[Item]) -> Words:
  """That of all captions, for every layout the same."""
  captions = [i.text for i in found]
  return build.words(c, tokenizer.train(captions, c.text.vocab_size))


def tokens_of(c: ConfigDict, item: Item) -> int:
  """Video tokens of a clip."""
  return int(np.prod(patchify.grid(item.latents.shape, c.dit.patch)))


def layouts(c: ConfigDict, found: list[Item]) -> dict[str, Layout]:
  """An epoch of the clips, packed, padded and bucketed."""
  lengths = [tokens_of(c, item) for item in found]
  total, rows, words = sum(lengths), build.rows(c), words_of(c, found)

  def batches(some: Sequence[Item], rows: loader.Rows):
    return iter(
      loader.packed(some, c.dit.patch, words, rows, seed=0, threads=1)
    )

  count = max(1, total // (rows.rows * rows.length))
  packed = itertools.islice(batches(found, rows), count)

  def alone(some: list[Item], length: int) -> Iterator[dict[str, np.ndarray]]:
    shape = loader.Rows(max(1, PLACES // length), length, TEXT, 1, 1)
    count = max(1, round(len(some) / shape.rows))
    return itertools.islice(batches(some, shape), count)

  buckets = collections.defaultdict(list)
  for item, length in zip(found, lengths):
    buckets[length].append(item)
  bucketed = [
    b for length, some in buckets.items() for b in alone(some, length)
  ]
  return {
    "packed": Layout.of(list(packed)),
    "padded": Layout.of(list(alone(found, max(lengths)))),
    "bucketed": Layout.of(bucketed),
  }


def changed(c: ConfigDict, attention: str, clips: int) -> ConfigDict:
  """The config for rows of at most so many clips."""
  c = ConfigDict(c.to_dict())
  c.dit.rows.clips, c.dit.model.attention = clips, attention
  return c


# name -> layout, attention
SIDES = {
  "packed": ("packed", "tiled"),
  "packed by blocks": ("packed", "blocks"),
  "padded": ("padded", "full"),
  "padded by blocks": ("padded", "blocks"),
  "padded in tiles": ("padded", "tiled"),
  "bucketed": ("bucketed", "full"),
}
RIVALS = {
  "padded": ("padded", "padded by blocks", "padded in tiles"),
  "bucketed": ("bucketed",),
  "blocks": ("packed by blocks",),
}


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  c = config(flags.FLAGS.clips)
  found = items(Run(c, "runs/packing"))
  kinds = layouts(c, found)
  for name, kind in kinds.items():
    filled = kind.tokens / kind.places
    logs.say(f"{name}: {len(kind.batches)} batches, {filled:.1%} filled")
  sides, warm = {}, {}
  for name, (layout, attention) in SIDES.items():
    kind = kinds[layout]
    clips = c.dit.rows.clips if layout == "packed" else 1
    made = trainer.make(changed(c, attention, clips), kind.batches[0])
    run, state = made.compiled(donate=False), made.fresh()
    seen = set()
    for batch in kind.batches:
      if (shape := batch["video"].shape) not in seen:
        seen.add(shape)
        jax.block_until_ready(run(state, batch))
    sides[name], warm[name] = (run, state, kind), run._cache_size()
    logs.say(f"{name}: {warm[name]} compiled")
  rates = collections.defaultdict(list)
  for k in range(flags.FLAGS.rounds):
    for name, (run, state, kind) in sides.items():
      start = time.perf_counter()
      for batch in kind.batches:
        state, _ = run(state, batch)
      jax.block_until_ready(state)
      rates[name].append(kind.tokens / (time.perf_counter() - start))
    shown = {name: round(r[-1]) for name, r in rates.items()}
    logs.say(f"round {k + 1}, tokens/s: {shown}")
  packed = kinds["packed"]
  fill = round(packed.tokens / packed.places, 4)
  figures = {"clips": len(found), "fill": fill}
  for name, others in RIVALS.items():
    best = [max(some) for some in zip(*(rates[o] for o in others))]
    ratios = (a / b for a, b in zip(rates["packed"], best))
    figures[f"tokens_per_s_vs_{name}"] = round(statistics.median(ratios), 2)
  again = sides["packed"][0]._cache_size() - warm["packed"]
  figures["compilations_after_warmup"] = again
  result.say("packing", figures)


if __name__ == "__main__":
  flags.DEFINE_string("clips", "", "folder of clips to take in, or none")
  flags.DEFINE_integer("rounds", 3, "epochs of each")
  app.run(main)
