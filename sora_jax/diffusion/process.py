"""Diffusion processes as four small tables.

Data x0 is corrupted with Gaussian noise n at time u in [0, 1], 0 = data:

  x_u = alpha(u) x0 + sigma(u) n

Every parameterisation is linear in (x0, n), target = a x0 + b n, so a model's
prediction is turned into (x0, n) by solving one 2x2 system:

  [alpha sigma] [x0]   [x_u ]         x0 = (b x_u - sigma pred) / det
  [  a     b  ] [n ] = [pred]   ->    n  = (alpha pred - a x_u) / det
                                      det = alpha b - sigma a

Sources: Kingma & Gao 2023 (one view of weightings), Liu et al. 2022 (rectified
flow), Esser et al. 2024 (logit-normal times, resolution-dependent shift).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.types import Array

# name -> time -> (alpha, sigma)
SCHEDULES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
  "rectified": lambda u: (1 - u, u + jnp.zeros_like(u)),
  "cosine": lambda u: (jnp.cos(0.5 * math.pi * u), jnp.sin(0.5 * math.pi * u)),
}

# name -> (alpha, sigma) -> (a, b), the target a x0 + b n
TARGETS: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
  "x0": lambda alpha, sigma: (jnp.ones_like(alpha), jnp.zeros_like(sigma)),
  "noise": lambda alpha, sigma: (jnp.zeros_like(alpha), jnp.ones_like(sigma)),
  # dx/du of the rectified flow.
  "velocity": lambda alpha, sigma: (
    -jnp.ones_like(alpha),
    jnp.ones_like(sigma),
  ),
  # Salimans & Ho 2022, for variance-preserving schedules.
  "v": lambda alpha, sigma: (-sigma, alpha),
}

# name -> (alpha, sigma) -> weight of the squared error *of x0*
WEIGHTS: dict[str, Callable[..., Array]] = {
  "x0": lambda alpha, sigma: jnp.ones_like(alpha),
  # What an unweighted velocity loss is: v - v' = (x0' - x0) / sigma.
  "velocity": lambda alpha, sigma, floor=0.05: (
    1 / jnp.maximum(sigma, floor) ** 2
  ),
  # min(SNR, cap) of Hang et al. 2023.
  "min_snr": lambda alpha, sigma, cap=5.0: jnp.minimum(
    (alpha / jnp.maximum(sigma, 1e-3)) ** 2, cap
  ),
}

# name -> (rng, shape) -> times in [0, 1]
TIMES: dict[str, Callable[..., Array]] = {
  "uniform": lambda rng, shape: jax.random.uniform(rng, shape),
  "logit_normal": lambda rng, shape, mean=0.0, std=1.0: jax.nn.sigmoid(
    mean + std * jax.random.normal(rng, shape)
  ),
}


def moved(time: Array, by: Array | float) -> Array:
  """Times in [0, 1] towards noise, 0 and 1 kept: by u / (1 + (by - 1) u).

  Args:
    time: any array.
    by: > 0, broadcasts with time; 1 / by moves them back.
  """
  return by * time / (1 + (by - 1) * time)


def shift(time: Array, tokens: Array, base_tokens: int, power: float) -> Array:
  """Moves times towards noise for clips of more tokens, keeping 0 and 1.

  They are `moved` by (tokens / base_tokens) ** power. A longer or larger clip
  is more redundant, so the same noise hides less of it (Esser et al. 2024 use
  power 0.5).

  Args:
    time: any shape, in [0, 1].
    tokens: tokens of the clip that each time belongs to; broadcasts with time.
    base_tokens: the clip size at which nothing moves.
    power: 0 switches the shift off.
  """
  return moved(time, (jnp.maximum(tokens, 1) / base_tokens) ** power)


def of_velocity(
  velocity: Array, xt: Array, alpha: Array, sigma: Array
) -> tuple[Array, Array]:
  """(x0, noise) of the velocity noise - x0, which every schedule allows."""
  total = alpha + sigma
  return (xt - sigma * velocity) / total, (xt + alpha * velocity) / total


@dataclasses.dataclass(frozen=True)
class Process:
  """A schedule with the target that the model predicts; arrays broadcast.

  Attributes:
    schedule: key of SCHEDULES.
    target: key of TARGETS.
  """

  schedule: str
  target: str

  def coefficients(self, time: Array) -> tuple[Array, Array]:
    """(alpha, sigma) at `time`."""
    return SCHEDULES[self.schedule](jnp.asarray(time, jnp.float32))

  def corrupt(self, x0: Array, noise: Array, time: Array) -> Array:
    """alpha x0 + sigma noise; exactly x0 where time is 0."""
    alpha, sigma = self.coefficients(time)
    return alpha * x0 + sigma * noise

  def target_of(self, x0: Array, noise: Array, time: Array) -> Array:
    """What the model should predict."""
    a, b = TARGETS[self.target](*self.coefficients(time))
    return a * x0 + b * noise

  def solve(self, prediction: Array, xt: Array, time: Array):
    """(x0, noise) from a prediction; one of them is ill-posed at an end.

    At time 0 the noise, and at time 1 the data, cannot always be told from
    what is given; the determinant is kept away from 0, so results stay finite.
    """
    alpha, sigma = self.coefficients(time)
    a, b = TARGETS[self.target](alpha, sigma)
    det = alpha * b - sigma * a
    det = jnp.where(jnp.abs(det) < 1e-4, jnp.where(det < 0, -1e-4, 1e-4), det)
    x0 = (b * xt - sigma * prediction) / det
    noise = (alpha * prediction - a * xt) / det
    return x0, noise
