"""Optimizers and learning rate schedules."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from sora_jax.utils.dtypes import DTYPES

SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
  "constant": lambda peak, warmup, steps: optax.join_schedules(
    [optax.linear_schedule(0.0, peak, warmup), optax.constant_schedule(peak)],
    [warmup],
  ),
  "cosine": lambda peak, warmup, steps: optax.warmup_cosine_decay_schedule(
    0.0, peak, warmup, max(steps, warmup + 1), end_value=0.02 * peak
  ),
  # Warm up, and go down in a straight line to the end (Bergsma et al. 2025).
  "linear": lambda peak, warmup, steps: optax.join_schedules(
    [
      optax.linear_schedule(0.0, peak, warmup),
      optax.linear_schedule(peak, 0.0, max(steps - warmup, 1)),
    ],
    [warmup],
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


def _names(path) -> set[str]:
  return {getattr(entry, "key", None) for entry in path}


# Kernels of the transformer whose inputs are not as many as it is wide.
_NARROW = {"patch", "in", "text", "words"}


def _wide(path) -> bool:
  names = _names(path)
  return "kernel" in names and not names & _NARROW


def _transferred(
  rule: optax.GradientTransformation,
  narrower: float,
  power: Callable[..., float],
) -> optax.GradientTransformation:
  """The rule with updates of wide kernels times narrower^power(path, x)."""
  if narrower == 1:
    return rule

  def scale(path, x):
    return x * narrower ** power(path, x) if _wide(path) else x

  def scaled(updates, params):
    del params
    return jax.tree_util.tree_map_with_path(scale, updates)

  return optax.chain(rule, optax.stateless(scaled))


def adamw(
  schedule, *, b1: float, b2: float, weight_decay: float, narrower: float = 1.0
):
  """AdamW (Loshchilov & Hutter 2019); `narrower` as in `make`."""
  rule = optax.adamw(
    schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=_matrices
  )
  # A sum over n inputs that all move alike grows with n.
  return _transferred(rule, narrower, lambda path, x: 1.0)


def matrices(params):
  """What `muon` takes as matrices: their axes, or None for the rest.

  Kernels under nn.scan have a leading axis of layers; the last two axes are
  the matrix. A convolution's kernel of the autoencoder is one, from all that it
  sees to its channels. Embeddings, the transformer's outermost layers and all
  that touches the latents of an autoencoder are left out.
  """
  return jax.tree_util.tree_map_with_path(_matrix, params)


def _matrix(path, x) -> contrib.MuonDimensionNumbers | None:
  names = _names(path)
  if x.ndim >= 4 and "conv" in names:
    *seen, channel = range(x.ndim)
    return contrib.MuonDimensionNumbers(tuple(seen), channel)
  if not names & _HIDDEN or "kernel" not in names or x.ndim not in (2, 3):
    return None
  return contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)


# Of the quintic that takes singular values from (0, 1] to about 1 in five
# steps; they need not be more alike than 0.7 to 1.2 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalised(x: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
  """Matrices [..., M, N] with singular values near 1, by Newton-Schulz.

  optax has it in one number format only, and it is a third of a step of a small
  model: here operands are rounded to `dtype` and sums are float32.
  """
  dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  tall = x.shape[-2] > x.shape[-1]
  if tall:
    x = x.mT
  x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-8)
  a, b, c = _QUINTIC

  def step(_, x):
    low = x.astype(dtype)
    square = dot("...mk,...nk->...mn", low, low)
    half = square.astype(dtype)
    both = b * square + c * dot("...mk,...kn->...mn", half, half)
    return a * x + dot("...mk,...kn->...mn", both.astype(dtype), low)

  x = jax.lax.fori_loop(0, 5, step, x)
  return x.mT if tall else x


def _steepest(path, x, dtype: Any) -> jax.Array:
  """A direction of `matrices` orthogonalised, of RMS about 0.2 as AdamW's.

  So one learning rate serves both (Liu et al. 2025).
  """
  numbers = _matrix(path, x)
  if numbers is None:
    return x
  matrix = x if x.ndim < 4 else x.reshape(-1, x.shape[-1])
  scale = 0.2 * max(matrix.shape[-2:]) ** 0.5
  return scale * orthogonalised(matrix, dtype).reshape(x.shape)


def muon(
  schedule,
  *,
  b1: float,
  b2: float,
  weight_decay: float,
  matmul: str = "float32",
  narrower: float = 1.0,
):
  """Muon for hidden `matrices`, NAdamW for the rest (Jordan et al. 2024).

  `narrower` as in `make`: of an orthogonal update whose entries keep their
  size the largest singular value grows with the root of the width. `matmul` is
  the format in which `orthogonalised` multiplies, float32 or bfloat16.
  """
  if matmul not in DTYPES:
    raise ValueError(f"optimizer.matmul={matmul!r}; valid: {list(DTYPES)}")
  moment = contrib.muon(
    -1.0,  # optax multiplies by minus the learning rate; ours comes last
    ns_steps=0,  # `_steepest` does it
    beta=b1,
    adam_b1=0.9,
    adam_b2=b2,
    muon_weight_dimension_numbers=matrices,
  )
  steepest = functools.partial(_steepest, dtype=DTYPES[matmul])

  def update(updates, state, params=None):
    updates, state = moment.update(updates, state, params)
    return jax.tree_util.tree_map_with_path(steepest, updates), state

  # Here, because optax decays either no kernel of Adam's share or all of it.
  rule = optax.chain(
    optax.GradientTransformation(moment.init, update),
    optax.add_decayed_weights(weight_decay, _matrices),
    optax.scale_by_learning_rate(schedule),
  )
  return _transferred(
    rule, narrower, lambda path, x: 1.0 if _matrix(path, x) is None else 0.5
  )


OPTIMIZERS = {"adamw": adamw, "muon": muon}


def adaptive_clip(limit: float) -> optax.GradientTransformation:
  """Adaptive gradient clipping (Brock et al. 2021, "NFNets").

  The gradient of each unit, the weights of one output, is at most `limit` times
  as long as they are, or 1e-3 if they are shorter. (optax has it for other
  layouts than kernels under nn.scan.)
  """

  def clip(path, grad, weight):
    if grad.ndim >= 4:  # convolutions
      axes = tuple(range(grad.ndim - 1))
    else:
      axes = (-2,) if "kernel" in _names(path) and grad.ndim >= 2 else (-1,)
    norm, size = (
      jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))
      for x in (grad, weight)
    )
    most = limit * jnp.maximum(size, 1e-3)
    return grad * jnp.minimum(1.0, most / jnp.maximum(norm, 1e-12))

  return optax.stateless(functools.partial(jax.tree.map_with_path, clip))


def still(
  rule: optax.GradientTransformation, names: tuple[str, ...]
) -> optax.GradientTransformation:
  """The rule, but for parameters whose path has a name that begins so.

  These stay as they are, bit for bit, and count for no norm.
  """

  def hold(path, update, weight):
    del weight
    kept = any(str(name).startswith(names) for name in _names(path))
    return jnp.zeros_like(update) if kept else update

  held = optax.stateless(functools.partial(jax.tree.map_with_path, hold))
  return optax.chain(held, rule, held)  # weight decay moves what has no slope


def make(
  rule: Callable[..., optax.GradientTransformation],
  schedule: Callable[[float, int, int], optax.Schedule],
  *,
  learning_rate: float,
  warmup: int,
  clip: float,
  clip_unit: float,
  steps: int,
  narrower: float = 1.0,
) -> optax.GradientTransformation:
  """The optimizer of one player.

  Args:
    rule: a row of OPTIMIZERS with its options bound.
    schedule: a row of SCHEDULES.
    learning_rate: the schedule's peak.
    warmup: steps of linear warm-up.
    clip: global norm to which gradients are clipped.
    clip_unit: see `adaptive_clip`, which comes first; 0 leaves it out.
    steps: length of the run, for schedules that end.
    narrower: width at which the learning rate was found, over this model's.
      Kernels that grow with the width then learn more slowly, so that the best
      rate is the same for both (Yang et al. 2022, "Tensor Programs V").
  """
  rate = schedule(learning_rate, warmup, steps)
  adaptive = [adaptive_clip(clip_unit)] if clip_unit else []
  if narrower != 1:
    rule = functools.partial(rule, narrower=narrower)
  return optax.chain(*adaptive, optax.clip_by_global_norm(clip), rule(rate))
