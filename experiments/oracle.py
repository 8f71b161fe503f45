"""How much of the truth do the oracles read back from real renders?

  python -m experiments.oracle --clips=40

Every set and every held-out split of the captioned physics world at 64 and at
32 pixels, 17 frames at 8/s, on a seed that no training uses; the sound of the
set "sound" in stereo. Nothing was tuned on these clips. What is missing from 1
(attributes) or from 0 (errors) here is the oracles' own error, and the ceiling
of what a generated video can score.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import itertools
import math
import multiprocessing
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import app, flags

from experiments import record
from sora_jax.data.sources.world import World
from sora_jax.data.world import sets, sound
from sora_jax.data.world.nouns import UNITS
from sora_jax.evaluators import hearing
from sora_jax.evaluators.oracle import laws, physics, read, scores
from sora_jax.types import Clip
from sora_jax.utils import logs

DERIVED = ("all", "binding", *scores.UNEXPLAINED)  # no attributes themselves
SIDES = (64, 32)
HEARD = ("recall", "precision", "pitch", "material", "sync_ms", "pan")

Scores = dict[str, list[float]]


def world(name: str, side: int, clips: int, seed: int, channels=0) -> World:
  """The source that is read: 17 square frames at 8/s."""
  return World(
    set=name,
    count=clips,
    test_count=clips,
    frames=17,
    height=side,
    width=side,
    fps=8.0,
    seed=seed,
    channels=channels,
  )


def watched(clips: Iterable[Clip]) -> Scores:
  """By attribute, and by law with "law " before it, one score a clip."""
  found: Scores = {}
  for clip in clips:
    reading = read.read(clip.video, clip.fps)
    row = scores.attributes(reading, clip.state)
    if len(clip.state.shots) == 1:
      paths = laws.followed(reading, clip.state)
      each = laws.laws(paths, clip.state, clip.fps)
      row |= {f"law {name}": value for name, value in each.items()}
    _add(found, row)
  return found


def heard(clips: Iterable[Clip]) -> Scores:
  """By score of hearing.score, with "sound " before it, one number a clip."""
  found: Scores = {}
  for clip in clips:
    truth = sound.impacts_of(
      clip.state.events, clip.state.shots[0].scene.bodies
    )
    seconds = len(clip.video) / clip.fps
    row = hearing.score(
      hearing.listen(clip.audio, clip.rate), truth, seconds, UNITS
    )
    _add(found, {f"sound {name}": row[name] for name in HEARD})
  return found


def _add(found: Scores, row: dict[str, float]) -> None:
  for name, value in row.items():
    if not math.isnan(value):
      found.setdefault(name, []).append(value)


def accuracy(found: Scores) -> float:
  """Mean over attributes of the share that is right."""
  return float(np.mean([np.mean(found[name]) for name in attributes(found)]))


def attributes(found: Iterable[str]) -> list[str]:
  """The names of what a caption says, among those of all scores."""
  return [n for n in found if n not in DERIVED and " " not in n]


def _cell(job, clips: int, seed: int) -> tuple[Scores, str]:
  """Scores of one set, split and size, and the hash of its clips."""
  side, split, name = job
  channels = 0 if side else 2
  source = world(name, side or SIDES[-1], clips, seed, channels)
  digest = hashlib.sha256()
  passing = record.hashed(source.clips(split), digest)
  found = watched(passing) if side else heard(passing)
  return found, digest.hexdigest()


def _summary(rows: Sequence[dict[str, object]]) -> None:
  """Prints the share of attributes by size and split, and the worst cells."""
  said = [
    r for r in rows if r["side"] and r["score"] in attributes([r["score"]])
  ]
  for side, split in itertools.product(SIDES, sets.SPLITS[1:]):
    own = [r for r in said if (r["side"], r["split"]) == (side, split)]
    means = [
      np.mean([r["mean"] for r in own if r["set"] == name])
      for name in sets.SETS
    ]
    worst = sorted(own, key=lambda r: r["mean"])[:3]
    logs.say(
      f"{side} px, {split}: {np.mean(means):.4f} of attributes; worst "
      + ", ".join(f"{r['set']}/{r['score']} {r['mean']:.3f}" for r in worst)
    )


def drawn(rows: Sequence[Mapping[str, object]]) -> pathlib.Path:
  """Plots how much is read right by size and split, a dot for each set."""
  cells = collections.defaultdict(list)
  for row in rows:
    if int(row["side"]) and attributes([row["score"]]):
      of = f"{row['side']} px, {row['split']}"
      cells[of, row["set"]].append(float(row["mean"]))
  means = [
    {"point": point, "attributes read": float(np.mean(found))}
    for (point, _), found in cells.items()
  ]
  return record.plot("oracle", means, "attributes read")


def main(argv: list[str]) -> None:
  """Reads, prints and saves."""
  del argv
  clips, seed = flags.FLAGS.clips, flags.FLAGS.seed
  about = {"commit": record.commit(), "clips": clips, "seed": seed}
  splits = sets.SPLITS[1:]
  jobs = [*itertools.product(SIDES, splits, sets.SETS)]
  jobs += [(0, split, "sound") for split in splits]  # no side: to be heard
  rows, whole = [], hashlib.sha256()
  work = functools.partial(_cell, clips=clips, seed=seed)
  count = flags.FLAGS.processes
  with multiprocessing.get_context("spawn").Pool(count) as pool:
    for job, (found, hashed) in zip(jobs, pool.imap(work, jobs), strict=True):
      whole.update(hashed.encode())
      for name, values in found.items():
        mean, low, high, count = physics.interval(values)
        rows.append(
          dict(zip(("side", "split", "set"), job))
          | {"score": name, "clips": count, "mean": round(mean, 5)}
          | {"low": round(low, 5), "high": round(high, 5)}
        )
      logs.say(f"{job}: {len(found)} scores")
  _summary(rows)
  path = record.save("oracle", rows, **about, sha256=whole.hexdigest()[:16])
  logs.say(f"{path}\n{drawn(rows)}")


if __name__ == "__main__":
  # Here, and not above: other experiments import this one.
  flags.DEFINE_integer("clips", 40, "clips of each set, split and size")
  flags.DEFINE_integer("seed", 1000, "of the world")
  flags.DEFINE_integer("processes", 2, "that share the work")
  app.run(main)
