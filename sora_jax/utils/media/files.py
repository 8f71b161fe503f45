"""What the readers and writers of media files share: names, errors, safety."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import uuid
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image

VIDEO_EXTENSIONS = (".mp4", ".webm", ".mkv", ".gif", ".mov")
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg")
EXTENSIONS = VIDEO_EXTENSIONS + IMAGE_EXTENSIONS

Path = str | os.PathLike[str]
# What the codecs raise; Pillow, a SyntaxError for a broken png.
_FAILURES = (av.error.FFmpegError, EOFError, OSError, SyntaxError, ValueError)
_FAILURES += (Image.DecompressionBombError,)


class Undecodable(ValueError):
  """A file that holds no video or image that can be decoded."""


def suffix_of(path: Path) -> str:
  """The suffix in lower case, with its dot."""
  return pathlib.Path(path).suffix.lower()


@contextlib.contextmanager
def decoding(path: Path | bytes) -> Iterator[None]:
  """Turns whatever the codecs raise into `Undecodable`."""
  try:
    yield
  except FileNotFoundError:
    raise
  except _FAILURES as error:
    name = f"{len(path)} bytes" if isinstance(path, bytes) else os.fspath(path)
    reason = getattr(error, "strerror", None) or str(error)
    raise Undecodable(f"cannot decode {name}: {reason}") from error


def source(path: Path | bytes) -> str | io.BytesIO:
  """What the codecs open: a name, or bytes as a file."""
  return io.BytesIO(path) if isinstance(path, bytes) else os.fspath(path)


def check_video(video: np.ndarray) -> None:
  """Raises a ValueError that names the axis at fault."""
  dtype, shape = getattr(video, "dtype", type(video)), np.shape(video)
  if dtype != np.uint8:
    raise ValueError(
      f"the video is {dtype}, it must be uint8: scale to 0..255 and round first"
    )
  if len(shape) != 4:
    raise ValueError(f"the video has shape {shape}, it must be [T, H, W, 3]")
  for axis, size in zip("THW", shape):
    if size < 1:
      raise ValueError(f"axis {axis} of the video {shape} is empty")
  if shape[3] != 3:
    raise ValueError(f"the last axis (RGB) of the video {shape} must be 3")


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a hidden name in the same folder; it replaces `path` on success."""
  writer = f".{_machine()}-{os.getpid()}"
  temporary = path.with_name(f"{writer}-{uuid.uuid4().hex}{suffix_of(path)}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def tidy(folder: pathlib.Path) -> None:
  """Removes what `atomic` left in processes that were killed.

  Only where the process can be seen to be gone: files of other machines stay,
  and those of a number that another process has now.
  """
  for path in folder.glob(f".{_machine()}-*-{'[0-9a-f]' * 32}.*"):
    try:
      os.kill(int(path.name.split("-")[-2]), 0)  # no signal, only the question
    except ProcessLookupError:
      path.unlink(missing_ok=True)
    except PermissionError:  # it lives, and is somebody else's
      continue


def _machine() -> str:
  """Where a process number means the same: a host, or a container on it."""
  space = pathlib.Path("/proc/self/ns/pid")
  inside = space.stat().st_ino if space.exists() else 0
  return f"{socket.gethostname()}-{inside}"
