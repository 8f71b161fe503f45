"""The random features are the same for everybody, and see motion."""

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.evaluators import frechet, metrics
from sora_jax.models import random_features
from sora_jax.utils import tree


def test_weights_are_the_ones_that_figures_were_made_with(monkeypatch):
  net = random_features.kernels()
  assert tree.digest(list(net)) == random_features.DIGEST
  for kernel in net:
    np.testing.assert_allclose(kernel.mean(axis=(0, 1, 2)), 0, atol=1e-7)
    moving = kernel[..., ::2].mean(axis=0)
    np.testing.assert_allclose(moving, 0, atol=1e-7)
  monkeypatch.setattr(random_features, "DIGEST", "other")
  random_features.kernels.cache_clear()
  with pytest.raises(RuntimeError, match="figures would not compare"):
    random_features.kernels()
  random_features.kernels.cache_clear()


def test_flat_clips_say_nothing_and_stills_half():
  rng, net = np.random.default_rng(0), random_features.kernels()
  flat = np.full((1, 5, 16, 24, 3), 0.3, np.float32)
  still = np.repeat(rng.uniform(-1, 1, (1, 1, 16, 24, 3)), 5, axis=1)
  least = random_features.SCALE * 1e-3
  (nothing,), (half,) = (
    random_features.features(net, x) for x in (flat, still)
  )
  assert nothing.shape == (random_features.SIZE,)
  np.testing.assert_allclose(nothing, least, rtol=0.1)
  np.testing.assert_allclose(half[:16:2], least, rtol=0.1)
  assert (np.asarray(half[1:16:2]) > 100 * least).all()
  with pytest.raises(ValueError, match="16 pixels or more"):
    random_features.features(net, flat[:, :, :8])


def test_the_distance_finds_stills_and_shuffled_frames_far():
  options = {"set": "motion", "frames": 9, "height": 32, "width": 32}
  options |= {"fps": 8.0, "count": 2, "test_count": 128, "seed": 0}
  options |= {"length": "short", "channels": 0, "rate": 16_000}
  clips = [clip.video for clip in World(**options).clips("test")]
  one, net = frechet._jitted(random_features), random_features.kernels()
  rng, real = np.random.default_rng(0), clips[:64]
  against = np.stack([one(net, v) for v in clips[64:]])

  def distance(videos):
    return metrics.frechet(np.stack([one(net, v) for v in videos]), against)

  floor = distance(real)
  assert distance([v[[0] * len(v)] for v in real]) > 5 * floor
  assert distance([rng.permutation(v) for v in real]) > 5 * floor
