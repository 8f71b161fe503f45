"""Video and image files in and out.

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
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageOps, PngImagePlugin

from sora_jax.utils.media import audio as sound
from sora_jax.utils.media.files import (
  IMAGE_EXTENSIONS,
  Path,
  atomic,
  check_video,
  decoding,
  source,
  suffix_of,
)

Timed = Iterator[tuple[float, av.VideoFrame | None]]
# What `write` knows, with the fps that each format can say; decoders slow down
# shorter gif delays.
WRITABLE = {".mp4": 1000, ".gif": 50, ".png": 1000}
_BT709 = Colorspace.ITU709
# The moov box first, so that a browser plays before it has the whole file.
_WHOLE = {"movflags": "+faststart+use_metadata_tags"}


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
  with decoding(path), _open(path) as (container, stream):
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
  backdrop: int = 255,
) -> tuple[np.ndarray, float]:
  """Decodes a window of a video, or an image as one frame.

  Args:
    path: a file, or the bytes of one.
    start: seconds from the first frame; the frame shown then comes first.
    frames: at most this many; fewer where the file ends, never repeated past
      its end. None reads to the end.
    fps: resample by time stamps to this rate; None keeps the frames as stored.
    backdrop: grey level, 0 to 255, behind what is transparent.

  Returns:
    uint8 [T, H, W, 3] and its frames per second: `fps`, or the file's mean.

  Raises:
    Undecodable: naming the file and the reason, also for a start past the end.
    FileNotFoundError: for a path that does not exist.
  """
  given = f"start={start}, frames={frames}, fps={fps}"
  if start < 0 or any(x is not None and x <= 0 for x in (frames, fps)):
    raise ValueError(f"{given}: need start >= 0, the others > 0 or None")
  with decoding(path):
    if _is_image(path):
      return _read_image(path, backdrop)[None], fps or 1.0
    with _open(path) as (container, stream):
      slack = float(stream.time_base) / 2
      timed = _timed(container, stream, start + slack)
      window = _window(timed, start, fps, slack, backdrop)
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
  audio: np.ndarray | None = None,
  rate: int = 0,
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
    audio: float [samples] or [samples, 2] in -1..1, kept as AAC in a .mp4; None
      or no samples, no sound. See `read_audio`.
    rate: samples per second of the audio, one of `RATES`.

  Raises:
    ValueError: for an unknown suffix, a video or audio of the wrong type or
      shape, sound in a format that has none.
  """
  check_video(video)
  path, suffix = pathlib.Path(path), suffix_of(path)
  if suffix not in WRITABLE:
    raise ValueError(f"cannot write {path}: end it in one of {[*WRITABLE]}")
  if not 0 < fps <= WRITABLE[suffix]:
    raise ValueError(f"fps={fps}, a {suffix} takes (0, {WRITABLE[suffix]}]")
  if suffix == ".png" and len(video) != 1:
    fix = "write a .mp4 or .gif, or use contact_sheet()"
    raise ValueError(f"axis T is {len(video)}, a png holds one frame: {fix}")
  if audio is not None:
    sound.check(audio, rate)
    if suffix != ".mp4":
      raise ValueError(
        f"a {suffix} holds no sound: write a .mp4, or leave audio out"
      )
  metadata = {key: str(value) for key, value in (metadata or {}).items()}
  with atomic(path) as temporary:
    if suffix == ".mp4":
      _write_mp4(temporary, video, fps, metadata, crf, audio, rate)
    elif suffix == ".gif":
      _write_gif(temporary, video, fps, metadata)
    else:
      entries = PngImagePlugin.PngInfo()
      for key, value in metadata.items():
        entries.add_itxt(key, value)
      Image.fromarray(video[0]).save(temporary, pnginfo=entries)


@contextlib.contextmanager
def writing(
  path: Path,
  fps: float,
  metadata: Mapping[str, str] | None = None,
) -> Iterator[Callable[[np.ndarray], None]]:
  """Writes an mp4 whose frames come bit by bit, in constant memory.

  Yields a function that takes uint8 [T, H, W, 3] of any T. The file has its
  name only when the block is left without an error. Arguments are those of
  `write`.
  """
  path = pathlib.Path(path)
  if suffix_of(path) != ".mp4" or not 0 < fps <= WRITABLE[".mp4"]:
    raise ValueError(
      f"{path} at {fps} frames a second: what comes bit by bit is a .mp4, with "
      f"fps in (0, {WRITABLE['.mp4']}]"
    )
  metadata = {key: str(value) for key, value in (metadata or {}).items()}
  with (
    atomic(path) as temporary,
    _mp4(temporary, fps, metadata, 18, _WHOLE) as (_, add),
  ):

    def checked(video: np.ndarray) -> None:
      check_video(video)
      add(video)

    yield checked


@contextlib.contextmanager
def growing(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
  """Writes an mp4 that plays at any time, as far as it has come.

  The newest frame shows when the next one comes; without any there is no file.
  Yields what `writing` yields. Each frame is a fragment of the file, encoded
  without waiting for the next ones, which takes more bytes.
  """
  flags = "+empty_moov+default_base_moof+frag_every_frame"
  options = {"movflags": flags, "flush_packets": "1"}
  with _mp4(path, fps, {}, 18, options, tune="zerolatency") as (_, add):
    yield add


def read_metadata(path: Path) -> dict[str, str]:
  """The text entries of a file; those of `write` and what the format adds.

  Raises:
    Undecodable, FileNotFoundError: as in `read`.
  """
  suffix = suffix_of(path)
  with decoding(path):
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


@contextlib.contextmanager
def _open(path: Path | bytes):
  """Yields the container and its first video stream."""
  with av.open(source(path)) as container:
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


def _window(
  timed: Timed, start: float, fps: float | None, slack: float, backdrop: int
):
  """Yields the frames shown from `start` on, at `fps` or each once."""
  shown, done = None, 0
  for time, frame in timed:
    if shown is not None:
      # `shown` is on screen until `time`: how many are due before that?
      ahead = time - slack - start
      due = ahead > 0 if fps is None else math.ceil(ahead * fps) - done
      if due > 0:
        yield from itertools.repeat(_rgb(shown, backdrop), due)
        done += due
    shown = frame


def _rgb(frame: av.VideoFrame, backdrop: int) -> np.ndarray:
  if any(part.is_alpha for part in frame.format.components):  # a gif
    image = Image.fromarray(frame.to_ndarray(format="rgba"))
    pixels = np.asarray(_over(image, backdrop))
  else:
    pixels = frame.to_ndarray(format="rgb24")
  # Phones film sideways and note the rotation (degrees, anticlockwise).
  return np.rot90(pixels, round(frame.rotation / 90))


def _over(image: Image.Image, backdrop: int) -> Image.Image:
  """The picture over a grey one.

  Under transparent pixels stand colours that nobody was meant to see.
  """
  behind = Image.new("RGBA", image.size, (backdrop, backdrop, backdrop, 255))
  return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _is_image(path: Path | bytes) -> bool:
  # Bytes have no name, but the video decoder reads images, too.
  return not isinstance(path, bytes) and suffix_of(path) in IMAGE_EXTENSIONS


def _read_image(path: Path, backdrop: int) -> np.ndarray:
  with Image.open(path) as image:
    image = ImageOps.exif_transpose(image)
  if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
    grey = np.clip(np.asarray(image), 0, 65535) / 257
    image = Image.fromarray(grey.round().astype(np.uint8))
  if image.has_transparency_data:
    image = _over(image, backdrop)
  return np.array(image.convert("RGB"))


def _write_mp4(path, video, fps, metadata, crf, audio, rate) -> None:
  options = _WHOLE
  if audio is not None:
    # Lengths are rounded to this clock: samples, not milliseconds.
    options = options | {"movie_timescale": str(rate)}
  with _mp4(path, fps, metadata, crf, options) as (container, add):
    # The muxer holds packets back until it has both, in the order of time.
    add(video[:0])
    if audio is not None and len(audio):
      container.mux(sound.packets(container, audio, rate))
    add(video)


@contextlib.contextmanager
def _mp4(path, fps, metadata, crf, options, **encoder):
  """An open file and what adds frames to it, of the size of the first."""
  with av.open(str(path), "w", options=options) as container:
    container.metadata.update(metadata)
    exact = fractions.Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=exact)

    def start(height: int, width: int) -> None:
      stream.height, stream.width = height, width
      stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
      stream.options = {"crf": str(crf), **encoder}
      # Without a tag, players guess the colours by the size of the picture.
      codec = stream.codec_context
      codec.colorspace = codec.color_primaries = codec.color_trc = _BT709

    def add(video: np.ndarray) -> None:
      if not stream.codec_context.is_open:
        start(*video.shape[1:3])
      if video.shape[1:3] != (stream.height, stream.width):
        raise ValueError(
          f"frames of {video.shape[1:3]} pixels in a video of "
          f"{(stream.height, stream.width)}"
        )
      for pixels in video:
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=_BT709)
        container.mux(stream.encode(frame))

    yield container, add
    container.mux(stream.encode())


def _write_gif(path, video, fps, metadata) -> None:
  first, *rest = [Image.fromarray(frame) for frame in video]
  # Rounding the times, not the steps, keeps the length right at any rate.
  stamps = np.round(np.arange(len(video) + 1) * 100 / fps) * 10
  steps = np.diff(stamps).astype(int).tolist()
  options = {"comment": json.dumps(metadata).encode()} if metadata else {}
  options |= {"duration": steps, "loop": 0, "append_images": rest}
  first.save(path, save_all=True, **options)
