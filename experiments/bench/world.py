"""How fast is the world, and do its oracles read it back?

  python -m experiments.bench.world

Clips a second on one core (process time), averaged over all sets in equal
parts, at 16x32x32 and 17x64x64; and the share of attributes that the oracle
reads back from real renders of the split "test" at 32 and 64 pixels.
"""

from __future__ import annotations

import json
import time

import numpy as np
from absl import app

from sora_jax.data.sources.world import World
from sora_jax.data.world import sets
from sora_jax.evaluators.oracle import read, scores
from sora_jax.utils import logs

SIZES = {"16x32x32": (16, 32, 32), "17x64x64": (17, 64, 64)}
CLIPS = 24  # of each set
DERIVED = ("all", "binding", "debris")  # no attributes of their own


def _world(name: str, frames: int, height: int, width: int) -> World:
  return World(
    set=name,
    count=CLIPS,
    test_count=CLIPS,
    frames=frames,
    height=height,
    width=width,
    fps=8.0,
    seed=0,
  )


def _rate(size: tuple[int, int, int]) -> float:
  """Clips a second of one core over all sets."""
  seconds = []
  for name in sets.SETS:
    clips = _world(name, *size).clips("train")
    clips[0]  # caches are warm after it
    start = time.process_time()
    for i in range(CLIPS):
      clips[i]
    seconds.append((time.process_time() - start) / CLIPS)
    logs.say(f"{name:12s} {size}: {1 / seconds[-1]:.0f} clips/s")
  return 1 / float(np.mean(seconds))


def _accuracy(side: int) -> float:
  """Share of attributes read right: mean over attributes, then over sets."""
  means = []
  for name in sets.SETS:
    found: dict[str, list[float]] = {}
    for clip in _world(name, 17, side, side).clips("test"):
      reading = read.read(clip.video, clip.fps)
      for key, value in scores.attributes(reading, clip.state).items():
        found.setdefault(key, []).append(value)
    table = {k: float(np.mean(v)) for k, v in found.items()}
    logs.say(f"{name:12s} {side} px: {table}")
    means.append(np.mean([v for k, v in table.items() if k not in DERIVED]))
  return float(np.mean(means))


def main(_) -> None:
  """Measures and prints."""
  figures = {
    f"clips_per_s_{name}": round(_rate(size), 1) for name, size in SIZES.items()
  }
  for side in (64, 32):
    figures[f"oracle_accuracy_{side}"] = round(_accuracy(side), 4)
  logs.say(json.dumps(figures))


if __name__ == "__main__":
  app.run(main)
