"""Optimizers and learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
from optax import contrib

SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
  "constant": lambda peak, warmup, steps: optax.join_schedules(
    [optax.linear_schedule(0.0, peak, warmup), optax.constant_schedule(peak)],
    [warmup],
  ),
  "cosine": lambda peak, warmup, steps: optax.warmup_cosine_decay_schedule(
    0.0, peak, warmup, max(steps, warmup + 1), end_value=0.02 * peak
  ),
  # Warm up, hold, and go down in a straight line over the last fifth.
  "trapezoid": lambda peak, warmup, steps: optax.join_schedules(
    [
      optax.linear_schedule(0.0, peak, warmup),
      optax.constant_schedule(peak),
      optax.linear_schedule(peak, 0.0, max(steps // 5, 1)),
    ],
    [warmup, max(steps - steps // 5, warmup + 1)],
  ),
}


def _matrices(params):
  """Weight decay applies to matrices and kernels, not to biases and scales."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: any(
      name in jax.tree_util.keystr(path[-2:]) for name in ("kernel", "spatial")
    ),
    params,
  )


# Layers whose matrices Muon takes: of transformers, and of the autoencoder.
_HIDDEN = {"qkv", "out", "up", "down"} | {"temporal", "enc_in", "dec_out"}


def adamw(schedule, *, b1: float, b2: float, weight_decay: float):
  """AdamW (Loshchilov & Hutter 2019)."""
  return optax.adamw(
    schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=_matrices
  )


def matrices(params):
  """What `muon` takes as matrices: their axes, or None for the rest.

  Kernels under nn.scan have a leading axis of layers; the last two axes are
  the matrix. A convolution's kernel of the autoencoder is one, from all that it
  sees to its channels. Embeddings, the transformer's outermost layers and all
  that touches the latents of an autoencoder are left out.
  """

  def of(path, x):
    names = {getattr(entry, "key", None) for entry in path}
    if x.ndim >= 4 and "conv" in names:
      *seen, channel = range(x.ndim)
      return contrib.MuonDimensionNumbers(tuple(seen), channel)
    if not names & _HIDDEN or "kernel" not in names or x.ndim not in (2, 3):
      return None
    return contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)

  return jax.tree_util.tree_map_with_path(of, params)


def muon(schedule, *, b1: float, b2: float, weight_decay: float):
  """Muon for hidden `matrices`, NAdamW for the rest (Jordan et al. 2024)."""
  directions = contrib.muon(
    -1.0,  # optax multiplies by minus the learning rate; ours comes last
    beta=b1,
    adam_b1=0.9,
    adam_b2=b2,
    muon_weight_dimension_numbers=matrices,
    # Update RMS of about 0.2, as AdamW's, so one learning rate serves both.
    consistent_rms=0.2,
  )
  # Here, because optax decays either no kernel of Adam's share or all of it.
  return optax.chain(
    directions,
    optax.add_decayed_weights(weight_decay, _matrices),
    optax.scale_by_learning_rate(schedule),
  )


OPTIMIZERS = {"adamw": adamw, "muon": muon}


def make(
  rule: Callable[[optax.Schedule], optax.GradientTransformation],
  schedule: Callable[[float, int, int], optax.Schedule],
  *,
  learning_rate: float,
  warmup: int,
  clip: float,
  steps: int,
) -> optax.GradientTransformation:
  """The optimizer of one player.

  Args:
    rule: a row of OPTIMIZERS with its options bound.
    schedule: a row of SCHEDULES.
    learning_rate: the schedule's peak.
    warmup: steps of linear warm-up.
    clip: global norm to which gradients are clipped.
    steps: length of the run, for schedules that end.
  """
  rate = schedule(learning_rate, warmup, steps)
  return optax.chain(optax.clip_by_global_norm(clip), rule(rate))
