"""TFDS data sets, built here without TensorFlow and read back."""

import io
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from sora_jax.data.features import EncodedVideo
from sora_jax.data.sources.tfds import Tfds
from sora_jax.utils import media

FRAMES, FPS = 10, 8.0
LABELS = ["a cat", "a dog"]


def video(seed):
  levels = (np.arange(FRAMES) * 10 + seed).astype(np.uint8)
  return np.broadcast_to(
    levels[:, None, None, None], (FRAMES, 16, 24, 3)
  ).copy()


def png(array):
  file = io.BytesIO()
  Image.fromarray(array).save(file, "PNG")
  return file.getvalue()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  media.write(folder / "a.mp4", video(0), FPS)

  with tfds.core.registered.skip_registration():

    class TinyClips(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version("1.0.0")
      # As of a script: for a dotted name, TFDS searches the package with
      # importlib_resources, which it needs but does not install.
      __module__ = "script"

      def _info(self):
        features = {
          "video": EncodedVideo(),
          "frames": tfds.features.Tensor(
            shape=(None, 16, 24, 3), dtype=np.uint8
          ),
          "image": tfds.features.Image(shape=(None, None, 1)),
          "text": tfds.features.Text(),
          "label": tfds.features.ClassLabel(names=LABELS),
        }
        return tfds.core.DatasetInfo(
          builder=self, features=tfds.features.FeaturesDict(features)
        )

      def _split_generators(self, dl_manager):
        return {
          "train": self._generate_examples(range(3)),
          "test": self._generate_examples([3]),
        }

      def _generate_examples(self, indices):
        for i in indices:
          path = folder / "a.mp4"
          yield (
            i,
            {
              # A path, bytes, and bytes that are no video.
              "video": [path, path.read_bytes(), b"broken", path][i],
              "frames": video(i),
              "image": io.BytesIO(png(video(i)[i, :, :, 0])),
              "text": f"clip {i} né",
              "label": i % 2,
            },
          )

  TinyClips(data_dir=folder, file_format="array_record").download_and_prepare()
  return str(folder)


def source(data_dir, **kwargs):
  defaults = {"text_key": "text", "fps": FPS, "frames": 6}
  return Tfds("tiny_clips", data_dir, **(defaults | kwargs))


def by_text(clips):
  return {clip.text: clip for clip in clips if clip is not None}


def test_encoded_videos_are_resampled_and_bad_ones_are_none(data_dir):
  clips = source(data_dir, video_key="video", fps=4.0).clips("train")
  assert len(clips) == 3
  items = [clips[i] for i in range(3)]
  assert sum(item is None for item in items) == 1
  found = by_text(items)
  assert set(found) == {"clip 0 né", "clip 1 né"}
  for clip in found.values():
    assert clip.video.shape == (5, 16, 24, 3) and clip.fps == 4.0
    levels = clip.video.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(levels, np.arange(0, 10, 2) * 10, atol=3)
  keys = {clip.key for clip in found.values()}
  assert len(keys) == 2 and all(k.startswith("tiny_clips/train/") for k in keys)
  assert len({clip.origin for clip in found.values()}) == 2
  assert "tensorflow" not in sys.modules


def test_frame_tensors_and_labels(data_dir):
  clips = source(data_dir, video_key="frames", text_key="label").clips("test")
  (clip,) = clips
  assert clip.text == "a dog" and clip.fps == FPS
  np.testing.assert_array_equal(clip.video, video(3)[:6])


def test_grey_images_become_one_rgb_frame(data_dir):
  (clip,) = source(data_dir, image_key="image").clips("test")
  np.testing.assert_array_equal(clip.video, video(3)[3:4])
  assert clip.text == "clip 3 né"


def test_reading_is_deterministic_and_pickles(data_dir):
  clips = source(data_dir, video_key="frames").clips("train")
  again = pickle.loads(pickle.dumps(clips))
  for a, b in zip(clips, again, strict=True):
    assert (a.key, a.text) == (b.key, b.text)
    np.testing.assert_array_equal(a.video, b.video)
  assert len(source(data_dir, video_key="frames").clips("train[:2]")) == 2
  with pytest.raises(IndexError):
    clips[3]


def test_mistakes_are_explained(data_dir):
  with pytest.raises(ValueError, match=r"'valid'.*'train', 'test'"):
    source(data_dir, video_key="video").clips("valid")
  with pytest.raises(ValueError, match=r"no feature 'clip'.*'frames'"):
    source(data_dir, video_key="clip")
  with pytest.raises(ValueError, match=r"no feature 'caption'.*'text'"):
    source(data_dir, video_key="video", text_key="caption")
  with pytest.raises(ValueError, match="give video_key or image_key"):
    source(data_dir)
  with pytest.raises(ValueError, match="download_and_prepare"):
    Tfds("no_such_set", data_dir, "text", fps=8, frames=4, video_key="video")
  with pytest.raises(ValueError, match=r"media\.write"):
    EncodedVideo().encode_example(video(0))
  clips = source(data_dir, video_key="label").clips("test")
  with pytest.raises(ValueError, match=r"'label' .* must be uint8"):
    clips[0]
