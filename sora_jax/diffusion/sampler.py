"""The one sampler: a scan over solver steps on a canvas.

Everything that a sampling task wants is in (known, mask): known cells are put
back at the noise level of their token before every step, so a token that is
known as a whole (level 0) stays bit for bit, and one known in part is filled
in consistently (Lugmayr et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sora_jax.types import Array


def uniform_grid(steps: int, start: float = 1.0) -> jax.Array:
  """Times [steps + 1] from `start` down to 0 in equal steps."""
  if steps < 1 or not 0 < start <= 1:
    raise ValueError(
      f"steps={steps}, start={start}: need steps >= 1 and 0 < start <= 1"
    )
  return jnp.linspace(start, 0.0, steps + 1)


def sample(
  denoise: Callable[[Array, Array], tuple[Array, Array]],
  step: Callable[..., Array],
  coefficients: Callable[[Array], tuple[Array, Array]],
  grid: Array,
  draw: Callable[[Array], Array],
  known: Array,
  mask: Array,
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

  Returns:
    x0, with the known cells exactly as given.
  """
  first = draw(jnp.int32(0))

  def noised(levels):
    alpha, sigma = coefficients(levels)
    return alpha * known + sigma * first

  def body(x, scanned):
    t, s, index = scanned
    x = jnp.where(mask > 0, noised(t), x)
    return step(denoise, coefficients, x, t, s, draw(index)), None

  indices = jnp.arange(1, grid.shape[0])
  x, _ = jax.lax.scan(body, noised(grid[0]), (grid[:-1], grid[1:], indices))
  return jnp.where(mask > 0, known, x)
