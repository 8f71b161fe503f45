"""Media files: what is written comes back, at the right time, or not at all."""

import os
import resource
import struct

import av
import numpy as np
import pytest
from PIL import Image

from sora_jax.utils import media

STEP = 10  # Grey levels between the frames of `counting`.


def scene(frames, height=48, width=64):
  """Smooth moving colours, which survive compression."""
  t, y, x = np.ogrid[:frames, :height, :width]
  waves = [np.sin((x + 2 * t) / 19), np.cos((y - t) / 17), np.sin((x + y) / 23)]
  waves = [np.broadcast_to(w, (frames, height, width)) for w in waves]
  return (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def counting(frames, size=32):
  """A clip whose frames say which one they are, by their grey level."""
  levels = (np.arange(frames) * STEP).astype(np.uint8)
  return np.broadcast_to(
    levels[:, None, None, None], (frames, size, size, 3)
  ).copy()


def indices(video):
  return (video.mean(axis=(1, 2, 3)) / STEP).round().astype(int).tolist()


def psnr(a, b):
  error = np.mean((a.astype(float) - b.astype(float)) ** 2)
  return np.inf if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 63), (1, 1)])
def test_mp4_round_trip(tmp_path, size):
  video = scene(9, *size)
  media.write(tmp_path / "a.mp4", video, fps=8)
  back, fps = media.read(tmp_path / "a.mp4")
  assert back.shape == video.shape and back.dtype == np.uint8 and fps == 8
  assert psnr(video, back) > 38


@pytest.mark.parametrize("fps", [23.976, 24000 / 1001, 12.5, 29.97, 60])
def test_mp4_frame_rates_are_exact(tmp_path, fps):
  media.write(tmp_path / "a.mp4", counting(7), fps)
  info = media.probe(tmp_path / "a.mp4")
  assert (info.frames, info.height, info.width) == (7, 32, 32)
  assert info.fps == fps
  assert info.seconds == pytest.approx(7 / fps)


def test_colours_are_right_and_tagged(tmp_path):
  video = np.zeros((2, 32, 64, 3), np.uint8)
  for i, colour in enumerate(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (99,) * 3]
  ):
    video[:, :, 16 * i : 16 * (i + 1)] = colour
  media.write(tmp_path / "a.mp4", video, 8)
  back, _ = media.read(tmp_path / "a.mp4")
  centres = slice(8, 64, 16)
  assert (
    np.abs(video[:, 8, centres].astype(int) - back[:, 8, centres]).max() < 4
  )
  with av.open(str(tmp_path / "a.mp4")) as container:
    assert next(container.decode(video=0)).colorspace == 1  # BT.709


def test_gif_round_trip(tmp_path):
  video = counting(6)
  media.write(tmp_path / "a.gif", video, fps=12.5)
  back, fps = media.read(tmp_path / "a.gif")
  assert fps == 12.5 and psnr(video, back) > 40


@pytest.mark.parametrize("fps", [30, 7, 50])
def test_gif_keeps_its_length_at_any_rate(tmp_path, fps):
  media.write(tmp_path / "a.gif", counting(20), fps)
  assert media.probe(tmp_path / "a.gif").seconds == pytest.approx(
    20 / fps, abs=0.006
  )
  back, _ = media.read(tmp_path / "a.gif", fps=fps)
  assert indices(back) == list(range(20))


def test_gif_merges_equal_frames_and_resampling_restores_them(tmp_path):
  video = counting(4).repeat(3, axis=0)
  media.write(tmp_path / "a.gif", video, fps=10)
  assert media.probe(tmp_path / "a.gif").frames < 12
  back, _ = media.read(tmp_path / "a.gif", fps=10)
  assert indices(back) == indices(video)


@pytest.mark.parametrize("suffix", ["mp4", "gif", "png"])
def test_metadata_round_trip(tmp_path, suffix):
  path, metadata = (
    tmp_path / f"a.{suffix}",
    {"prompt": "a né ☃ cat", "seed": "3"},
  )
  media.write(path, scene(1), 8, metadata)
  assert metadata.items() <= media.read_metadata(path).items()
  media.write(path, scene(1), 8)
  assert not metadata.keys() & media.read_metadata(path).keys()


def test_foreign_gif_comment(tmp_path):
  image = Image.new("P", (8, 8))
  for comment in (b"made by hand", b"{not json"):
    image.save(tmp_path / "a.gif", comment=comment)
    entries = media.read_metadata(tmp_path / "a.gif")
    assert entries == {"comment": comment.decode()}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif"])
@pytest.mark.parametrize("fps", [4, 8, 20, 5.7])
def test_resampling_shows_the_frame_of_its_time(tmp_path, suffix, fps):
  """Frame j of the result is what a player shows at start + j / fps."""
  frames, native = 20, 8
  path = tmp_path / f"a.{suffix}"
  if suffix == "mkv":
    encode(path, counting(frames), native)
  else:
    media.write(path, counting(frames), native)
  for start in (0.0, 0.6, 1.3):
    count = int(np.ceil((frames / native - start) * fps - 1e-6))
    wanted = [int((start + j / fps) * native + 0.05) for j in range(count)]
    back, rate = media.read(path, start=start, fps=fps)
    assert rate == fps and indices(back) == wanted
    assert indices(media.read(path, start, 3, fps)[0]) == wanted[:3]


def test_windows_as_stored_begin_with_the_frame_on_screen(tmp_path):
  media.write(tmp_path / "a.mp4", counting(20), fps=10)
  for start, first in ((0, 0), (0.3, 3), (0.39, 3), (1.9, 19)):
    back, fps = media.read(tmp_path / "a.mp4", start=start, frames=4)
    assert fps == 10
    assert indices(back) == list(range(20))[first : first + 4]


def encode(path, video, fps, **x264):
  """An h264 file with x264's own options."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=fps)
    stream.height, stream.width = video.shape[1:3]
    stream.pix_fmt = "yuv420p"
    params = ":".join(f"{key}={value}" for key, value in x264.items())
    stream.options = {"crf": "10", "x264-params": params}
    for frame in video:
      frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


@pytest.mark.parametrize("open_gop", [0, 1])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_seeking_between_keyframes_is_exact(tmp_path, suffix, open_gop):
  path = tmp_path / f"a.{suffix}"
  options = {"keyint": 12, "min-keyint": 12, "bframes": 3, "scenecut": 0}
  encode(path, scene(75), 25, **options, **{"open-gop": open_gop})
  whole, _ = media.read(path)
  assert len(whole) == 75
  for first in range(75):
    window, _ = media.read(path, start=first / 25, frames=2)
    np.testing.assert_array_equal(window, whole[first : first + 2])


def test_rotated_video_is_read_upright(tmp_path):
  """The display matrix of a quarter turn, as phones write it."""
  video = scene(3)
  video[:, :24, :32] = 255
  media.write(tmp_path / "a.mp4", video, 8)
  data = bytearray((tmp_path / "a.mp4").read_bytes())
  matrix = data.index(b"tkhd") + 4 + 40  # After version, times, volume.
  one = 1 << 16
  turn = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)  # 90 degrees clockwise.
  data[matrix : matrix + 36] = struct.pack(">9i", *turn)
  (tmp_path / "b.mp4").write_bytes(data)
  upright, _ = media.read(tmp_path / "b.mp4")
  plain, _ = media.read(tmp_path / "a.mp4")
  np.testing.assert_array_equal(upright, np.rot90(plain, -1, axes=(1, 2)))
  info = media.probe(tmp_path / "b.mp4")
  assert (info.height, info.width) == (64, 48)


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg"])
def test_an_image_is_one_frame(tmp_path, suffix):
  image = scene(1)[0]
  Image.fromarray(image).save(tmp_path / f"a.{suffix}")
  video, fps = media.read(tmp_path / f"a.{suffix}", start=2, frames=5, fps=7)
  assert video.shape == (1, 48, 64, 3) and fps == 7
  assert psnr(image, video[0]) > 30
  info = media.probe(tmp_path / f"a.{suffix}")
  assert info == media.Info(1, 1.0, 1.0, 48, 64)


def test_bytes_are_read_as_a_file(tmp_path):
  media.write(tmp_path / "a.mp4", counting(5), 8)
  media.write(tmp_path / "a.png", counting(1), 8)
  data = (tmp_path / "a.mp4").read_bytes()
  assert indices(media.read(data)[0]) == list(range(5))
  assert media.probe(data) == media.probe(tmp_path / "a.mp4")
  assert media.read((tmp_path / "a.png").read_bytes())[0].shape[0] == 1


def audio_only(path):
  with av.open(str(path), "w", format="mp4") as container:
    stream = container.add_stream("aac", rate=8000)
    silence = np.zeros((1, 8000), np.float32)
    frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
    frame.rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def test_undecodable_files_name_themselves(tmp_path):
  media.write(tmp_path / "good.mp4", scene(20), 8)
  good = (tmp_path / "good.mp4").read_bytes()
  (tmp_path / "empty.mp4").write_bytes(b"")
  (tmp_path / "text.mp4").write_text("I am a caption, not a video.")
  (tmp_path / "text.png").write_text("I am a caption, not an image.")
  (tmp_path / "broken.gif").write_bytes(b"GIF89a\x00\x00")
  (tmp_path / "short.mp4").write_bytes(good[: len(good) // 4])
  audio_only(tmp_path / "sound.mp4")
  for path in sorted(tmp_path.iterdir()):
    if path.name == "good.mp4":
      continue
    for function in (media.read, media.probe):
      with pytest.raises(media.Undecodable, match=path.name):
        function(path)
  with pytest.raises(media.Undecodable, match=r"no frame at 9"):
    media.read(tmp_path / "good.mp4", start=9)
  with pytest.raises(FileNotFoundError):
    media.read(tmp_path / "absent.mp4")


def test_damage_inside_a_stream_is_noticed(tmp_path):
  """A few bytes inside one frame: decoders conceal that, and go on."""
  path = tmp_path / "a.mp4"
  media.write(path, scene(20, 96, 128), 8)
  data, noticed = path.read_bytes(), 0
  for place in np.linspace(len(data) // 2, len(data) * 0.9, 10).astype(int):
    path.write_bytes(data[:place] + bytes(4) + data[place + 4 :])
    try:
      media.read(path)
    except media.Undecodable as error:
      assert "a.mp4" in str(error)
      noticed += 1
  assert noticed >= 7


@pytest.mark.parametrize(
  "video, message",
  [
    (np.zeros((2, 8, 8, 3), np.float32), "uint8"),
    ([[1]], "list"),
    (np.zeros((8, 8, 3), np.uint8), r"\[T, H, W, 3\]"),
    (np.zeros((0, 8, 8, 3), np.uint8), "axis T"),
    (np.zeros((2, 8, 0, 3), np.uint8), "axis W"),
    (np.zeros((2, 8, 8, 4), np.uint8), "RGB"),
  ],
)
def test_what_cannot_be_written_is_named(tmp_path, video, message):
  with pytest.raises(ValueError, match=message):
    media.write(tmp_path / "a.mp4", video, 8)
  assert not list(tmp_path.iterdir())


def test_arguments_are_checked(tmp_path):
  video = scene(2)
  for path, fps, message in (
    ("a.avi", 8, r"\.mp4"),
    ("a.png", 8, "axis T is 2"),
    ("a.mp4", 0, "fps=0"),
    ("a.gif", 60, r"\(0, 50\]"),
  ):
    with pytest.raises(ValueError, match=message):
      media.write(tmp_path / path, video, fps)
  media.write(tmp_path / "a.mp4", video, 8)
  for kwargs in ({"start": -1}, {"frames": 0}, {"fps": 0}):
    with pytest.raises(ValueError, match="start >= 0"):
      media.read(tmp_path / "a.mp4", **kwargs)


def test_a_growing_file_plays_as_far_as_it_has_come(tmp_path):
  path, clip = tmp_path / "a.growing.mp4", scene(29)
  with media.growing(path, 8.0) as add:
    for start, end in ((0, 9), (9, 21), (21, 29)):
      add(clip[start:end])
      got, fps = media.read(path)
      # How long the last frame stays is known when the next one comes.
      assert len(got) == end - 1 and fps == 8.0
  got, _ = media.read(path)
  assert got.shape == clip.shape and psnr(got, clip) > 38


@pytest.fixture
def full():
  """Calls on which no file may have more than so many bytes."""
  _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
@pytest.mark.parametrize("suffix", ["mp4", "gif", "png"])
def test_a_full_disk_leaves_what_was_there(tmp_path, full, suffix, share):
  clip = scene(1 if suffix == "png" else 9)
  whole, path = (tmp_path / f"{name}.{suffix}" for name in "ab")
  media.write(whole, clip, 8)
  media.write(path, scene(1), 8)
  size, before = whole.stat().st_size, path.read_bytes()
  full(int(size * share) - 1)
  with pytest.raises(OSError):
    media.write(path, clip, 8)
  if suffix == "mp4":
    with pytest.raises(OSError), media.writing(path, 8.0, {}) as add:
      add(clip[:5])
      add(clip[5:])
  assert path.read_bytes() == before
  assert sorted(tmp_path.iterdir()) == [whole, path]


@pytest.mark.parametrize("suffix", ["mp4", "gif", "png"])
def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch, suffix):
  path = tmp_path / f"a.{suffix}"
  media.write(path, scene(1), 8)
  before = path.read_bytes()

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    media.write(path, counting(1), 8)
  assert path.read_bytes() == before
  assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
  count = iter(range(100))
  real = av.VideoFrame.from_ndarray

  class Failing:
    @staticmethod
    def from_ndarray(*args, **kwargs):
      if next(count) == 3:
        raise MemoryError
      return real(*args, **kwargs)

  monkeypatch.setattr(av, "VideoFrame", Failing)
  with pytest.raises(MemoryError):
    media.write(tmp_path / "a.mp4", scene(9), 8)
  assert not list(tmp_path.iterdir())


def test_sheet_has_a_row_per_clip_with_all_its_pixels():
  small, long, large = counting(3, 16), counting(20, 32), counting(2, 700)
  sheet = media.sheet(
    [("a", small), ("b " * 200, long), ("", large)], columns=4
  )
  assert sheet.dtype == np.uint8 and sheet.ndim == 3
  # 16 px become 160, 32 px 160 and 700 px 234; captions come on top.
  assert sheet.shape[0] > 160 + 160 + 234
  assert sheet.shape[1] == 4 * (160 + 4)
  row = sheet[26 + 80]  # Through the middle of the first clip.
  levels = [row[164 * i + 80, 0] for i in range(3)]
  assert levels == [0, STEP, 2 * STEP]
  assert not row[:160].any() and row[160:164].all()


def test_contact_sheet_is_a_png(tmp_path):
  media.contact_sheet(tmp_path / "s.png", [("né ☃", scene(5))], columns=3)
  assert media.read(tmp_path / "s.png")[0].shape[2] == 3 * (128 + 4)
  with pytest.raises(ValueError, match="rows"):
    media.sheet([])
