"""The pendulum, exact at any amplitude.

A point on a massless rod of length L swings by theta'' = -(g/L) sin(theta).
Released at rest from theta_0, with k = sin(theta_0/2) and w = sqrt(g/L), it is
at

  sin(theta/2) = k cd(w t, k),   theta' = -2 w k sqrt(1 - k^2) sd(w t, k)

in Jacobi's elliptic functions (Abramowitz & Stegun 1964, chapter 16); its
period is 4 K(k) / w.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from sora_jax.data.world import nouns

RATE = 480  # pieces of path per second


def pendulum(
  pivot: tuple[float, float],
  length: float,
  angle: float,
  gravity: float,
  seconds: float,
) -> nouns.Path:
  """The path of a pendulum's bob, released at rest.

  Position and velocity are exact at the start of each of the path's pieces, of
  which there are `RATE` per second, and the position is continuous.

  Args:
    pivot: (y, x) that it hangs on, units.
    length: of the rod, units, > 0.
    angle: from hanging straight down, clockwise, so to the left for positive
      ones; within (-pi, pi), radians.
    gravity: downwards, units per second squared, > 0.
    seconds: how long, >= 0.

  Raises:
    ValueError: for a length, angle, gravity or duration that is out of range.
  """
  for name, value in (("length", length), ("gravity", gravity)):
    if not 0 < value < math.inf:
      raise ValueError(f"{name}={value}: it must be > 0 and finite.")
  if not -math.pi < angle < math.pi:
    raise ValueError(
      f"angle={angle}: it must lie within (-pi, pi); in radians, from hanging "
      "down."
    )
  if not 0 <= seconds < math.inf:
    raise ValueError(f"seconds={seconds}: it must be >= 0 and finite.")
  times = np.arange(math.ceil(seconds * RATE) + 2) / RATE  # [S + 1]
  k, pace = math.sin(angle / 2), math.sqrt(gravity / length)
  sn, cn, dn, _ = scipy.special.ellipj(pace * times, k * k)
  theta = 2 * np.arcsin(k * cn / dn)
  rate = -2 * pace * k * math.sqrt(1 - k * k) * sn / dn
  away = np.stack([np.cos(theta), -np.sin(theta)], -1) * length
  position = np.array(pivot, np.float64) + away
  along = np.stack([-np.sin(theta), -np.cos(theta)], -1) * length
  velocity = along * rate[:, None]
  # Each piece ends where the next one starts.
  bend = 2 * (np.diff(position, axis=0) - velocity[:-1] / RATE) * RATE**2
  return nouns.Path(times[:-1], position[:-1], velocity[:-1], bend)
