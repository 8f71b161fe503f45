"""Penalties by hand: what they mind, what they do not, and what is masked."""

import jax
import numpy as np
import pytest

from sora_jax.objectives import penalties

ALL = penalties.RECONSTRUCTION | penalties.TERMS
SHAPE = (2, 3, 8, 8, 3)
WHOLE = np.ones((*SHAPE[:4], 1), np.float32)


def value(name, error, mask=WHOLE):
  return float(ALL[name](np.float32(error), mask).compute())


@pytest.mark.parametrize("name", ALL)
def test_no_error_is_free_and_every_error_costs(name):
  assert value(name, np.zeros(SHAPE)) == 0
  noise = np.random.default_rng(0).standard_normal(SHAPE)
  assert value(name, noise) > 0.1


@pytest.mark.parametrize("name", penalties.TERMS)
def test_a_wrong_tone_alone_costs_no_term(name):
  assert value(name, np.full(SHAPE, 0.3)) == pytest.approx(0, abs=1e-6)


def test_one_edge_by_hand():
  error = np.zeros(SHAPE)
  error[:, :, :, 4:] = 1.0  # one of 7 columns of differences, at each scale
  # 8 x 8: 7 rows * 8 + 8 * 7 differences, of which 8 are 1; then 4 x 4, 2 x 2.
  wanted = (8 + 4 + 2) / (2 * (56 + 12 + 2))
  assert value("gradient", error) == pytest.approx(wanted, rel=1e-5)
  assert value("temporal", error) == 0
  assert value("wavelet", error) == pytest.approx(
    # The edge lies between squares until 2 x 2 are left: values 0 and 4.
    (2 * 4 / 2) / (3 * (16 + 4 + 1)) * 1.0,
    rel=1e-5,
  )


def test_flicker_by_hand():
  error = np.zeros(SHAPE)
  error[:, 1] = 0.5  # comes and goes
  assert value("temporal", error) == pytest.approx(0.5)
  assert value("gradient", error) == 0
  image = np.random.default_rng(0).standard_normal((1, 1, 8, 8, 3))
  mask = np.ones((1, 1, 8, 8, 1), np.float32)
  assert value("temporal", image, mask) == 0  # an image has no flicker


def test_frames_pay_by_their_own_psnr():
  """Half the error is worth as much to a good frame as to a bad one."""
  rng = np.random.default_rng(0)
  error = rng.standard_normal((1, 2, 8, 8, 3)) * [[[[[0.5]]], [[[0.05]]]]]
  mask = np.ones((1, 2, 8, 8, 1), np.float32)
  squared = np.square(error).mean((0, 2, 3, 4))
  assert value("psnr", error, mask) == pytest.approx(
    np.log1p(squared / (1 / 127.5**2 / 12)).mean(), rel=1e-5
  )
  for frame in range(2):
    better = error.copy()
    better[:, frame] /= 2
    gain = value("psnr", error, mask) - value("psnr", better, mask)
    assert gain == pytest.approx(np.log(4) / 2, rel=0.02)


def test_haar_details_keep_the_energy():
  """Details and what is left have the squares of what came in."""
  error = np.random.default_rng(0).standard_normal((1, 1, 2, 2, 1))
  a, b, c, d = error.ravel()
  details = [a - b + c - d, a + b - c - d, a - b - c + d]
  rest = (a + b + c + d) / 2
  total = sum((x / 2) ** 2 for x in details) + rest**2
  assert total == pytest.approx((error**2).sum())
  mask = np.ones((1, 1, 2, 2, 1), np.float32)
  wanted = np.mean(np.abs(details)) / 2
  assert value("wavelet", error, mask) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_what_is_masked_costs_nothing(name):
  rng = np.random.default_rng(0)
  error = rng.standard_normal(SHAPE)
  mask = WHOLE.copy()
  mask[:, 2], mask[1, :, 4:] = 0, 0
  spoilt = error.copy()
  spoilt[:, 2], spoilt[1, :, 4:] = 50.0, -50.0
  assert value(name, spoilt, mask) == pytest.approx(
    value(name, error, mask), rel=1e-5
  )
  slope = jax.grad(lambda e: ALL[name](e, mask).compute())(np.float32(error))
  assert not np.asarray(slope)[np.broadcast_to(mask == 0, SHAPE)].any()
