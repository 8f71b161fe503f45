"""TFDS features that need no TensorFlow.

`tfds.features.Video` cannot even be opened without TensorFlow and stores every
frame as an image. `EncodedVideo` keeps the file as it is: 20 to 100 times
smaller, with its own frame rate.
"""

from __future__ import annotations

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds


class EncodedVideo(tfds.features.Tensor):
  """The bytes of a video file; reading gives the bytes, `media.read` frames.

  Name it in a builder's FeaturesDict, and give it the bytes or the path of an
  mp4. The data set's features.json names this class by its module, so moving it
  makes written data sets unreadable.
  """

  def __init__(self):
    super().__init__(shape=(), dtype=np.object_)

  def encode_example(self, example_data: bytes | str | os.PathLike[str]):
    """The bytes that are stored, from bytes or a path."""
    if isinstance(example_data, str | os.PathLike):
      return pathlib.Path(example_data).read_bytes()
    if not isinstance(example_data, bytes):
      raise ValueError(
        f"an EncodedVideo takes the bytes or the path of a video file, not "
        f"{type(example_data).__name__}: write the frames with media.write"
      )
    return example_data

  def decode_example_np(self, example_data) -> bytes:
    """The bytes of the file."""
    return bytes(example_data)

  def to_json_content(self) -> dict:
    """Nothing to remember: the class is all."""
    return {}

  @classmethod
  def from_json_content(cls, value) -> EncodedVideo:
    """The feature again; TFDS passes `value` by its name."""
    del value
    return cls()
