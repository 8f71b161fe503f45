"""The world as a TFDS data set: what is written is what the source makes."""

import json

import numpy as np
import pytest

from sora_jax.data.sources.tfds import Tfds
from sora_jax.data.sources.world import World as Source
from sora_jax.data.world import builder, sets
from sora_jax.utils import media


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  config = builder.WorldConfig(
    name="small", sets=("simple", "sound"), count=2, train=3
  )
  data = builder.World(
    config=config, data_dir=folder, file_format="array_record"
  )
  data.download_and_prepare()
  return data, folder


def test_every_split_is_there(prepared):
  data, _ = prepared
  counts = {name: info.num_examples for name, info in data.info.splits.items()}
  assert counts == {name: 4 for name in sets.SPLITS} | {"train": 6}


def test_records_hold_the_clip_its_sound_and_its_state(prepared):
  data, _ = prepared
  source = Source(
    set="sound",
    count=3,
    test_count=2,
    frames=17,
    height=64,
    width=64,
    fps=8.0,
    seed=0,
    channels=1,
  )
  clips = {clip.key: clip for clip in source.clips("test")}
  found = 0
  for record in data.as_data_source("test"):
    key = record["key"].decode()
    if key not in clips:
      continue
    found += 1
    clip = clips[key]
    assert record["text"].decode() == clip.caption
    assert len(json.loads(record["events"])) == len(clip.state.events)
    np.testing.assert_array_equal(
      record["state"]["position"], clip.state.position
    )
    video, fps = media.read(record["video"])[:2]
    assert video.shape == clip.video.shape and fps == clip.fps
    assert np.abs(video.astype(float) - clip.video).mean() < 4
    audio, rate = media.read_audio(record["video"])
    assert rate == clip.rate
    assert np.corrcoef(audio[: len(clip.audio)], clip.audio)[0, 1] > 0.9
  assert found == 2


def test_the_named_configs_cover_the_sets():
  names = {config.name for config in builder.World.BUILDER_CONFIGS}
  assert names == {"physics", *sets.SETS}


def test_the_source_tfds_reads_it(prepared):
  data, folder = prepared
  source = Tfds(
    f"{data.name}/small", folder, "text", fps=8.0, frames=17, video_key="video"
  )
  clip = source.clips("test")[0]
  assert clip.video.shape == (17, 64, 64, 3)
  assert clip.text
