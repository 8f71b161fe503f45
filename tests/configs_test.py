"""Every config loads, traces at full size, and lives through a tiny run.

Files are found by looking, so that a new one is tested the day it is written.
"""

import functools
import importlib
import json
import math
import pathlib
import re

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from configs import common
from sora_jax import modes
from sora_jax.run import Run
from sora_jax.utils import logs, media

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(
  path.stem
  for path in (ROOT / "configs").glob("*.py")
  if path.stem not in ("__init__", "common")
)


def load(name, arg=None) -> ConfigDict:
  return importlib.import_module(f"configs.{name}").get_config(arg)


def distinct(names):
  """The names whose tiny configs are not those of an earlier name."""
  seen = {}
  for name in names:
    seen.setdefault(json.dumps(load(name, "tiny").to_dict()), name)
  return sorted(seen.values())


@functools.cache
def video_folder(root):
  """A folder of two sizes of video, an image, and a file that is damaged."""
  folder = root / "clips"
  folder.mkdir()
  rng = np.random.default_rng(0)
  lines = []
  for i, (frames, height, width) in enumerate(
    [(14, 40, 40), (14, 24, 56), (9, 56, 24), (14, 40, 40)] * 2 + [(1, 40, 40)]
  ):
    video = rng.integers(0, 255, (frames, height, width, 3), np.uint8)
    file = f"{i}.mp4" if frames > 1 else f"{i}.png"
    media.write(folder / file, video, 8.0)
    lines.append({"file_name": file, "text": f"clip number {i}"})
  (folder / "bad.mp4").write_bytes(b"no video")
  lines.append({"file_name": "bad.mp4", "text": "nothing"})
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (folder / "metadata.jsonl").write_text(text)
  return {"data.path": str(folder), "data.held_out": ("0.mp4", "1.mp4")}


@functools.cache
def tfds_set(root):
  """A TFDS data set of short videos with captions."""
  rng = np.random.default_rng(0)
  with tfds.core.registered.skip_registration():

    class SmallClips(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version("1.0.0")
      __module__ = "script"  # else TFDS looks for a package around it

      def _info(self):
        video = tfds.features.Tensor(shape=(None, 32, 32, 3), dtype=np.uint8)
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict(
            {"video": video, "text": tfds.features.Text()}
          ),
        )

      def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(8)}

      def _generate_examples(self, count):
        for i in range(count):
          video = rng.integers(0, 255, (9, 32, 32, 3), np.uint8)
          yield i, {"video": video, "text": f"clip number {i}"}

  SmallClips(
    data_dir=root / "tfds", file_format="array_record"
  ).download_and_prepare()
  return {
    "data.dataset": "small_clips",
    "data.data_dir": str(root / "tfds"),
    "data.video_key": "video",
    "data.image_key": "",
    "data.text_key": "text",
  }


# What a user with such data has to fill in.
DATA = {"video_folder": video_folder, "tfds": tfds_set}


def with_data(config, tmp_path_factory):
  root = tmp_path_factory.getbasetemp()
  if make := DATA.get(config.data.name):
    with config.unlocked():
      config.update_from_flattened_dict(make(root))
  return config


def values(tree):
  if isinstance(tree, dict):
    for value in tree.values():
      yield from values(value)
  else:
    yield tree


def test_there_are_configs():
  assert "dit_b" in NAMES


@pytest.mark.parametrize("arg", [None, "tiny"])
@pytest.mark.parametrize("name", NAMES)
def test_configs_are_locked_plain_and_documented(name, arg):
  config = load(name, arg)
  assert config.is_locked
  assert not any(isinstance(v, list) for v in values(config.to_dict()))
  json.dumps(config.to_dict())
  assert importlib.import_module(f"configs.{name}").__doc__


@pytest.mark.parametrize("name", NAMES)
def test_unknown_arguments_fail(name):
  with pytest.raises(ValueError, match="tiny"):
    load(name, "tyni")


@pytest.mark.parametrize("name", NAMES)
def test_full_size_steps_trace(name, tmp_path, tmp_path_factory):
  """Nothing is allocated: only shapes go through."""
  config = with_data(load(name), tmp_path_factory)
  run = Run(config, tmp_path / "run")
  for stage_name in set(config.stages) - {"sample"}:
    batch, frozen = run.abstract_inputs(stage_name)
    stage = run.stage(stage_name, batch, frozen, epoch=1000)
    state, metrics = jax.eval_shape(stage.step, stage.abstract, batch)
    assert jax.tree.structure(state) == jax.tree.structure(stage.abstract)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (state, stage.abstract))
    assert shapes[0] == shapes[1]
    assert "loss" in metrics
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("codec", common.CODECS)
def test_every_codec_traces_with_its_numbers_per_pixel(codec, tmp_path):
  run = Run(load("autoencoder", codec), tmp_path / "run")
  assert "x".join(map(str, run.codec.model.compression)) == codec
  batch, frozen = run.abstract_inputs("autoencoder")
  stage = run.stage("autoencoder", batch, frozen, epoch=1000)
  state, _ = jax.eval_shape(stage.step, stage.abstract, batch)
  assert jax.tree.structure(state) == jax.tree.structure(stage.abstract)
  small = load("autoencoder", f"{codec},tiny").autoencoder.model
  assert small.channels == common.CODECS[codec]["channels"]


def test_one_codec_at_a_time():
  for wrong in ("4x8x8,1x8x8", "4x9x9", "tiny,tiny"):
    with pytest.raises(ValueError, match=f"'{wrong}'; valid: one of .*8x8x8"):
      load("autoencoder", wrong)


def interrupted(config, stages, **until):
  """The config with fewer stages, and some of them ending early."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.stages = stages
    for stage, steps in until.items():
      config[stage].schedule.until = f"{steps} steps"
      config[stage].evaluators = {}
  return config


def train(config, workdir):
  run = Run(config, workdir)
  modes.train(run)
  run.writer.close()


@pytest.mark.parametrize("name", distinct(NAMES))
def test_tiny_trains_resumes_and_samples(
  name, tmp_path, tmp_path_factory, capsys
):
  config = with_data(load(name, "tiny"), tmp_path_factory)
  stages = config.stages
  trained = [s for s in stages if s != "sample"]
  for i, stage in enumerate(trained):
    train(interrupted(config, trained[: i + 1], **{stage: 2}), tmp_path)
    if i + 1 < len(trained):  # the next stage needs this one to be complete
      whole = config.copy_and_resolve_references()
      with whole.unlocked():
        whole.stages = tuple(trained[: i + 1])
      train(whole, tmp_path)
  train(config, tmp_path)
  said = capsys.readouterr().out
  assert said.count("resumed at step 2") == len(trained)

  lines = logs.read_metrics(tmp_path / "metrics.jsonl")
  for stage in trained:
    own = [line for line in lines if line["stage"] == stage]
    assert [n["step"] for n in own if "grad_norm" in n] == [1, 2, 3, 4]
    judged = {key.split("/")[0] for line in own for key in line if "/" in key}
    # One wants clips in which something moves, one clips that may go on for
    # ever, and both of two may be neither.
    assert set(config[stage].evaluators) - judged <= {"continuation", "drift"}
  for line in lines:
    numbers = [v for v in line.values() if isinstance(v, (int, float))]
    assert all(math.isfinite(v) for v in numbers), line
  if config.data.name == "video_folder":
    skipped = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in skipped] == ["bad.mp4"]
  if "sample" in stages:
    check_samples(config, tmp_path)


def test_buckets_train_and_resume(tmp_path, capsys):
  """Clips of two lengths, each in batches of a shape of its own."""
  config = load("dit_b", "tiny")
  part = config.data.to_dict() | {"seed": 1, "frames": 1}
  with config.unlocked():
    data = {"name": "mixture", "frames": config.data.frames, "repeat": {}}
    data["parts"] = {"clips": config.data.to_dict(), "images": part}
    config.data = data
    config.autoencoder.evaluators = config.dit.evaluators = {}
    config.stages = ("autoencoder", "dit")
    config.dit.rows.layout = "bucketed"
  train(interrupted(config, config.stages, dit=2), tmp_path)
  train(config, tmp_path)
  assert "dit: resumed at step 2" in capsys.readouterr().out
  lines = logs.read_metrics(tmp_path / "metrics.jsonl")
  steps = [n for n in lines if n["stage"] == "dit" and "grad_norm" in n]
  assert [n["step"] for n in steps] == [1, 2, 3, 4]
  assert all(math.isfinite(n["loss"]) and n["fill"] == 1 for n in steps)


def test_two_players_train_and_resume(tmp_path, capsys):
  """The autoencoder against a discriminator, with every further term."""
  config = load("autoencoder", "tiny")
  with config.unlocked():
    objective = config.autoencoder.objective
    objective.adversary.update(weight=0.1, start=2, width=4, depth=2)
    objective.terms.update(gradient=0.1, wavelet=0.1, temporal=0.1)
  train(interrupted(config, config.stages, autoencoder=2), tmp_path)
  train(config, tmp_path)
  assert "resumed at step 2" in capsys.readouterr().out
  lines = logs.read_metrics(tmp_path / "metrics.jsonl")
  steps = [n for n in lines if "disc/grad_norm" in n]
  assert [n["step"] for n in steps] == [1, 2, 3, 4]
  assert [n["ae/share"] > 0 for n in steps] == [False, False, True, True]
  names = ("ae/gradient", "ae/wavelet", "ae/temporal", "disc/r1")
  assert all(n[k] > 0 for n in steps for k in names)

  run = Run(config, tmp_path)
  modes.MODES["eval"](run)
  run.writer.close()
  said = capsys.readouterr().out
  for word in ("psnr_first_frame", "causality", "flicker", "channel 0"):
    assert word in said
  lines = logs.read_metrics(tmp_path / "metrics.jsonl")
  scores = {k for k in lines[-1] if re.fullmatch("reconstruction/.*/psnr", k)}
  clips = config.autoencoder.evaluators.reconstruction.clips
  assert len(scores) == clips + 1 and "reconstruction/mean/psnr" in scores
  _, height, width = config.autoencoder.size
  pairs = list((tmp_path / "reconstructions").glob("00000004-*.mp4"))
  assert pairs
  for pair in pairs:
    assert media.read(pair)[0].shape[1:] == (height, 2 * width, 3)


def check_samples(config, workdir):
  folder = workdir / "samples"
  text = (folder / "samples.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  sample = config.sample
  assert len(lines) == len(sample.prompts) + sample.clips * len(sample.tasks)
  for line in lines:
    assert {"prompt", "task", "seed", "size", "config", "step"} <= set(line)
    assert line["step"] == 4
    assert line["files"]
    size = tuple(line["size"])
    for file in line["files"]:
      video, _ = media.read(folder / file)
      assert video.shape == (*size, 3)
  named = {file for line in lines for file in line["files"]}
  assert named | {"samples.jsonl", "contact_sheet.png"} == {
    path.name for path in folder.iterdir()
  }
  assert media.read(folder / "contact_sheet.png")[0].ndim == 4
