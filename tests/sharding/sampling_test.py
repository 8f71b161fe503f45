"""A request gives the same video on one device, on two and on eight."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from sora_jax.data import tokenizer
from sora_jax.run import Run
from sora_jax.sampling.request import Request

HERE = pathlib.Path(__file__)
MESHES = {
  1: ("replicated", {"data": 1}),
  2: ("replicated", {"data": 2}),
  8: ("fsdp", {"data": 2, "fsdp": 4}),
}
# Of several sizes; fewer rows than devices, and more.
COUNTS = (1, 7)


def sampled(tiny, filled, folder, strategy, mesh):
  """Latents of every request in groups of COUNTS, on weights nowhere zero."""
  config = tiny({"strategy": strategy, "dit.model.heads": 4, "sample.rows": 8})
  with config.unlocked():
    config.mesh = mesh
  run = Run(config, folder)
  words = tokenizer.train(["a red three", "a green eight"], 300)
  words.save(folder / "tokenizer.json")

  def weights(name):
    abstract = run.stage(name, *run.abstract_inputs(name), epoch=1).abstract.ema
    return jax.tree.map(
      lambda x, like: jax.device_put(x, like.sharding),
      filled(abstract),
      abstract,
    )

  params, rng = weights("dit"), np.random.default_rng(0)
  frozen = {
    "autoencoder": weights("autoencoder")["ae"],
    "stats": run.codec.no_stats(),
  }
  sizes = [(5, 16, 16), (9, 8, 16), (1, 16, 16), (5, 16, 24), (9, 16, 16)]
  sizes += [(9, 16, 24), (5, 16, 16)]
  asked = [Request("a red three", s, seed=i) for i, s in enumerate(sizes)]
  for i, task in ((3, "i2v"), (5, "edit")):
    source = rng.integers(0, 255, (*sizes[i], 3), np.uint8)
    source = source[: 1 if task == "i2v" else None]
    asked[i] = dataclasses.replace(asked[i], task=task, source=source)
  pipeline = run.pipeline()
  return [
    z
    for count in COUNTS
    for z in pipeline.latents(params, frozen, asked[:count])
  ]


def main(folder, devices):
  """In a process with so many devices."""
  import conftest

  assert jax.device_count() == devices
  found = sampled(conftest.tiny, conftest.filled, folder, *MESHES[devices])
  np.savez(folder / "found.npz", *found)


CODE = (
  "import pathlib, sampling_test as t;"
  "t.main(pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
)


@pytest.fixture(scope="module")
def latents(on_devices):
  def made(folder, devices):
    on_devices(devices, CODE, HERE.parent, folder, devices)
    return list(np.load(folder / "found.npz").values())

  return made


@pytest.fixture(scope="module")
def one(tmp_path_factory, latents):
  return latents(tmp_path_factory.mktemp("one"), 1)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_sample_what_one_does(devices, one, latents, tmp_path):
  for wanted, found in zip(one, latents(tmp_path, devices), strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.ptp(wanted) > 0.1
