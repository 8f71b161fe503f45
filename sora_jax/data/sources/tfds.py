"""Any TFDS data set of captioned videos or images, read without TensorFlow."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from sora_jax.data.sources.report import Report
from sora_jax.types import Clip
from sora_jax.utils import media


class Tfds:
  """A prepared TFDS data set as clips; each record is one clip.

  A video may be stored as the bytes of a file (`features.EncodedVideo`), which
  is resampled to `fps`, or as a uint8 tensor [T, H, W, 3], which is taken to be
  at `fps`. An image becomes one frame.
  """

  def __init__(
    self,
    dataset: str,
    data_dir: str,
    text_key: str,
    *,
    fps: float,
    frames: int,
    video_key: str = "",
    image_key: str = "",
    log: str | None = None,
  ):
    """Opens the data set.

    Args:
      dataset: as TFDS knows it, "name" or "name/config:version".
      data_dir: the folder that holds it.
      text_key: the feature with the caption: text, or a label, whose name is
        then the caption.
      fps: frames per second of the clips, > 0.
      frames: at most this many frames per clip, from the start of the video.
      video_key: the feature with the video, or
      image_key: the one with the image; one of the two must be given.
      log: where to note records that are left out, a .jsonl file.

    Raises:
      ValueError: for a data set that is not there or has no such features.
    """
    if not dataset:
      raise ValueError(
        "no data set is given: set --config.data.dataset to its name"
      )
    if bool(video_key) == bool(image_key):
      raise ValueError(
        f"give video_key or image_key, not {video_key!r} and {image_key!r}"
      )
    try:
      self._builder = tfds.builder(dataset, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
      raise ValueError(
        f"no data set {dataset!r} in {data_dir}: build it first, with its "
        "builder's download_and_prepare()"
      ) from error
    self._report = Report(pathlib.Path(log) if log else None)
    features = self._builder.info.features
    for key in (text_key, video_key or image_key):
      if key not in features:
        raise ValueError(
          f"{dataset} has no feature {key!r}, choose from {sorted(features)}"
        )
    # Labels are stored as numbers.
    labels = getattr(features[text_key], "names", None)
    self._reader = _Reader(
      name=dataset,
      text_key=text_key,
      pixels_key=video_key or image_key,
      labels=tuple(labels or ()),
      fps=fps,
      frames=frames,
    )

  def clips(self, split: str) -> Sequence[Clip | None]:
    """The clips of a split, also of a part such as "train[:90%]".

    Raises:
      ValueError: for a split that does not exist, naming those that do.
    """
    records = self._builder.as_data_source(split)
    return _Clips(self._reader, split, records, self._report)

  @property
  def skipped(self) -> dict[str, str]:
    """Why each record that cannot be decoded is left out."""
    return self._report.reasons

  def fingerprint(self) -> str:
    """Names the version and the size of the data set."""
    info = self._builder.info
    return f"{info.full_name} {info.dataset_size}"


@dataclasses.dataclass(frozen=True)
class _Reader:
  """What turns a record into a clip."""

  name: str
  text_key: str
  pixels_key: str
  labels: tuple[str, ...]
  fps: float
  frames: int

  def clip(self, record: dict[str, Any], key: str) -> Clip:
    text = record[self.text_key]
    if self.labels:
      text = self.labels[text]
    elif isinstance(text, bytes):
      text = text.decode()
    return Clip(self._video(record[self.pixels_key]), self.fps, text, key)

  def _video(self, value: bytes | np.ndarray) -> np.ndarray:
    if isinstance(value, bytes):
      return media.read(value, frames=self.frames, fps=self.fps)[0]
    video = np.asarray(value)
    channels = video.shape[-1] if video.ndim in (3, 4) else 0
    if video.dtype != np.uint8 or channels not in (1, 3, 4):
      raise ValueError(
        f"feature {self.pixels_key!r} of {self.name} is {video.dtype} "
        f"{video.shape}, it must be uint8 [T, H, W, C] or [H, W, C] with 1, 3 "
        "or 4 channels, or the bytes of a file"
      )
    video = video if video.ndim == 4 else video[None]
    # Grey becomes RGB, and alpha is dropped.
    return video[: self.frames, ..., [0, 0, 0] if channels == 1 else [0, 1, 2]]


@dataclasses.dataclass(frozen=True)
class _Clips(Sequence):
  reader: _Reader
  split: str
  records: Sequence[dict[str, Any]]
  report: Report

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Clip | None:
    index = range(len(self))[index]  # Raises the usual IndexError.
    key = f"{self.reader.name}/{self.split}/{index}"
    try:
      return self.reader.clip(self.records[index], key)
    # OSError: images that TFDS decodes itself, through Pillow.
    except (media.Undecodable, OSError) as error:
      self.report(key, str(error))
      return None
