"""A config that contradicts itself or a checkpoint is refused, with numbers."""

import json
import pathlib

import numpy as np
import pytest

from configs import demo, dit_b, video_folder, world
from sora_jax import build, check
from sora_jax.data.world import sets
from sora_jax.types import Clip
from sora_jax.utils import sections

HALVES = {"name": "consistency", "steps": 4, "parts": 2, "scale": 0.0}
ZERO = {"name": "zero", "scale": 2.0, "low": 0.0, "high": 1.0}
VBENCH = {"sample.names": "vbench", "sample.clips": 0, "sample.repeats": 5}
LONG = {"sample.rollout.seconds": 9.0, "sample.clips": 0}


def changed(changes, base=dit_b):
  config = base.get_config("tiny")
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"dit.patch": (2, 1, 1)}, r"use \(1, ph, pw\)"),
    ({"data.frames": 33}, r"33 makes 9 latent frames .* raise dit.frames to 9"),
    ({"dit.rows.length": 7}, "dit.rows.length is 7: raise it"),
    ({"text.max_tokens": 999}, "text.max_tokens=999 exceeds dit.rows.text="),
    ({"sample.size": (5, 16, 17)}, "axis W has 17 pixels"),
    (
      {"autoencoder.objective.perceptual.weight": 0.1},
      "perceptual.weight=0.1 needs the weights of LPIPS: set its path",
    ),
    (
      {
        "autoencoder.objective.equivariance": 0.1,
        "autoencoder.size": (5, 16, 24),
      },
      r"halves latents, and those of .*24\) are \[2, 3\]",
    ),
    ({"autoencoder.zoom": 0.5}, "zoom=0.5, .* zoom must be >= 1"),
    ({"autoencoder.thin": 0}, "thin=0: .* thin a whole number"),
    (
      {"autoencoder.thin": 3},
      r"thin=3 leaves too little .*data.frames=5 .* data.frames to 13",
    ),
    (
      {"autoencoder.model.kernel": (3, 4)},
      r"model\.kernel=\(3, 4\): .* space odd",
    ),
    ({"autoencoder.model.kernel": (0, 3)}, r"kernel=\(0, 3\): .* >= 1"),
    ({"autoencoder.model.heads": 3}, "heads=3 with block='conv' and width=8"),
    (
      {"autoencoder.model.block": "transformer"},
      "heads=0 with block='transformer' .* need >= 1",
    ),
    ({"dit.model.heads": 7}, r"dit\.model\.heads=7 .* width=16: .* even width"),
    ({"dit.model.heads": 16}, r"dit\.model\.heads=16 .* even width"),
    ({"dit.model.heads": 0}, r"dit\.model\.heads=0 .* need >= 1"),
    ({"dit.model.text.heads": 3}, r"model\.text\.heads=3 .* width=16: "),
    ({"scales": (0.5, 2.0)}, r"scales=\(0.5, 2.0\): .* > 0 and <= 1"),
    ({"sample.decode_frames": 0}, "decode_frames=0: .* at least 1"),
    ({"sample.source": "nowhere.png"}, "'nowhere.png' is not a file"),
    ({"sample.task": "extend"}, "set sample.source"),
    ({"sample.file": "none.txt"}, r"none\.txt' is not a file"),
    ({"sample.prompts": ("-",)}, r"rollout\.seconds > 0"),
    ({"sample.prompts": ("-", "a"), **LONG}, "stands alone"),
    ({"sample.clips": 1, "sample.rollout.seconds": 9.0}, r"sample\.clips=0"),
    ({"sample.formats": ("gif",), **LONG}, r"formats=\('mp4',\)"),
    ({"sample.formats": ("gif",), "sample.fps": 60.0}, "gif .* at most 50"),
    (
      {"sample.keep": 9, **LONG},
      r"sample\.keep=9 latent frames and the anchor fill a block",
    ),
    ({"sample.size": (1601, 16, 16)}, r"has 1604 tokens and dit\.rows\.length"),
    (
      {
        "sample.solver.name": "unipc",
        "sample.guidance": ZERO | {"start": 0.9},
      },
      r"start=0\.9 .* choose one of \['euler', 'ancestral'",
    ),
    (
      {"dit.objective": HALVES, "sample.steps": 4},
      r"parts=2 teaches .* 4 of 'heun' .* set sample\.steps=2",
    ),
    (
      {
        "dit.objective": HALVES,
        "sample.steps": 2,
        "sample.solver": {"name": "euler"},
        "sample.cache": 0.5,
      },
      r"none can be left out: set sample\.cache=0\.0, not 0\.5",
    ),
    ({"sample.names": "vbench"}, r"set sample\.clips=0"),
    (VBENCH | {"sample.repeats": 4}, r"set sample\.repeats=5, not 4"),
    (VBENCH | {"sample.formats": ("gif",)}, r"takes mp4s.*not \('gif',\)"),
    (VBENCH | {"sample.size": (1, 16, 16)}, "is for videos"),
    ({"sample.tasks": ("loop",)}, r"\['loop'\].*'connect'"),
    ({"sample.prompts": ("[0s] a [1",)}, "position 7"),
    ({"sample.repeats": 0}, "repeats=0"),
    ({"sample.cache": -1.0}, r"sample\.cache=-1.0"),
    ({"sample.grid": {"name": "power", "rho": 0.0}}, "fall from 1 to 0"),
  ],
)
def test_numbers_that_do_not_fit(changes, message):
  with pytest.raises(ValueError, match=message):
    build.everything(changed(changes))


def test_evaluators_that_the_data_cannot_feed():
  laws = {"dit.evaluators.laws.task": "extend"}
  with pytest.raises(ValueError, match=r"all 5 frames are known.*keep"):
    build.everything(changed(laws, world))
  for size in ({"data.frames": 6}, {"data.height": 48}):
    with pytest.raises(ValueError, match=r"nothing has cut .* frames"):
      build.everything(changed(size, world))
  shots = changed({"data.set": "shots", "data.fps": 0.5}, world)
  with shots.unlocked():
    for name in ("drift", "edits"):  # which are refused before
      del shots.dit.evaluators[name]
  with pytest.raises(ValueError, match=r"laws judges .* one shot"):
    build.everything(shots)
  for name in ("motion", "sound", "shots"):
    with pytest.raises(ValueError, match=f"drift judges .*'{name}' shows none"):
      build.everything(changed({"data.set": name}, world))
  few = changed({"dit.evaluators.frechet.clips": 5})
  with pytest.raises(ValueError, match=r"frechet.clips=5 .* has 8: lower"):
    build.everything(few)
  short = changed({"dit.evaluators.frechet.features": "i3d"})
  with pytest.raises(ValueError, match=r"9 frames or more, .* some of 5"):
    build.everything(short)
  full = {"dit.evaluators.drift.keep": 2}
  with pytest.raises(ValueError, match=r"drift.keep=2 .* has 2: lower"):
    build.everything(changed(full, world))
  digits = changed({"dit.evaluators.captions.oracle": "world"})
  with pytest.raises(ValueError, match=r"captions .* data.name is 'digits'"):
    build.everything(digits)


def test_configs_offer_every_set_of_the_world():
  assert set(world.SETS) == set(sets.SETS) == {name for name, *_ in demo.PARTS}


@pytest.mark.parametrize("name", world.SETS)
@pytest.mark.parametrize("base", [demo, world])
def test_a_set_is_judged_by_all_that_find_something_in_it(base, name):
  for arg in (name, f"{name},tiny"):
    config = base.get_config(arg)
    assert config.data.set == name
    build.everything(config)
  every = base.get_config("composition").dit.evaluators
  assert set(every) - set(config.dit.evaluators) == set(world.SETS[name])
  for left_out in world.SETS[name]:
    config = base.get_config(name)
    with config.unlocked():
      config.dit.evaluators = {left_out: every[left_out].to_dict()}
    with pytest.raises(ValueError, match=f"{left_out} judges .* remove the"):
      build.everything(config)


def saved(config):
  return json.loads(json.dumps(sections.plain(config)))


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"dit.process.target": "x0"}, "dit.process"),
    ({"dit.shift.power": 0.0}, "dit.shift"),
    ({"autoencoder.model.channels": 4}, "autoencoder.model"),
    ({"text.vocab_size": 299}, "text"),
  ],
)
def test_a_checkpoint_of_another_model(changes, named):
  with pytest.raises(ValueError, match=f"  {named}: saved .*, now "):
    check.same_model(
      changed(changes), saved(changed({})), pathlib.Path("there")
    )


def test_an_autoencoder_serves_every_transformer():
  def check_codec(changes):
    now, there = changed(changes), pathlib.Path("there")
    check.same_model(now, saved(changed({})), there, "autoencoder")

  check_codec({"dit.process.target": "x0", "text.vocab_size": 299})
  with pytest.raises(ValueError, match=r"autoencoder\.model: saved"):
    check_codec({"autoencoder.model.channels": 4})


def test_a_checkpoint_of_other_blocks_is_of_another_model():
  old, now = saved(changed({})), changed({})
  check.same_model(now, old, pathlib.Path("there"))
  now = changed({"autoencoder.model.block": "transformer"})
  with pytest.raises(ValueError, match=r"autoencoder\.model: saved"):
    check.same_model(now, old, pathlib.Path("there"))


def test_crops_are_thinned_and_zoomed_where_they_are_augmented():
  """By the motion and size of what the crops show."""
  changes = {"autoencoder.thin": 2, "autoencoder.zoom": 3.0}
  changes |= {"data.frames": 9, "dit.frames": 3, "dit.rows.length": 64}
  config = changed(changes)
  ramp = np.zeros((9, 64, 64, 3), np.uint8)
  ramp[..., 0] = np.arange(64) * 3
  ramp[..., 1] = np.arange(9)[:, None, None] * 20
  source = [Clip(ramp, 8.0, "a ramp", "k")]

  def slopes(augmented):
    batch = next(iter(build.pixels(config, source, augmented, 0)))
    video = batch["video"].astype(float)
    return (
      np.diff(video[:, 0, 8, 4:-4, 0], axis=-1).mean(-1),
      np.diff(video[:, :, 8, 8, 1], axis=1).mean(-1),
    )

  across, along = slopes(False)
  np.testing.assert_allclose(across, 3)
  np.testing.assert_allclose(along, 20)
  across, along = slopes(True)
  assert across.min() >= 2.9 and across.max() > 4
  assert set(along.round()) == {20, 40}


def test_how_it_is_computed_may_differ():
  now = changed({"dit.model.remat": "full", "dit.model.attention": "blocks"})
  check.same_model(now, saved(changed({})), pathlib.Path("there"))


def test_a_transformer_of_another_layout_is_refused():
  """Before `modulation`, q, k and v lay in another order."""
  old = saved(changed({}))
  del old["dit"]["model"]["modulation"]
  with pytest.raises(ValueError, match=r"is of another model:\n  dit\.model"):
    check.same_model(changed({}), old, pathlib.Path("there"))


def test_attention_that_allows_less_is_another_model():
  less = changed({"dit.model.attention": "window"})
  check.same_model(less, saved(less), pathlib.Path("there"))
  with pytest.raises(ValueError, match=r"dit\.model: saved .*'window'"):
    check.same_model(changed({}), saved(less), pathlib.Path("there"))


def test_no_data_path_says_which_key_to_set(tmp_path):
  with pytest.raises(ValueError, match=r"set --config\.data\.path"):
    build.source(changed({}, video_folder), tmp_path)()
