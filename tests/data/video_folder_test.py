"""Folders of clips: what is found, how it is cut, how faults are reported."""

import json
import math
import pathlib
import pickle
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from sora_jax.data.sources.video_folder import VideoFolder
from sora_jax.utils import media

CLIPS = pathlib.Path(__file__).parents[2].parent / "shared" / "clips"
WINDOW = {"frames": 5, "fps": 8.0, "stride": 0.5}


def counting(frames):
  levels = (np.arange(frames) * 8).astype(np.uint8)
  return np.broadcast_to(levels[:, None, None, None], (frames, 16, 24, 3))


def add(path, frames=20, fps=8, text=None):
  """Writes a clip, with a sidecar caption if any."""
  path.parent.mkdir(parents=True, exist_ok=True)
  media.write(path, counting(frames).copy(), fps)
  if text is not None:
    path.with_suffix(".txt").write_text(text)


def metadata(folder, *entries):
  lines = [
    json.dumps(e, ensure_ascii=False) if isinstance(e, dict) else e
    for e in entries
  ]
  (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def entry(name, text="a caption"):
  return {"file_name": name, "text": text}


def indices(clip):
  return (clip.video.mean(axis=(1, 2, 3)) / 8).round().astype(int).tolist()


@pytest.fixture
def folder(tmp_path):
  """Nested folders, both kinds of captions, a short clip and an image."""
  root = tmp_path / "data"
  add(root / "b.mp4", text="sidecar\n")
  add(root / "deep" / "er" / "a.gif", frames=3)
  metadata(root / "deep", entry("er/a.gif", "né\u2028☃"))
  Image.new("RGB", (9, 7), (10, 20, 30)).save(root / "deep" / "still.png")
  (root / "deep" / "still.txt").write_text("an image")
  add(root / ".cache" / "hidden.mp4")
  return root


def test_windows_captions_and_order(folder):
  clips = VideoFolder(str(folder), **WINDOW).clips("train")
  # 20 frames at 8 per second are 2.5 s; a window of 5 frames is 0.625 s.
  starts = ["0.000", "0.500", "1.000", "1.500"]
  assert [clip.key for clip in clips] == [
    *(f"b.mp4@{start}" for start in starts),
    "deep/er/a.gif@0.000",
    "deep/still.png@0.000",
  ]
  texts = [clip.text for clip in clips]
  assert texts == ["sidecar"] * 4 + ["né\u2028☃", "an image"]
  assert [indices(clips[i])[0] for i in range(4)] == [0, 4, 8, 12]
  assert all(clip.fps == 8 for clip in clips)
  assert all(len(clips[i].video) == 5 for i in range(4))
  # Shorter than a window: what there is. An image: one frame.
  assert indices(clips[4]) == [0, 1, 2]
  assert clips[5].video.tolist() == [[[[10, 20, 30]] * 9] * 7]


@pytest.mark.parametrize(
  "frames, count", [(4, 1), (5, 1), (8, 1), (9, 2), (13, 3)]
)
def test_every_window_but_a_lone_one_is_full(tmp_path, frames, count):
  add(tmp_path / "a.mp4", frames=frames, text="x")
  clips = VideoFolder(str(tmp_path), **WINDOW).clips("train")
  assert [len(clip.video) for clip in clips] == [min(5, frames)] * count


def test_windows_are_resampled(folder):
  clips = VideoFolder(str(folder), frames=4, fps=4.0, stride=9).clips("train")
  assert indices(clips[0]) == [0, 2, 4, 6] and clips[0].fps == 4
  # One frame per window: an image is still one clip, not one per stride.
  clips = VideoFolder(str(folder), frames=1, fps=4.0, stride=0.25).clips(
    "train"
  )
  assert sum(clip.key.startswith("deep/still") for clip in clips) == 1


def test_reading_is_deterministic_threaded_and_pickles(folder):
  clips = VideoFolder(str(folder), **WINDOW).clips("train")
  again = pickle.loads(pickle.dumps(VideoFolder(str(folder), **WINDOW)))
  with futures.ThreadPoolExecutor(8) as pool:
    items = list(pool.map(again.clips("train").__getitem__, [*range(6)] * 4))
  for i, item in enumerate(items):
    assert item.key == clips[i % 6].key
    np.testing.assert_array_equal(item.video, clips[i % 6].video)


def test_held_out_files_are_the_test_split(folder):
  source = VideoFolder(str(folder), **WINDOW, held_out=["deep/er/a.gif"])
  assert [c.key for c in source.clips("test")] == ["deep/er/a.gif@0.000"]
  train = [c.key for c in source.clips("train")]
  assert len(train) == 5 and "deep/er/a.gif@0.000" not in train
  with pytest.raises(
    ValueError, match=r"'valid', choose from .*'train', 'test'"
  ):
    source.clips("valid")
  with pytest.raises(ValueError, match="held_out"):
    VideoFolder(str(folder), **WINDOW).clips("test")
  with pytest.raises(ValueError, match=r"held_out .*a\.gif.*deep/er/a\.gif"):
    VideoFolder(str(folder), **WINDOW, held_out=["a.gif"])
  everything = ["b.mp4", "deep/er/a.gif", "deep/still.png"]
  source = VideoFolder(str(folder), **WINDOW, held_out=everything)
  with pytest.raises(ValueError, match="hold out fewer"):
    source.clips("train")


def test_evenly_every_file_comes_as_often_as_the_longest(folder):
  found = VideoFolder(str(folder), **WINDOW, even=True).clips("train")
  keys = [clip.key for clip in found]
  for origin in ("b.mp4", "deep/er/a.gif", "deep/still.png"):
    assert sum(key.startswith(origin) for key in keys) == 4
  # Of the longest each window is there once.
  assert len({k for k in keys if k.startswith("b.mp4")}) == 4
  held = VideoFolder(str(folder), **WINDOW, even=True, held_out=("b.mp4",))
  assert len(held.clips("test")) == 4


def test_undecodable_files_are_skipped_and_named(folder, tmp_path, caplog):
  good = (folder / "b.mp4").read_bytes()
  bad = {
    "empty.mp4": b"",
    "text.mp4": b"just text",
    "truncated.mp4": good[: len(good) // 3],
    "text.png": b"just text",
  }
  for name, data in bad.items():
    (folder / name).write_bytes(data)
    (folder / name).with_suffix(".txt").write_text("a caption")
  log = tmp_path / "run" / "skipped.jsonl"
  for _ in range(2):  # The second run notes nothing twice.
    source = VideoFolder(str(folder), **WINDOW, log=str(log))
    assert list(source.skipped) == sorted(bad)
    assert len(source.clips("train")) == 6
  lines = [json.loads(line) for line in log.read_text().splitlines()]
  assert [line["file"] for line in lines] == sorted(bad)
  assert all(line["reason"] for line in lines)
  for name in bad:
    assert f"skipped {name}" in caplog.text


def test_a_file_that_breaks_later_gives_none_and_is_noted_once(
  folder, tmp_path
):
  log = tmp_path / "skipped.jsonl"
  source = VideoFolder(str(folder), **WINDOW, log=str(log))
  clips = source.clips("train")
  (folder / "b.mp4").write_bytes(b"broken")
  (folder / "deep" / "still.png").unlink()
  workers = [pickle.loads(pickle.dumps(clips)) for _ in range(2)]
  for copy in (clips, *workers):
    for _ in range(2):
      assert [c is None for c in copy] == [True] * 4 + [False, True]
  files = [json.loads(line)["file"] for line in log.read_text().splitlines()]
  assert len(files) == len(set(files)) == 5
  assert "b.mp4@0.500" in files and "b.mp4@0.500" in source.skipped


def test_missing_and_empty_folders(tmp_path):
  with pytest.raises(FileNotFoundError, match="not a folder"):
    VideoFolder(str(tmp_path / "absent"), **WINDOW)
  (tmp_path / "notes.pdf").write_text("no media")
  with pytest.raises(ValueError, match=r"nothing in .* 0 files.*\.mp4"):
    VideoFolder(str(tmp_path), **WINDOW)
  (tmp_path / "a.mp4").write_text("broken")
  (tmp_path / "a.txt").write_text("caption")
  with pytest.raises(ValueError, match="of 1 files, 1 cannot be decoded"):
    VideoFolder(str(tmp_path), **WINDOW)


def test_missing_captions_list_files_and_both_forms(tmp_path):
  for i in range(7):
    add(tmp_path / f"{i}.mp4", frames=1)
  with pytest.raises(ValueError) as error:
    VideoFolder(str(tmp_path), **WINDOW)
  message = str(error.value)
  for part in ("7 files", "0.mp4", "4.mp4, ...", "metadata.jsonl", "clip.txt"):
    assert part in message
  assert "5.mp4" not in message


@pytest.mark.parametrize(
  "lines, kind, message",
  [
    ([entry("b.mp4")], FileNotFoundError, r"metadata\.jsonl:1: .*b\.mp4"),
    ([entry("../x.mp4")], FileNotFoundError, r"metadata\.jsonl:1: .*x\.mp4"),
    ([entry("a.mp4"), "", "{broken"], ValueError, r"metadata\.jsonl:3: not a"),
    ([{"file": "a.mp4"}], ValueError, r"metadata\.jsonl:1: .*file_name"),
    (["[1, 2]"], ValueError, r"metadata\.jsonl:1: not a line"),
    ([entry("a.mp4", 3)], ValueError, "must be strings"),
    ([entry("a.mp4"), entry("./a.mp4")], ValueError, ":2: a.mp4 .* already"),
  ],
)
def test_faults_in_metadata_name_the_line(tmp_path, lines, kind, message):
  add(tmp_path / "data" / "a.mp4", frames=1)
  add(tmp_path / "x.mp4", frames=1)
  metadata(tmp_path / "data", *lines)
  with pytest.raises(kind, match=message):
    VideoFolder(str(tmp_path / "data"), **WINDOW)


def test_arguments_are_checked(folder):
  for kwargs in ({"frames": 0}, {"fps": 0}, {"stride": 0}):
    with pytest.raises(ValueError, match="must be > 0"):
      VideoFolder(str(folder), **(WINDOW | kwargs))


def test_real_clips_all_yield_windows():
  if not CLIPS.is_dir():
    pytest.skip(f"needs the folder of real clips, {CLIPS}")
  source = VideoFolder(str(CLIPS), frames=17, fps=8.0, stride=1.0)
  clips = source.clips("train")
  assert not source.skipped
  names = [json.loads(line) for line in (CLIPS / "metadata.jsonl").open()]
  firsts = {}
  for i, window in enumerate(clips.windows):
    firsts.setdefault(window.file, i)
  assert set(firsts) == {entry["file_name"] for entry in names}
  assert len(firsts) == 18 and len(clips) > 100
  for file, i in firsts.items():
    clip = clips[i]
    assert clip.text and clip.key == f"{file}@0.000"
    shown = math.ceil(media.probe(CLIPS / file).seconds * 8 - 0.05)
    assert len(clip.video) == min(17, shown)


def test_a_caption_without_a_file_is_an_error(folder):
  (folder / "lost.txt").write_text("nothing to see")
  with pytest.raises(
    ValueError, match=r"lost\.txt is a caption without a file"
  ):
    VideoFolder(str(folder), **WINDOW)
  (folder / "lost.avi").write_bytes(b"RIFF")
  with pytest.raises(ValueError, match=r"lost\.avi is no format that is read"):
    VideoFolder(str(folder), **WINDOW)


def test_the_fingerprint_changes_with_the_content(folder):
  before = VideoFolder(str(folder), **WINDOW).fingerprint()
  assert VideoFolder(str(folder), **WINDOW).fingerprint() == before
  (folder / "b.txt").write_text("another caption")
  after = VideoFolder(str(folder), **WINDOW).fingerprint()
  add(folder / "c.mp4", text="more")
  assert (
    len({before, after, VideoFolder(str(folder), **WINDOW).fingerprint()}) == 3
  )
