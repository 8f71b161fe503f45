"""What a run reports: text and progress for people, metrics for plots.

`metrics.jsonl` is the truth: one JSON object a line, `{"step", "stage", "time",
name: value, ...}`, with time in seconds since the epoch. TensorBoard, one run
per stage under `tb/`, mirrors it and adds images and videos.
"""

from __future__ import annotations

import io
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tqdm
from PIL import Image

if TYPE_CHECKING:
  from sora_jax.utils import boards

RESERVED = ("step", "stage", "time")  # in every line of metrics
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_SECONDS_BETWEEN_LINES = 15.0
_quiet: list[bool] = []


def hush() -> None:
  """Keeps `say` quiet from now on: another process says the same."""
  _quiet.append(True)


def say(text: str) -> None:
  """Writes one line to stdout, above a progress bar if there is one."""
  if _quiet:
    return
  tqdm.tqdm.write(text, file=sys.stdout)
  # A log file would otherwise show nothing until its buffer is full.
  sys.stdout.flush()


def hms(seconds: float) -> str:
  """Seconds as "1h02m03s", without leading zero units; "?" if not finite."""
  if not math.isfinite(seconds):
    return "?"
  minutes, s = divmod(round(max(seconds, 0)), 60)
  h, m = divmod(minutes, 60)
  if h:
    return f"{h}h{m:02d}m{s:02d}s"
  return f"{m}m{s:02d}s" if m else f"{s}s"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Rows as aligned text: columns as they first appear, "-" where missing."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  if not names:
    return ""
  columns = []
  for name in names:
    values = [row.get(name) for row in rows]
    cells = [name, *map(cell, values)]
    width = max(map(len, cells))
    # Numbers align right, so that their digits compare; text aligns left.
    text = any(isinstance(value, str) for value in values)
    columns.append([c.ljust(width) if text else c.rjust(width) for c in cells])
  return "\n".join("  ".join(line).rstrip() for line in zip(*columns))


def tables(found: Mapping[str, float]) -> list[list[dict[str, Any]]]:
  """Metrics named evaluator/row/column as rows, a table for each evaluator."""
  out: dict[str, dict[str, dict[str, Any]]] = {}
  for name, value in found.items():
    evaluator, _, rest = name.partition("/")
    row, _, column = rest.rpartition("/")
    rows = out.setdefault(evaluator, {})
    rows.setdefault(row, {evaluator: row})[column] = value
  return [list(rows.values()) for rows in out.values()]


def cell(value: Any) -> str:
  """A value in a table: numbers to four digits, \"-\" for none."""
  if value is None:
    return "-"
  if getattr(value, "ndim", None) == 0:
    value = value.item()  # A scalar of numpy or jax.
  if isinstance(value, float):
    return f"{value:.4g}"
  return str(value)


class MetricWriter:
  """Writes a run's metrics under `workdir`, each line as soon as it is known.

  Opening it again appends, after removing the line that a killed process left
  unfinished.
  """

  def __init__(self, workdir: str | os.PathLike[str]):
    self._workdir = pathlib.Path(workdir)
    self._workdir.mkdir(parents=True, exist_ok=True)
    self._path = self._workdir / "metrics.jsonl"
    self._boards: dict[str, boards.Board] = {}
    self._path.touch()
    self._rewrite(_whole_lines(self._path))

  def scalars(self, stage: str, step: int, values: Mapping[str, float]) -> None:
    """Records named numbers; nan and infinities are allowed.

    Raises:
      ValueError: for the names "step", "stage" and "time".
    """
    taken = [name for name in values if name in RESERVED]
    if taken:
      raise ValueError(
        f"Metrics cannot be named {taken}: every line has {RESERVED} already."
      )
    numbers = {name: float(value) for name, value in values.items()}
    line = {"step": int(step), "stage": stage, "time": round(time.time(), 3)}
    # JSON has no nan; json.dumps would write one that other readers refuse.
    for name, number in numbers.items():
      line[name] = number if math.isfinite(number) else str(number)
    self._file.write(json.dumps(line, allow_nan=False) + "\n")
    self._board(stage).scalars(step, numbers)

  def image(self, stage: str, step: int, name: str, image: np.ndarray) -> None:
    """Records an image, uint8 [H, W, 3], as a PNG."""
    _check_pixels(name, image, "H W")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    encoded = buffer.getvalue()
    self._board(stage).picture(step, name, image.shape[:2], encoded)

  def video(
    self, stage: str, step: int, name: str, video: np.ndarray, fps: float
  ) -> None:
    """Records a video, uint8 [T, H, W, 3], as a GIF, which loops in the page.

    TensorBoard shows an animated GIF wherever it shows an image, and Pillow
    writes one, where tensorboardX's own add_video needs moviepy.
    """
    _check_pixels(name, video, "T H W")
    frames = [Image.fromarray(frame) for frame in video]
    # A GIF counts in 10 ms, and browsers slow down what is faster than 20 ms.
    milliseconds = max(20, round(100 / fps) * 10)
    buffer = io.BytesIO()
    frames[0].save(
      buffer,
      "gif",
      save_all=True,
      append_images=frames[1:],
      duration=milliseconds,
      loop=0,
    )
    encoded = buffer.getvalue()
    self._board(stage).picture(step, name, video.shape[1:3], encoded)

  def resume(self, stage: str, step: int) -> None:
    """Forgets what `stage` recorded after `step`: it will be recorded again."""
    kept = []
    for text in _whole_lines(self._path):
      line = json.loads(text)
      if line["stage"] != stage or line["step"] <= step:
        kept.append(text)
    self._file.close()
    self._rewrite(kept)
    self._board(stage).forget(step)

  def close(self) -> None:
    """Writes what is still in a buffer; the writer cannot be used after it."""
    self._file.close()
    for board in self._boards.values():
      board.close()

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *unused_error: object) -> None:
    self.close()

  def _rewrite(self, lines: list[str]) -> None:
    """Replaces the file in one step and opens it for appending."""
    text = "".join(line + "\n" for line in lines)
    # Only if anything goes: another process, training while this one samples,
    # may have the file open and would write on into the replaced one.
    if text != self._path.read_text():
      temporary = self._path.with_suffix(".tmp")
      temporary.write_text(text)
      os.replace(temporary, self._path)
    self._file = self._path.open("a", buffering=1)  # One line at a time.

  def _board(self, stage: str) -> boards.Board:
    if stage not in self._boards:
      # Not before: it takes seconds where PyTorch is installed.
      from sora_jax.utils import boards

      self._boards[stage] = boards.Board(self._workdir / "tb" / stage)
    return self._boards[stage]


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """The lines of a `metrics.jsonl`, without one that was never finished.

  Raises:
    ValueError: for a finished line that is not JSON, naming it.
  """
  path = pathlib.Path(path)
  lines = []
  for number, text in enumerate(_whole_lines(path), start=1):
    try:
      line = json.loads(text)
    except json.JSONDecodeError as error:
      raise ValueError(
        f"{path}:{number} is not JSON: {text[:80]!r}. Delete that line."
      ) from error
    numbers = {
      name: _NOT_FINITE[value]
      for name, value in line.items()
      if name not in RESERVED and value in _NOT_FINITE
    }
    lines.append(line | numbers)
  return lines


def _whole_lines(path: pathlib.Path) -> list[str]:
  """Lines that end: the last one, if torn, is what a kill left of a write."""
  return path.read_text().split("\n")[:-1]


def _check_pixels(name: str, pixels: np.ndarray, axes: str) -> None:
  good = pixels.ndim == len(axes.split()) + 1 and pixels.shape[-1] == 3
  if not good or pixels.dtype != np.uint8 or 0 in pixels.shape:
    raise ValueError(
      f"{name!r} has to be uint8 [{axes} 3], not {pixels.dtype}"
      f" {list(pixels.shape)}."
    )


class Progress:
  """How far a loop is: a bar on a terminal, else a line now and then.

  Args:
    total_steps: the last step; None if unknown.
    label: what is progressing.
    start: the step at which this session starts.
  """

  def __init__(self, total_steps: int | None, label: str, start: int = 0):
    self._total = total_steps
    self._label = label
    self._step = start
    self._shown: dict[str, Any] = {}
    self._first: tuple[int, float] | None = None
    self._last_line = time.monotonic()
    self._said = start
    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    self._bar = (
      tqdm.tqdm(
        total=total_steps, desc=label, initial=start, dynamic_ncols=True
      )
      if terminal
      else None
    )

  def update(self, step: int, **shown: Any) -> None:
    """Moves to `step` and shows values by name, e.g. loss=0.1."""
    now = time.monotonic()
    if self._first is None:
      # From here on, because the first step also compiles.
      self._first = (step, now)
    moved, self._step, self._shown = step - self._step, step, shown
    if self._bar is not None:
      self._bar.set_postfix_str(self._values(), refresh=False)
      self._bar.update(moved)
    elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
      self._say(now)

  def close(self) -> None:
    """Leaves the last state on the screen."""
    if self._bar is not None:
      self._bar.close()
    elif self._step != self._said:
      self._say(time.monotonic())

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *unused_error: object) -> None:
    self.close()

  def _values(self) -> str:
    return " ".join(f"{k}={cell(v)}" for k, v in self._shown.items())

  def _say(self, now: float) -> None:
    self._last_line = now
    self._said = self._step
    parts = [self._label, f"{self._step}"]
    if self._total:
      parts[1] += f"/{self._total} ({self._step / self._total:.0%})"
    if self._shown:
      parts.append(self._values())
    if eta := self._eta(now):
      parts.append(f"ETA {eta}")
    say(" ".join(parts))

  def _eta(self, now: float) -> str | None:
    """The time left at the pace since the first step; None if unknown."""
    if self._total is None or self._first is None:
      return None
    step, then = self._first
    if self._step <= step or self._step >= self._total:
      return None
    return hms((self._total - self._step) * (now - then) / (self._step - step))
