"""A mixture: every clip of every part, as often as asked."""

import collections
import dataclasses

import numpy as np
import pytest

from configs import common, dit_b
from sora_jax import build
from sora_jax.data.sources.mixture import Mixture
from sora_jax.run import Run
from sora_jax.types import Clip

VIDEO = np.zeros((1, 8, 8, 3), np.uint8)


@dataclasses.dataclass
class Some:
  """A source of a few clips, one of which is damaged."""

  count: int

  @property
  def skipped(self):
    return {"broken": "why"}

  def fingerprint(self):
    return f"some {self.count}"

  def clips(self, split):
    if split != "train":
      raise ValueError(f"no {split}")
    made = [Clip(VIDEO, 8.0, "", f"{i}@0") for i in range(self.count)]
    return [*made[:-1], None]


def test_every_clip_as_often_as_its_part_says():
  mixture = Mixture(1, {"a": Some(3), "b": Some(5)}, {"a": 4})
  clips = mixture.clips("train")
  keys = [c.key if c else None for c in (clips[i] for i in range(len(clips)))]
  found = collections.Counter(keys)
  expected = {"a/0@0": 4, "a/1@0": 4, None: 5}
  expected |= {f"b/{i}@0": 1 for i in range(4)}
  assert found == expected
  for wrong in (-1, len(clips)):
    with pytest.raises(IndexError, match=r"valid are 0\.\.16"):
      clips[wrong]
  assert mixture.skipped == {"a/broken": "why", "b/broken": "why"}
  assert mixture.fingerprint() == "some 3 some 5"


def test_every_beginning_holds_every_part():
  clips = Mixture(1, {"a": Some(4), "b": Some(40)}, {}).clips("train")
  for n in range(11, 45):
    names = [c.key[0] for c in (clips[i] for i in range(n)) if c]
    assert abs(names.count("b") / n - 10 / 11) < 0.15 and "a" in names


@pytest.mark.parametrize(
  "parts, repeat, message",
  [
    ({}, {}, "at least one part"),
    ({"a": Some(1)}, {"b": 2}, r"repeat names \['b'\]; the parts are"),
    ({"a": Some(1)}, {"a": 0}, r"repeat of \['a'\] must be >= 1"),
  ],
)
def test_what_makes_no_mixture(parts, repeat, message):
  with pytest.raises(ValueError, match=message):
    Mixture(1, parts, repeat)


def test_a_part_without_the_split_is_named():
  with pytest.raises(ValueError, match=r"data\.parts\.a: no test"):
    Mixture(1, {"a": Some(2)}, {}).clips("test")


def mixed(arg="tiny", **digits):
  config = dit_b.get_config()
  with config.unlocked():
    part = config.data.to_dict() | {"count": 4, "test_count": 2, "frames": 5}
    part = {k: v for k, v in (part | digits).items() if v is not None}
    world = {**part, "name": "world", "set": "simple", "length": "short"}
    world |= {"channels": 0, "rate": 16_000}
    config.data = {
      "name": "mixture",
      "frames": 5,
      "parts": {"digits": part, "world": world},
      "repeat": {"digits": 2},
    }
  return common.finish(config, arg)


def test_a_config_of_a_mixture(tmp_path):
  source = build.source(mixed(), tmp_path)()
  train = source.clips("train")
  assert len(train) == 2 * 24 + 24 and len(source.clips("test")) == 16
  found = [train[i] for i in range(6)]
  worlds = [clip for clip in found if clip.key.startswith("world/")]
  assert len(worlds) == 2 and all(c.state is not None for c in worlds)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"frames": 33}, r"data\.parts\.digits\.frames=33 exceeds data\.frames=5"),
    ({"frames": None}, r"data\.parts\.digits: missing \['frames'\]"),
    ({"wide": 3}, r"data\.parts\.digits: unknown \['wide'\]"),
  ],
)
def test_a_part_that_is_wrong(changes, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    build.source(mixed(None, **changes), tmp_path)


def test_a_transformer_autoencoder_trains_on_thinned_crops_of_a_mixture(
  tmp_path,
):
  config = mixed()
  assert config.data.frames == config.data.parts.world.frames == 5
  assert len(build.source(config, tmp_path)().clips("train")) == 72
  with config.unlocked():
    config.autoencoder.model.update(block="transformer", heads=2)
    config.autoencoder.update(size=(5, 16, 16), thin=2, zoom=2.0)
    for data in (config.data, *config.data.parts.values()):
      data.frames = 9
    config.update_from_flattened_dict(
      {"dit.frames": 3, "dit.rows.length": 64, "autoencoder.evaluators": {}}
    )
  run = Run(config, tmp_path)
  run.train_autoencoder()
  state = run.restored("autoencoder")
  assert int(state.step) == 4 and (state.frozen["stats"]["std"] > 0).all()
