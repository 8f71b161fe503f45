"""How fast is the world, and do its oracles read it back?

  python -m experiments.bench.world

Clips a second on one core (process time), averaged over all sets in equal
parts, at 16x32x32 and 17x64x64; and the share of attributes that the oracle
reads back from real renders of the split "test" at 32 and 64 pixels.
`experiments.oracle` has the table by split and attribute.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from absl import app

from experiments import oracle
from experiments.bench import result
from sora_jax.data.world import sets
from sora_jax.utils import logs

SIZES = {"16x32x32": (16, 32), "17x64x64": (17, 64)}  # frames, side
CLIPS = 24  # of each set


def _rate(frames: int, side: int) -> float:
  """Clips a second of one core over all sets."""
  seconds = []
  for name in sets.SETS:
    source = oracle.world(name, side, CLIPS, seed=0)
    clips = dataclasses.replace(source, frames=frames).clips("train")
    clips[0]  # caches are warm after it
    start = time.process_time()
    for i in range(CLIPS):
      clips[i]
    seconds.append((time.process_time() - start) / CLIPS)
    logs.say(f"{name:12s} {frames}x{side}: {1 / seconds[-1]:.0f} clips/s")
  return 1 / float(np.mean(seconds))


def _accuracy(side: int) -> float:
  """Share of attributes read right: mean over attributes, then over sets."""
  means = []
  for name in sets.SETS:
    clips = oracle.world(name, side, CLIPS, seed=0).clips("test")
    found = oracle.watched(clips)
    means.append(oracle.accuracy(found))
    logs.say(f"{name:12s} {side} px: {means[-1]:.4f}")
  return float(np.mean(means))


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  figures = {
    f"clips_per_s_{name}": round(_rate(*size), 1)
    for name, size in SIZES.items()
  }
  for side in oracle.SIDES:
    figures[f"oracle_accuracy_{side}"] = round(_accuracy(side), 4)
  result.say("world", figures, "cpu")


if __name__ == "__main__":
  app.run(main)
