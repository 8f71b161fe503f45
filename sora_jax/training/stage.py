"""One trainable stage, ready to make or restore its state."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax

from sora_jax.sharding import state as state_lib
from sora_jax.sharding.placement import Placement
from sora_jax.training import step as step_lib
from sora_jax.types import Objective, PyTree, State


@dataclasses.dataclass(frozen=True)
class Stage:
  """What trains one objective; nothing is computed yet.

  Attributes:
    step: jitted train step.
    make: makes a fresh state on the devices.
    abstract: the state as ShapeDtypeStructs with shardings.
  """

  step: Any
  make: Any
  abstract: State


def make(
  objective: Objective,
  optimizers: step_lib.Optimizers,
  ema: float,
  seed: int,
  batch: PyTree,
  frozen: PyTree,
  placement: Placement,
) -> Stage:
  """The stage of an objective for batches like `batch`.

  Args:
    objective: what is minimised.
    optimizers: by player.
    ema: see `step.make`.
    seed: of the run.
    batch: arrays or their shapes.
    frozen: what is not trained, by name; arrays or their shapes.
    placement: of the state on devices.
  """
  initial = functools.partial(step_lib.initial, objective, optimizers)
  fresh, abstract = state_lib.create(
    initial,
    (jax.random.PRNGKey(seed), batch, frozen),
    placement.mesh,
    placement.rules,
  )
  placed = jax.tree.map(lambda x: x.sharding, abstract)
  step = jax.jit(
    step_lib.make(objective, optimizers, ema),
    donate_argnums=0,
    out_shardings=(placed, None),
  )
  return Stage(step, fresh, abstract)
