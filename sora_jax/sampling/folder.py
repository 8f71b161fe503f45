"""A folder of finished samples, and what makes each of them again.

Every video has a line in `samples.jsonl`, written when its files are whole. A
run that was interrupted finds there what is done already.
"""

from __future__ import annotations

import collections
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.sampling.request import Request
from sora_jax.types import joined
from sora_jax.utils import files, media

LINES = "samples.jsonl"
SHEET = 32  # videos on the contact sheet at most
FRAMES = 8  # of each, at most
# Files of more frames are not read whole: of few, that is quicker than to seek,
# and small (64 of 256 pixels are 13 MB); an hour of them would be 17 GB.
WHOLE = 64
STEERED = "steered"  # what a line says of prompts that came on the way


def index_name(index: int, repeat: int, request: Request) -> str:
  """Number, task and prompt."""
  del repeat
  slug = re.sub(r"[^a-z0-9]+", "-", joined(request.prompt).lower()).strip("-")
  return f"{index:03d}-{request.task}-{slug[:48] or 'empty'}"


def vbench_name(index: int, repeat: int, request: Request) -> str:
  """PROMPT-INDEX, as the VBench suite finds its videos (Huang et al. 2024).

  Raises:
    ValueError: for a prompt that is no file name, or an image.
  """
  del index
  if request.size[0] < 2:
    raise ValueError(
      f"sample.names='vbench' is for videos, and the size {request.size} is an "
      "image's: ask for more frames, or set sample.names='index'"
    )
  prompt = joined(request.prompt)
  if not prompt or "/" in prompt or len(prompt.encode()) > 240:
    raise ValueError(
      f"the prompt {prompt!r} cannot name a file, as sample.names='vbench' "
      "wants: shorten it, and leave slashes out"
    )
  return f"{prompt}-{repeat}"


NAMES: dict[str, Callable[[int, int, Request], str]] = {
  "index": index_name,
  "vbench": vbench_name,
}


class Samples:
  """Videos that are wanted in a folder, some of which may be there.

  Args:
    folder: is made when the first video is done.
    stems: names of the videos' files without their endings, all different.
    told: for each, what makes it: JSON-able.
    formats: endings of videos; of one frame it is a png.

  Raises:
    ValueError: for two videos of one name.
  """

  def __init__(
    self,
    folder: Path,
    stems: Sequence[str],
    told: Sequence[dict[str, Any]],
    formats: Sequence[str],
  ):
    self.folder, self._told = folder, [dict(one) for one in told]
    counts = collections.Counter(stems)
    if twice := sorted(stem for stem, count in counts.items() if count > 1):
      raise ValueError(
        f"several videos would be called {twice[0]!r}: give each prompt once, "
        "and sample.repeats for more of it"
      )
    self._names = [
      [f"{stem}.{e}" for e in (formats if t["size"][0] > 1 else ("png",))]
      for stem, t in zip(stems, told, strict=True)
    ]
    found = self._read()
    there = {tuple(line["files"]): line for line in found}
    self._done = set()
    for i, names in enumerate(self._names):
      line = there.get(tuple(names), {})
      if _recipe(line) == _recipe(self._line(i)):
        self._told[i] |= {k: v for k, v in line.items() if k == STEERED}
        self._done.add(i)
    ours = {name for names in self._names for name in names}
    self._others = [line for line in found if not ours & set(line["files"])]

  @property
  def missing(self) -> list[int]:
    """Which videos are not there, or were made otherwise."""
    return [i for i in range(len(self._told)) if i not in self._done]

  def files(self, index: int) -> list[Path]:
    """Of a video, one in each format."""
    return [self.folder / name for name in self._names[index]]

  def begin(self) -> None:
    """Makes the folder; of its lines those stay that are still right.

    Videos that are not wanted now, and in nobody's way, stay as well; halves of
    videos, of runs that were killed, do not.
    """
    self.folder.mkdir(parents=True, exist_ok=True)
    media.tidy(self.folder)
    self._write(sorted(self._done))

  def done(self, index: int, **more: Any) -> None:
    """The files of a video are whole: its line is written, with what is new."""
    self._told[index].update(more)
    with (self.folder / LINES).open("a") as file:
      file.write(json.dumps(self._line(index)) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self._done.add(index)

  def end(self) -> None:
    """Brings the lines into the order of the videos.

    Raises:
      FileNotFoundError: if a file that should be there is not.
    """
    for index in range(len(self._told)):
      for path in self.files(index):
        if not _whole(path):
          raise FileNotFoundError(f"{path} is missing; sample again")
    self._write(range(len(self._told)))

  def sheet(self, given: Sequence[np.ndarray | None]) -> media.Rows:
    """The first videos with their labels, each below what it was given."""
    rows: list = []
    for index, source in enumerate(given[:SHEET]):
      told = self._told[index]
      prompt, task = joined(told["prompt"]), told["task"]
      if source is not None:
        rows.append((f"given: {prompt}", _few(source)))
      rows.append((f"{task}: {prompt}", _shown(self.files(index)[0])))
    return rows

  def _line(self, index: int) -> dict[str, Any]:
    """As JSON gives it back."""
    told = json.loads(json.dumps(self._told[index]))
    return {"files": self._names[index], **told}

  def _read(self) -> list[dict[str, Any]]:
    """Lines whose files are there; a half-written last one says nothing."""
    path, out = self.folder / LINES, []
    # Not splitlines: prompts may contain the other line ends of Unicode.
    for text in path.read_text().split("\n") if path.is_file() else ():
      try:
        line = json.loads(text)
      except json.JSONDecodeError:
        continue
      if all(_whole(self.folder / name) for name in line["files"]):
        out.append(line)
    return out

  def _write(self, indices: Iterable[int]) -> None:
    """The lines of other videos, and of these of ours."""
    lines = [*self._others, *map(self._line, indices)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    files.write_text(self.folder / LINES, text)


def _recipe(line: Mapping[str, Any]) -> dict[str, Any]:
  """What of a line is asked for: not what was said, nor where sources lie."""
  return {k: v for k, v in line.items() if k not in (STEERED, "paths")}


def _whole(path: Path) -> bool:
  return path.is_file() and path.stat().st_size > 0


def _some(length: int) -> np.ndarray:
  """Which frames of a video are shown."""
  return np.linspace(0, length - 1, min(length, FRAMES)).round().astype(int)


def _few(video: np.ndarray) -> np.ndarray:
  """A copy of some frames, so that a long video need not be held."""
  return video[_some(len(video))].copy()


def _shown(path: Path) -> np.ndarray:
  """Some frames of a file, in memory that does not grow with its length.

  Those of a gif, which was held whole to be written, have no even times at
  which to find them.
  """
  info = media.probe(path)
  if info.frames <= WHOLE or path.suffix != ".mp4":
    return _few(media.read(path)[0])
  return np.concatenate(
    [
      media.read(path, start=i / info.fps, frames=1, fps=info.fps)[0]
      for i in _some(info.frames)
    ]
  )
