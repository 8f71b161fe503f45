"""One pure train step for every objective and every player."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from sora_jax.types import (
  Array,
  Batch,
  Mean,
  Metrics,
  Objective,
  PyTree,
  State,
)

Optimizers = Mapping[str, optax.GradientTransformation]
Step = Callable[[State, Batch], tuple[State, Metrics]]


def initial(
  objective: Objective,
  optimizers: Optimizers,
  rng: Array,
  batch: Batch,
  frozen: Mapping[str, PyTree],
) -> State:
  """A fresh state; parameters keep flax's logical boxes."""
  init_rng, run_rng = jax.random.split(rng)
  params = objective.init(init_rng, batch)
  return State(
    step=jnp.int32(0),
    params=params,
    opt={p: optimizers[p].init(params[p]) for p in objective.losses},
    ema=params,
    frozen=dict(frozen),
    rng=run_rng,
    bad=jnp.int32(0),
  )


def make(objective: Objective, optimizers: Optimizers, ema: float) -> Step:
  """The step function of an objective.

  Every player's gradient is taken at the same parameters, with the other
  players held still. If any loss or gradient is not finite nothing changes
  but the counters: the update is skipped, and counted in `State.bad`.

  Args:
    objective: what each player minimises.
    optimizers: by player.
    ema: decay of the parameters' moving average; early on the average is over
      fewer steps, min(ema, (1 + n) / (10 + n)).
  """

  def update(state: State, batch: Batch, player: str):
    rng = jax.random.fold_in(state.rng, state.step)

    def loss_fn(own):
      others = jax.lax.stop_gradient(state.params)
      return objective.losses[player](
        {**others, player: own}, state.frozen, batch, rng, state.step
      )

    own = state.params[player]
    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(own)
    norm = optax.global_norm(grads)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt = optimizers[player].update(grads, state.opt[player], own)
    metrics |= {"grad_norm": Mean.of(norm, finite)}
    return optax.apply_updates(own, updates), opt, metrics, finite

  def step(state: State, batch: Batch) -> tuple[State, Metrics]:
    many = len(objective.losses) > 1
    params, opt, metrics, finite = {}, {}, {}, jnp.bool_(True)
    for player in objective.losses:
      params[player], opt[player], found, ok = update(state, batch, player)
      prefix = f"{player}/" if many else ""
      # What a skipped step measured would poison the mean of the others.
      metrics |= {
        prefix + k: Mean(jnp.where(ok, m.total, 0), jnp.where(ok, m.count, 0))
        for k, m in found.items()
      }
      finite &= ok
    decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
    average = jax.tree.map(  # what stays, stays to the last bit
      lambda old, new: old + (1 - decay) * (new - old), state.ema, params
    )
    new = (params, opt, average)
    old = (state.params, state.opt, state.ema)
    params, opt, average = jax.tree.map(
      lambda n, o: jnp.where(finite, n, o), new, old
    )
    bad = jnp.where(finite, 0, state.bad + 1)
    metrics["skipped"] = Mean.of(1.0 - finite)
    return state.replace(
      step=state.step + 1, params=params, opt=opt, ema=average, bad=bad
    ), metrics

  return step
