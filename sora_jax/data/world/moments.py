"""What changes about a body over a shot besides its place."""

from __future__ import annotations

import numpy as np

from sora_jax.data.world import nouns, vocabulary


def radius(body: nouns.Body, times: np.ndarray, seconds: float) -> np.ndarray:
  """Radius in units, float64 [T]: linear to radius * growth at the shot's end.

  Args:
    body: what grows.
    times: [T] seconds from the shot's start; it stays as it is after the end.
    seconds: of the shot; 0 changes nothing.
  """
  return body.radius * (1 + (body.growth - 1) * _elapsed(times, seconds))


def angle(body: nouns.Body, times: np.ndarray) -> np.ndarray:
  """Angle in radians, clockwise on screen, float64 [T], at `times` [T]."""
  return body.angle + body.spin * np.asarray(times, np.float64)


def colour(body: nouns.Body, times: np.ndarray, seconds: float) -> np.ndarray:
  """RGB 0..255, float64 [T, 3]: it fades in the shot's middle third.

  Args:
    body: what changes its colour if it has `becomes`.
    times: [T] seconds from the shot's start.
    seconds: of the shot; 0 changes nothing.

  Raises:
    ValueError: for a colour that is not in vocabulary.COLOURS.
  """
  first = _rgb(body.colour)
  last = _rgb(body.becomes) if body.becomes else first
  fade = np.clip(3 * _elapsed(times, seconds) - 1, 0, 1)
  return first + fade[:, None] * (last - first)


def _elapsed(times: np.ndarray, seconds: float) -> np.ndarray:
  """The share of the shot that has passed, float64 [T] in [0, 1]."""
  times = np.asarray(times, np.float64)
  if seconds == 0:
    return np.zeros_like(times)
  return np.clip(times / seconds, 0, 1)


def _rgb(name: str) -> np.ndarray:
  if name not in vocabulary.COLOURS:
    raise ValueError(
      f"No colour {name!r} in the world; use {', '.join(vocabulary.COLOURS)}."
    )
  return np.array(vocabulary.COLOURS[name], np.float64)
