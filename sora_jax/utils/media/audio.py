"""Sound in and out of media files.

AAC's encoder delays its signal by a frame of 1024 samples and fills up the last
frame. The container says how much of that to throw away, and when each frame is
heard; samples are put where those time stamps say, so that a sound comes back
at the time at which it was written, and with the length it had.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from sora_jax.utils.media.files import Path, decoding, source

# Samples per second that AAC knows, of those that make sense here.
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BITS = 4.0  # per sample and channel; AAC takes 6 at most
_FRAME = 1024  # samples


def read_audio(path: Path | bytes) -> tuple[np.ndarray, int] | None:
  """The first sound track of a file (or its bytes), whole.

  Returns:
    (audio, rate): float32 [samples], or [samples, 2] of two channels or more
    (the first two), and samples per second. Sample n is heard n / rate seconds
    after the file's start; AAC overshoots -1..1 a little, which is cut off.
    None for a file that has no sound.

  Raises:
    Undecodable: naming the file and the reason.
    FileNotFoundError: for a path that does not exist.
  """
  with decoding(path), av.open(source(path)) as container:
    if not container.streams.audio:
      return None
    stream = container.streams.audio[0]
    rate, tick = stream.rate, stream.time_base
    placed, end = [], 0
    for frame in container.decode(stream):
      wave = _wave(frame)
      first = end if frame.pts is None else round(frame.pts * tick * rate)
      # What lies before the start is the encoder's delay.
      wave, first = wave[max(0, -first) :], max(0, first)
      placed.append((first, wave))
      end = max(end, first + len(wave))
    if stream.duration is not None:
      end = min(end, round((_start(stream) + stream.duration) * tick * rate))
    channels = min(2, stream.channels)
  audio = np.zeros((end, channels), np.float32)
  for first, wave in placed:
    there = audio[first : first + len(wave)]
    there[:] = wave[: len(there), :channels]
  audio = np.clip(audio, -1, 1)
  return (audio if channels == 2 else audio[:, 0]), rate


def check(audio: np.ndarray, rate: int) -> None:
  """Raises a ValueError that names what cannot be written as sound."""
  shape, kind = np.shape(audio), np.asarray(audio).dtype.kind
  if kind != "f":
    raise ValueError(
      f"the audio is {np.asarray(audio).dtype}, it must be float in -1..1: "
      "divide integer samples by their range"
    )
  if len(shape) not in (1, 2) or shape[1:] not in ((), (2,)):
    raise ValueError(
      f"the audio has shape {shape}, it must be [samples] or [samples, 2]"
    )
  if not np.all(np.abs(audio) <= 1):
    raise ValueError(
      f"the audio reaches {np.max(np.abs(audio))}, it must be finite and in "
      "-1..1: scale it down first"
    )
  if rate not in RATES:
    raise ValueError(
      f"rate={rate} samples per second, it must be one of {RATES}"
    )


def packets(container, audio: np.ndarray, rate: int) -> Iterator[av.Packet]:
  """Adds an AAC track to a container that is being written; yields its packets.

  Args:
    container: an open PyAV output, before anything is muxed.
    audio: as `check` wants it, not empty.
    rate: samples per second.
  """
  audio = np.asarray(audio, np.float32)
  audio = audio[:, None] if audio.ndim == 1 else audio
  layout = ("mono", "stereo")[audio.shape[1] - 1]
  stream = container.add_stream("aac", rate=rate, layout=layout)
  stream.bit_rate = int(_BITS * rate * audio.shape[1])
  return _encoded(stream, audio, rate, layout)


def _encoded(stream, audio, rate, layout) -> Iterator[av.Packet]:
  for first in range(0, len(audio), _FRAME):
    planes = np.ascontiguousarray(audio[first : first + _FRAME].T)
    frame = av.AudioFrame.from_ndarray(planes, "fltp", layout)
    frame.rate, frame.pts = rate, first
    yield from stream.encode(frame)
  yield from stream.encode()


def _start(stream) -> int:
  return max(0, stream.start_time or 0)


def _wave(frame: av.AudioFrame) -> np.ndarray:
  """Samples of a frame, float32 [samples, channels]."""
  wave = frame.to_ndarray()
  if not frame.format.is_planar:
    wave = wave.reshape(-1, frame.layout.nb_channels).T
  if wave.dtype.kind == "u":
    wave = wave.astype(np.float32) - 2 ** (8 * wave.itemsize - 1)
  if frame.format.name.rstrip("p") not in ("flt", "dbl"):
    wave = wave / np.float32(2 ** (8 * wave.itemsize - 1))
  return wave.T.astype(np.float32)
