"""The folder of samples: what is there, what is missing, what it is called."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from sora_jax.sampling import folder
from sora_jax.sampling.folder import LINES, NAMES, Samples
from sora_jax.sampling.request import Request
from sora_jax.utils import media

TOLD = [
  {"prompt": f"a {n}", "task": "t2v", "size": (5, 8, 8)} for n in range(3)
]
STEMS = ["one", "two", "three"]


def samples(folder, told=TOLD, stems=STEMS, formats=("mp4", "gif")):
  return Samples(folder / "samples", stems, told, formats)


def make(found, indices):
  found.begin()
  for i in indices:
    for path in found.files(i):
      media.write(path, np.full((5, 8, 8, 3), 40 * i, np.uint8), 8.0)
    found.done(i)


def lines(folder):
  text = (folder / "samples" / LINES).read_text()
  return [json.loads(line)["files"][0] for line in text.splitlines()]


def test_nothing_is_made_before_it_begins(tmp_path):
  assert samples(tmp_path).missing == [0, 1, 2]
  assert not (tmp_path / "samples").exists()


def test_what_is_done_stays_done(tmp_path):
  make(samples(tmp_path), [2, 0])
  assert lines(tmp_path) == ["three.mp4", "one.mp4"]
  again = samples(tmp_path)
  assert again.missing == [1]
  make(again, [1])
  again.end()
  assert lines(tmp_path) == ["one.mp4", "two.mp4", "three.mp4"]
  assert samples(tmp_path).missing == []


def test_another_recipe_or_a_lost_file_is_made_again(tmp_path):
  make(samples(tmp_path), [0, 1, 2])
  changed = [TOLD[0] | {"prompt": "another"}, *TOLD[1:]]
  assert samples(tmp_path, changed).missing == [0]
  samples(tmp_path).files(2)[1].unlink()
  assert samples(tmp_path, changed).missing == [0, 2]
  with pytest.raises(FileNotFoundError, match=r"three\.gif is missing"):
    samples(tmp_path).end()
  samples(tmp_path, changed).begin()  # lines that are wrong go
  assert lines(tmp_path) == ["two.mp4"]


def test_a_source_may_have_moved(tmp_path):
  told = [one | {"paths": {"source": "a.png"}} for one in TOLD]
  make(samples(tmp_path, told), [0, 1, 2])
  told = [one | {"paths": {"source": "elsewhere/a.png"}} for one in TOLD]
  moved = samples(tmp_path, told)
  assert moved.missing == []
  moved.end()
  text = (tmp_path / "samples" / LINES).read_text()
  assert text.count("elsewhere/a.png") == 3


def test_videos_that_are_in_nobodys_way_stay(tmp_path):
  make(samples(tmp_path), [0, 1, 2])
  other = samples(tmp_path, TOLD[:1], ["another"])
  make(other, [0])
  other.end()
  assert lines(tmp_path) == ["one.mp4", "two.mp4", "three.mp4", "another.mp4"]
  assert samples(tmp_path).missing == []


def test_an_empty_file_is_made_again(tmp_path):
  make(samples(tmp_path), [0, 1, 2])
  samples(tmp_path).files(1)[0].write_bytes(b"")
  assert samples(tmp_path).missing == [1]


def test_what_came_on_the_way_is_kept_and_not_compared(tmp_path):
  found = samples(tmp_path)
  make(found, [0, 1])
  found.done(2, steered=[[0, "a red three"]])
  for path in found.files(2):
    media.write(path, np.zeros((5, 8, 8, 3), np.uint8), 8.0)
  again = samples(tmp_path)
  assert again.missing == []
  again.begin()
  again.end()
  text = (tmp_path / "samples" / LINES).read_text().splitlines()[2]
  assert json.loads(text)["steered"] == [[0, "a red three"]]


def test_a_line_that_was_cut_off_says_nothing(tmp_path):
  make(samples(tmp_path), [0, 1])
  path = tmp_path / "samples" / LINES
  path.write_text(path.read_text()[:-10])
  assert samples(tmp_path).missing == [1, 2]


KILLED = """
import os, signal, sys
import numpy as np
from sora_jax.utils import media
with media.writing(sys.argv[1], 8.0) as add:
  add(np.zeros((90, 8, 8, 3), np.uint8))  # the encoder holds back some 50
  os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_runs_left_goes_and_what_is_written_stays(tmp_path):
  found = samples(tmp_path)
  found.begin()
  path = found.files(0)[0]
  done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
  assert done.returncode == -signal.SIGKILL
  (left,) = path.parent.glob(".*.mp4")
  elsewhere = left.with_name(f".other{left.name}")
  elsewhere.touch()
  (path.parent / ".a-stranger.mp4").touch()
  with media.writing(path, 8.0) as add:
    add(np.zeros((90, 8, 8, 3), np.uint8))
    samples(tmp_path).begin()
    assert not left.exists()
    assert len(list(path.parent.glob(".*.mp4"))) == 3
  assert media.probe(path).frames == 90
  assert elsewhere.exists() and (path.parent / ".a-stranger.mp4").exists()


def test_a_prompt_may_hold_line_ends_of_unicode(tmp_path):
  told = [TOLD[0] | {"prompt": "a red\u2028ball\x85"}, *TOLD[1:]]
  make(samples(tmp_path, told), [0, 1, 2])
  path = tmp_path / "samples" / LINES
  found = [json.loads(line) for line in path.read_text().splitlines()]
  # As other programs write it.
  plain = (json.dumps(line, ensure_ascii=False) + "\n" for line in found)
  path.write_text("".join(plain))
  assert samples(tmp_path, told).missing == []


def test_one_frame_is_a_png(tmp_path):
  told = [{"prompt": "a", "task": "t2i", "size": (1, 8, 8)}]
  (path,) = samples(tmp_path, told, ["a"]).files(0)
  assert path.name == "a.png"


def test_two_videos_of_one_name(tmp_path):
  with pytest.raises(ValueError, match=r"'one'.*sample\.repeats"):
    samples(tmp_path, stems=["one", "two", "one"])


def test_the_sheet_shows_what_was_given(tmp_path):
  found = samples(tmp_path, formats=("gif",))
  make(found, [0, 1, 2])
  source = np.zeros((1, 8, 8, 3), np.uint8)
  rows = found.sheet([None, source, None])
  assert [label for label, _ in rows] == [
    "t2v: a 0",
    "given: a 1",
    "t2v: a 1",
    "t2v: a 2",
  ]
  assert [int(video.mean()) for _, video in rows] == [0, 0, 40, 80]


@pytest.mark.parametrize("fps", [8, 29.97, 24000 / 1001])
def test_a_long_video_is_shown_without_being_held(tmp_path, monkeypatch, fps):
  told = [{"prompt": "a", "task": "t2v", "size": (90, 16, 16)}]
  found = samples(tmp_path, told, ["a"], ("mp4",))
  found.begin()
  levels = np.linspace(0, 255, 90).astype(np.uint8)
  with media.writing(found.files(0)[0], fps) as add:
    add(np.broadcast_to(levels[:, None, None, None], (90, 16, 16, 3)))
  monkeypatch.setattr(folder, "WHOLE", 90)
  ((_, whole),) = found.sheet([None])
  assert len(whole) == folder.FRAMES
  monkeypatch.undo()
  held, read = [], media.read

  def watched(*args, **kwargs):
    video, rate = read(*args, **kwargs)
    held.append(len(video))
    return video, rate

  monkeypatch.setattr(media, "read", watched)
  ((_, shown),) = found.sheet([None])
  np.testing.assert_array_equal(shown, whole)
  assert set(held) == {1}


def test_names():
  asked = Request(((0, "A red  ball,"), (2, "left!")), (5, 8, 8), "t2v")
  assert NAMES["index"](7, 1, asked) == "007-t2v-a-red-ball-left"
  assert NAMES["index"](0, 0, Request("", (5, 8, 8))) == "000-t2v-empty"
  assert (
    NAMES["vbench"](7, 1, Request("A red ball.", (5, 8, 8))) == "A red ball.-1"
  )
  for prompt in ("", "a/b", "long " * 60):
    with pytest.raises(ValueError, match="cannot name a file"):
      NAMES["vbench"](0, 0, Request(prompt, (5, 8, 8)))
