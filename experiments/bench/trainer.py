"""A stage's training step, for benches that need no run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from sora_jax import build, estimate
from sora_jax.training import step
from sora_jax.types import Batch, PyTree, State


@dataclasses.dataclass(frozen=True)
class Trainer:
  """What a config trains.

  Attributes:
    objective: what is minimised, of objectives/.
    update: (state, batch) -> (state, metrics), not compiled.
    fresh: makes a state.
  """

  objective: Any
  update: step.Step
  fresh: Callable[[], State]

  def compiled(self, donate: bool = True) -> Any:
    """`update`; it takes the state's memory, as training does, or leaves it."""
    return jax.jit(self.update, donate_argnums=0 if donate else ())


def make(config: ConfigDict, batch: Batch) -> Trainer:
  """The transformer's trainer of a config for batches like `batch`."""
  return _made(build.diffusion(config), config.dit, batch, {})


def autoencoder(config: ConfigDict, batch: Batch) -> Trainer:
  """The autoencoder's."""
  codec = build.autoencoder(config)
  return _made(codec, config.autoencoder, batch, {"stats": codec.no_stats()})


def _made(
  objective: Any, section: ConfigDict, batch: Batch, frozen: PyTree
) -> Trainer:
  optimizers = build.optimizers(section, objective.losses, 1)
  key = jax.random.PRNGKey(0)
  initial = functools.partial(step.initial, objective, optimizers)
  fresh = jax.jit(lambda: nn.meta.unbox(initial(key, batch, frozen)))
  update = step.make(objective, optimizers, section.ema)
  return Trainer(objective, update, fresh)


def flops(config: ConfigDict, batch: Batch) -> int:
  """Those of a step of its model; nothing is computed."""
  made = make(config, batch)
  return estimate.flops(made.update, jax.eval_shape(made.fresh), batch)
