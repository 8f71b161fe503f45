"""Solvers: from x at one noise level to x at a lower one.

Each is written in the pair (x0, n) that the denoiser gives, so it is exact for
every schedule as long as x0 is (DDIM, Song et al. 2021). In the variable
lambda = log(alpha / sigma), with h = lambda_s - lambda_t, the flow is

  x_s = sigma_s / sigma_t x_t + alpha_s int_0^h e^(u - h) x0(lambda_t + u) du

and solvers differ in what they put for x0 (Lu et al. 2022). A step has the
signature

  step(denoise, coefficients, xt, t, s, noise, past, **options) -> (xs, past)

with `denoise(xt, t) -> (x0, n)`, `coefficients(t) -> (alpha, sigma)` in the
shape of xt, noise levels t > s, fresh `noise` for stochastic solvers, and the
`Past` that multistep solvers look back at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from sora_jax.types import Array

TINY = 1e-12


class Past(NamedTuple):
  """The last two steps: what the denoiser said there, newest first.

  Attributes:
    x0: two arrays like x.
    xt: two arrays like x, where the denoiser was asked.
    time: two noise levels.
    count: how many steps there were, at most 2.
  """

  x0: tuple[Array, Array]
  xt: tuple[Array, Array]
  time: tuple[Array, Array]
  count: Array

  @classmethod
  def nothing(cls, x: Array, time: Array) -> Past:
    """Before the first step."""
    none, level = (jnp.zeros_like(x),) * 2, (jnp.zeros_like(time),) * 2
    return cls(none, none, level, jnp.int32(0))

  def then(self, x0: Array, xt: Array, time: Array) -> Past:
    """After one more step."""
    return Past(
      (x0, self.x0[0]),
      (xt, self.xt[0]),
      (time, self.time[0]),
      jnp.minimum(self.count + 1, 2),
    )


def euler(denoise, coefficients, xt, t, s, noise, past):
  """First order: hold (x0, n) for the whole step. One evaluation."""
  del noise
  x0, n = denoise(xt, t)
  alpha, sigma = coefficients(s)
  return alpha * x0 + sigma * n, past


def heun(denoise, coefficients, xt, t, s, noise, past):
  """Second order: the mean of x0 at both ends. Two evaluations.

  Steps that end in clean data are first order (Karras et al. 2022), because
  a denoiser has nothing to say there.
  """
  del noise
  x0, n = denoise(xt, t)
  a, sg = coefficients(s)
  ahead, _ = denoise(a * x0 + sg * n, s)
  mean = jnp.where(sg > 0, 0.5 * (x0 + ahead), x0)
  return _moved(coefficients, xt, t, s, mean), past


def dpmpp_2m(denoise, coefficients, xt, t, s, noise, past):
  """Second order from the step before: DPM-Solver++(2M), Lu et al. 2022.

  x0 on a straight line in lambda. One evaluation; the first step and the one
  that ends in clean data are Euler's.
  """
  del noise
  x0, _ = denoise(xt, t)
  line = _line(coefficients, t, s, x0, past)
  return _moved(coefficients, xt, t, s, line), past.then(x0, xt, t)


def unipc(denoise, coefficients, xt, t, s, noise, past):
  """Third order: UniPC-2 with B2, Zhao et al. 2023.

  Steps are those of `dpmpp_2m`. What the denoiser says where one ended corrects
  it, before the next one sets out. One evaluation.
  """
  del noise
  x0, _ = denoise(xt, t)
  xt = jnp.where(past.count > 0, _again(coefficients, t, x0, past), xt)
  line = _line(coefficients, t, s, x0, past)
  return _moved(coefficients, xt, t, s, line), past.then(x0, xt, t)


def ancestral(denoise, coefficients, xt, t, s, noise, past, *, eta: float):
  """Euler that replaces some of the noise by fresh noise at every step.

  Fresh noise forgets the errors of earlier steps. The share is that of Song et
  al. 2021, which keeps the marginals right: small steps renew little.

  Args:
    eta: 0 is Euler, 1 is the ancestral sampler of Ho et al. 2020.
  """
  x0, n = denoise(xt, t)
  (at, st), (alpha, sigma) = coefficients(t), coefficients(s)
  carried = at * sigma / jnp.maximum(alpha * st, TINY)
  share = eta * jnp.sqrt(jnp.maximum(1 - carried**2, 0))
  n = jnp.sqrt(1 - share**2) * n + share * noise
  return alpha * x0 + sigma * n, past


def renoise(denoise, coefficients, xt, t, s, noise, past):
  """x0 at once, and all noise anew (Song et al. 2023, algorithm 1).

  For consistency models of one part, whose x0 is the end of the flow at any
  level and not the mean of what it might be. Other models it makes blurred.
  """
  x0, _ = denoise(xt, t)
  alpha, sigma = coefficients(s)
  return alpha * x0 + sigma * noise, past


def churn(
  denoise,
  coefficients,
  xt,
  t,
  s,
  noise,
  past,
  *,
  amount: float,
  low: float,
  high: float,
):
  """Heun from a little more noise (Karras et al. 2022, algorithm 2).

  Args:
    amount: the level rises to t (1 + amount) first, at most half of the way to
      1; 0 is Heun.
    low: steps from levels up to this one do not churn.
    high: steps from levels above this one do not churn.
  """
  more = jnp.where((t > low) & (t <= high) & (t > s), t * (1 + amount), t)
  # At level 1 nothing is left of what was; stop short of it.
  more = jnp.where(t < 1, jnp.minimum(more, 0.5 * (1 + t)), t)
  (at, st), (alpha, sigma) = coefficients(t), coefficients(more)
  ratio = alpha / jnp.maximum(at, TINY)
  added = jnp.sqrt(jnp.maximum(sigma**2 - (ratio * st) ** 2, 0))
  # Compared in the shape of x: levels may come as one for each clip.
  raised = jnp.where(alpha < at, ratio * xt + added * noise, xt)
  return heun(denoise, coefficients, raised, more, s, noise, past)


def _moved(coefficients, xt, t, s, x0):
  """x at s if x0 were this all the way from t."""
  (at, st), (alpha, sigma) = coefficients(t), coefficients(s)
  ratio = sigma / jnp.maximum(st, TINY)
  return ratio * xt + (alpha - at * ratio) * x0


def _step(coefficients, t, s):
  """lambda_s - lambda_t > 0, large at the ends of a schedule."""
  (at, st), (alpha, sigma) = coefficients(t), coefficients(s)
  logs = [jnp.log(jnp.maximum(x, TINY)) for x in (alpha, st, sigma, at)]
  return jnp.maximum(logs[0] + logs[1] - logs[2] - logs[3], 1e-6)


def _line(coefficients, t, s, x0, past):
  """x0 on a line through the past and now, for a step as its middle has it."""
  share = 0.5 * _step(coefficients, t, s)
  share = share / _step(coefficients, past.time[0], t)
  _, sigma = coefficients(s)
  there = (past.count > 0) & (sigma > 0)
  return x0 + jnp.where(there, share, 0.0) * (x0 - past.x0[0])


def _again(coefficients, t, x0, past):
  """The step that led to t once more, knowing x0 there.

  x0 is a parabola through its two ends and the step before; a line if there was
  none. Its mean under the weights of the flow has closed form.
  """
  (begin, older), (then, before) = past.x0, past.time
  h, k = _step(coefficients, then, t), _step(coefficients, before, then)
  phi = -jnp.expm1(-h)
  first = h - phi  # int_0^h e^(u - h) u du
  # Without cancellation for small steps.
  few, safe = h < 0.1, jnp.maximum(h, 0.1)
  share = jnp.where(few, 0.5 + h / 12, (1 - phi / safe) / phi)
  bend = jnp.where(few, -(h**2) / 6, (h**2 - (2 + h) * first) / phi)
  curve = ((x0 - begin) / h + (older - begin) / k) / (h + k)
  curve = jnp.where(past.count > 1, curve, 0.0)
  mean = begin + share * (x0 - begin) + bend * curve
  return _moved(coefficients, past.xt[0], then, t, mean)


SOLVERS: dict[str, Callable] = {
  "euler": euler,
  "heun": heun,
  "dpmpp_2m": dpmpp_2m,
  "unipc": unipc,
  "ancestral": ancestral,
  "renoise": renoise,
  "churn": churn,
}
