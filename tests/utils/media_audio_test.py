"""Sound in media files: it comes back at its time, or is refused."""

import av
import numpy as np
import pytest
from scipy import signal

from sora_jax.utils import media

VIDEO = np.zeros((16, 32, 32, 3), np.uint8)
FPS = 8.0


def knocks(rate, times=(0.0, 0.3001, 0.7777, 1.5), seconds=2.0):
  """Damped tones, each of another pitch."""
  n = np.arange(round(rate * seconds)) / rate
  wave = np.zeros(len(n))
  for k, start in enumerate(times):
    s = np.maximum(n - start, 0)
    tone = np.sin(2 * np.pi * (300 + 170 * k) * s) * np.exp(-s / 0.05)
    wave += np.where(n >= start, 0.3 * tone, 0)
  return wave.astype(np.float32)


def shift(audio, back):
  """Samples by which `back` is late."""
  match = signal.correlate(back, audio, "full", "fft")
  return int(np.argmax(match)) - len(audio) + 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_onsets_come_back_on_time(tmp_path, rate, channels):
  mono = knocks(rate)
  audio = mono if channels == 1 else np.stack([mono, mono[::-1]], 1)
  path = tmp_path / "a.mp4"
  media.write(path, VIDEO, FPS, audio=audio, rate=rate)
  back, found = media.read_audio(path)
  assert found == rate and back.dtype == np.float32
  assert back.shape == audio.shape
  for sent, got in zip(np.atleast_2d(audio.T), np.atleast_2d(back.T)):
    assert abs(shift(sent, got)) <= 0.0002 * rate
    assert np.sum((sent - got) ** 2) < 0.03 * np.sum(sent**2)
  # Between the knocks it is silent: 2 ms before an onset, too.
  first = np.abs(np.atleast_2d(back.T)[0])
  before = first[round(0.6 * rate) : round(0.7757 * rate)]
  assert before.max() < 0.1 * first.max()


@pytest.mark.parametrize("samples", [1, 480, 1024, 12_345, 40_000])
def test_length_is_what_it_was(tmp_path, samples):
  audio = np.full(samples, 0.1, np.float32)
  media.write(tmp_path / "a.mp4", VIDEO, FPS, audio=audio, rate=16_000)
  assert len(media.read_audio(tmp_path / "a.mp4")[0]) == samples


def test_sound_leaves_the_pictures_and_the_metadata_alone(tmp_path):
  video = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.full_like(
    VIDEO, 10
  )
  told = {"prompt": "a knock"}
  media.write(tmp_path / "a.mp4", video, FPS, told)
  media.write(
    tmp_path / "b.mp4", video, FPS, told, audio=knocks(8000), rate=8000
  )
  (a, _), (b, fps) = (media.read(tmp_path / f"{n}.mp4") for n in "ab")
  np.testing.assert_array_equal(a, b)
  assert fps == FPS and media.probe(tmp_path / "b.mp4").frames == 16
  assert media.read_metadata(tmp_path / "b.mp4")["prompt"] == "a knock"


def test_bytes_silent_files_and_no_samples(tmp_path):
  path = tmp_path / "a.mp4"
  media.write(path, VIDEO, FPS, audio=knocks(8000), rate=8000)
  from_bytes, _ = media.read_audio(path.read_bytes())
  np.testing.assert_array_equal(from_bytes, media.read_audio(path)[0])
  media.write(path, VIDEO, FPS, audio=np.zeros(0, np.float32), rate=8000)
  assert media.read_audio(path) is None
  media.write(path, VIDEO, FPS)
  assert media.read_audio(path) is None
  path.write_bytes(b"no media")
  with pytest.raises(media.Undecodable, match=r"a\.mp4"):
    media.read_audio(path)
  with pytest.raises(FileNotFoundError):
    media.read_audio(tmp_path / "absent.mp4")


def test_foreign_sound_is_scaled_and_placed(tmp_path):
  """16-bit samples of a file without pictures."""
  path = tmp_path / "a.wav"
  wave = (knocks(8000) * 32767).astype(np.int16)
  with av.open(str(path), "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    frame = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
    frame.rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())
  back, rate = media.read_audio(path)
  assert rate == 8000
  np.testing.assert_allclose(back, wave / 32768, atol=1e-6)


@pytest.mark.parametrize(
  "name, audio, rate, message",
  [
    ("a.gif", knocks(8000), 8000, r"\.gif holds no sound: write a \.mp4"),
    ("a.png", knocks(8000), 8000, r"\.png holds no sound"),
    ("a.mp4", knocks(8000), 0, "rate=0.*16000"),
    ("a.mp4", knocks(8000), 12345, "rate=12345"),
    ("a.mp4", np.zeros(9, np.int16), 8000, "int16.*float"),
    ("a.mp4", np.zeros((2, 900)), 8000, r"\(2, 900\).*\[samples, 2\]"),
    ("a.mp4", np.full(9, 1.5), 8000, "1.5.*-1..1"),
    ("a.mp4", np.full(9, np.nan), 8000, "nan.*finite"),
  ],
)
def test_what_cannot_be_written_is_named(tmp_path, name, audio, rate, message):
  with pytest.raises(ValueError, match=message):
    media.write(tmp_path / name, VIDEO[:1], FPS, audio=audio, rate=rate)
  assert not list(tmp_path.iterdir())
