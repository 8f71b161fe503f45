"""What does sampling cost beside the forward passes, and a long video?

  python -m experiments.bench.sampler

`overhead` is the share by which the compiled sampler takes longer than as many
forward passes of the same rows, the larger of two models'. In
`long_video_peak_memory_ratio` a process rolls out 60 seconds of video to a
file, another one 20: the ratio of the most memory that they held, and in
`long_video_pace_ratio` of the time that a second of video took them; and in
`longest_video_...` the same of an hour. Weights are random.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent import futures

import jax
from absl import app, flags
from ml_collections import ConfigDict

from experiments.bench import estimate, result
from sora_jax import build
from sora_jax.data import tokenizer
from sora_jax.run import Run
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.request import Request
from sora_jax.sampling.rollout import Rollout
from sora_jax.types import PyTree
from sora_jax.utils import logs, media, processes

PROMPT = "a red three moves left on a black background"
CASES = (
  ("quickstart", {"sample.rows": 4}),
  ("dit_s", {"sample.rows": 2, "dit.model.depth": 6}),
)
PLAIN = {"solver": {"name": "euler"}, "guidance": {"name": "none"}}
LENGTHS = (20.0, 60.0, 3600.0)  # seconds of long videos
FPS, SIZE = 8.0, (17, 64, 64)


def config_of(name: str, changes: dict[str, object]) -> ConfigDict:
  """A config that samples with nothing but forward passes."""
  config = importlib.import_module(f"configs.{name}").get_config()
  with config.unlocked():
    config.update_from_flattened_dict(changes)
    for key, value in PLAIN.items():
      config.sample[key] = value
  return config


def sampler(config: ConfigDict) -> tuple[Pipeline, PyTree, PyTree]:
  """A pipeline, random parameters, and what it freezes."""
  run = Run(config, pathlib.Path("unused"))
  words = build.words(config, tokenizer.train([PROMPT, PROMPT], 400))
  pipeline = build.pipeline(config, run.judged, run.codec, words)

  def made(stage):
    batch, frozen = run.abstract_inputs(stage)
    batch, frozen = jax.device_put(estimate.arrays((batch, frozen)))
    return run.stage(stage, batch, frozen, epoch=1).make()

  codec = made("autoencoder").params["ae"]
  frozen = {"autoencoder": codec, "stats": run.codec.no_stats()}
  return pipeline, made("dit").params, frozen


def seconds(fn: Callable, *args) -> float:
  """Of one call."""
  start = time.perf_counter()
  jax.block_until_ready(fn(*args))
  return time.perf_counter() - start


def overhead(name: str, changes: dict[str, object], steps: int) -> float:
  """Of sampling over so many forward passes, side by side."""
  pipeline, params, _ = sampler(
    config_of(name, changes | {"sample.steps": steps})
  )
  arrays = jax.device_put(estimate.arrays(pipeline.abstract()))
  rows = {k: arrays[k] for k in ("known", "start")}

  @jax.jit
  def forward(params, a):
    return pipeline.denoiser(params, a)(rows["known"], rows["start"])

  both = pipeline.sample, forward
  for fn in both:
    fn(params, arrays)  # compiles
  taken = [[seconds(fn, params, arrays) for fn in both] for _ in range(5)]
  whole, once = (statistics.median(some) for some in zip(*taken))
  found = whole / (steps * once) - 1
  logs.say(
    f"{name}: {whole:.3f} s for {steps} steps, {once:.4f} s a forward pass: "
    f"{100 * found:+.1f} %"
  )
  return found


def peak(length: float) -> tuple[int, float]:
  """Rolls out a video of so many seconds.

  Returns:
    the most bytes that were held, and the seconds that a second of video took,
    from the third block on.
  """
  changes = {"sample.steps": 2, "sample.rows": 1, "dit.rows.length": 192}
  config = config_of("quickstart", changes)
  pipeline, params, frozen = sampler(config)
  roll = Rollout(pipeline, context="frames", anchor=False)
  asked, frames = [Request(PROMPT, SIZE, keep=1)], round(length * FPS)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "long.mp4"
    with media.writing(path, FPS) as add:
      done, start = 0, 0.0
      for block, (_, part) in enumerate(roll(params, frozen, asked, frames)):
        add(part)
        if block < 2:  # these compile
          done, start = done + len(part), time.perf_counter()
      taken = time.perf_counter() - start
    made = media.probe(path).frames
  if made != frames:
    raise RuntimeError(f"{made} frames were written of {frames}")
  return processes.peak_memory(), taken * FPS / (frames - done)


def peak_of(length: float) -> tuple[int, float]:
  """`peak` in a process of its own."""
  context = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    found = pool.submit(peak, length).result()
  logs.say(
    f"{length:g} s of video: {found[0] / 2**20:.0f} MiB at most, "
    f"{found[1]:.3f} s a second"
  )
  return found


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  steps = flags.FLAGS.steps
  found = max(overhead(*case, steps) for case in CASES)
  short, *others = (peak_of(length) for length in LENGTHS)
  figures = {"overhead": round(found, 4)}
  for name, length in zip(("long", "longest"), others):
    memory, pace = (b / a for a, b in zip(short, length))
    figures[f"{name}_video_peak_memory_ratio"] = round(memory, 4)
    figures[f"{name}_video_pace_ratio"] = round(pace, 4)
  result.say("sampler", figures)


if __name__ == "__main__":
  flags.DEFINE_integer("steps", 20, "of the sampler")
  app.run(main)
