"""Encoding a data set: statistics of what is real, and nothing lost."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from sora_jax.objectives.autoencode import Autoencode
from sora_jax.training import encode
from sora_jax.types import Clip
from tests.conftest import autoencoder


@pytest.fixture(scope="module")
def trained():
  model = autoencoder((2, 4, 4), channels=3)
  objective = Autoencode(model, "l2", {}, 1e-6, "pca", 0.0)
  video = np.random.default_rng(0).integers(0, 255, (4, 5, 8, 8, 3), np.uint8)
  batch = {"video": video, "mask": np.ones((4, 5, 8, 8), bool)}
  params = nn.meta.unbox(objective.init(jax.random.PRNGKey(0), batch))["ae"]
  return objective, params, batch


def test_statistics_normalise(trained):
  objective, params, batch = trained
  stats = encode.statistics(objective, params, [batch, batch])
  z = np.asarray(objective.encode(params, stats, batch["video"]))
  np.testing.assert_allclose(z.mean(axis=(0, 1, 2, 3)), 0, atol=1e-4)
  np.testing.assert_allclose(z.std(axis=(0, 1, 2, 3)), 1, atol=1e-3)


def test_padding_is_no_data(trained):
  objective, params, batch = trained
  mask = batch["mask"].copy()
  mask[:, 3:] = False  # the last latent frame
  one = encode.statistics(
    objective, params, [{"video": batch["video"], "mask": mask}]
  )
  video = batch["video"].copy()
  video[:, 3:] = 7
  other = encode.statistics(objective, params, [{"video": video, "mask": mask}])
  for name in ("mean", "std"):
    np.testing.assert_allclose(one[name], other[name], rtol=1e-5)


def test_every_clip_comes_out_once_whatever_its_size(trained):
  objective, params, _ = trained
  rng = np.random.default_rng(1)
  sizes = [(5, 8, 8), (1, 8, 8), (5, 8, 4), (5, 8, 8), (3, 4, 8), (5, 8, 8)]
  clips = [
    Clip(rng.integers(0, 255, (*s, 3), np.uint8), 8.0, f"caption {i}", str(i))
    for i, s in enumerate(sizes)
  ]
  stats = objective.no_stats()
  items = list(encode.encode(objective, params, stats, clips, len(clips), 2))
  # As batches of two of a size fill up, and then what is left of each size.
  assert [i.key for i in items] == ["0", "3", "5", "1", "2", "4"]
  for item in items:
    clip = clips[int(item.key)]
    alone = objective.encode(params, stats, clip.video[None])[0]
    assert item.text == clip.text
    np.testing.assert_allclose(item.latents, alone, atol=5e-3)


def test_while_a_batch_is_encoded_the_next_is_read(trained):
  objective, params, _ = trained
  video, taken = np.zeros((5, 8, 8, 3), np.uint8), []

  def clips():
    for i in range(6):
      taken.append(i)
      yield Clip(video, 8.0, "caption", str(i))

  stats = objective.no_stats()
  items = encode.encode(objective, params, stats, clips(), 6, 2)
  assert next(items).key == "0" and len(taken) == 4
  assert [item.key for item in items] == ["1", "2", "3", "4", "5"]
