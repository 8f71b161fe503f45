"""Guidance: combining a conditional and an unconditional denoiser.

Both denoisers satisfy alpha x0 + sigma n = xt, so any affine combination of
their (x0, n) does too, and a solver needs to know nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.types import Array

Denoise = Callable[[Array, Array], tuple[Array, Array]]


def none(cond: Denoise, null: Denoise, spread: Callable) -> Denoise:
  """The conditional denoiser as it is."""
  del null, spread
  return cond


def cfg(
  cond: Denoise,
  null: Denoise,
  spread: Callable[[Array], Array],
  *,
  scale: float,
  low: float,
  high: float,
) -> Denoise:
  """Classifier-free guidance in an interval of noise levels.

  x0 = null + scale (cond - null) where low < time <= high, else cond (Ho &
  Salimans 2022; Kynkaanniemi et al. 2024 for the interval). Outside of the
  interval the unconditional pass is not computed.

  Args:
    cond: conditional denoiser.
    null: the same without text.
    spread: noise levels -> times that broadcast against x.
    scale: 1 returns `cond` itself.
    low: levels up to this one are not guided.
    high: levels above this one are not guided.
  """
  if scale == 1.0:
    return cond

  def denoise(xt, levels):
    time = spread(levels)
    inside = (time > low) & (time <= high)
    conditional = cond(xt, levels)

    def guided():
      free = null(xt, levels)
      return tuple(
        jnp.where(inside, f + scale * (c - f), c)
        for c, f in zip(conditional, free)
      )

    return jax.lax.cond(inside.any(), guided, lambda: conditional)

  return denoise


GUIDANCE: dict[str, Callable[..., Denoise]] = {"none": none, "cfg": cfg}
