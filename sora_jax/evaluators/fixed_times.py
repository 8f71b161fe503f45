"""Validation loss at fixed noise levels, which tracks sample quality."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from sora_jax.evaluators.context import Context, trained
from sora_jax.types import State


@dataclasses.dataclass(frozen=True)
class FixedTimes:
  """Error of x0 at `times` equally spaced noise levels, same noise always.

  Attributes:
    context: with a held-out packed batch.
    times: how many, at the middles of that many intervals of [0, 1].
  """

  context: Context
  times: int

  def run(self, state: State) -> Iterator[tuple[str, float]]:
    objective, batch = self.context.diffusion, dict(self.context.batch)
    loss = jax.jit(
      lambda params, batch, time: objective.loss_at(
        params, batch, time, jax.random.PRNGKey(0)
      ).compute()
    )
    found = []
    for i in range(self.times):
      time = (i + 0.5) / self.times
      found.append(float(loss(trained(state), batch, jnp.float32(time))))
      yield f"{time:.2f}/error", found[-1]
    yield "mean/error", sum(found) / len(found)
