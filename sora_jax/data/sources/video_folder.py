"""A folder of videos and images with captions, cut into windows.

Captions stand in any of two places, at any depth:

  metadata.jsonl   {"file_name": "clip.mp4", "text": "a cat"}, one file a line,
                   named relative to the folder of the metadata.jsonl
  clip.txt         next to clip.mp4, for files that no metadata.jsonl names

Files that cannot be decoded are left out, and said so: in the log, in
`skipped`, and as {"file", "reason"} lines of a file of one's choice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent import futures

from sora_jax.data.sources.report import Report
from sora_jax.types import Clip
from sora_jax.utils import media


class VideoFolder:
  """Windows of the videos in a folder; images are clips of one frame.

  Attributes:
    skipped: why each file that cannot be decoded was left out, by name.
  """

  def __init__(
    self,
    path: str,
    frames: int,
    fps: float,
    stride: float,
    held_out: Iterable[str] = (),
    even: bool = False,
    log: str | None = None,
  ):
    """Scans the folder, reading every file's time stamps once.

    Args:
      path: the folder; ignores what is hidden, and links to other folders.
      frames: length of a window, >= 1; a shorter file is one shorter clip.
      fps: frames per second of the clips, > 0.
      stride: seconds from one window's start to the next one's, > 0.
      held_out: files of the "test" split, named relative to `path`.
      even: whether every file of "train" comes equally often, however long: the
        windows of shorter ones are repeated.
      log: where to note files that are left out, a .jsonl file.

    Raises:
      FileNotFoundError: for a folder, or a file named in one, that is missing.
      ValueError: for captions that are missing or malformed, or a folder in
        which nothing can be used.
    """
    if frames < 1 or fps <= 0 or stride <= 0:
      raise ValueError(
        f"frames={frames}, fps={fps}, stride={stride}: all must be > 0"
      )
    if not path:
      raise ValueError(
        "no folder is given: set --config.data.path to one that holds videos "
        "and captions"
      )
    self._root = pathlib.Path(path)
    if not self._root.is_dir():
      raise FileNotFoundError(
        f"{path} is not a folder: give one that holds videos and captions"
      )
    self._frames, self._fps, self._stride = frames, fps, stride
    self._report = Report(pathlib.Path(log) if log else None)
    captions = _captions(self._root)
    self._held_out, self._even = frozenset(held_out), even
    if missing := sorted(self._held_out - set(captions)):
      raise ValueError(
        f"held_out files that are not in {path}: {_some(missing)}; name them "
        f"relative to it, as in {_some(sorted(captions))}"
      )
    self._windows = self._scan(captions)
    if not self._windows:
      raise ValueError(
        f"nothing in {path} can be used: of {len(captions)} files, "
        f"{len(self.skipped)} cannot be decoded; wanted are some of "
        f"{' '.join(media.EXTENSIONS)}"
      )

  @property
  def skipped(self) -> dict[str, str]:
    """Why each file or window that cannot be decoded is left out."""
    return self._report.reasons

  def fingerprint(self) -> str:
    """Changes with the files, their sizes, captions and windows."""
    found = [
      (w.file, (self._root / w.file).stat().st_size, w.text, w.start)
      for w in self._windows
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]

  def clips(self, split: str) -> Sequence[Clip | None]:
    """The clips of "train", or of "test": the files that are held out.

    An item is None where the window turns out to be damaged.

    Raises:
      ValueError: for another split, or one that is empty.
    """
    fixes = {"train": "hold out fewer files", "test": "name some in held_out"}
    if split not in fixes:
      raise ValueError(f"unknown split {split!r}, choose from {[*fixes]}")
    held = split == "test"
    windows = tuple(
      w for w in self._windows if (w.file in self._held_out) == held
    )
    if not windows:
      raise ValueError(
        f"the {split} split of {self._root} has no file that can be decoded: "
        f"{fixes[split]}"
      )
    if self._even and not held:
      windows = _evenly(windows)
    return _Clips(self._root, self._frames, self._fps, windows, self._report)

  def _scan(self, captions: dict[str, str]) -> list[_Window]:
    windows = []
    # Probing waits for the disk, so threads help; map keeps the order.
    with futures.ThreadPoolExecutor() as pool:
      probed = pool.map(self._probe, captions)
      for (file, text), info in zip(captions.items(), probed):
        if isinstance(info, Exception):
          self._report(file, str(info))
        else:
          windows += [_Window(file, text, s) for s in self._starts(info)]
    return windows

  def _probe(self, file: str) -> media.Info | Exception:
    try:
      return media.probe(self._root / file)
    except (media.Undecodable, OSError) as error:
      return error

  def _starts(self, info: media.Info) -> list[float]:
    """Seconds at which windows begin that the file can fill, or just 0."""
    if info.frames == 1:
      return [0.0]
    # The last frame of a window must be shown before the end. Ends are rounded
    # in the file, to 10 ms at worst.
    room = info.seconds - (self._frames - 1) / self._fps - 0.01
    count = max(1, math.ceil(room / self._stride))
    return [i * self._stride for i in range(count)]


@dataclasses.dataclass(frozen=True)
class _Window:
  file: str  # Relative to the root, with forward slashes.
  text: str
  start: float  # Seconds.


def _evenly(windows: Iterable[_Window]) -> tuple[_Window, ...]:
  """As many windows of every file as of the longest, in turn."""
  files: dict[str, list[_Window]] = {}
  for window in windows:
    files.setdefault(window.file, []).append(window)
  most = max(map(len, files.values()))
  return tuple(own[i % len(own)] for own in files.values() for i in range(most))


@dataclasses.dataclass(frozen=True)
class _Clips(Sequence):
  root: pathlib.Path
  frames: int
  fps: float
  windows: tuple[_Window, ...]
  report: Report

  def __len__(self) -> int:
    return len(self.windows)

  def __getitem__(self, index: int) -> Clip | None:
    window = self.windows[index]
    key = f"{window.file}@{window.start:.3f}"
    try:
      video, fps = media.read(
        self.root / window.file, window.start, self.frames, self.fps
      )
    except (media.Undecodable, OSError) as error:
      self.report(key, str(error))
      return None
    return Clip(video, fps, window.text, key)


def _captions(root: pathlib.Path) -> dict[str, str]:
  """The caption of every media file, by name relative to `root`, in order."""
  visible = sorted(
    name
    for name in (path.relative_to(root) for path in root.rglob("*"))
    if not any(part.startswith(".") for part in name.parts)
  )
  captions: dict[str, str] = {}
  for name in visible:
    if name.name == "metadata.jsonl":
      captions |= _metadata(root, name, captions)
  bare = []
  for name in visible:
    file, sidecar = name.as_posix(), root / name.with_suffix(".txt")
    if name.suffix.lower() in media.EXTENSIONS and file not in captions:
      if sidecar.is_file():
        captions[file] = _text(sidecar).strip()
      else:
        bare.append(file)
  if bare:
    raise ValueError(
      f"{len(bare)} files in {root} have no caption: {_some(bare)}. Write it "
      'into a metadata.jsonl, a line {"file_name": "clip.mp4", "text": "..."} '
      "per file, or into a clip.txt next to clip.mp4"
    )
  _no_orphans(root, visible, captions)
  return dict(sorted(captions.items()))


def _no_orphans(
  root: pathlib.Path, visible: list[pathlib.Path], captions: Mapping[str, str]
) -> None:
  """Raises ValueError for a sidecar whose file is missing or of no use."""
  known = {pathlib.PurePath(file).with_suffix("") for file in captions}
  others = {
    name.with_suffix(""): name for name in visible if name.suffix != ".txt"
  }
  for name in visible:
    stem = name.with_suffix("")
    about = stem.name.lower() in ("readme", "license", "notice")
    if name.suffix != ".txt" or stem in known or about:
      continue
    other = others.get(stem)
    what = f": {other.name} is no format that is read" if other else ""
    raise ValueError(
      f"{root / name} is a caption without a file{what}: give it one of "
      f"{' '.join(media.EXTENSIONS)}, or take the caption away"
    )


def _metadata(
  root: pathlib.Path, name: pathlib.Path, known: Mapping[str, str]
) -> dict[str, str]:
  """The captions of a metadata.jsonl; errors say which line is at fault."""
  captions: dict[str, str] = {}
  # Not splitlines: captions may contain the other line ends of Unicode.
  for number, line in enumerate(_text(root / name).split("\n"), start=1):
    if not line.strip():
      continue
    where = f"{root / name}:{number}"
    try:
      entry = json.loads(line)
      file, text = entry["file_name"], entry["text"]
      if not isinstance(file, str) or not isinstance(text, str):
        raise TypeError("file_name and text must be strings")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
      raise ValueError(
        f'{where}: not a line like {{"file_name": "clip.mp4", "text": "..."}}: '
        f"{error!r}"
      ) from error
    file = pathlib.Path(os.path.normpath(name.parent / file)).as_posix()
    if file.startswith(("..", "/")) or not (root / file).is_file():
      raise FileNotFoundError(
        f"{where}: there is no {file} in {root}: correct file_name, which is "
        "relative to the folder of the metadata.jsonl, or delete the line"
      )
    if file in captions or file in known:
      raise ValueError(f"{where}: {file} has a caption already: keep one")
    captions[file] = text
  return captions


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path} is not UTF-8: {error}") from error


def _some(names: Sequence[str]) -> str:
  """At most five names."""
  return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
