"""Video and image files in and out; the only file that knows the codecs.

Time is what the file says, not what a frame counter suggests: a frame is shown
from its time stamp until the next one, so resampling to a frame rate asks which
frame is shown at start + j / fps. Containers round time stamps to their ticks
(webm: 1 ms, gif: 10 ms), hence half a tick of tolerance everywhere.

PyAV reads video, Pillow reads images; pixels are taken as square. Damage inside
a stream is noticed where the decoder marks it: mostly in h264, not in webm.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fractions
import io
import itertools
import json
import math
import os
import pathlib
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

VIDEO_EXTENSIONS = (".mp4", ".webm", ".mkv", ".gif", ".mov")
IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg")
EXTENSIONS = VIDEO_EXTENSIONS + IMAGE_EXTENSIONS

Rows = Sequence[tuple[str, np.ndarray]]  # Label and video of each.
Path = str | os.PathLike[str]
Timed = Iterator[tuple[float, av.VideoFrame | None]]


class Undecodable(ValueError):
  """A file that holds no video or image that can be decoded."""


@dataclasses.dataclass(frozen=True)
class Info:
  """What a file holds; an image is one frame at 1 frame per second.

  Attributes:
    frames: number of frames, >= 1.
    fps: mean frames per second over the time stamps, > 0.
    seconds: from the first frame until the end of the last.
    height, width: pixels, as displayed (after rotation).
  """

  frames: int
  fps: float
  seconds: float
  height: int
  width: int


def probe(path: Path | bytes) -> Info:
  """Counts and times the frames of a file (or its bytes), decoding only one.

  Raises:
    Undecodable, FileNotFoundError: as in `read`.
  """
  height, width = read(path, frames=1, fps=1.0)[0].shape[1:3]
  if _is_image(path):
    return Info(1, 1.0, 1.0, height, width)
  with _decoding(path), _open(path) as (container, stream):
    # Some packets are never shown: the last, empty one and those that an edit
    # list cuts away.
    stamps = {
      packet.pts: packet.duration
      for packet in container.demux(stream)
      if packet.pts is not None and not packet.is_discard
    }
    first, last = min(stamps), max(stamps)
    span = (last - first) * stream.time_base
    fps = (len(stamps) - 1) / span if span else stream.average_rate or 1
    rest = (stamps[last] or 0) * stream.time_base or 1 / fps
    return Info(len(stamps), float(fps), float(span + rest), height, width)


def read(
  path: Path | bytes,
  start: float = 0.0,
  frames: int | None = None,
  fps: float | None = None,
) -> tuple[np.ndarray, float]:
  """Decodes a window of a video, or an image as one frame.

  Args:
    path: a file, or the bytes of one.
    start: seconds from the first frame; the frame shown then comes first.
    frames: at most this many; fewer where the file ends, never repeated past
      its end. None reads to the end.
    fps: resample by time stamps to this rate; None keeps the frames as stored.

  Returns:
    uint8 [T, H, W, 3] and its frames per second: `fps`, or the file's mean.

  Raises:
    Undecodable: naming the file and the reason, also for a start past the end.
    FileNotFoundError: for a path that does not exist.
  """
  given = f"start={start}, frames={frames}, fps={fps}"
  if start < 0 or any(x is not None and x <= 0 for x in (frames, fps)):
    raise ValueError(f"{given}: need start >= 0, the others > 0 or None")
  with _decoding(path):
    if _is_image(path):
      return _read_image(path)[None], fps or 1.0
    with _open(path) as (container, stream):
      slack = float(stream.time_base) / 2
      timed = _timed(container, stream, start + slack)
      window = _window(timed, start, fps, slack)
      video = list(itertools.islice(window, frames))
    if not video:
      raise EOFError(f"it has no frame at {start} s or later")
    return np.stack(video), fps or probe(path).fps


def write(
  path: Path,
  video: np.ndarray,
  fps: float,
  metadata: Mapping[str, str] | None = None,
  crf: int = 18,
) -> None:
  """Writes a .mp4, .gif or (of one frame) .png; never leaves half a file.

  An mp4 is h264: yuv420p, or for odd sizes yuv444p (which some players lack),
  so that nothing is resized. A gif rounds times to 10 ms and merges equal
  neighbours into one longer frame.

  Args:
    path: the suffix decides the format; an existing file is replaced.
    video: uint8 [T, H, W, 3].
    fps: frames per second, > 0.
    metadata: kept in the file, see `read_metadata`.
    crf: h264 quality, 0 (best) to 51; 18 is visually lossless.

  Raises:
    ValueError: for an unknown suffix, or a video of the wrong type or shape.
  """
  _check_video(video)
  path, suffix = pathlib.Path(path), _suffix(path)
  if suffix not in WRITABLE:
    raise ValueError(f"cannot write {path}: end it in one of {[*WRITABLE]}")
  if not 0 < fps <= WRITABLE[suffix]:
    raise ValueError(f"fps={fps}, a {suffix} takes (0, {WRITABLE[suffix]}]")
  if suffix == ".png" and len(video) != 1:
    fix = "write a .mp4 or .gif, or use contact_sheet()"
    raise ValueError(f"axis T is {len(video)}, a png holds one frame: {fix}")
  metadata = {key: str(value) for key, value in (metadata or {}).items()}
  with _atomic(path) as temporary:
    if suffix == ".mp4":
      _write_mp4(temporary, video, fps, metadata, crf)
    elif suffix == ".gif":
      _write_gif(temporary, video, fps, metadata)
    else:
      entries = PngImagePlugin.PngInfo()
      for key, value in metadata.items():
        entries.add_itxt(key, value)
      Image.fromarray(video[0]).save(temporary, pnginfo=entries)


def read_metadata(path: Path) -> dict[str, str]:
  """The text entries of a file; those of `write` and what the format adds.

  Raises:
    Undecodable, FileNotFoundError: as in `read`.
  """
  suffix = _suffix(path)
  with _decoding(path):
    if suffix not in (".gif", *IMAGE_EXTENSIONS):
      with _open(path) as (container, _):
        return dict(container.metadata)
    with Image.open(path) as image:
      if suffix == ".png":
        return dict(image.text)
      comment = image.info.get("comment", b"").decode("utf-8", "replace")
  # `write` keeps json there; other programs, anything.
  if comment.startswith("{"):
    with contextlib.suppress(json.JSONDecodeError):
      return json.loads(comment)
  return {"comment": comment} if comment else {}


def contact_sheet(path: Path, rows: Rows, columns: int = 8) -> None:
  """Writes `sheet(rows, columns)` as one png to look at."""
  write(path, sheet(rows, columns)[None], fps=1)


def sheet(rows: Rows, columns: int = 8) -> np.ndarray:
  """One row per clip: its label above evenly spaced frames, in time order.

  Frames are scaled by whole numbers, so that pixels stay what they are: small
  ones enlarged (nearest neighbour), large ones reduced (box).

  Args:
    rows: (label, uint8 [T, H, W, 3]); sizes and lengths may differ.
    columns: frames per row; a shorter clip shows all it has.
  """
  if not rows or columns < 1:
    raise ValueError(f"a sheet needs rows and columns: {len(rows)}, {columns}")
  strips = [_strip(video, columns) for _, video in rows]
  width = max(strip.shape[1] for strip in strips)
  parts = []
  for (label, _), strip in zip(rows, strips):
    parts += [_caption(label, width), _pad_right(strip, width)]
  return np.concatenate(parts)


# What `write` knows, with the fps that each format can say; decoders slow down
# shorter gif delays.
WRITABLE = {".mp4": 1000, ".gif": 50, ".png": 1000}
# What the codecs raise; Pillow, a SyntaxError for a broken png.
_FAILURES = (av.error.FFmpegError, EOFError, OSError, SyntaxError, ValueError)
_FAILURES += (Image.DecompressionBombError,)
_BT709 = Colorspace.ITU709
_BACKGROUND = 24  # Grey level, dark enough for light text.
_GAP = 4  # Pixels between the frames of a sheet.


def _strip(video: np.ndarray, columns: int) -> np.ndarray:
  _check_video(video)
  length, height, width, _ = video.shape
  picks = np.linspace(0, length - 1, min(columns, length)).round().astype(int)
  side = max(height, width)
  grow, shrink = max(1, 160 // side), math.ceil(side / 320)
  cells = []
  for frame in video[picks]:
    cell = np.asarray(Image.fromarray(frame).reduce(shrink))
    cell = cell.repeat(grow, axis=0).repeat(grow, axis=1)
    cells.append(_pad_right(cell, cell.shape[1] + _GAP))
  return np.concatenate(cells, axis=1)


def _pad_right(image: np.ndarray, width: int) -> np.ndarray:
  missing = ((0, 0), (0, width - image.shape[1]), (0, 0))
  return np.pad(image, missing, constant_values=_BACKGROUND)


def _caption(label: str, width: int) -> np.ndarray:
  font = ImageFont.load_default(size=14)
  lines = textwrap.wrap(label, max(1, int(width / font.getlength("n"))))
  image = Image.new("RGB", (width, 18 * len(lines) + 8), (_BACKGROUND,) * 3)
  ImageDraw.Draw(image).text((2, 4), "\n".join(lines), font=font)
  return np.asarray(image)


def _suffix(path: Path) -> str:
  return pathlib.Path(path).suffix.lower()


@contextlib.contextmanager
def _decoding(path: Path | bytes) -> Iterator[None]:
  """Turns whatever the codecs raise into `Undecodable`."""
  try:
    yield
  except FileNotFoundError:
    raise
  except _FAILURES as error:
    name = f"{len(path)} bytes" if isinstance(path, bytes) else os.fspath(path)
    reason = getattr(error, "strerror", None) or str(error)
    raise Undecodable(f"cannot decode {name}: {reason}") from error


@contextlib.contextmanager
def _open(path: Path | bytes):
  """Yields the container and its first video stream."""
  file = io.BytesIO(path) if isinstance(path, bytes) else os.fspath(path)
  with av.open(file) as container:
    if not container.streams.video:
      raise ValueError("it has no video stream")
    stream = container.streams.video[0]
    # Loaders read many short clips at once: a decoder's own threads cost more
    # to start than they save.
    stream.thread_type = "NONE"
    yield container, stream


def _timed(container, stream: av.VideoStream, start: float) -> Timed:
  """Yields (seconds since the first frame, frame), then (end, None).

  The frames begin at a keyframe no later than `start`, which is then shown.
  """
  origin, tick = stream.start_time or 0, stream.time_base
  decoded = container.decode(stream)
  if start > 1:
    # Seeking compares decoding times, which run ahead of the times of showing,
    # and may land too late: aim a second early, then check.
    container.seek(origin + int((start - 1) / tick), stream=stream)
    first = next(decoded, None)
    if first and first.pts and (first.pts - origin) * tick <= start:
      decoded = itertools.chain([first], decoded)
    else:
      container.seek(origin, stream=stream)
      decoded = container.decode(stream)
  end = 0.0
  for frame in decoded:
    if frame.is_corrupt or frame.pts is None:
      raise ValueError(f"the frame after {end:.3f} s is damaged")
    time = float((frame.pts - origin) * tick)
    yield time, frame
    length = frame.duration * tick or 1 / (stream.average_rate or 1)
    end = time + float(length)
  yield end, None


def _window(timed: Timed, start: float, fps: float | None, slack: float):
  """Yields the frames shown from `start` on, at `fps` or each once."""
  shown, done = None, 0
  for time, frame in timed:
    if shown is not None:
      # `shown` is on screen until `time`: how many are due before that?
      ahead = time - slack - start
      due = ahead > 0 if fps is None else math.ceil(ahead * fps) - done
      if due > 0:
        yield from itertools.repeat(_rgb(shown), due)
        done += due
    shown = frame


def _rgb(frame: av.VideoFrame) -> np.ndarray:
  # Phones film sideways and note the rotation (degrees, anticlockwise).
  turns = round(frame.rotation / 90)
  return np.rot90(frame.to_ndarray(format="rgb24"), turns)


def _is_image(path: Path | bytes) -> bool:
  # Bytes have no name, but the video decoder reads images, too.
  return not isinstance(path, bytes) and _suffix(path) in IMAGE_EXTENSIONS


def _read_image(path: Path) -> np.ndarray:
  with Image.open(path) as image:
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _check_video(video: np.ndarray) -> None:
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
def _atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a hidden name in the same folder; it replaces `path` on success."""
  temporary = path.with_name(f".{uuid.uuid4().hex}{_suffix(path)}")
  try:
    yield temporary
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _write_mp4(path, video, fps, metadata, crf) -> None:
  # The moov box first, so that a browser plays before it has the whole file.
  options = {"movflags": "+faststart+use_metadata_tags"}
  with av.open(str(path), "w", options=options) as container:
    container.metadata.update(metadata)
    rate = fractions.Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width = video.shape[1:3]
    odd = stream.height % 2 or stream.width % 2
    stream.pix_fmt = "yuv444p" if odd else "yuv420p"
    stream.options = {"crf": str(crf)}
    # Without a tag, players guess the colours by the size of the picture.
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
    for pixels in video:
      frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
      frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=_BT709)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_gif(path, video, fps, metadata) -> None:
  first, *rest = [Image.fromarray(frame) for frame in video]
  # Rounding the times, not the steps, keeps the length right at any rate.
  stamps = np.round(np.arange(len(video) + 1) * 100 / fps) * 10
  steps = np.diff(stamps).astype(int).tolist()
  options = {"comment": json.dumps(metadata).encode()} if metadata else {}
  options |= {"duration": steps, "loop": 0, "append_images": rest}
  first.save(path, save_all=True, **options)
