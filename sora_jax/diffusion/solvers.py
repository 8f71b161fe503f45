"""Solvers: from x at one noise level to x at a lower one.

Each is written in the pair (x0, n) that the denoiser gives, so it is exact for
every schedule as long as x0 is (DDIM, Song et al. 2021; in the variable
lambda = log(alpha / sigma) it is the exponential integrator of Lu et al. 2022).

A step has the signature

  step(denoise, coefficients, xt, t, s, noise, **options) -> xs

with `denoise(xt, t) -> (x0, n)`, `coefficients(t) -> (alpha, sigma)` in the
shape of xt, noise levels t > s, and fresh `noise` for stochastic solvers.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp


def euler(denoise, coefficients, xt, t, s, noise):
  """First order: hold (x0, n) for the whole step. One evaluation."""
  del noise
  x0, n = denoise(xt, t)
  alpha, sigma = coefficients(s)
  return alpha * x0 + sigma * n


def heun(denoise, coefficients, xt, t, s, noise):
  """Second order: the mean of x0 at both ends. Two evaluations.

  Steps that end in clean data are first order (Karras et al. 2022), because
  a denoiser has nothing to say there.
  """
  del noise
  x0, n = denoise(xt, t)
  (at, st), (a, sg) = coefficients(t), coefficients(s)
  ahead, _ = denoise(a * x0 + sg * n, s)
  ratio = sg / jnp.maximum(st, 1e-12)
  mean = jnp.where(sg > 0, 0.5 * (x0 + ahead), x0)
  return ratio * xt + (a - at * ratio) * mean


def ancestral(denoise, coefficients, xt, t, s, noise, *, eta: float):
  """Euler that replaces some of the noise by fresh noise at every step.

  Fresh noise forgets the errors of earlier steps. The share is that of Song et
  al. 2021, which keeps the marginals right: small steps renew little.

  Args:
    eta: 0 is Euler, 1 is the ancestral sampler of Ho et al. 2020.
  """
  x0, n = denoise(xt, t)
  (at, st), (alpha, sigma) = coefficients(t), coefficients(s)
  carried = at * sigma / jnp.maximum(alpha * st, 1e-12)
  share = eta * jnp.sqrt(jnp.maximum(1 - carried**2, 0))
  n = jnp.sqrt(1 - share**2) * n + share * noise
  return alpha * x0 + sigma * n


SOLVERS: dict[str, Callable] = {
  "euler": euler,
  "heun": heun,
  "ancestral": ancestral,
}
