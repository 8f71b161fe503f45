"""Guidance: what to make of a conditional and an unconditional prediction.

Both satisfy alpha x0 + sigma n = xt, so any affine combination of their (x0, n)
does too, and a solver needs to know nothing about it. In what follows
d = n - x0, the velocity of a rectified flow, stands for the pair.

  cond(xt, levels) -> (x0, n)                with the prompt
  both(xt, levels) -> ((x0, n), (x0, n))     with it, and without or with the
                                             negative prompt, in one pass
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.diffusion.process import of_velocity
from sora_jax.types import Array

Pair = tuple[Array, Array]
Denoise = Callable[[Array, Array], Pair]
Both = Callable[[Array, Array], tuple[Pair, Pair]]


@dataclasses.dataclass(frozen=True)
class Space:
  """What guidance may know of the tokens that it guides.

  Attributes:
    spread: noise levels -> the time of each token, broadcasting against x.
    coefficients: noise levels -> (alpha, sigma), broadcasting against x.
    mean: x -> its mean over what is noisy of the same clip, broadcasting.
    factor: of (scale - 1), broadcasting against x: a strength for each shot.
  """

  spread: Callable[[Array], Array]
  coefficients: Callable[[Array], tuple[Array, Array]]
  mean: Callable[[Array], Array]
  factor: Array


def none(cond: Denoise, both: Both, space: Space) -> Denoise:
  """The conditional denoiser as it is."""
  del both, space
  return cond


def cfg(
  cond: Denoise,
  both: Both,
  space: Space,
  *,
  scale: float,
  low: float,
  high: float,
) -> Denoise:
  """Classifier-free guidance in an interval of noise levels.

  d = free + scale (cond - free) where low < time <= high, else cond (Ho &
  Salimans 2022; Kynkaanniemi et al. 2024 for the interval). Outside of the
  interval the unconditional pass is not computed.

  Args:
    cond: with the prompt.
    both: with and without it.
    space: of the tokens.
    scale: 1 returns `cond` itself.
    low: levels up to this one are not guided.
    high: levels above this one are not guided.
  """
  if scale == 1.0:
    return cond
  strength = 1 + (scale - 1) * space.factor

  def combine(xt, levels, given, free):
    del xt, levels
    return tuple(f + strength * (c - f) for c, f in zip(given, free))

  return _within(cond, both, space, combine, low, high)


def rescaled(
  cond: Denoise,
  both: Both,
  space: Space,
  *,
  scale: float,
  low: float,
  high: float,
  share: float,
) -> Denoise:
  """`cfg` whose x0 is as strong as the conditional one (Lin et al. 2024).

  Strong guidance saturates colours and contrast. The deviation of x0 over a
  clip is brought back to that without guidance.

  Args:
    cond: as in `cfg`, and so are `both`, `space`, `scale`, `low`, `high`.
    share: of the correction, 0 is `cfg`, 1 all of it.
  """
  strength = 1 + (scale - 1) * space.factor

  def deviation(x):
    return jnp.sqrt(space.mean(jnp.square(x - space.mean(x))))

  def combine(xt, levels, given, free):
    x0, _ = (f + strength * (c - f) for c, f in zip(given, free))
    ratio = deviation(given[0]) / jnp.maximum(deviation(x0), 1e-6)
    return _pair(xt, levels, space, (1 + share * (ratio - 1)) * x0)

  return _within(cond, both, space, combine, low, high)


def perpendicular(
  cond: Denoise,
  both: Both,
  space: Space,
  *,
  scale: float,
  low: float,
  high: float,
  parallel: float,
  most: float,
) -> Denoise:
  """Adaptive projected guidance without momentum (Sadat et al. 2025).

  What guidance adds along x0 itself oversaturates; what it adds across changes
  the content.

  Args:
    cond: as in `cfg`, and so are `both`, `space`, `scale`, `low`, `high`.
    parallel: share that is kept of what lies along x0; 1 is `cfg`.
    most: the root mean square of cond - free over a clip is cut to this; 0
      leaves it.
  """
  extra = (scale - 1) * space.factor

  def combine(xt, levels, given, free):
    x0, change = given[0], given[0] - free[0]
    if most:
      size = jnp.sqrt(space.mean(jnp.square(change)))
      change *= jnp.minimum(1, most / jnp.maximum(size, 1e-6))
    power = jnp.maximum(space.mean(jnp.square(x0)), 1e-6)
    along = space.mean(change * x0) / power * x0
    change += (parallel - 1) * along
    return _pair(xt, levels, space, x0 + extra * change)

  return _within(cond, both, space, combine, low, high)


def zero(
  cond: Denoise,
  both: Both,
  space: Space,
  *,
  scale: float,
  low: float,
  high: float,
  start: float,
) -> Denoise:
  """CFG-Zero* (Fan et al. 2025): scale the unconditional, wait at first.

  d = s free + scale (cond - s free), where s makes s free nearest to cond over
  a clip; and d = 0 where time > start, where a young model's first predictions
  are worse than none.

  Args:
    cond: as in `cfg`, and so are `both`, `space`, `scale`, `low`, `high`.
    start: levels above this one do not move; 1 moves all.
  """
  strength = 1 + (scale - 1) * space.factor

  def combine(xt, levels, given, free):
    d, other = (n - x0 for x0, n in (given, free))
    power = jnp.maximum(space.mean(jnp.square(other)), 1e-6)
    other *= space.mean(d * other) / power
    d = other + strength * (d - other)
    return of_velocity(d, xt, *space.coefficients(levels))

  guided = _within(cond, both, space, combine, low, high)

  def denoise(xt, levels):
    wait = space.spread(levels) > start
    alpha, sigma = space.coefficients(levels)
    still = xt / (alpha + sigma)
    return tuple(jnp.where(wait, still, x) for x in guided(xt, levels))

  return denoise


def _within(cond, both, space, combine, low, high) -> Denoise:
  """Combines in an interval of levels; outside, `cond` alone is computed."""

  def denoise(xt, levels):
    time = space.spread(levels)
    inside = (time > low) & (time <= high)

    def guided():
      given, free = both(xt, levels)
      found = combine(xt, levels, given, free)
      return tuple(jnp.where(inside, f, c) for f, c in zip(found, given))

    return jax.lax.cond(inside.any(), guided, lambda: cond(xt, levels))

  return denoise


def _pair(xt, levels, space: Space, x0: Array) -> Pair:
  """(x0, n) of a prediction of x0, away from clean data."""
  alpha, sigma = space.coefficients(levels)
  return x0, (xt - alpha * x0) / jnp.maximum(sigma, 1e-4)


GUIDANCE: dict[str, Callable[..., Denoise]] = {
  "none": none,
  "cfg": cfg,
  "rescaled": rescaled,
  "perpendicular": perpendicular,
  "zero": zero,
}
