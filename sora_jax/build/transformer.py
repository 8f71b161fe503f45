"""The diffusion transformer, and the sampling that it serves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from sora_jax.data.words import Words
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
from sora_jax.diffusion.sampler import GRIDS, falls
from sora_jax.diffusion.solvers import SOLVERS
from sora_jax.models.attention import ATTENTION
from sora_jax.models.dit import MODULATION, REMAT, DiT
from sora_jax.models.text_encoder import TextEncoder
from sora_jax.objectives import OBJECTIVES
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.rollout import Rollout
from sora_jax.utils import axes
from sora_jax.utils.dtypes import DTYPES, OPERANDS
from sora_jax.utils.sections import bound, call, key, partial, plain


def diffusion(
  config: ConfigDict, placement: axes.Placement | None = None
) -> LatentDiffusion:
  """The transformer's objective, computed on devices as placed."""
  dit = config.dit
  section = plain(dit.model)
  text = section.pop("text") | {"vocab_size": config.text.vocab_size}
  if not 0 <= section["tubes"] <= section["heads"]:
    raise ValueError(
      f"dit.model.tubes={section['tubes']}: that many of the "
      f"{section['heads']} heads of dit.model.heads"
    )
  names = ("attention", "rope_base", "dtype", "matmul")
  shared = {k: section[k] for k in names}
  clips = dit.rows.clips
  partial(TextEncoder, text, "dit.model.text", clips=clips, **shared)
  dtype = key(DTYPES, section.pop("dtype"), "dit.model.dtype")
  matmul = key(OPERANDS, section.pop("matmul"), "dit.model.matmul")
  key(ATTENTION, section["attention"], "dit.model.attention")
  key(REMAT, section["remat"], "dit.model.remat")
  ways = dict.fromkeys(MODULATION)
  key(ways, section["modulation"], "dit.model.modulation")
  for name in dit.mixture:
    key(PATTERNS, name, "dit.mixture")
  channels = config.autoencoder.model.channels
  model = call(
    DiT,
    section,
    "dit.model",
    patch_size=int(np.prod(dit.patch)) * channels,
    clips=clips,
    text=text,
    dtype=dtype,
    matmul=matmul,
  )
  key(SCHEDULES, dit.process.schedule, "dit.process.schedule")
  key(TARGETS, dit.process.target, "dit.process.target")
  return bound(
    OBJECTIVES,
    dit.objective,
    "dit.objective",
    model=model,
    process=call(Process, plain(dit.process), "dit.process"),
    weight=bound(WEIGHTS, dit.weight, "dit.weight", late=2),
    times=bound(TIMES, dit.times, "dit.times", late=2),
    shift=partial(shift, dit.shift, "dit.shift", late=2),
    mixture=plain(dit.mixture),
    text_dropout=dit.text_dropout,
    clips=clips,
    frames=dit.frames,
    placement=placement,
  )()


def operands(model: ConfigDict) -> str:
  """The number format of a model's matmuls, of either stage."""
  return model.dtype if model.matmul == "dtype" else model.matmul


def solver(config: ConfigDict) -> Callable:
  """The sampler's step."""
  return bound(SOLVERS, config.sample.solver, "sample.solver", late=7)


def grid(config: ConfigDict) -> Callable:
  """The times of the sampler's steps."""
  steps = config.sample.steps
  if steps < 1:
    raise ValueError(f"sample.steps={steps}: need at least 1")
  found = bound(GRIDS, config.sample.grid, "sample.grid", late=1)
  times = found(steps)
  if not falls(times):
    raise ValueError(
      f"sample.grid={plain(config.sample.grid)} gives the times "
      f"{times.tolist()}: they must fall from 1 to 0"
    )
  return found


def guidance(config: ConfigDict) -> Callable:
  """How the conditional and the unconditional denoiser are combined."""
  return bound(GUIDANCE, config.sample.guidance, "sample.guidance", late=3)


def guided(config: ConfigDict) -> bool:
  """Whether guidance asks the model without the prompt, too."""
  section = config.sample.guidance
  return "scale" in section and section.scale != 1


def rollout(config: ConfigDict, pipeline: Pipeline) -> Rollout:
  """What makes long videos."""
  options = plain(config.sample.rollout)
  seconds = options.pop("seconds")
  if seconds < 0:
    raise ValueError(f"sample.rollout.seconds={seconds}: need at least 0")
  return call(Rollout, options, "sample.rollout", pipeline=pipeline)


def long(config: ConfigDict) -> int:
  """Frames of long videos; 0 where none are asked for."""
  sample = config.sample
  return math.ceil(sample.rollout.seconds * sample.fps - 1e-6)


def pipeline(
  config: ConfigDict,
  objective: LatentDiffusion,
  codec: Autoencode,
  words: Words,
) -> Pipeline:
  """The sampling pipeline."""
  sample = config.sample
  return Pipeline(
    objective=objective,
    autoencoder=codec,
    words=words,
    patch=config.dit.patch,
    solver=solver(config),
    guidance=guidance(config),
    grid=grid(config),
    steps=sample.steps,
    rows=sample.rows,
    length=config.dit.rows.length,
    text=config.dit.rows.text,
    clips=config.dit.rows.clips,
    decode_batch=sample.decode_batch,
    decode_frames=sample.decode_frames,
    cache=sample.cache,
  )
