"""Composition root: the only place that turns a config into objects.

A section of a config is a constructor call, {"name": key of a table, **kwargs};
an unknown name or keyword is an error that lists the valid ones.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from sora_jax import check, estimate
from sora_jax.build.codec import autoencoder, lpips, untrained
from sora_jax.build.data import (
  packed,
  packed_shapes,
  pixel_shapes,
  pixels,
  prepare,
  prepared,
  rows,
  sizes,
  source,
  words,
)
from sora_jax.build.devices import check_rows, placement
from sora_jax.build.requests import asked, continuations, request, requests
from sora_jax.build.sampling import FROM_INPUT, check_sampling, fits
from sora_jax.build.training import evaluators, optimizers, schedule
from sora_jax.build.transformer import (
  diffusion,
  grid,
  guidance,
  guided,
  long,
  operands,
  pipeline,
  rollout,
  solver,
)
from sora_jax.data import transforms
from sora_jax.sampling.folder import NAMES
from sora_jax.sampling.tasks import TASKS
from sora_jax.utils.dtypes import DTYPES
from sora_jax.utils.sections import key

__all__ = [
  "DTYPES",
  "FROM_INPUT",
  "asked",
  "autoencoder",
  "check_rows",
  "continuations",
  "diffusion",
  "evaluators",
  "everything",
  "grid",
  "guidance",
  "guided",
  "long",
  "lpips",
  "operands",
  "optimizers",
  "packed",
  "packed_shapes",
  "pipeline",
  "pixel_shapes",
  "pixels",
  "placement",
  "prepare",
  "prepared",
  "request",
  "requests",
  "rollout",
  "rows",
  "schedule",
  "sizes",
  "solver",
  "source",
  "untrained",
  "words",
]


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
  check.kernel(config)
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
  grid(config)
  rollout(config, None)
  for task in (config.sample.task, *config.sample.tasks):
    key(TASKS, task, "sample.task")
  key(NAMES, config.sample.names, "sample.names")
  for name in config.sample.formats:
    key({k: None for k in ("mp4", "gif")}, name, "sample.formats")
  if config.cost.device != "here":
    key(estimate.DEVICES, config.cost.device, "cost.device")
  check_sampling(config)
  name = NAMES[config.sample.names]
  for i, one in enumerate(requests(config)):
    name(i, 0, one)
    if "sample" in config.stages:  # else there is no training before it
      fits(config, one)
