"""TensorBoard's files. Imported late: its package brings PyTorch along."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import tensorboardX
from tensorboardX.proto import event_pb2, summary_pb2

Value = summary_pb2.Summary.Value


class Board:
  """One run of TensorBoard: what one stage of training reports."""

  def __init__(self, folder: pathlib.Path):
    self._writer = tensorboardX.FileWriter(str(folder), flush_secs=10)

  def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
    """Adds numbers by name."""
    self._add(step, *(Value(tag=k, simple_value=n) for k, n in numbers.items()))

  def picture(
    self, step: int, name: str, size: tuple[int, int], encoded: bytes
  ) -> None:
    """Adds a PNG or GIF of `size` (height, width)."""
    image = summary_pb2.Summary.Image(
      height=size[0],
      width=size[1],
      colorspace=3,
      encoded_image_string=encoded,
    )
    self._add(step, Value(tag=name, image=image))

  def forget(self, step: int) -> None:
    """Hides what an earlier writer of this run added after `step`."""
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._writer.add_event(event_pb2.Event(session_log=start), step=step + 1)

  def close(self) -> None:
    """Writes what is still in a buffer."""
    self._writer.close()

  def _add(self, step: int, *values: Value) -> None:
    self._writer.add_summary(summary_pb2.Summary(value=values), int(step))
