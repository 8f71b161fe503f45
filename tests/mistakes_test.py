"""A mistake in a config is found at once, and says what would be right."""

import contextlib
import functools
import pathlib
import sys

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from sora_jax import build
from sora_jax.data.sources import SOURCES
from sora_jax.data.transforms import TRANSFORMS
from sora_jax.diffusion import guidance, levels, process, sampler, solvers
from sora_jax.evaluators import EVALUATORS
from sora_jax.models import autoencoder, causal_conv
from sora_jax.models.attention import ATTENTION
from sora_jax.models.dit import REMAT
from sora_jax.objectives import autoencode, penalties
from sora_jax.run import STAGES, Run
from sora_jax.sampling.folder import NAMES
from sora_jax.sampling.rollout import CONTEXTS
from sora_jax.sampling.tasks import TASKS
from sora_jax.sharding.rules import STRATEGIES
from sora_jax.training import optimizer
from sora_jax.utils import media

ROOT = pathlib.Path(__file__).parents[1]


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
  config = parsed(monkeypatch, "--config.dit.model.attention=blocks")
  assert config.dit.model.attention == "blocks"


# Dotted key -> the names that are valid there.
TABLES = {
  "stages": STAGES,
  "strategy": STRATEGIES,
  "data.name": SOURCES,
  "transforms.name": TRANSFORMS,
  "autoencoder.model.dtype": build.DTYPES,
  "autoencoder.model.lowering": causal_conv.LOWERINGS,
  "autoencoder.model.block": autoencoder.BLOCKS,
  "autoencoder.objective.reconstruction": penalties.RECONSTRUCTION,
  "autoencoder.objective.terms": penalties.TERMS,
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
  "sample.grid.name": sampler.GRIDS,
  "sample.names": NAMES,
  "sample.rollout.context": CONTEXTS,
  "sample.formats": ["mp4", "gif"],
}
# Section -> some of the options that are valid there.
SECTIONS = {
  "data": ("count", "frames"),
  "transforms": ("probability",),
  "autoencoder.model": ("compression", "width"),
  "autoencoder.objective": ("reconstruction", "kl"),
  "autoencoder.objective.adversary": ("weight", "r1"),
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
  if key in ("dit.mixture", "autoencoder.objective.terms"):
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
    ({"autoencoder.transforms": ({"name": "blur"},)}, "choose from ['bucket'"),
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


def test_bad_files_and_sizes_to_sample(tiny, tmp_path):
  """All but the checkpoint, which `restored` compares before it reads it."""
  broken, empty = tmp_path / "broken.png", tmp_path / "empty.txt"
  broken.write_bytes(b"no picture")
  empty.write_text("\n")
  source, mask = (str(tmp_path / f"{name}.png") for name in ("a", "mask"))
  media.write(source, np.zeros((1, 16, 16, 3), np.uint8), 8.0)
  media.write(mask, np.zeros((1, 16, 24, 3), np.uint8), 8.0)
  stages = {"stages": ("autoencoder", "dit", "sample")}
  given = {"sample.source": source}
  for changes, message in (
    ({"sample.task": "i2v", "sample.source": str(broken)}, "cannot decode"),
    (given | {"sample.task": "inpaint", "sample.mask": mask}, "16x24 pixels"),
    ({"sample.file": str(empty)}, "holds no prompt"),
    ({"sample.size": (17, 160, 160)}, "tokens"),
  ):
    said = error_of(tiny(stages | changes), tmp_path / "run")
    assert message in said


def test_a_good_config_compiles_and_writes_nothing_either(tiny, tmp_path):
  with nothing_made(tmp_path / "run"):
    Run(tiny(), tmp_path / "run")


def test_the_watch_itself(tmp_path):
  with pytest.raises(AssertionError), nothing_made(tmp_path / "run"):
    jax.jit(lambda x: x + 1)(np.float32(3))
