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
"""

from __future__ import annotations

import dataclasses
import functools

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
    scale: of the teacher's guidance, 1 for none; 0 has no teacher.
  """

  steps: int
  scale: float

  def __post_init__(self):
    if self.steps < 1 or self.scale < 0:
      raise ValueError(
        f"dit.objective: steps={self.steps}, scale={self.scale}: need at least "
        "1, and at least 0"
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
    upper = functools.partial(self._times, down=0)
    lower = functools.partial(self._times, down=1)
    video, text, t, noise = self.draw(batch, rng, upper)
    _, _, s, _ = self.draw(batch, rng, lower)
    x0, at = video.tokens.astype(jnp.float32), self.spread(video, t)
    xt = self.process.corrupt(x0, noise, at)
    if self.taught:
      teacher = {"dit": frozen["teacher"]}
      xs = self._down(teacher, video, text, xt, t, s)
    else:
      xs = self.process.corrupt(x0, noise, self.spread(video, s))
    xs = jnp.where(video.level[..., None] > 0, xs, xt)

    says = self.denoiser(params, video, text)
    further, _ = says(xs, s)
    goal = jnp.where(self.spread(video, s) > 0, further, xs)
    own, _ = says(xt, t)
    error = jnp.square(own - jax.lax.stop_gradient(goal)).mean(axis=-1)
    noisy = (video.segments > 0) & (video.level > 0)
    weight = self.weight(*self.process.coefficients(at[..., 0]))
    return self.told(video, error, jnp.where(noisy, weight, 0.0))

  def _times(self, rng: Array, shape: tuple[int, ...], down: int) -> Array:
    """Times on the grid, `down` steps below those above what is drawn."""
    above = jnp.ceil(self.times(rng, shape) * self.steps)
    return (jnp.clip(above, 1, self.steps) - down) / self.steps

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
