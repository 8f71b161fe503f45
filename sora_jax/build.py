"""Composition root: the only file that turns a config into objects.

A section of a config is a constructor call, {"name": key of a table, **kwargs};
an unknown name or keyword is an error that lists the valid ones.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from sora_jax import check
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
from sora_jax.models import perceptual
from sora_jax.models.attention import ATTENTION
from sora_jax.models.autoencoder import BLOCKS, Autoencoder
from sora_jax.models.causal_conv import LOWERINGS
from sora_jax.models.discriminator import Discriminator
from sora_jax.models.dit import REMAT, DiT
from sora_jax.models.text_encoder import TextEncoder
from sora_jax.objectives.autoencode import Adversary, Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.objectives.penalties import TERMS
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.tasks import TASKS
from sora_jax.training import loop, optimizer, when
from sora_jax.types import Clip, Evaluator, PyTree, Source
from sora_jax.utils.sections import bound, call, key, partial, plain

Batches = Iterable[dict[str, np.ndarray]]  # with iterators that resume
Transform = Callable[[Clip, np.random.Generator], Clip]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def everything(config: ConfigDict) -> None:
  """Looks up every name and option that the run will need on its way.

  Raises:
    ValueError: for the first that does not exist, listing the valid ones.
  """
  autoencoder(config)
  lpips(config)
  diffusion(config)
  prepare(config, "train")
  transforms.build(config.autoencoder.transforms)
  rows(config)
  check.heads(config)
  check.sizes(config)
  check.evaluators(config)
  source(config, Path())
  for stage in ("autoencoder", "dit"):
    section = config[stage]
    schedule(section)
    optimizers(section, (stage,), steps_per_epoch=1)
    evaluators(section, context=None)
  solver(config)
  guidance(config)
  for task in (config.sample.task, *config.sample.tasks):
    key(TASKS, task, "sample.task")
  for name in config.sample.formats:
    key({k: None for k in ("mp4", "gif")}, name, "sample.formats")
  check.start(config)


def source(config: ConfigDict, workdir: Path) -> Callable[[], Source]:
  """Opens the data source; undecodable files are noted in the workdir."""
  return _source(plain(config.data), "data", workdir)


def _source(
  section: Mapping[str, Any], where: str, workdir: Path
) -> Callable[[], Source]:
  """One source, or a mixture of those in its `parts`."""
  fn = key(SOURCES, section["name"], f"{where}.name")
  notes: dict[str, Any] = {"log": workdir / "skipped.jsonl"}
  parameters = inspect.signature(fn).parameters
  given = {k: v for k, v in notes.items() if k in parameters}
  if "parts" not in parameters or "parts" not in section:
    return bound(SOURCES, section, where, **given)
  section, parts = dict(section), {}
  for name, part in section.pop("parts").items():
    inner = f"{where}.parts.{name}"
    if missing := {"name", "frames"} - set(part):
      raise ValueError(f"{inner}: missing {sorted(missing)}")
    if part["frames"] > section["frames"]:
      raise ValueError(
        f"{inner}.frames={part['frames']} exceeds {where}.frames="
        f"{section['frames']}: raise the latter"
      )
    parts[name] = _source(part, inner, workdir)
  fixed = bound(SOURCES, section, where, parts={})
  return lambda: fixed(parts={name: part() for name, part in parts.items()})


def prepare(config: ConfigDict, split: str) -> Transform:
  """What every clip goes through first: nearest bucket, whole latents.

  The config's own transforms, which may augment, are for training only, and so
  are its scales: elsewhere clips have the largest.
  """
  train = split == "train"
  extra = config.transforms if train else ()
  scales = config.scales if train else (max(config.scales),)
  size = {"tokens": config.tokens, "unit": _unit(config), "scales": scales}
  frames = {"multiple": config.autoencoder.model.compression[0]}
  return transforms.build(
    ({"name": "bucket", **size}, {"name": "trim", **frames}, *extra)
  )


def prepared(
  config: ConfigDict, clips: Sequence[Clip | None], split: str
) -> loader.Prepared:
  """Clips as every stage takes them, as many in memory as the config allows."""
  memory = int(config.cache_gib * 2**30)
  return loader.Prepared(clips, prepare(config, split), memory)


def sizes(config: ConfigDict) -> tuple[tuple[int, int], ...]:
  """The (H, W) buckets into which clips are brought."""
  budgets = (max(int(config.tokens * share), 1) for share in config.scales)
  return tuple(s for b in budgets for s in buckets.table(b, _unit(config)))


def _unit(config: ConfigDict) -> tuple[int, int]:
  """Height and width in pixels of a token."""
  cells, patch = config.autoencoder.model.compression[1:], config.dit.patch[1:]
  return cells[0] * patch[0], cells[1] * patch[1]


def pixels(
  config: ConfigDict, clips: loader.Prepared, seed: int, augmented: bool
) -> Batches:
  """Padded batches of random crops for the autoencoder.

  Args:
    config: of the run.
    clips: that the crops are of.
    seed: of the crops.
    augmented: whether they are thinned, zoomed and transformed.
  """
  section = config.autoencoder
  size = dict(zip(("frames", "height", "width"), section.size))
  zoom = section.zoom if augmented else 1.0
  steps = ({"name": "crop", **size, "zoom": zoom},)
  if augmented:
    thin = {"name": "thin", "most": section.thin}
    steps = (thin, *steps, *section.transforms)
  return loader.clips(
    clips,
    transforms.build(steps),
    size=section.size,
    batch=section.batch,
    seed=seed,
    threads=config.threads,
  )


def rows(config: ConfigDict) -> loader.Rows:
  """The static shape of packed batches."""
  return call(loader.Rows, plain(config.dit.rows), "dit.rows")


def packed(
  config: ConfigDict, latents: Latents, tokenizer: Tokenizer
) -> Batches:
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
  key(LOWERINGS, model.lowering, "autoencoder.model.lowering")
  key(BLOCKS, model.block, "autoencoder.model.block")
  options = plain(config.autoencoder.objective)
  for name in options["terms"]:
    key(TERMS, name, "autoencoder.objective.terms")
  options["terms"] = {k: v for k, v in options["terms"].items() if v}
  player = adversary(options.pop("adversary"), dtype)
  weight = options.pop("perceptual")["weight"]
  where, given = "autoencoder.objective", {"model": model, "perceptual": weight}
  return call(Autoencode, options, where, **given, adversary=player)


def untrained(
  config: ConfigDict, codec: Autoencode, abstract: bool = False
) -> dict[str, PyTree]:
  """What the autoencoder's stage starts with and does not train.

  Latent statistics that change nothing, and LPIPS's weights if it minimises it.

  Args:
    config: of the run.
    codec: its autoencoder.
    abstract: only the shapes of the weights; their file need not be there.

  Raises:
    FileNotFoundError, ValueError: for what is no file of such weights.
  """
  out, section = {"stats": codec.no_stats()}, lpips(config)
  if section is None:
    return out
  if abstract:
    return out | {"perceptual": perceptual.abstract()}
  return out | {"perceptual": perceptual.load(section.path, section.sha256)}


def lpips(config: ConfigDict) -> ConfigDict | None:
  """The section of LPIPS if the autoencoder minimises it."""
  section = config.autoencoder.objective.perceptual
  if section.weight and not section.path:
    raise ValueError(
      f"autoencoder.objective.perceptual.weight={section.weight} needs the "
      "weights of LPIPS: set its path, see models/perceptual.py"
    )
  return section if section.weight else None


def adversary(section: Mapping[str, Any], dtype: Any) -> Adversary | None:
  """The autoencoder's second player; None for the weight 0."""
  where, options = "autoencoder.objective.adversary", dict(section)
  model = {k: options.pop(k) for k in ("width", "depth") if k in options}
  judge = call(Discriminator, model, where, dtype=dtype)
  made = call(Adversary, options, where, model=judge)
  return made if made.weight else None


def diffusion(config: ConfigDict) -> LatentDiffusion:
  """The transformer's objective."""
  dit = config.dit
  section = plain(dit.model)
  text = section.pop("text") | {"vocab_size": config.text.vocab_size}
  shared = {k: section[k] for k in ("attention", "rope_base", "dtype")}
  partial(TextEncoder, text, "dit.model.text", **shared)
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
  return LatentDiffusion(
    model=model,
    process=call(Process, plain(dit.process), "dit.process"),
    weight=bound(WEIGHTS, dit.weight, "dit.weight", late=2),
    times=bound(TIMES, dit.times, "dit.times", late=2),
    shift=partial(shift, dit.shift, "dit.shift", late=2),
    mixture=plain(dit.mixture),
    text_dropout=dit.text_dropout,
    clips=dit.rows.clips,
    frames=dit.frames,
  )


def schedule(section: ConfigDict) -> loop.Schedule:
  """When things happen in a stage."""
  found = call(loop.Schedule, section.schedule, "schedule")
  for text in (found.until, found.log, found.save, found.evaluate):
    when.parse(text)
  if found.log == "never":
    raise ValueError("schedule.log='never': divergence is noticed at reports")
  return found


def optimizers(
  section: ConfigDict, players: Iterable[str], steps_per_epoch: int | None
):
  """The optimizers of a stage, by player: the same rule for each."""
  clock = when.Clock(steps_per_epoch)
  steps = when.Until(section.schedule.until, clock).steps()
  options = plain(section.optimizer)
  shared = {
    k: options.pop(k) for k in ("schedule", "learning_rate", "warmup", "clip")
  }
  name = shared.pop("schedule")
  rates = key(optimizer.SCHEDULES, name, "optimizer.schedule")
  rule = bound(optimizer.OPTIMIZERS, options, "optimizer", late=1)
  if steps is None and name != "constant":
    raise ValueError(
      f"schedule {name!r} must know its length, but the run "
      f"ends after {section.schedule.until!r}: use steps or epochs, or the "
      "schedule 'constant'"
    )
  made = optimizer.make(rule, rates, steps=steps or 1, **shared)
  return {player: made for player in players}


def solver(config: ConfigDict) -> Callable:
  """The sampler's step."""
  return bound(SOLVERS, config.sample.solver, "sample.solver", late=6)


def guidance(config: ConfigDict) -> Callable:
  """How the conditional and the unconditional denoiser are combined."""
  return bound(GUIDANCE, config.sample.guidance, "sample.guidance", late=3)


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
    solver=solver(config),
    guidance=guidance(config),
    steps=sample.steps,
    rows=sample.rows,
    length=config.dit.rows.length,
    text=config.dit.rows.text,
    clips=config.dit.rows.clips,
    max_text=config.text.max_tokens,
    decode_batch=sample.decode_batch,
    decode_frames=sample.decode_frames,
  )


def evaluators(
  section: ConfigDict, context: Context | None
) -> dict[str, Evaluator]:
  """The evaluators of a stage, by their name in the config."""
  return {
    name: bound(EVALUATORS, options, f"evaluators.{name}", context=context)()
    for name, options in section.evaluators.items()
  }


def pixel_shapes(config: ConfigDict, sharding: NamedSharding):
  """The autoencoder's batches, as shapes."""
  size = (config.autoencoder.batch, *config.autoencoder.size)
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  return {
    "video": shape((*size, 3), jnp.uint8),
    "mask": shape(size, jnp.bool_),
  }


def packed_shapes(config: ConfigDict, sharding: NamedSharding):
  """The transformer's batches, as shapes."""
  size, channels = rows(config), config.autoencoder.model.channels
  patch = int(np.prod(config.dit.patch)) * channels
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  out = {"video": shape((size.rows, size.length, patch), jnp.float32)}
  out["text"] = shape((size.rows, size.text), jnp.int32)
  for name, length in (("video", size.length), ("text", size.text)):
    out[f"{name}_positions"] = shape((size.rows, length, 3), jnp.int32)
    out[f"{name}_segments"] = shape((size.rows, length), jnp.int32)
  return out
