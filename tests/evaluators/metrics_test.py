"""Metrics against hand computation, and statistics against known truth."""

import math

import dm_pix
import numpy as np
import pytest
from scipy import linalg

from sora_jax.evaluators import metrics


def noise(seed=0, shape=(4, 16, 24, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_psnr_by_hand():
  a = np.full((2, 2, 2, 3), 100, np.uint8)
  b = a.copy()
  b[0] += 10  # MSE 100
  b[1, 0, 0, 0] += 12  # MSE 144 / 12
  expected = [10 * math.log10(65025 / 100), 10 * math.log10(65025 / 12)]
  np.testing.assert_allclose(metrics.frame_psnr(a, b), expected)
  assert metrics.psnr(a, b) == pytest.approx(np.mean(expected))


def test_psnr_is_that_of_dm_pix():
  a, b = noise(0), noise(1)
  theirs = dm_pix.psnr(*(np.float32(x) / 255 for x in (a, b)))
  np.testing.assert_allclose(metrics.frame_psnr(a, b), theirs, rtol=1e-5)


def test_psnr_does_not_wrap_around_and_stays_finite():
  black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255)
  assert metrics.psnr(black, white.astype(np.uint8)) == 0
  assert metrics.psnr(black, black) == pytest.approx(metrics.BEST_PSNR)


def test_ssim_orders_what_the_eye_orders():
  clip = np.repeat(noise(shape=(3, 4, 4, 3)), 8, 1).repeat(8, 2)
  slight = np.clip(
    clip + np.random.default_rng(1).normal(0, 5, clip.shape), 0, 255
  )
  np.testing.assert_allclose(metrics.frame_ssim(clip, clip), 1, atol=1e-5)
  near = metrics.ssim(clip, slight.astype(np.uint8))
  far = metrics.ssim(clip, noise(2, clip.shape))
  assert 1 > near > 0.8 > 0.2 > far


def test_ssim_of_flat_frames_by_hand():
  a = np.full((1, 16, 16, 3), 100, np.uint8)
  b = np.full((1, 16, 16, 3), 150, np.uint8)
  x, y, c = 100 / 255, 150 / 255, 0.01**2
  luminance = (2 * x * y + c) / (x * x + y * y + c)
  assert metrics.ssim(a, b) == pytest.approx(luminance, abs=1e-4)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
@pytest.mark.parametrize(
  "other, named",
  [
    (noise(shape=(5, 16, 24, 3)), r"Axis 0 \(T\) differs: 4 and 5"),
    (noise(shape=(4, 17, 24, 3)), r"Axis 1 \(H\) differs: 16 and 17"),
    (noise(shape=(4, 16, 25, 3)), r"Axis 2 \(W\) differs: 24 and 25"),
    (noise(shape=(4, 16, 24, 1)), r"Axis 3 \(C\)"),
    (noise(shape=(16, 24, 3)), "T, H, W, 3"),
    (noise() / 255, "float64; it must be uint8"),
  ],
)
def test_mismatch_names_the_axis(metric, other, named):
  with pytest.raises(ValueError, match=named):
    metric(noise(), other)


def test_ssim_names_a_frame_smaller_than_its_window():
  small = noise(shape=(2, 16, 8, 3))
  with pytest.raises(ValueError, match=r"Axis 2 \(W\) is 8"):
    metrics.ssim(small, small)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  hits = 0
  for _ in range(200):
    low, high = metrics.bootstrap(rng.normal(3, 2, 50), samples=300)
    hits += low <= 3 <= high
  assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_resamples_rows_and_repeats_itself():
  rows = np.random.default_rng(0).normal(size=(40, 3))

  def spread(x):
    return x.std(0).sum()

  interval = metrics.bootstrap(rows, spread, samples=200, seed=7)
  assert interval == metrics.bootstrap(rows, spread, samples=200, seed=7)
  assert interval[0] < spread(rows) < interval[1]
  assert metrics.bootstrap(np.ones(9)) == (1, 1)


@pytest.mark.parametrize(
  "values, options, named",
  [
    ([], {}, "No values"),
    ([1], {"level": 95}, "95"),
    ([1], {"samples": 0}, "0"),
  ],
)
def test_bootstrap_refuses(values, options, named):
  with pytest.raises(ValueError, match=named):
    metrics.bootstrap(np.array(values), **options)


def test_paired_p_by_hand():
  # Only the unflipped signs reach the observed mean: 1 of 2^4.
  a, b = np.array([5.0, 6, 7, 9]), np.array([1.0, 2, 4, 8])
  assert metrics.paired_p(a, b) == pytest.approx(1 / 16)
  assert metrics.paired_p(b, a) == 1


def test_paired_p_is_uniform_without_a_difference():
  rng = np.random.default_rng(0)
  p = [metrics.paired_p(*rng.normal(size=(2, 10))) for _ in range(200)]
  assert 0.02 <= np.mean(np.array(p) < 0.1) <= 0.18


def test_paired_p_finds_a_small_steady_difference():
  rng = np.random.default_rng(0)
  clips = rng.normal(0, 10, 200)  # hard and easy clips: pairing removes them
  better = clips + 0.3 + rng.normal(0, 0.5, 200)
  assert metrics.paired_p(better, clips) < 0.001
  assert metrics.paired_p(clips, better) > 0.99


def test_paired_p_refuses_unpaired_scores():
  with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
    metrics.paired_p(np.ones(3), np.ones(4))


def test_frechet_of_gaussians_is_its_formula():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + 1.0
  b = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) - 0.5
  one, other = np.cov(a.T), np.cov(b.T)
  root = linalg.sqrtm(one @ other).real
  gap = np.square(a.mean(0) - b.mean(0)).sum()
  wanted = gap + np.trace(one + other - 2 * root)
  np.testing.assert_allclose(metrics.frechet(a, b), wanted, rtol=1e-6)
  np.testing.assert_allclose(metrics.frechet(b, a), wanted, rtol=1e-6)
  assert abs(metrics.frechet(a, a)) < 1e-9
  np.testing.assert_allclose(metrics.frechet(a, a + 2), 20, rtol=1e-9)


def test_frechet_of_fewer_clips_than_features():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 6, 40))
  one, other = np.cov(a.T), np.cov(b.T)
  values, vectors = np.linalg.eigh(one)
  half = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  inner = np.maximum(np.linalg.eigvalsh(half @ other @ half), 0)
  gap = np.square(a.mean(0) - b.mean(0)).sum()
  wanted = gap + np.trace(one + other) - 2 * np.sqrt(inner).sum()
  np.testing.assert_allclose(metrics.frechet(a, b), wanted, rtol=1e-5)


def test_frechet_floor_falls_with_the_number_of_clips():
  rng = np.random.default_rng(2)
  floors = [
    np.mean([metrics.frechet(*rng.normal(size=(2, n, 16))) for _ in range(9)])
    for n in (64, 256, 1024)
  ]
  ratios = np.array(floors[:-1]) / floors[1:]
  np.testing.assert_allclose(ratios, 4, rtol=0.2)


@pytest.mark.parametrize(
  "a, b, said",
  [
    ((4, 3), (4, 2), "need .N, D."),
    ((4,), (4,), "need .N, D."),
    ((1, 3), (4, 3), "1 and 4 clips"),
  ],
)
def test_frechet_says_what_it_needs(a, b, said):
  with pytest.raises(ValueError, match=said):
    metrics.frechet(np.zeros(a), np.zeros(b))


def test_psnr_of_a_region():
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 255, (2, 5, 8, 8, 3), np.uint8)
  everywhere = np.ones((5, 8, 8), bool)
  found = metrics.region_psnr(a, b, everywhere)
  assert found == pytest.approx(metrics.psnr(a, b))
  half = everywhere.copy()
  half[:, :4], half[0] = False, False
  found = metrics.region_psnr(a, b, half)
  assert found == pytest.approx(metrics.psnr(a[1:, 4:], b[1:, 4:]))
