"""From the world's units to a frame's pixels and back.

The view's centre lies in the middle of the frame, and the frame's shorter side
shows UNITS / zoom units. Pixel k spans [k, k + 1], so its middle is k + 1/2.
"""

from __future__ import annotations

import numpy as np

from sora_jax.data.world import nouns

SHAKE = (2.3, 3.7)  # Hz; the two together repeat only every ten seconds


def view(
  camera: nouns.Camera, scene: nouns.Scene, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Where the camera looks at `times` [T]: centre [T, 2] and zoom [T], float64.

  The shake is d(t) - d(0) on each axis, with d the mean of two sines of the
  frequencies `SHAKE` and amplitude camera.shake: smooth, and 0 at time 0, so
  every camera starts at camera.start with zoom 1.

  Raises:
    ValueError: if camera.follow is no body's index, or the zoom is not > 0.
  """
  times = np.asarray(times, np.float64)
  if not camera.rate > 0:
    raise ValueError(f"Camera(rate={camera.rate}): the zoom must stay > 0.")
  centre = np.array(camera.start) + times[:, None] * np.array(camera.velocity)
  if camera.follow != -1:
    if not 0 <= camera.follow < len(scene.bodies):
      raise ValueError(
        f"Camera(follow={camera.follow}) in a scene of {len(scene.bodies)} "
        "bodies: use the index of one of them, or -1."
      )
    path = scene.bodies[camera.follow].path
    centre = centre + path.at(times)[0] - path.at(np.zeros(1))[0]
  if camera.shake:
    centre = centre + camera.shake * (
      _sway(times, camera.phase) - _sway(np.zeros(1), camera.phase)
    )
  return centre, camera.rate**times


def per_unit(zoom: np.ndarray, height: int, width: int) -> np.ndarray:
  """Pixels per unit, of the shape of `zoom`."""
  return min(height, width) / nouns.UNITS * zoom


def to_pixels(
  points: np.ndarray,
  centre: np.ndarray,
  zoom: np.ndarray,
  height: int,
  width: int,
) -> np.ndarray:
  """Where points lie on the frame.

  Args:
    points: [T, ..., 2] (y, x), units.
    centre: [T, 2] of the view.
    zoom: [T].
    height: H, pixels.
    width: W, pixels.

  Returns:
    float64 [T, ..., 2] (y, x), pixels; outside of [0, H] x [0, W] is not seen.
  """
  centre, scale = _fit(points, centre, per_unit(zoom, height, width))
  return (points - centre) * scale + np.array([height / 2, width / 2])


def to_units(
  pixels: np.ndarray,
  centre: np.ndarray,
  zoom: np.ndarray,
  height: int,
  width: int,
) -> np.ndarray:
  """What places on the frame show: the inverse of `to_pixels`, float64."""
  centre, scale = _fit(pixels, centre, per_unit(zoom, height, width))
  return (pixels - np.array([height / 2, width / 2])) / scale + centre


def axes(
  centre: np.ndarray, zoom: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The middles of all pixels in units, as separable axes.

  Returns:
    y [T, H, 1], x [T, 1, W] and the side of a pixel [T, 1, 1], float64.
  """
  pixel = 1 / per_unit(zoom, height, width)[:, None]
  y, x = (
    centre[:, axis, None] + (np.arange(side) + 0.5 - side / 2) * pixel
    for axis, side in enumerate((height, width))
  )
  return y[:, :, None], x[:, None, :], pixel[:, :, None]


def _fit(
  points: np.ndarray, centre: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Centre and scale with the axes of `points` [T, ..., 2]."""
  between = (1,) * (points.ndim - 2)
  return (
    centre.reshape(len(centre), *between, 2),
    scale.reshape(len(scale), *between, 1),
  )


def _sway(times: np.ndarray, phase: tuple[float, float]) -> np.ndarray:
  """The mean of two sines for each axis, [T, 2] in [-1, 1]."""
  angles = 2 * np.pi * times[:, None, None] * np.array(SHAKE)  # [T, 1, 2]
  # Twice the phase for the second keeps the two from starting in step.
  return np.sin(angles + np.array(phase)[:, None] * [1, 2]).mean(-1)
