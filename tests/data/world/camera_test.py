"""The view: what it follows, how it shakes, and maps that invert."""

import numpy as np
import pytest

from sora_jax.data.world import camera, nouns

TIMES = np.linspace(0, 3, 25)
SIZES = [(32, 32), (64, 64), (32, 80), (48, 24)]


def scene(*paths):
  bodies = tuple(nouns.Body("disc", "red", 1.0, "rubber", p) for p in paths)
  plain = nouns.Background("plain", (16, 16), 0)
  return nouns.Scene("uniform", bodies, plain, nouns.Camera(), 3.0)


def look(times=TIMES, paths=(), **options):
  return camera.view(nouns.Camera(**options), scene(*paths), times)


def test_pan_and_zoom():
  centre, zoom = look(start=(1, -2), velocity=(0.5, 2), rate=1.5)
  np.testing.assert_allclose(centre[:, 0], 1 + 0.5 * TIMES)
  np.testing.assert_allclose(centre[:, 1], -2 + 2 * TIMES)
  np.testing.assert_allclose(zoom, 1.5**TIMES)


@pytest.mark.parametrize("height, width", SIZES)
def test_the_followed_body_keeps_its_place(height, width):
  fall = nouns.Path.of((-3, 1), (0, 1), (2, 0))
  other = nouns.Path.of((0, 0))
  centre, zoom = look(paths=(other, fall), start=(0.5, 0), follow=1)
  place = camera.to_pixels(fall.at(TIMES)[0], centre, zoom, height, width)
  np.testing.assert_allclose(place, np.broadcast_to(place[0], place.shape))
  still = camera.to_pixels(other.at(TIMES)[0], centre, zoom, height, width)
  assert np.abs(still[-1] - still[0]).max() > 10


def test_shake_is_smooth_bounded_and_starts_at_rest():
  dense = np.linspace(0, 10, 4001)
  centre, zoom = look(dense, start=(1, 2), shake=0.3, phase=(0.4, 2.0))
  moved = centre - [1, 2]
  assert (moved[0] == 0).all()
  assert (zoom == 1).all()
  assert np.abs(moved).max() <= 0.6  # amplitude, from any start
  assert np.ptp(moved, 0).min() > 0.4
  # No faster than the faster sine alone at that amplitude.
  speed = np.abs(np.diff(moved, axis=0)).max() / dense[1]
  assert speed < 0.3 * 2 * np.pi * max(camera.SHAKE)
  assert np.abs(moved[:, 0] - moved[:, 1]).max() > 0.1


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("shape", [(25, 2), (25, 4, 2), (25, 3, 4, 2)])
def test_to_units_inverts_to_pixels(shape, height, width):
  points = np.random.default_rng(0).uniform(-5, 5, shape)
  centre, zoom = look(start=(1, 2), velocity=(1, -1), rate=0.8)
  pixels = camera.to_pixels(points, centre, zoom, height, width)
  assert pixels.shape == shape
  back = camera.to_units(pixels, centre, zoom, height, width)
  np.testing.assert_allclose(back, points, atol=1e-12)


@pytest.mark.parametrize("height, width", SIZES)
def test_the_stage_fills_the_frame(height, width):
  centre, zoom = look()
  half = np.array(nouns.stage(height, width)) / 2
  corners = np.tile([-half, half, 0 * half], (len(TIMES), 1, 1))
  pixels = camera.to_pixels(corners, centre, zoom, height, width)
  expected = [[0, 0], [height, width], [height / 2, width / 2]]
  np.testing.assert_allclose(pixels, np.tile(expected, (len(TIMES), 1, 1)))


@pytest.mark.parametrize("height, width", SIZES)
def test_axes_are_the_middles_of_the_pixels(height, width):
  centre, zoom = look(start=(1, 2), velocity=(1, -1), rate=0.8)
  y, x, pixel = camera.axes(centre, zoom, height, width)
  assert (y.shape, x.shape) == ((25, height, 1), (25, 1, width))
  grid = np.stack(np.broadcast_arrays(y, x), -1)
  middles = camera.to_pixels(grid, centre, zoom, height, width)
  np.testing.assert_allclose(
    middles[:, :, 0, 0], np.tile(np.arange(height) + 0.5, (25, 1)), atol=1e-9
  )
  np.testing.assert_allclose(
    middles[:, 0, :, 1], np.tile(np.arange(width) + 0.5, (25, 1)), atol=1e-9
  )
  np.testing.assert_allclose(pixel[:, 0, 0] * zoom, 10 / min(height, width))


@pytest.mark.parametrize("follow", [-2, 1, 7])
def test_following_nobody_is_refused(follow):
  with pytest.raises(ValueError, match=rf"follow={follow}.*1 bodies"):
    look(paths=(nouns.Path.of((0, 0)),), follow=follow)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_impossible_zoom_is_refused(rate):
  with pytest.raises(ValueError, match=f"rate={rate}.*> 0"):
    look(rate=rate)
