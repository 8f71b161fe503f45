"""A model of few steps: consistency (Song et al. 2023).

Where a denoiser says what the data might be on average, a consistency model
says where the flow from x_t ends, so that one step is enough in principle, and
a few with fresh noise in between (solver "renoise") are in practice. On a grid
of times 0 = u_0 < ... < u_N = 1 it learns to say at t = u_k what it says one
step of the flow further down, at s = u_(k-1):

  loss = w(t) |f(x_t, t) - stop(f(x_s, s))|^2,    f(x, 0) = x

The step from x_t to x_s is Euler's. Its velocity comes from a trained model
with classifier-free guidance, which the student thereby needs no more (Luo et
al. 2023, "Latent consistency models"); or, without a teacher, from the noise
that made x_t. Every token has its own t and s, as in training the teacher, so a
student knows all the tasks that its teacher knows.

With more than one part the way down is cut into as many stretches of the grid,
and the model learns where the flow from x_t leaves its stretch, at r:

  z(x_t, t) = alpha_r x0 + sigma_r n,    loss = w(t) |x0 - x0*|^2

with x0* that of which z is stop(z(x_s, s)), or x_s itself where s = r (Heek,
Hoogeboom and Salimans 2024, "Multistep consistency models"). A stretch is
easier to learn than the whole way, and as many steps of the solver "euler" as
there are parts follow the flow without fresh noise. One part is the loss above.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.diffusion.solvers import euler
from sora_jax.objectives.latent_diffusion import LatentDiffusion, drop_text
from sora_jax.types import Array, Batch, Metrics, PyTree, Stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consistency(LatentDiffusion):
  """`LatentDiffusion`'s model, processes and patterns with another loss.

  Attributes:
    steps: N, of the grid.
    parts: equal stretches of the grid; a step of the student leads through one.
    scale: of the teacher's guidance, 1 for none; 0 has no teacher.
  """

  steps: int
  parts: int
  scale: float

  def __post_init__(self):
    if self.steps < 1 or self.scale < 0:
      raise ValueError(
        f"dit.objective: steps={self.steps}, scale={self.scale}: need at least "
        "1, and at least 0"
      )
    if self.parts < 1 or self.steps % self.parts:
      raise ValueError(
        f"dit.objective.parts={self.parts} does not divide "
        f"dit.objective.steps={self.steps} into whole steps"
      )

  @property
  def taught(self) -> bool:
    """Whether `frozen` has to hold a teacher's parameters."""
    return self.scale > 0

  def loss(
    self, params: PyTree, frozen: PyTree, batch: Batch, rng: Array, step: Array
  ) -> tuple[Array, Metrics]:
    """The change of the prediction along a step of the flow."""
    del step
    part = self.steps // self.parts
    upper, lower, end = (
      functools.partial(self._times, to=to)
      for to in (lambda k: k, lambda k: k - 1, lambda k: (k - 1) // part * part)
    )
    video, text, t, noise = self.draw(batch, rng, upper)
    s, r = (self.draw(batch, rng, times)[2] for times in (lower, end))
    x0, at = video.tokens.astype(jnp.float32), self.spread(video, t)
    xt = self.process.corrupt(x0, noise, at)
    if self.taught:
      teacher = {"dit": frozen["teacher"]}
      xs = self._down(teacher, video, text, xt, t, s)
    else:
      xs = self.process.corrupt(x0, noise, self.spread(video, s))
    noisy = (video.segments > 0) & (video.level > 0)
    xs = jnp.where(video.level[..., None] > 0, xs, xt)

    says = self.denoiser(params, video, text)
    last = self.process.coefficients(self.spread(video, r))
    further, n = says(xs, s)
    below = self.spread(video, s) > self.spread(video, r)
    goal = jnp.where(below, last[0] * further + last[1] * n, xs)
    own, _ = says(xt, t)
    wanted = self._source(xt, at, goal, last, noisy[..., None])
    error = jnp.square(own - jax.lax.stop_gradient(wanted)).mean(axis=-1)
    weight = self.weight(*self.process.coefficients(at[..., 0]))
    return self.told(video, error, jnp.where(noisy, weight, 0.0))

  def _times(
    self, rng: Array, shape: tuple[int, ...], to: Callable[[Array], Array]
  ) -> Array:
    """Times on the grid: `to` of the places, 1 to N, above those drawn."""
    above = jnp.ceil(self.times(rng, shape) * self.steps)
    return to(jnp.clip(above, 1, self.steps)) / self.steps

  def passed(self, times: Array, tokens: Array, start: Array) -> Array:
    """As its parent's, but that steps end where parts do, if there are some."""
    if self.parts == 1:
      return super().passed(times, tokens, start)
    # Steps above the start have no length.
    return jnp.minimum(start, self.shift(times, tokens))

  def _source(
    self,
    xt: Array,
    at: Array,
    goal: Array,
    last: tuple[Array, Array],
    noisy: Array,
  ) -> Array:
    """The x0 by which Euler's step from x_t comes to the goal; 0 if not noisy.

    Args:
      xt: noisy tokens.
      at: their times.
      goal: where a step from them is to lead.
      last: (alpha, sigma) of that.
      noisy: which tokens are, and have a step before them.
    """
    alpha, sigma = self.process.coefficients(at)
    kept = last[1] / jnp.where(noisy, sigma, 1.0)
    share = jnp.where(noisy, last[0] - alpha * kept, 1.0)
    return jnp.where(noisy, (goal - kept * xt) / share, 0.0)

  def _down(
    self, params: PyTree, video: Stream, text: Stream, xt, t, s
  ) -> Array:
    """x at the levels s, by the guided model from x at the levels t."""

    def denoise(xt, levels):
      given = self.denoiser(params, video, text)(xt, levels)
      if self.scale == 1:
        return given
      free = drop_text(text, jnp.ones((len(xt), self.clips), bool))
      other = self.denoiser(params, video, free)(xt, levels)
      return tuple(f + self.scale * (c - f) for c, f in zip(given, other))

    def coefficients(levels):
      return self.process.coefficients(self.spread(video, levels))

    xs, _ = euler(denoise, coefficients, xt, t, s, None, None)
    return jax.lax.stop_gradient(xs)
