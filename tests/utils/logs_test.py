"""Metrics survive kills and resumes; progress shows on and off a terminal."""

import io
import json
import math
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from sora_jax.utils import logs


def events(directory):
  """The events of a TensorBoard directory, decoded from its record files."""
  for path in sorted(directory.glob("events*")):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack("<Q", data[:8])
      yield event_pb2.Event.FromString(data[12 : 12 + length])
      data = data[12 + length + 4 :]  # Length, its checksum; data, checksum.


def test_scalars_are_on_disk_at_once(tmp_path):
  writer = logs.MetricWriter(tmp_path)
  writer.scalars("dit", 1, {"loss": jnp.float32(0.5), "psnr": 30})
  writer.scalars("ae", np.int64(2), {"loss": np.float32(0.25)})
  first, second = logs.read_metrics(tmp_path / "metrics.jsonl")
  assert first | {"time": 0} == {
    "step": 1,
    "stage": "dit",
    "time": 0,
    "loss": 0.5,
    "psnr": 30.0,
  }
  assert (second["stage"], second["step"], second["loss"]) == ("ae", 2, 0.25)
  writer.close()
  board = [e for e in events(tmp_path / "tb" / "dit") if e.summary.value]
  values = {v.tag: v.simple_value for v in board[0].summary.value}
  assert board[0].step == 1 and values == {"loss": 0.5, "psnr": 30.0}


def test_not_finite_numbers_stay_valid_json(tmp_path):
  with logs.MetricWriter(tmp_path) as writer:
    writer.scalars("dit", 1, {"a": math.nan, "b": math.inf, "c": -math.inf})
  line = json.loads((tmp_path / "metrics.jsonl").read_text())
  assert (line["a"], line["b"], line["c"]) == ("nan", "inf", "-inf")
  (line,) = logs.read_metrics(tmp_path / "metrics.jsonl")
  assert math.isnan(line["a"])
  assert (line["b"], line["c"]) == (math.inf, -math.inf)


def test_reserved_names(tmp_path):
  with (
    logs.MetricWriter(tmp_path) as writer,
    pytest.raises(ValueError, match=r"\['step'\]"),
  ):
    writer.scalars("dit", 1, {"step": 1.0})


def test_resume_forgets_this_stage_after_the_step(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with logs.MetricWriter(tmp_path) as writer:
    for step in (1, 2, 3):
      writer.scalars("dit", step, {"loss": step})
      writer.scalars("ae", step, {"loss": step})
  with path.open("a") as file:
    file.write('{"step": 4, "stage": "dit", "lo')  # The process was killed.
  assert len(logs.read_metrics(path)) == 6
  with logs.MetricWriter(tmp_path) as writer:
    writer.resume("dit", 1)
    writer.scalars("dit", 2, {"loss": 20})
  lines = [(m["stage"], m["step"], m["loss"]) for m in logs.read_metrics(path)]
  assert lines == [
    ("dit", 1, 1.0),
    ("ae", 1, 1.0),
    ("ae", 2, 2.0),
    ("ae", 3, 3.0),
    ("dit", 2, 20.0),
  ]
  assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.jsonl", "tb"]
  starts = [e for e in events(tmp_path / "tb" / "dit") if e.session_log.status]
  assert [(e.step, e.session_log.status) for e in starts] == [
    (2, event_pb2.SessionLog.START)
  ]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r"metrics.jsonl:2 .*'{\"st'"):
    logs.read_metrics(path)


def test_video_and_image_can_be_read_back(tmp_path):
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, (5, 16, 24, 3), np.uint8)
  with logs.MetricWriter(tmp_path) as writer:
    writer.video("dit", 7, "samples", video, fps=8)
    writer.image("dit", 8, "grid", video[0])
  film, picture = (
    e for e in events(tmp_path / "tb" / "dit") if e.summary.value
  )
  assert (film.step, film.summary.value[0].tag) == (7, "samples")
  encoded = film.summary.value[0].image
  assert (encoded.height, encoded.width) == (16, 24)
  assert encoded.encoded_image_string.startswith(b"GIF89a")
  gif = Image.open(io.BytesIO(encoded.encoded_image_string))
  assert (gif.n_frames, gif.size, gif.info["duration"]) == (5, (24, 16), 120)
  png = picture.summary.value[0].image.encoded_image_string
  assert (np.asarray(Image.open(io.BytesIO(png))) == video[0]).all()


@pytest.mark.parametrize(
  "video", [np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)]
)
def test_wrong_pixels_say_what_they_should_be(tmp_path, video):
  with (
    logs.MetricWriter(tmp_path) as writer,
    pytest.raises(ValueError, match=r"uint8 \[T H W 3\], not"),
  ):
    writer.video("dit", 1, "samples", video, fps=8)


def test_table():
  rows = [
    {"name": "full", "ms": 1.23456, "n": 10},
    {"name": "blocks", "ms": np.float32(123456), "fast": True},
  ]
  assert logs.table(rows).splitlines() == [
    "name           ms   n  fast",
    "full        1.235  10     -",
    "blocks  1.235e+05   -  True",
  ]
  assert logs.table([]) == ""


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0.4, "0s"),
    (59.6, "1m00s"),
    (125, "2m05s"),
    (3723, "1h02m03s"),
    (360000, "100h00m00s"),
    (math.nan, "?"),
    (math.inf, "?"),
  ],
)
def test_hms(seconds, text):
  assert logs.hms(seconds) == text


def test_progress_off_a_terminal_says_a_line_now_and_then(monkeypatch, capsys):
  now = 0.0
  monkeypatch.setattr(logs.time, "monotonic", lambda: now)
  with logs.Progress(110, "dit", start=10) as progress:
    for step in range(11, 61):
      now += 1.0
      progress.update(step, loss=jnp.float32(1 / 3))
  assert capsys.readouterr().out.splitlines() == [
    "dit 25/110 (23%) loss=0.3333 ETA 1m25s",
    "dit 40/110 (36%) loss=0.3333 ETA 1m10s",
    "dit 55/110 (50%) loss=0.3333 ETA 55s",
    "dit 60/110 (55%) loss=0.3333 ETA 50s",
  ]


def test_progress_without_an_end(capsys):
  with logs.Progress(None, "ae") as progress:
    progress.update(3, **{"clips/s": 2.5})
  assert capsys.readouterr().out == "ae 3 clips/s=2.5\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
  with logs.Progress(10, "dit") as progress:
    progress.update(5, loss=0.5)
    logs.say("evaluating")
    progress.update(10, loss=0.25)
  shown = capsys.readouterr()
  assert shown.out == "evaluating\n"
  assert "dit: 100%" in shown.err and "10/10" in shown.err
  assert "loss=0.25" in shown.err


def test_a_second_writer_does_not_take_the_file_away(tmp_path):
  """Sampling while a run trains opens the same folder."""
  with logs.MetricWriter(tmp_path) as first:
    first.scalars("dit", 1, {"loss": 1.0})
    with logs.MetricWriter(tmp_path) as second:
      second.scalars("sample", 1, {"clips": 2.0})
    first.scalars("dit", 2, {"loss": 0.5})
  steps = [
    (line["stage"], line["step"])
    for line in logs.read_metrics(tmp_path / "metrics.jsonl")
  ]
  assert steps == [("dit", 1), ("sample", 1), ("dit", 2)]
