"""The one sampler: a scan over solver steps on a canvas.

Everything that a sampling task wants is in (known, mask): known cells are put
back at the noise level of their token before every step, so a token that is
known as a whole (level 0) stays bit for bit, and one known in part is filled
in consistently (Lugmayr et al. 2022).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion.process import moved, of_velocity
from sora_jax.diffusion.solvers import Past
from sora_jax.types import Array

LEVELS = 200  # that `gaussian` chooses from


def uniform(steps: int) -> np.ndarray:
  """Equal steps."""
  return np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)


def power(steps: int, *, rho: float) -> np.ndarray:
  """Steps that become shorter towards the data: u^rho of equal steps u.

  Args:
    rho: 1 is `uniform`.
  """
  return uniform(steps) ** rho


def logit(steps: int, *, span: float) -> np.ndarray:
  """Equal steps of log(alpha / sigma) of a rectified flow, short at both ends.

  Args:
    span: of the logarithm, from -span to span.
  """
  inner = np.linspace(span, -span, steps + 1)[1:-1]
  return np.float32([1.0, *(1 / (1 + np.exp(-inner))), 0.0])


def shifted(steps: int, *, by: float) -> np.ndarray:
  """Equal steps, `moved` towards noise.

  Args:
    by: > 0; 1 is `uniform` (Esser et al. 2024, equation 23). That of training,
      `dit.shift`, by the tokens of a clip, comes on top.
  """
  return moved(uniform(steps), np.float32(by))


def gaussian(steps: int, *, stds: tuple[float, ...]) -> np.ndarray:
  """The times at which Euler's steps are best of Gaussian data; none learned.

  The flow of a rectified process from N(0, 1) to N(0, std^2) scales x by the
  marginal deviation. Of `LEVELS` equal levels those are found, by dynamic
  programming, whose steps together stray least from it, in the sum of squares
  of all steps and deviations (Chen et al. 2024, "On the trajectory regularity
  of ODE-based diffusion sampling", do so along the paths of a model). As in
  `shifted`, what `dit.shift` moves comes on top.

  Args:
    steps: at most LEVELS.
    stds: > 0, such as those of principal components of the latents.
  """
  if not stds or min(stds) <= 0 or steps > LEVELS:
    raise ValueError(
      f"stds={stds} in {steps} steps: need deviations above 0, and at most "
      f"{LEVELS} steps"
    )
  t, std = np.linspace(0.0, 1.0, LEVELS + 1), np.array(stds)[:, None]
  spread = np.sqrt((1 - t) ** 2 * std**2 + t**2)
  slope = (t - (1 - t) * std**2) / spread**2  # of log x
  scaled = 1 + (t - t[:, None]) * slope[..., None]  # [std, from, to]
  strayed = scaled * spread[..., None] / spread[:, None] - 1
  cost = (strayed**2).sum(axis=0)
  cost[np.triu_indices(LEVELS + 1)] = np.inf  # no step leads up, or nowhere
  best, origins = np.full(LEVELS + 1, np.inf), []
  best[LEVELS] = 0
  for _ in range(steps):
    ways = best[:, None] + cost
    origins.append(ways.argmin(axis=0))
    best = ways.min(axis=0)
  path = [0]
  for origin in reversed(origins):
    path.append(origin[path[-1]])
  return np.float32(t[path[::-1]])


def given(steps: int, *, times: tuple[float, ...]) -> np.ndarray:
  """Times from elsewhere, such as those found best for few steps.

  Args:
    times: steps + 1 of them, falling from 1 to 0.
  """
  if len(times) != steps + 1 or not falls(times):
    raise ValueError(
      f"times={times}: need steps + 1 = {steps + 1}, falling from 1 to 0"
    )
  return np.float32(times)


def falls(times: Sequence[float] | np.ndarray) -> bool:
  """Whether times fall from 1 to 0, each below the one before it."""
  falling = all(t > s for t, s in itertools.pairwise(times))
  return falling and (times[0], times[-1]) == (1, 0)


# name -> steps -> times [steps + 1] from 1 down to 0
GRIDS: dict[str, Callable[..., np.ndarray]] = {
  "uniform": uniform,
  "power": power,
  "logit": logit,
  "shifted": shifted,
  "gaussian": gaussian,
  "given": given,
}


def sample(
  denoise: Callable[[Array, Array], tuple[Array, Array]],
  step: Callable[..., Array],
  coefficients: Callable[[Array], tuple[Array, Array]],
  grid: Array,
  draw: Callable[[Array], Array],
  known: Array,
  mask: Array,
  cache: float = 0.0,
) -> jax.Array:
  """Denoises from grid[0] to grid[-1] = 0.

  Args:
    denoise: (xt, levels) -> (x0, noise).
    step: a row of SOLVERS with its options bound.
    coefficients: levels -> (alpha, sigma), broadcasting against x.
    grid: [steps + 1, ...] noise levels, falling to 0.
    draw: index -> standard normal noise like x; index 0 is where it starts.
    known: values of known cells, and what to start from if grid[0] < 1.
    mask: like known, 1 = keep.
    cache: where x has changed by less than this share since the denoiser was
      asked, summed over steps, its velocity n - x0 is used again (after
      TeaCache, Liu et al. 2025). 0 asks at every step. The change is that of
      all rows together, so what lies beside a clip matters to it a little.

  Returns:
    x0, with the known cells exactly as given.
  """
  first = draw(jnp.int32(0))

  def noised(levels):
    alpha, sigma = coefficients(levels)
    return alpha * known + sigma * first

  def pinned(x, levels):
    # A second evaluation in a step must see what is known, too.
    return denoise(jnp.where(mask > 0, noised(levels), x), levels)

  def body(carry, scanned):
    x, past, memory = carry
    t, s, index = scanned
    x = jnp.where(mask > 0, noised(t), x)
    lazy = _Lazy(pinned, coefficients, memory, cache)
    x, past = step(lazy, coefficients, x, t, s, draw(index), past)
    return (x, past, lazy.memory), None

  x = noised(grid[0])
  begin = (x, Past.nothing(x, grid[0]), (x, jnp.zeros_like(x), jnp.inf))
  indices = jnp.arange(1, grid.shape[0])
  (x, *_), _ = jax.lax.scan(body, begin, (grid[:-1], grid[1:], indices))
  return jnp.where(mask > 0, known, x)


class _Lazy:
  """A denoiser that may answer with the velocity of an earlier step.

  Attributes:
    memory: x at the step before, the velocity last computed, and the summed
      share by which x has changed since; infinite before the first step.
  """

  def __init__(self, denoise, coefficients, memory, threshold: float):
    self.memory = memory
    self._denoise, self._coefficients = denoise, coefficients
    self._threshold, self._asked = threshold, threshold == 0

  def __call__(self, xt, levels):
    if self._asked:  # where a step asks twice, the second answer is its own
      return self._denoise(xt, levels)
    self._asked = True
    before, velocity, changed = self.memory
    changed += jnp.abs(xt - before).mean() / jnp.abs(before).mean()

    def again():
      return of_velocity(velocity, xt, *self._coefficients(levels))

    lazy = changed < self._threshold
    x0, n = jax.lax.cond(lazy, again, lambda: self._denoise(xt, levels))
    self.memory = (xt, n - x0, jnp.where(lazy, changed, 0.0))
    return x0, n
