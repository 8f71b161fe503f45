"""The compiled step of a stage, on batches as the loop puts them."""

import itertools

import jax
import numpy as np

from experiments.bench import estimate
from sora_jax import build
from sora_jax.data import loader, tokenizer
from sora_jax.data.latents import Item
from sora_jax.run import Run
from sora_jax.training import loop

SIZES = ((1, 1, 1), (1, 2, 1), (2, 1, 2), (2, 2, 2), (1, 2, 2))


def test_an_epoch_of_mixed_sizes_compiles_one_step(tiny, tmp_path):
  run = Run(tiny(), tmp_path)
  config = run.config
  rng, channels = np.random.default_rng(0), config.autoencoder.model.channels
  items = []
  for i, size in enumerate(SIZES * 16):
    z = rng.standard_normal((*size, channels)).astype(np.float16)
    items.append(Item(z, "a red three moves left"[: 5 + i % 15], str(i)))
  words = build.words(config, tokenizer.train([i.text for i in items], 300))
  batches = loader.packed(
    items, config.dit.patch, words, build.rows(config), seed=0, threads=1
  )
  shapes, frozen = run.abstract_inputs("dit")
  frozen = jax.device_put(estimate.arrays(frozen))
  stage = run.stage("dit", shapes, frozen, epoch=1)
  state, lengths = stage.make(), set()
  for batch in itertools.islice(iter(batches), 6):
    for row in batch["video_segments"]:
      lengths |= set(np.bincount(row)[1:])
    state, _ = stage.step(state, loop.put(batch, run.rows))
  assert len(lengths) >= 4 and int(state.step) == 6
  assert stage.step._cache_size() == 1
