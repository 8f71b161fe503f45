"""What a run can be asked to do: train, sample, eval, dryrun, export."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sora_jax import build, estimate, report, trained
from sora_jax import export as export_lib
from sora_jax.data.words import Words
from sora_jax.evaluators.context import first_of_each
from sora_jax.models.autoencoder import latent_size
from sora_jax.packing import patchify
from sora_jax.run import Run
from sora_jax.sampling import script
from sora_jax.sampling.folder import NAMES, STEERED, Samples
from sora_jax.sampling.request import Request
from sora_jax.sampling.rollout import Rollout
from sora_jax.training import loop, when
from sora_jax.types import State
from sora_jax.utils import files, logs, media, processes, sections, tree


def train(run: Run) -> None:
  """Every stage of the config; what is done already is not done again."""
  stages = list(run.config.stages)
  if run.config.autoencoder.checkpoint and "autoencoder" in stages:
    stages.remove("autoencoder")
  build.check_rows(run.config, run.placement, stages)
  trained.check_given(run.config, run.workdir)
  processes.check_shared(run.workdir)
  remember(run)
  if "autoencoder" in stages:
    show(run.train_autoencoder())
  if "dit" in stages:
    show(run.train_dit())
  if "sample" in stages:
    sample(run)
  else:
    _report(run)


def remember(run: Run) -> None:
  """Writes config.json; says so if the folder held another config."""
  if not processes.first():
    return
  run.workdir.mkdir(parents=True, exist_ok=True)
  path = run.workdir / "config.json"
  text = json.dumps(sections.plain(run.config), indent=1, sort_keys=True)
  if path.exists() and path.read_text() != text:
    logs.say(f"note: {path} differs from this config and is replaced")
  files.write_text(path, text)


def evaluate(run: Run) -> None:
  """The evaluators of the last trained stage, printed as tables."""
  show(judged(run, "dit" if "dit" in run.config.stages else "autoencoder"))
  _report(run)


def _report(run: Run) -> None:
  logs.say(f"report: {report.write(run.notes)}")


def judged(run: Run, name: str) -> dict[str, float]:
  """What the evaluators of a trained stage say, as evaluator/row/column."""
  state = run.restored(name)
  evaluators = build.evaluators(
    getattr(run.config, name), run.context(name, state.frozen)
  )
  return loop.evaluate(evaluators, state, name, run.writer)


def show(found: Mapping[str, float]) -> None:
  """Prints metrics named evaluator/row/column, one table an evaluator."""
  for rows in logs.tables(found):
    logs.say("\n" + logs.table(rows))


def sample(run: Run) -> None:
  """Makes the config's videos: files, a contact sheet and samples.jsonl.

  What an interrupted run has finished is not made again.
  """
  config = run.config.sample
  requests, stems = _asked(run)
  pipeline = run.pipeline()
  roll = build.rollout(run.config, pipeline)
  frames = build.long(run.config)
  if frames:
    roll.check(requests, frames)
  else:
    pipeline.check(requests)
  state = run.restored("dit")
  step = int(state.step)
  weights = tree.digest([state.ema, state.frozen])
  told = [_told(run, request, step, weights) for request in requests]
  samples = Samples(run.notes / "samples", stems, told, config.formats)
  missing = samples.missing
  logs.say(
    f"sample: {len(missing)} videos from step {step}, "
    f"{len(requests) - len(missing)} are there"
  )
  samples.begin()
  if frames and missing:
    _rolled(roll, state, requests, frames, samples, config, told)
  elif missing:
    wanted = [requests[i] for i in missing]
    for i, video in pipeline.each(state.ema, state.frozen, wanted):
      for path in samples.files(missing[i]):
        media.write(path, video, config.fps, _texts(told[missing[i]]))
      samples.done(missing[i])
  samples.end()
  sheet = samples.sheet([request.source for request in requests])
  media.contact_sheet(samples.folder / "contact_sheet.png", sheet)
  run.writer.image("sample", step, "contact_sheet", media.sheet(sheet))
  logs.say(
    f"sample: all {len(requests)} videos, contact_sheet.png, samples.jsonl in "
    f"{samples.folder}"
  )
  _report(run)


def _asked(run: Run) -> tuple[list[Request], list[str]]:
  """What the config asks for, and names: prompts, then clips of the data."""
  config, name = run.config.sample, NAMES[run.config.sample.names]
  requests = build.requests(run.config)
  stems = [
    name(i, i % config.repeats, request) for i, request in enumerate(requests)
  ]
  clips = run.data.clips(run.config.evaluation.split) if config.clips else ()
  found = first_of_each(clip for clip in clips if clip is not None)
  some = itertools.islice(found, config.clips)
  more = build.continuations(run.config, some, config.seed + len(requests))
  stems += [
    name(len(requests) + i, 0, request) for i, request in enumerate(more)
  ]
  return requests + more, stems


def _told(
  run: Run, request: Request, step: int, weights: str
) -> dict[str, Any]:
  """All that makes a video, JSON-able; weights are told by their digest."""
  told: dict[str, Any] = {}
  for field in dataclasses.fields(request):
    value = getattr(request, field.name)
    array = isinstance(value, np.ndarray)
    told[field.name] = tree.digest(value) if array else value
  config = run.config
  sampler = config.sample.to_dict()
  for name in ("fps", "steps", "grid", "solver", "guidance", "cache"):
    told[name] = sampler[name]
  if sampler["rollout"]["seconds"]:
    told["rollout"] = sampler["rollout"]
  # Of the rest, what changes what a checkpoint makes.
  dit = config.dit
  made_of = {
    "autoencoder": config.autoencoder.model,
    "dit": (dit.model, dit.patch, dit.process, dit.shift, dit.objective),
    "text": config.text,
    "tokens": config.tokens,
  }
  made_of = jax.tree.map(sections.plain, made_of)
  where = trained.folder(config, run.workdir, "dit")
  if where != run.workdir / "dit":
    told["checkpoint"] = str(where)
  told |= {"step": step, "weights": weights}
  return told | {"config": sections.digest(made_of)}


def _texts(told: Mapping[str, Any]) -> dict[str, str]:
  """For a file's metadata."""
  return {
    k: v if isinstance(v, str) else json.dumps(v) for k, v in told.items()
  }


class _Steering:
  """Reads a line for every block: the prompt from there on, if not empty.

  What has been made until then can be watched: see `seen`.
  """

  def __init__(self, fps: float, words: Words, seen: Path):
    self.told: list[tuple[int, str]] = [(0, "")]
    self._fps, self._words, self._seen = fps, words, seen

  def __call__(self, frame: int) -> str | None:
    so_far = f" ({self._seen} is what there is)" if frame else ""
    logs.say(f"sample: prompt from second {frame / self._fps:g} on?{so_far}")
    while prompt := sys.stdin.readline().strip():
      try:
        self._words(script.one_shot(prompt))
      except ValueError as error:
        logs.say(f"sample: {error} Another?")
        continue
      earlier = [shot for shot in self.told if shot[0] < frame]
      self.told = [*earlier, (frame, prompt)]
      return prompt
    return None


def _rolled(
  roll: Rollout,
  state: State,
  requests: Sequence[Request],
  frames: int,
  samples: Samples,
  config: ConfigDict,
  told: Sequence[Mapping[str, Any]],
) -> None:
  """Writes long videos, frame by frame, as they are made.

  As many at a time as a call of the sampler holds: what is finished then stays,
  and no more files are open.
  """
  missing = samples.missing
  most = roll.at_once([requests[i] for i in missing])
  for start in range(0, len(missing), most):
    some = missing[start : start + most]
    wanted, steering, show = [requests[i] for i in some], None, None
    with contextlib.ExitStack() as stack:
      adds = [
        stack.enter_context(
          media.writing(samples.files(i)[0], config.fps, _texts(told[i]))
        )
        for i in some
      ]
      if config.prompts == build.FROM_INPUT:
        seen = samples.files(some[0])[0].with_suffix(".growing.mp4")
        steering = _Steering(config.fps, roll.pipeline.words, seen)
        stack.callback(seen.unlink, missing_ok=True)  # before a first frame
        show = stack.enter_context(media.growing(seen, config.fps))
      for i, part in roll(state.ema, state.frozen, wanted, frames, steering):
        adds[i](part)
        if show and not i:
          show(part)
    for i in some:
      samples.done(i, **({STEERED: steering.told} if steering else {}))


def dryrun(run: Run) -> None:
  """What every stage will cost; no model is allocated."""
  build.check_rows(run.config, run.placement, run.config.stages)
  device = estimate.device(run.config.cost.device)
  for name in run.config.stages:
    if name == "sample":
      logs.say("\nsample\n" + logs.table(_sampling_costs(run, device)))
    else:
      parameters, costs = _training_costs(run, name, device)
      logs.say(f"\n{name}\n{logs.table(parameters)}\n\n{logs.table(costs)}")
  logs.say(
    f"\ndevices: {_machines(run, jax.device_count())} of "
    f"{run.config.cost.device!r}; times are rooflines, the least that they can "
    "take with attention over whole rows"
  )


Rows = list[dict[str, object]]


def _machines(run: Run, devices: int) -> int:
  """How many of what `cost.device` names so many devices are.

  Those that XLA cuts this machine's CPU into are one, those that `--devices`
  pretends are as many machines like this one; JAX knows the latter's number.
  """
  here = run.config.cost.device == "here" and jax.default_backend() == "cpu"
  if here and jax.config.jax_num_cpu_devices < 1:
    return min(devices, jax.process_count())
  return devices


def _counted(run: Run) -> Run:
  """The run with attention over whole rows, whose work shows in a trace.

  That of loops that data ends, and of kernels, does not.
  """
  config = ConfigDict(run.config.to_dict())
  config.dit.model.attention = "full"
  config.sample.update(prompts=(), file="")  # which need not be read again
  return Run(config, run.workdir)


def _training_costs(
  run: Run, name: str, device: estimate.Device
) -> tuple[Rows, Rows]:
  """Parameters by module, and what a stage takes."""
  batch, frozen = run.abstract_inputs(name)
  stage = run.stage(name, batch, frozen, epoch=1)
  found = estimate.estimate(stage.step, stage.abstract, batch, compile=True)
  total, gib = sum(found.parameters.values()), estimate.GIB
  parameters: Rows = [
    {"module": module, "parameters": f"{count:,}", "share": count / total}
    for module, count in found.parameters.items()
  ]
  counted = _counted(run).stage(name, batch, frozen, epoch=1)
  traced = (counted.step, counted.abstract, batch)
  seconds = estimate.seconds(device, *traced)
  seconds /= _machines(run, jax.device_count())
  again = estimate.flops(*traced)
  flops = run.model_flops(name, batch, frozen)
  costs = {
    "parameters": f"{total:,}",
    "model GFLOPs per step": f"{flops / 1e9:,.1f}",
    "GFLOPs per step with all that it takes": f"{again / 1e9:,.1f}",
    "GiB of state per device": f"{found.state_bytes / gib:.3f}",
    "GiB of temporaries per device": f"{found.temporary_bytes / gib:.3f}",
    "GiB that a device has": f"{device.memory / gib:.1f}",
    "seconds per step": f"{seconds:.4g}",
  }
  if name == "dit":
    rows = run.config.dit.rows
    costs["video tokens per step"] = f"{rows.rows * rows.length:,}"
  steps = when.steps_of(run.config[name].schedule.until)
  if steps is not None:
    costs |= _price(run, steps * seconds)
  return parameters, [{"cost": k, name: v} for k, v in costs.items()]


def _price(run: Run, seconds: float) -> dict[str, str]:
  hours = seconds / 3600
  count = _machines(run, jax.device_count())
  money = hours * count * run.config.cost.price
  return {"hours": f"{hours:.4g}", "money": f"{money:,.2f}"}


def _sampling_costs(run: Run, device: estimate.Device) -> Rows:
  """Denoising clips as many as a call takes, a row of the table for each size.

  As long as those that are sampled, of their size and in each bucket. Devices
  over which the rows of a call do not spread all do the same.
  """
  config, packed = run.config.sample, run.config.dit.rows
  # Not placed: what every device does alike counts once.
  objective = build.diffusion(_counted(run).config)
  pipeline = build.pipeline(run.config, objective, run.codec, None)
  batch, frozen = run.abstract_inputs("dit")
  params = run.stage("dit", batch, frozen, epoch=1).abstract.ema
  shapes = pipeline.abstract()
  # A call denoises whole rows, whatever lies in them.
  seconds = estimate.seconds(device, pipeline.sample, params, shapes)
  # Guidance is one pass over twice the rows.
  rows = config.rows * (2 if build.guided(run.config) else 1)
  call = (rows, packed.length + packed.text, run.config.dit.model.heads)
  spread = run.placement.devices(("rows", "length", "attend"), call)
  seconds /= _machines(run, spread)
  rows = []
  length, *space = config.size
  for place in dict.fromkeys((tuple(space), *build.sizes(run.config))):
    size = (length, *place)
    cells = latent_size(size, run.config.autoencoder.model.compression)
    tokens = patchify.tokens(cells, run.config.dit.patch)
    clips = min(pipeline.length // tokens, pipeline.clips) * pipeline.rows
    each = seconds / clips if clips else math.inf  # it does not fit a row
    pace = each / (length / config.fps)
    costs = {
      "sampled size": "x".join(map(str, size)),
      "tokens of a clip": f"{tokens:,}",
      "clips at once": f"{clips}",
      "seconds per clip": f"{each:.4g}",
      "seconds per second of video": f"{pace:.4g}",
    }
    if clips:
      costs["money per second of video"] = _price(run, pace)["money"]
    rows.append(costs)
  return rows


def export(run: Run) -> None:
  """Writes what is trained as a folder to give away."""
  logs.say(f"export: {export_lib.write(run)}")


MODES = {
  "train": train,
  "sample": sample,
  "eval": evaluate,
  "dryrun": dryrun,
  "export": export,
}
