"""Every config loads, traces at full size, and lives through a tiny run.

Files are found by looking, so that a new one is tested the day it is written.
"""

import contextlib
import functools
import importlib
import json
import math
import pathlib
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from ml_collections import ConfigDict, config_flags

from sora_jax import build, modes
from sora_jax.data.sources import SOURCES
from sora_jax.data.transforms import TRANSFORMS
from sora_jax.diffusion import guidance, levels, process, solvers
from sora_jax.evaluators import EVALUATORS
from sora_jax.models.attention import ATTENTION
from sora_jax.models.dit import REMAT
from sora_jax.objectives import autoencode
from sora_jax.run import STAGES, Run
from sora_jax.sampling.tasks import TASKS
from sora_jax.sharding.rules import STRATEGIES
from sora_jax.training import optimizer
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


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=pytest.mark.xdist_group(f"config {name}"))
    for name in distinct(NAMES)
  ],
)
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
    # It passes over clips in which nothing moves, and two may both be such.
    assert set(config[stage].evaluators) - judged <= {"continuation"}
  for line in lines:
    numbers = [v for v in line.values() if isinstance(v, (int, float))]
    assert all(math.isfinite(v) for v in numbers), line
  if "sample" in stages:
    check_samples(config, tmp_path)


def check_samples(config, workdir):
  folder = workdir / "samples"
  text = (folder / "samples.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  sample = config.sample
  assert len(lines) == len(sample.prompts) + sample.clips * len(sample.tasks)
  for line in lines:
    assert {"prompt", "task", "seed", "size", "config", "step"} <= set(line)
    assert line["step"] == "4"
    assert line["files"]
    size = tuple(int(n) for n in line["size"].split("x"))
    for file in line["files"]:
      video, _ = media.read(folder / file)
      assert video.shape == (*size, 3)
  named = {file for line in lines for file in line["files"]}
  assert named | {"samples.jsonl", "contact_sheet.png"} == {
    path.name for path in folder.iterdir()
  }
  assert media.read(folder / "contact_sheet.png")[0].ndim == 4


# Mistakes ---------------------------------------------------------------------


def parsed(monkeypatch, *arguments):
  """The config as the command line gives it."""
  path = f"--config={ROOT}/configs/dit_b.py:tiny"
  argv = ["main", path, *arguments]
  monkeypatch.setattr(sys, "argv", argv)  # config_flags reads it
  found = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=found)
  found(argv)
  return found.config


@pytest.mark.parametrize(
  "key", ["dit.model.atention", "smaple.steps", "dit.schedule.untill"]
)
def test_unknown_keys_on_the_command_line_fail(key, monkeypatch):
  with pytest.raises((AttributeError, KeyError)) as caught:
    parsed(monkeypatch, f"--config.{key}=1")
  assert any(part in str(caught.value) for part in key.split("."))


def test_keys_on_the_command_line_change_the_config(monkeypatch):
  config = parsed(monkeypatch, "--config.dit.model.attention=by_head")
  assert config.dit.model.attention == "by_head"


# Dotted key -> the names that are valid there.
TABLES = {
  "stages": STAGES,
  "strategy": STRATEGIES,
  "data.name": SOURCES,
  "transforms.name": TRANSFORMS,
  "autoencoder.model.dtype": build.DTYPES,
  "autoencoder.objective.reconstruction": autoencode.RECONSTRUCTION,
  "autoencoder.objective.start": autoencode.INITS,
  "autoencoder.optimizer.name": optimizer.OPTIMIZERS,
  "autoencoder.optimizer.schedule": optimizer.SCHEDULES,
  "autoencoder.evaluators.reconstruction.name": EVALUATORS,
  "dit.model.dtype": build.DTYPES,
  "dit.model.attention": ATTENTION,
  "dit.model.remat": REMAT,
  "dit.process.schedule": process.SCHEDULES,
  "dit.process.target": process.TARGETS,
  "dit.weight.name": process.WEIGHTS,
  "dit.times.name": process.TIMES,
  "dit.mixture": levels.PATTERNS,
  "dit.optimizer.name": optimizer.OPTIMIZERS,
  "dit.optimizer.schedule": optimizer.SCHEDULES,
  "dit.evaluators.grid.name": EVALUATORS,
  "sample.task": TASKS,
  "sample.tasks": TASKS,
  "sample.solver.name": solvers.SOLVERS,
  "sample.guidance.name": guidance.GUIDANCE,
  "sample.formats": [name.strip(".") for name in media.WRITABLE],
}
# Section -> some of the options that are valid there.
SECTIONS = {
  "data": ("count", "frames"),
  "transforms": ("probability",),
  "autoencoder.model": ("compression", "width"),
  "autoencoder.objective": ("reconstruction", "kl"),
  "autoencoder.optimizer": ("b1", "weight_decay"),
  "autoencoder.schedule": ("until", "tolerance"),
  "autoencoder.evaluators.reconstruction": ("clips",),
  "dit.model": ("width", "attention"),
  "dit.model.text": ("width", "depth"),
  "dit.process": ("schedule", "target"),
  "dit.weight": ("floor",),
  "dit.times": ("mean", "std"),
  "dit.shift": ("base_tokens", "power"),
  "dit.rows": ("rows", "bins"),
  "dit.optimizer": ("b1", "weight_decay"),
  "dit.schedule": ("until", "tolerance"),
  "dit.evaluators.grid": ("clips", "seed"),
  "sample.solver": ("eta",),
  "sample.guidance": ("scale", "low"),
}


def broken(tiny, key, value):
  """The tiny config with a name or an option that does not exist."""
  config = tiny()
  with config.unlocked():
    config.sample.solver = {"name": "ancestral", "eta": 0.5}
    if key.startswith("transforms"):
      section = {"name": "flip", "probability": 0.5}
      config.transforms = ({**section, **value},)
    elif key == "dit.mixture":
      config.dit.mixture = {"clip": 0.5, **value}
    elif isinstance(value, dict):
      section = functools.reduce(lambda c, k: c[k], key.split("."), config)
      section.update(value)
    else:
      config.update_from_flattened_dict({key: value})
  return config


@contextlib.contextmanager
def nothing_made(workdir):
  """Fails if anything is compiled or written inside."""
  compiled = []
  listen = lambda name, seconds, **_: compiled.append(name)  # noqa: E731
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert not [name for name in compiled if "compile" in name]
  assert not workdir.exists()


def error_of(config, workdir):
  """What the run says, before anything is compiled or written."""
  with nothing_made(workdir), pytest.raises(ValueError) as caught:
    Run(config, workdir)
  return str(caught.value)


@pytest.mark.parametrize("key", TABLES)
def test_unknown_names_list_the_valid_ones(tiny, key, tmp_path):
  if key in ("dit.mixture",):
    value = {"nonesuch": 0.5}
  elif key == "transforms.name":
    value = {"name": "nonesuch"}
  elif isinstance(tiny().to_dict()[key.split(".")[0]], tuple) or key in (
    "sample.tasks",
    "sample.formats",
  ):
    value = ("nonesuch",)
  else:
    value = "nonesuch"
  message = error_of(broken(tiny, key, value), tmp_path / "run")
  assert "nonesuch" in message
  for name in TABLES[key]:
    assert name in message


@pytest.mark.parametrize("section", SECTIONS)
def test_unknown_options_list_the_valid_ones(tiny, section, tmp_path):
  config = broken(tiny, section, {"nonesuch": 1})
  message = error_of(config, tmp_path / "run")
  assert "nonesuch" in message
  for name in SECTIONS[section]:
    assert name in message


@pytest.mark.parametrize(
  "changes, wanted",
  [
    ({"sample.solver.name": "ancestral"}, "missing ['eta']"),
    ({"dit.schedule.until": "3 stepz"}, '"1000 steps"'),
    ({"dit.schedule.log": "often"}, '"1000 steps"'),
    ({"autoencoder.batch": 8, "mesh": {"data": 3}}, "3"),
    (
      {"dit.schedule.until": "3 minutes", "dit.optimizer.schedule": "cosine"},
      "constant",
    ),
  ],
)
def test_other_mistakes_are_found_at_once(tiny, changes, wanted, tmp_path):
  config = tiny()
  with config.unlocked():
    for key, value in changes.items():
      if isinstance(value, dict):
        config[key] = value
      else:
        config.update_from_flattened_dict({key: value})
  assert wanted in error_of(config, tmp_path / "run")


def test_a_good_config_compiles_and_writes_nothing_either(tiny, tmp_path):
  with nothing_made(tmp_path / "run"):
    Run(tiny(), tmp_path / "run")


def test_the_watch_itself(tmp_path):
  with pytest.raises(AssertionError), nothing_made(tmp_path / "run"):
    jax.jit(lambda x: x + 1)(np.float32(3))
