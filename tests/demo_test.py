"""The model that ships: what it was trained as, and that it samples."""

import pathlib

import numpy as np
import pytest

from configs import demo
from experiments import record
from sora_jax import trained
from sora_jax.evaluators import metrics
from sora_jax.objectives.streaming import Streaming
from sora_jax.run import Run
from sora_jax.training import exported

FOLDER = record.RESULTS / "demo"
NAMES = ("demo", "physics", "tasks", "edits", "caching", "drift", "sizes")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
  """From where the config names the weights."""
  monkeypatch.chdir(pathlib.Path(__file__).parents[1])


def test_the_config_names_weights_of_its_own_kind():
  trained.check_given(demo.get_config(), pathlib.Path("none"))
  size = sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file())
  assert size < 40e6
  card = (FOLDER / "README.md").read_text()
  for stage in ("autoencoder", "dit"):
    assert f"`{stage}.checkpoint`" in card
    assert exported.about(FOLDER / stage, "meta")["finished"]


@pytest.mark.parametrize("name", NAMES)
def test_results_are_of_these_weights(name):
  about, _ = record.load(name)
  assert about["weights"] == record.weights(FOLDER / "dit")


def test_it_samples_several_sizes_and_obeys_the_background(tmp_path):
  config = demo.get_config()
  with config.unlocked():
    config.sample.update(steps=6, rows=4)
  run = Run(config, tmp_path)
  captions = [
    f"a large red ball moves left on a {tone} background"
    for tone in ("white", "black")
  ]
  white, black = run.sample(captions)
  assert white.shape == black.shape == (17, 64, 64, 3)
  edges = [np.median(video[:, ::63].mean(axis=-1)) for video in (white, black)]
  assert edges[0] > 200 and edges[1] < 60
  red, _, blue = white.astype(int).transpose(3, 0, 1, 2)
  assert (red - blue > 80).any()
  wide = run.sample(captions[:1], size=(9, 48, 80))
  assert wide[0].shape == (9, 48, 80, 3)
  (image,) = run.sample(["a red ball"], size=(1, 64, 64))
  assert image.shape == (1, 64, 64, 3)


def test_on_a_gpu_it_is_the_same_transformer(tmp_path):
  config = demo.get_config("gpu")
  trained.check_given(config, tmp_path)
  one, other = demo.get_config().to_dict(), config.to_dict()
  assert one["data"] == other["data"] and one["sample"] != other["sample"]
  assert one["dit"]["mixture"] == other["dit"]["mixture"]


def test_words_that_do_not_go_together_are_an_error():
  for words in ("simple,motion", "images", "gpu,fast"):
    with pytest.raises(ValueError, match=f"'{words}'; valid: .*'gpu', 'tiny'"):
      demo.get_config(words)


def test_its_autoencoder_loses_little(tmp_path):
  run = Run(demo.get_config("composition"), tmp_path)
  clip = run.data.clips("test")[0]
  codec = Streaming(run.codec)
  out = codec.round_trip(run.autoencoder(), clip.video[None])[0]
  assert metrics.psnr(clip.video, out) > 33
