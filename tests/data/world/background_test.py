"""Backgrounds: one plane, seen through any camera at any size."""

import numpy as np
import pytest

from sora_jax.data.world import background, camera, nouns, vocabulary

KINDS = vocabulary.BACKGROUNDS


def plane(kind, size=64, start=(0.0, 0.0), zoom=1.0, seed=5, tones=(60, 200)):
  """What a still camera sees, float64 [H, W]."""
  axes = camera.axes(np.array([start]), np.array([zoom]), size, size)
  what = nouns.Background(kind, tones, seed)
  grey = background.grey(what, *axes)
  assert grey.shape == (1, size, size)
  assert grey.dtype == np.float32
  return grey[0].astype(np.float64)


def test_the_table_is_the_vocabulary():
  assert tuple(background.BACKGROUND) == KINDS


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_tones_bound_it(kind, size):
  for zoom in (0.5, 1.0, 3.0):
    grey = plane(kind, size, zoom=zoom, tones=(0, 255))
    assert grey.min() >= 0
    assert grey.max() <= 255


@pytest.mark.parametrize("kind", KINDS)
def test_equal_tones_are_one_tone(kind):
  assert (plane(kind, tones=(77, 77)) == 77).all()


def test_plain_is_the_first_tone():
  assert (plane("plain", tones=(16, 200)) == 16).all()


@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_what_is_seen_moves_with_the_camera(kind):
  first = plane(kind)
  shifted = plane(kind, start=(7 * 10 / 64, -12 * 10 / 64))
  np.testing.assert_allclose(shifted[:-7, 12:], first[7:, :-12], atol=1e-3)
  assert np.abs(shifted - first).mean() > 3


@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_far_away_is_drawn_alone(kind):
  near = plane(kind, 64, start=(1000.0, -2000.0))
  apart = plane(kind, 16, start=(1000.0, -2000.0), zoom=4.0)
  np.testing.assert_allclose(apart, near[24:40, 24:40], atol=1e-3)
  assert np.ptp(near) > 30


@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_contrast_stays_wherever_the_camera_looks(kind):
  for start in ((0, 0), (4, 0), (0, -4), (3, 3)):
    assert plane(kind, start=start).std() > 0.1 * 140


@pytest.mark.parametrize(
  "kind, most",
  [("plain", 0), ("gradient", 0.2), ("checker", 1e-3), ("textured", 3)],
)
def test_a_smaller_frame_shows_the_same(kind, most):
  large = plane(kind, 64).reshape(32, 2, 32, 2).mean((1, 3))
  assert np.abs(large - plane(kind, 32)).mean() <= most


def test_checker_is_exactly_filtered():
  fine = plane("checker", 64 * 16)
  filtered = fine.reshape(64, 16, 64, 16).mean((1, 3))
  np.testing.assert_allclose(plane("checker", 64), filtered, atol=1e-3)
  values, counts = np.unique(np.round(fine), return_counts=True)
  share = counts[np.isin(values, (60, 200))] / fine.size
  np.testing.assert_allclose(share, 0.5, atol=0.03)


def test_gradient_is_smooth_and_long():
  grey = plane("gradient")
  steps = np.abs(np.diff(grey, axis=0)), np.abs(np.diff(grey, axis=1))
  fastest = 140 / 2 * 2 * np.pi / background.PERIOD * 10 / 64
  assert max(s.max() for s in steps) <= fastest * 1.001
  # Steepest in the middle, so a frame shows most of the range.
  assert np.ptp(grey) > 0.75 * 140


@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_seeds_differ_and_repeat(kind):
  assert (plane(kind, seed=1) == plane(kind, seed=1)).all()
  assert np.abs(plane(kind, seed=1) - plane(kind, seed=2)).mean() > 3


def test_textures_have_no_pattern():
  grey = plane("textured", 256, zoom=0.25)
  grey -= grey.mean()
  spectrum = np.abs(np.fft.fft2(grey)) ** 2
  alike = np.fft.ifft2(spectrum).real / (grey**2).sum()
  alike[:8, :8] = alike[:8, -8:] = alike[-8:, :8] = alike[-8:, -8:] = 0
  assert np.abs(alike).max() < 0.25  # no lattice point repeats another


def test_unknown_kind_names_the_valid_ones():
  with pytest.raises(ValueError, match=r"'stripes'.*plain, gradient"):
    plane("stripes")
