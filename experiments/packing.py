"""What does packing gain over padding and buckets in the same time?

  python -m experiments.sweep experiments/packing.py --seeds=3

The quickstart's transformer on images and clips of several sizes and lengths,
for six minutes each at a constant rate: packed, several clips to a row, with
attention by blocks and in full; padded, one clip to a row that is as long as
the longest; and in buckets, a batch of its own shape for clips of each length,
the stronger rival. Batches have about as many places for video tokens, and each
as many for text as it needs. All share autoencoder and latents; what counts is
how much of held-out captions the oracle reads back.

The time includes compiling, which is kept for later seeds: once, and in buckets
once for each of six lengths. Other work on the machine falsifies the
comparison.
"""

from __future__ import annotations

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import guidance

METRICS = (*guidance.CAPTIONS, "fixed_times/mean/error")
# Frames, height, width: 16 to 54 tokens of 8 x 8 x 8 pixels.
SIZES = {
  "image": (1, 32, 32),
  "wide image": (1, 24, 48),
  "clip": (9, 32, 32),
  "wide": (9, 24, 48),
  "long": (17, 32, 32),
  "long, wide": (17, 24, 48),
}


def base() -> ConfigDict:
  """The quickstart on clips of mixed size, for a time."""
  c = guidance.mixed(SIZES, tests=64)
  with c.unlocked():
    c.tokens = 18  # nothing is scaled
    c.autoencoder.size = (17, 32, 48)
    c.dit.frames = 3
    c.dit.rows.update(rows=8, length=162, text=84, clips=7, bins=16)
    c.dit.model.attention = "blocks"
    c.dit.optimizer.schedule = "constant"
    c.dit.schedule.until = "6 minutes"
    c.dit.evaluators.fixed_times = {"name": "fixed_times", "times": 10}
  return c.lock()


def sweep() -> Iterator[tuple[str, dict[str, object]]]:
  """Name and changes of every point."""
  yield "packed, by blocks", {}
  yield "packed, in full", {"dit.model.attention": "full"}
  rows = {"rows": 24, "length": 54, "text": 12, "clips": 1, "bins": 1}
  padded = {f"dit.rows.{key}": value for key, value in rows.items()}
  alone = {"dit.model.attention": "full", **padded}
  yield "padded", alone
  yield "bucketed", alone | {"dit.rows.layout": "bucketed"}
