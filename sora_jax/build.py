"""Composition root: the only file that turns a config into objects.

A section of a config is a constructor call, {"name": key of a table, **kwargs};
an unknown name or keyword is an error that lists the valid ones.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sora_jax.data import buckets, loader, transforms
from sora_jax.data.latents import Latents
from sora_jax.data.sources import SOURCES
from sora_jax.data.tokenizer import Tokenizer
from sora_jax.diffusion.guidance import GUIDANCE
from sora_jax.diffusion.levels import PATTERNS
from sora_jax.diffusion.process import (
  SCHEDULES,
  TARGETS,
  TIMES,
  WEIGHTS,
  Process,
  shift,
)
from sora_jax.diffusion.solvers import SOLVERS
from sora_jax.evaluators import EVALUATORS
from sora_jax.evaluators.context import Context
from sora_jax.models.attention import ATTENTION
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.models.dit import REMAT, DiT
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.training import loop, optimizer, when
from sora_jax.types import Clip, Evaluator, Source

Transform = Callable[[Clip, np.random.Generator], Clip]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def plain(section: Any) -> Any:
  """A section as ordinary dicts and tuples."""
  return section.to_dict() if isinstance(section, ConfigDict) else section


def digest(config: ConfigDict) -> str:
  """12 hexadecimal digits that change with any value of the config."""
  text = json.dumps(plain(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def key(table: Mapping[str, Any], name: str, where: str) -> Any:
  """table[name], or a ValueError that lists the valid names."""
  if name not in table:
    raise ValueError(f"{where}={name!r} is not one of {sorted(table)}")
  return table[name]


def call(fn: Callable, options: Mapping[str, Any], where: str, **given) -> Any:
  """fn(**given, **options), or a ValueError that lists the valid options."""
  valid = list(inspect.signature(fn).parameters)
  wrong = [k for k in options if k not in valid]
  if wrong:
    offered = [k for k in valid if k not in given]
    raise ValueError(f"{where} has no options {wrong}; valid: {offered}")
  return fn(**given, **options)


def named(table: Mapping[str, Any], section: Any, where: str, **given) -> Any:
  """Constructs the row of a table that a section names."""
  options = dict(plain(section))
  fn = key(table, options.pop("name"), f"{where}.name")
  return call(fn, options, where, **given)


def bound(table: Mapping[str, Callable], section: Any, where: str) -> Callable:
  """The row of a table that a section names, with its options bound."""
  options = dict(plain(section))
  fn = key(table, options.pop("name"), f"{where}.name")
  valid = list(inspect.signature(fn).parameters)
  wrong = [k for k in options if k not in valid]
  if wrong:
    raise ValueError(f"{where} has no options {wrong}; valid: {valid}")
  return functools.partial(fn, **options)


def source(config: ConfigDict, workdir: Path) -> Source:
  """The data source; undecodable files are noted in the workdir."""
  fn = key(SOURCES, config.data.name, "data.name")
  notes = {"log": workdir / "skipped.jsonl"}
  given = {k: v for k, v in notes.items() if k in _parameters(fn)}
  return named(SOURCES, config.data, "data", **given)


def _parameters(fn: Callable) -> list[str]:
  return list(inspect.signature(fn).parameters)


def prepare(config: ConfigDict) -> Transform:
  """What every clip goes through: extras, nearest bucket, whole latents."""
  ct, ch, cw = config.autoencoder.model.compression
  _, ph, pw = config.dit.patch
  return transforms.build(
    (
      *config.transforms,
      {"name": "bucket", "tokens": config.tokens, "unit": (ch * ph, cw * pw)},
      {"name": "trim", "multiple": ct * config.dit.patch[0]},
    )
  )


def sizes(config: ConfigDict) -> tuple[tuple[int, int], ...]:
  """The (H, W) buckets into which clips are brought."""
  _, ch, cw = config.autoencoder.model.compression
  _, ph, pw = config.dit.patch
  return buckets.table(config.tokens, (ch * ph, cw * pw))


def pixels(
  config: ConfigDict, clips: Sequence[Clip | None], seed: int
) -> grain.IterDataset:
  """Padded pixel batches for the autoencoder: prepared, then cropped."""
  frames, height, width = config.autoencoder.size
  crop = {"name": "crop", "frames": frames, "height": height, "width": width}
  first, then = prepare(config), transforms.build((crop,))
  return loader.clips(
    clips,
    lambda clip, rng: then(first(clip, rng), rng),
    size=config.autoencoder.size,
    batch=config.autoencoder.batch,
    seed=seed,
    threads=config.threads,
  )


def rows(config: ConfigDict) -> loader.Rows:
  """The static shape of packed batches."""
  return call(loader.Rows, plain(config.dit.rows), "dit.rows")


def packed(
  config: ConfigDict, latents: Latents, tokenizer: Tokenizer
) -> grain.IterDataset:
  """Packed rows for the transformer."""
  return loader.packed(
    latents,
    patch=config.dit.patch,
    tokenizer=tokenizer,
    rows=rows(config),
    max_text=config.text.max_tokens,
    seed=config.seed,
    threads=config.threads,
  )


def autoencoder(config: ConfigDict) -> Autoencode:
  """The autoencoder's objective."""
  section = plain(config.autoencoder.model)
  dtype = key(DTYPES, section.pop("dtype"), "autoencoder.model.dtype")
  model = call(Autoencoder, section, "autoencoder.model", dtype=dtype)
  options = plain(config.autoencoder.objective)
  return call(Autoencode, options, "autoencoder.objective", model=model)


def diffusion(config: ConfigDict) -> LatentDiffusion:
  """The transformer's objective."""
  dit = config.dit
  section = plain(dit.model)
  text = section.pop("text") | {"vocab_size": config.text.vocab_size}
  dtype = key(DTYPES, section.pop("dtype"), "dit.model.dtype")
  key(ATTENTION, section["attention"], "dit.model.attention")
  key(REMAT, section["remat"], "dit.model.remat")
  for name in dit.mixture:
    key(PATTERNS, name, "dit.mixture")
  channels = config.autoencoder.model.channels
  model = call(
    DiT,
    section,
    "dit.model",
    patch_size=int(np.prod(dit.patch)) * channels,
    text=text,
    dtype=dtype,
  )
  key(SCHEDULES, dit.process.schedule, "dit.process.schedule")
  key(TARGETS, dit.process.target, "dit.process.target")
  times = bound(TIMES, dit.times, "dit.times")
  move = plain(dit.shift)
  return LatentDiffusion(
    model=model,
    process=call(Process, plain(dit.process), "dit.process"),
    weight=bound(WEIGHTS, dit.weight, "dit.weight"),
    times=times,
    shift=functools.partial(shift, **move),
    mixture=plain(dit.mixture),
    text_dropout=dit.text_dropout,
    clips=dit.rows.clips,
    frames=dit.frames,
  )


def schedule(section: ConfigDict) -> loop.Schedule:
  """When things happen in a stage."""
  return call(loop.Schedule, plain(section.schedule), "schedule")


def optimizers(section: ConfigDict, player: str, steps_per_epoch: int | None):
  """The optimizers of a stage, by player."""
  clock = when.Clock(steps_per_epoch)
  steps = when.Until(section.schedule.until, clock).steps()
  options = plain(section.optimizer)
  if steps is None and options["schedule"] != "constant":
    raise ValueError(
      f"schedule {options['schedule']!r} must know its length, but the run "
      f"ends after {section.schedule.until!r}: use steps or epochs, or the "
      "schedule 'constant'"
    )
  return {player: optimizer.make(steps=steps or 1, **options)}


def pipeline(
  config: ConfigDict,
  objective: LatentDiffusion,
  codec: Autoencode,
  tokenizer: Tokenizer,
) -> Pipeline:
  """The sampling pipeline."""
  sample = config.sample
  return Pipeline(
    objective=objective,
    autoencoder=codec,
    tokenizer=tokenizer,
    patch=config.dit.patch,
    solver=bound(SOLVERS, sample.solver, "sample.solver"),
    guidance=bound(GUIDANCE, sample.guidance, "sample.guidance"),
    steps=sample.steps,
    rows=sample.rows,
    length=config.dit.rows.length,
    text=config.dit.rows.text,
    clips=config.dit.rows.clips,
    max_text=config.text.max_tokens,
    decode_batch=sample.decode_batch,
  )


def evaluators(section: ConfigDict, context: Context) -> dict[str, Evaluator]:
  """The evaluators of a stage, by their name in the config."""
  return {
    name: named(EVALUATORS, options, f"evaluators.{name}", context=context)
    for name, options in section.evaluators.items()
  }
