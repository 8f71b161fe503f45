"""The transformer's training step, for benches that need no run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from sora_jax import build, estimate
from sora_jax.objectives.latent_diffusion import LatentDiffusion
from sora_jax.training import step
from sora_jax.types import Batch, State


@dataclasses.dataclass(frozen=True)
class Trainer:
  """What a config trains.

  Attributes:
    objective: what is minimised.
    update: (state, batch) -> (state, metrics), not compiled.
    fresh: makes a state.
  """

  objective: LatentDiffusion
  update: step.Step
  fresh: Callable[[], State]

  def compiled(self, donate: bool = True) -> Any:
    """`update`; it takes the state's memory, as training does, or leaves it."""
    return jax.jit(self.update, donate_argnums=0 if donate else ())


def make(config: ConfigDict, batch: Batch) -> Trainer:
  """The trainer of a config for batches like `batch`."""
  objective = build.diffusion(config)
  optimizers = build.optimizers(config.dit, objective.losses, 1)
  key = jax.random.PRNGKey(0)
  initial = functools.partial(step.initial, objective, optimizers)
  fresh = jax.jit(lambda: nn.meta.unbox(initial(key, batch, {})))
  update = step.make(objective, optimizers, config.dit.ema)
  return Trainer(objective, update, fresh)


def flops(config: ConfigDict, batch: Batch) -> int:
  """Those of a step of its model; nothing is computed."""
  made = make(config, batch)
  return estimate.flops(made.update, jax.eval_shape(made.fresh), batch)
