"""The report: all of a run on one page that needs nothing else."""

import base64
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from sora_jax import report
from sora_jax.utils import media

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(html.parser.HTMLParser):
  """What is on a page: tags with their attributes, and its text."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text.append(data)

  def all(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def line(stage, step, **values):
  return {"stage": stage, "step": step, "time": 60.0 * step, **values}


@pytest.fixture
def run(tmp_path):
  """The folder of a run that trained two stages and made three samples."""
  folder = tmp_path / "a <run>"
  (folder / "samples").mkdir(parents=True)
  (folder / "grids").mkdir()
  lines = [
    line(
      stage, step, loss=1 / step, steps_per_s=2.0, padding=0.125, peak_gib=step
    )
    for stage in ("autoencoder", "dit")
    for step in (1, 2, 3)
  ]
  first, last = ({"captions/real/colour": v} for v in (0.25, 0.8125))
  lines[5:5] = [line("dit", 2, **first)]
  lines += [line("dit", 3, **last, **{"captions/made/shape": 0.5})]
  text = "".join(json.dumps(x) + "\n" for x in lines)
  (folder / "metrics.jsonl").write_text(text)
  (folder / "config.json").write_text(json.dumps({"dit": {"key <1>": 7}}))
  rng = np.random.default_rng(0)
  told = []
  for i, name in enumerate(("a.mp4", "b.gif", "c.png")):
    frames = 1 if name == "c.png" else 5
    video = rng.integers(0, 255, (frames, 16, 16, 3), np.uint8)
    media.write(folder / "samples" / name, video, 8.0)
    prompt = [[0, "one"], [8, "two"]] if i else "a <red> ball\u2028"
    told.append({"files": [name], "prompt": prompt, "task": "t2v", "seed": i})
  text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in told)
  (folder / "samples" / "samples.jsonl").write_text(text)
  media.write(folder / "samples" / "contact_sheet.png", video, 8.0)
  for step in (2, 3):
    media.write(folder / "grids" / f"{step:08d}.png", video, 8.0)
  return folder


def test_everything_is_on_the_page(run):
  page = Page(report.write(run).read_text("utf-8"))
  text = " ".join(page.text)
  assert "a <run>" in text and "a <red> ball" in text  # escaped, so read back
  assert "[0] one [8] two (seed 1)" in text
  assert '"key <1>": 7' in text
  assert "3 steps, 0.03 hours, 12.5% padding, 3.0 GiB at most" in text
  # The last numbers of the evaluators, not the first.
  assert "0.8125" in text and "0.5" in text and "0.25" not in text
  assert len(page.all("svg")) == 2  # the curves of each stage
  (video,) = page.all("video")
  header, _, data = video["src"].partition(",")
  assert header == "data:video/mp4;base64"
  assert base64.b64decode(data) == (run / "samples" / "a.mp4").read_bytes()
  # Two samples, the contact sheet, and the last of the grids.
  assert len(page.all("img")) == 4
  assert "grids/00000003.png" in text and "grids/00000002.png" not in text


def test_reconstructions_and_the_nearest_of_training_are_on_the_page(run):
  video = np.zeros((5, 16, 32, 3), np.uint8)
  for folder, names in {
    "reconstructions": ("00000002-000-a.mp4", "00000010-000-a.mp4"),
    "novelty": ("00000002.png", "00000010.png"),
  }.items():
    (run / folder).mkdir()
    for name in names:
      shown = video if name.endswith("mp4") else video[:1]
      media.write(run / folder / name, shown, 8.0)
  media.write(run / "reconstructions" / "00000010-001-b.mp4", video, 8.0)
  page = Page(report.write(run).read_text())
  text = " ".join(page.text)
  assert len(page.all("video")) == 3 and len(page.all("img")) == 5
  for name in ("000-a", "001-b"):
    assert f"reconstructions/00000010-{name}.mp4" in text
  assert "novelty/00000010.png" in text and "/00000002" not in text
  for heading in ("Reconstructions", "nearest clips of training"):
    assert heading in text


def test_hours_are_those_of_training():
  def told(*reports):
    return [
      {"stage": "dit", "step": i, "time": 60.0 * minute, name: 1.0}
      for i, (minute, name) in enumerate(reports, 1)
    ]

  step, judged = "steps_per_s", "grid/real/motion"
  lines = told((0, step), (6, step), (12, step))
  # Evaluators on the way, at the end, and in --mode=eval soon after.
  more = told((0, step), (6, step), (11, judged), (17, step), (26, judged))
  more += told((35, judged))
  for own in (lines, more):
    (*_, fact) = report.facts({"dit": own})
    assert " 0.20 hours" in fact[""]


def test_the_page_needs_nothing_else(run):
  page = Page(report.write(run).read_text("utf-8"))
  assert not page.all("script") and not page.all("link")
  for tag, attributes in page.tags:
    for name in ("src", "href", "xlink:href"):
      value = attributes.get(name, "#")
      assert value.startswith(("data:", "#")), f"{tag} {name}={value[:40]}"


def test_it_is_made_again_as_it_was(run):
  first = report.write(run).read_text()
  assert re.sub(r"\bid=\S+|#\w+", "", report.write(run).read_text()) == re.sub(
    r"\bid=\S+|#\w+", "", first
  )


def test_too_much_is_left_out_and_counted(run, monkeypatch):
  size = (run / "samples" / "a.mp4").stat().st_size
  monkeypatch.setattr(report, "ROOM", size)
  page = Page(report.write(run).read_text())
  assert len(page.all("video")) == 1 and not page.all("img")
  assert "4 files are not on this page" in " ".join(page.text)


def test_a_folder_with_nothing_yet(tmp_path):
  page = Page(report.write(tmp_path).read_text())
  assert not page.all("svg") and not page.all("video")
  assert "devices" in " ".join(page.text)


@pytest.mark.skipif(
  not CHROMIUM, reason="needs a browser: apt-get install chromium"
)
def test_samples_play_in_a_browser(run, tmp_path):
  text = report.write(run).read_text()
  ask = """<script>
  let video = document.querySelector("video");
  let told = () => document.title = `${video.videoWidth} ${video.duration}`;
  video.readyState > 1 ? told() : video.addEventListener("loadeddata", told);
  </script>"""
  page = tmp_path / "page.html"
  page.write_text(text.replace("</body>", ask + "</body>"))
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
  command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
  command += ["--virtual-time-budget=5000", page.as_uri()]
  done = subprocess.run(
    command, capture_output=True, text=True, timeout=120, check=True
  )
  assert "<title>16 0.625</title>" in done.stdout
  assert "<svg" in done.stdout
