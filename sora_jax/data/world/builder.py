"""The world's fixed sets as a TFDS data set of mp4 files with sound.

  from sora_jax.data.world import builder  # registers it
  data = tfds.builder("world/physics", data_dir=..., file_format="array_record")
  data.download_and_prepare()
  data.as_data_source("test")[0]

Nothing is downloaded: clips are made. Reading them through the source `tfds`
gives what the source `world` gives, but for the loss of the video codec.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile

import numpy as np
import tensorflow_datasets as tfds

from sora_jax.data import features
from sora_jax.data.sources.world import World as Source
from sora_jax.data.world import sets
from sora_jax.utils import media

STATE = ("position", "velocity", "radius", "angle", "centre", "zoom", "pixels")


@dataclasses.dataclass
class WorldConfig(tfds.core.BuilderConfig):
  """One fixed data set.

  Attributes:
    sets: keys of sets.SETS, each with `count` clips a split.
    frames: T.
    height: H, pixels.
    width: W, pixels.
    fps: frames per second.
    count: clips of each set in every split but "train".
    train: clips of each set in the split "train".
    seed: of the world.
  """

  sets: tuple[str, ...] = ()
  frames: int = 17
  height: int = 64
  width: int = 64
  fps: float = 8.0
  count: int = 256
  train: int = 1024
  seed: int = 0


def _configs() -> list[WorldConfig]:
  every = WorldConfig(
    name="physics",
    description="All sets, 17 x 64 x 64, with sound.",
    sets=tuple(sets.SETS),
    count=128,
  )
  single = [
    WorldConfig(
      name=name, description=f"The set {name!r}, 17 x 64 x 64.", sets=(name,)
    )
    for name in sets.SETS
  ]
  return [every, *single]


class World(tfds.core.GeneratorBasedBuilder):
  """Captioned physics with exact ground truth; see `sources.world`."""

  # Since 2 held-out combinations are in the split test_combinations alone.
  VERSION = tfds.core.Version("2.0.0")
  BUILDER_CONFIGS = _configs()

  def _info(self) -> tfds.core.DatasetInfo:
    free = {
      "position": (None, None, 2),
      "velocity": (None, None, 2),
      "pixels": (None, None, 2),
      "radius": (None, None),
      "angle": (None, None),
      "centre": (None, 2),
      "zoom": (None,),
    }
    state = {
      name: tfds.features.Tensor(
        shape=free[name], dtype=np.float64, encoding="zlib"
      )
      for name in STATE
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict(
        {
          "video": features.EncodedVideo(),
          "text": tfds.features.Text(),
          "shots": tfds.features.Text(),  # JSON: [[start frame, caption], ...]
          "events": tfds.features.Text(),  # JSON: a list of nouns.Event
          "key": tfds.features.Text(),
          "state": state,
        }
      ),
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # nothing to download
    return {split: self._generate_examples(split) for split in sets.SPLITS}

  def _generate_examples(self, split: str):
    config = self.builder_config
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / "clip.mp4"
      for name in config.sets:
        source = Source(
          set=name,
          count=config.train,
          test_count=config.count,
          frames=config.frames,
          height=config.height,
          width=config.width,
          fps=config.fps,
          seed=config.seed,
          channels=1,
        )
        for clip in source.clips(split):
          yield clip.key, _example(clip, path)


def _example(clip, path: pathlib.Path) -> dict:
  """A clip as TFDS stores it; `path` is where its file is made."""
  media.write(path, clip.video, clip.fps, audio=clip.audio, rate=clip.rate)
  state = clip.state
  shots = [(int(n), shot.text) for n, shot in zip(state.start, state.shots)]
  return {
    "video": path.read_bytes(),
    "text": clip.caption,
    "shots": json.dumps(shots),
    "events": json.dumps([dataclasses.asdict(e) for e in state.events]),
    "key": clip.key,
    "state": {name: getattr(state, name) for name in STATE},
  }
