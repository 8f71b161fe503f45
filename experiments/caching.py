"""What does it save to let predictions serve again, and what does it change?

  python -m experiments.caching

The model of experiments/results/demo makes videos of the same captions and
noise with several thresholds of `sample.cache`, in turns. A row for each:
`time`, as a share of what every step's own prediction takes (the median over
rounds, side by side), and how far the videos are from those: PSNR in dB, the
mean and the worst clip. There is no guidance.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import statistics
import time

from absl import app, flags

from experiments import judging, record
from sora_jax.evaluators import metrics
from sora_jax.evaluators.context import prompted
from sora_jax.run import Run
from sora_jax.utils import cache, logs

DEMO = record.RESULTS / "demo"
THRESHOLDS = (0.0, 0.2, 0.4, 0.8, 1.6)


def measured(run: Run, clips: int, rounds: int) -> list[dict[str, object]]:
  """A row for each threshold."""
  state = run.restored("dit")
  found = run.data.clips(run.config.evaluation.split)
  chosen = list(itertools.islice((c for c in found if c is not None), clips))
  requests = prompted(chosen, [clip.text for clip in chosen], seed=0)
  pipelines = {
    threshold: dataclasses.replace(run.pipeline(), cache=threshold)
    for threshold in THRESHOLDS
  }
  taken: dict[float, list[float]] = {t: [] for t in THRESHOLDS}
  videos = {}
  for turn in range(rounds + 1):
    for threshold, pipeline in pipelines.items():
      start = time.perf_counter()
      videos[threshold] = pipeline(state.ema, state.frozen, requests)
      taken[threshold].append(time.perf_counter() - start)
    logs.say(
      f"round {turn}: { {c: round(t[-1], 2) for c, t in taken.items()} }"
    )
  rows = []
  for threshold in THRESHOLDS:
    # The first round compiles.
    pairs = zip(taken[threshold][1:], taken[THRESHOLDS[0]][1:], strict=True)
    near = [
      metrics.psnr(a, b)
      for a, b in zip(videos[threshold], videos[THRESHOLDS[0]], strict=True)
    ]
    rows.append(
      {
        "point": f"{threshold:g}",
        "time": round(statistics.median(a / b for a, b in pairs), 3),
        "psnr": round(statistics.mean(near), 2),
        "psnr_worst": round(min(near), 2),
      }
    )
  return rows


def main(argv: list[str]) -> None:
  """Measures, prints and writes."""
  del argv
  cache.keep_compiled()
  asked = flags.FLAGS
  run = Run.open(asked.run)
  run = Run(judging.unguided(run.config), asked.run)
  rows = measured(run, asked.clips, asked.rounds)
  logs.say(logs.table(rows))
  about = {
    "commit": record.commit(),
    "run": pathlib.Path(asked.run).name,
    "weights": record.weights(pathlib.Path(asked.run) / "dit"),
    "clips": asked.clips,
    "steps": run.config.sample.steps,
    "solver": run.config.sample.solver.to_dict(),
    "guidance": run.config.sample.guidance.to_dict(),
    "seeds": 1,
  }
  logs.say(f"{record.save('caching', rows, **about)}")
  logs.say(f"{record.plot('caching', rows, 'time')}")


if __name__ == "__main__":
  flags.DEFINE_string("run", str(DEMO), "a trained run, or an exported one")
  flags.DEFINE_integer("clips", 8, "captions of the test set")
  flags.DEFINE_integer("rounds", 3, "turns of each, after the first")
  app.run(main)
