"""What a run can be asked to do: train, sample, eval, dryrun."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from sora_jax import build, estimate
from sora_jax.evaluators.context import first_of_each
from sora_jax.models.autoencoder import latent_size
from sora_jax.packing import patchify
from sora_jax.run import Run
from sora_jax.sampling.pipeline import Request
from sora_jax.sampling.tasks import KEPT
from sora_jax.training import loop, when
from sora_jax.types import Clip
from sora_jax.utils import files, logs, media, processes, sections


def train(run: Run) -> None:
  """Every stage of the config; what is done already is not done again."""
  processes.check_shared(run.workdir)
  run.remember()
  stages = run.config.stages
  if "autoencoder" in stages and not run.config.autoencoder.checkpoint:
    show(run.train_autoencoder())
  if "dit" in stages:
    show(run.train_dit())
  if "sample" in stages:
    sample(run)


def evaluate(run: Run) -> None:
  """The evaluators of the last trained stage, printed as tables."""
  show(judged(run, "dit" if "dit" in run.config.stages else "autoencoder"))


def judged(run: Run, name: str) -> dict[str, float]:
  """What the evaluators of a trained stage say, as evaluator/row/column."""
  state = run.restored(name)
  evaluators = build.evaluators(
    getattr(run.config, name), run.context(name, state.frozen)
  )
  return loop.evaluate(evaluators, state, name, run.writer)


def show(found: Mapping[str, float]) -> None:
  """Prints metrics named evaluator/row/column, one table an evaluator."""
  tables: dict[str, dict[str, dict[str, object]]] = {}
  for name, value in found.items():
    evaluator, _, rest = name.partition("/")
    row, _, column = rest.rpartition("/")
    rows = tables.setdefault(evaluator, {})
    rows.setdefault(row, {evaluator: row})[column] = value
  for rows in tables.values():
    logs.say("\n" + logs.table(list(rows.values())))


def sample(run: Run) -> None:
  """Makes the config's videos: files, a contact sheet and samples.jsonl."""
  config = run.config.sample
  requests = _requests(run)
  state = run.restored("dit")
  step = int(state.step)
  logs.say(f"sample: {len(requests)} videos from step {step}")
  videos = run.pipeline()(state.ema, state.frozen, requests)
  folder = run.notes / "samples"
  folder.mkdir(parents=True, exist_ok=True)
  lines, sheet = [], []
  for i, (request, video) in enumerate(zip(requests, videos)):
    told = {
      "prompt": request.prompt,
      "task": request.task,
      "seed": str(request.seed),
      "size": "x".join(map(str, request.size)),
      "config": sections.digest(run.config),
      "step": str(step),
    }
    names = _names(i, request, config.formats)
    for name in names:
      media.write(folder / name, video, config.fps, told)
    lines.append(json.dumps({"files": names, **told}))
    if request.source is not None:
      sheet.append((f"given: {request.prompt}", request.source))
    sheet.append((f"{request.task}: {request.prompt}", video))
  media.contact_sheet(folder / "contact_sheet.png", sheet)
  run.writer.image("sample", step, "contact_sheet", media.sheet(sheet))
  files.write_text(folder / "samples.jsonl", "\n".join(lines) + "\n")
  logs.say(f"sample: videos, contact_sheet.png, samples.jsonl in {folder}")


def _names(index: int, request: Request, formats: Sequence[str]) -> list[str]:
  """File names of one video in every format; an image is a png."""
  slug = re.sub(r"[^a-z0-9]+", "-", request.prompt.lower()).strip("-")[:48]
  stem = f"{index:03d}-{request.task}-{slug or 'empty'}"
  return [f"{stem}.{e}" for e in (formats if request.size[0] > 1 else ("png",))]


def _requests(run: Run) -> list[Request]:
  """What the config asks for: its prompts, then clips of the data."""
  config = run.config.sample
  source, size = None, tuple(config.size)
  if config.source:
    source = _given(run, Path(config.source))
    size = (size[0], *source.shape[1:3])
  wanted = [(prompt, size, config.task, source) for prompt in config.prompts]
  clips = run.data.clips(run.config.evaluation.split) if config.clips else ()
  found = (clip for clip in clips if clip is not None)
  for clip in itertools.islice(first_of_each(found), config.clips):
    shown = clip.video.shape[:3]
    compression = run.config.autoencoder.model.compression
    frames = latent_size(shown, compression)[0]
    for task in config.tasks:
      if frames <= KEPT.get(task, 0):
        logs.say(f"sample: {clip.key} is too short for {task}, left out")
        continue
      given = clip.video if task in KEPT else None
      wanted.append((clip.caption, shown, task, given))
  return [
    Request(*options, seed=config.seed + i) for i, options in enumerate(wanted)
  ]


def _given(run: Run, path: Path) -> np.ndarray:
  """A picture or video of the user's, brought to its bucket: uint8."""
  config = run.config.sample
  video, fps = media.read(path, frames=config.size[0], fps=config.fps)
  prepare = build.prepare(run.config, "test")
  return prepare(
    Clip(video, fps, "", str(path)), np.random.default_rng(0)
  ).video


def dryrun(run: Run) -> None:
  """What every stage will cost; no model is allocated."""
  device = estimate.device(run.config.cost.device)
  for name in run.config.stages:
    if name == "sample":
      logs.say("\nsample\n" + logs.table(_sampling_costs(run, device)))
    else:
      parameters, costs = _training_costs(run, name, device)
      logs.say(f"\n{name}\n{logs.table(parameters)}\n\n{logs.table(costs)}")
  logs.say(
    f"\ndevices: {jax.device_count()} of {run.config.cost.device!r}; times are "
    "rooflines, the least that they can take"
  )


Rows = list[dict[str, object]]


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
  count = jax.device_count()
  seconds = estimate.seconds(device, stage.step, stage.abstract, batch) / count
  flops = run.model_flops(name, stage, batch, frozen)
  costs = {
    "parameters": f"{total:,}",
    "model GFLOPs per step": f"{flops / 1e9:,.1f}",
    "GFLOPs per step with recomputation": f"{found.flops / 1e9:,.1f}",
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
  money = hours * jax.device_count() * run.config.cost.price
  return {"hours": f"{hours:.4g}", "money": f"{money:,.2f}"}


def _sampling_costs(run: Run, device: estimate.Device) -> Rows:
  """Denoising clips of the config's size, as many as a call takes."""
  config = run.config.sample
  pipeline = build.pipeline(run.config, run.diffusion, run.codec, None)
  batch, frozen = run.abstract_inputs("dit")
  params = run.stage("dit", batch, frozen, epoch=1).abstract.ema
  shapes = pipeline.abstract()
  model = run.config.autoencoder.model
  size = latent_size(config.size, model.compression)
  tokens = int(np.prod(patchify.grid((*size, 1), run.config.dit.patch)))
  clips = min(pipeline.length // tokens, pipeline.clips) * pipeline.rows
  if not clips:
    return [{"cost": "sample.size does not fit a row", "sample": ""}]
  seconds = estimate.seconds(device, pipeline.sample, params, shapes)
  each = seconds / jax.device_count() / clips
  long = config.size[0] / config.fps
  costs = {
    "tokens of a clip": f"{tokens:,}",
    "clips at once": f"{clips}",
    "seconds per clip": f"{each:.4g}",
    "seconds per second of video": f"{each / long:.4g}",
    "money per second of video": f"{_price(run, each / long)['money']}",
  }
  return [{"cost": k, "sample": v} for k, v in costs.items()]


MODES = {
  "train": train,
  "sample": sample,
  "eval": evaluate,
  "dryrun": dryrun,
}
