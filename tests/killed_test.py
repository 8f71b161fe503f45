"""Sampling that is killed: what is whole stays, what is half is not seen."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from sora_jax.utils import media

ROOT = pathlib.Path(__file__).parents[1]
SAMPLE = (
  "--mode=sample",
  f"--config={ROOT}/configs/demo.py",
  "--config.sample.prompts=('a red ball', 'a blue star', 'a green ring')",
  "--config.sample.size=(5, 32, 32)",
  "--config.sample.steps=2",
)
KILLED = """
import os, signal
from absl import app, flags
from sora_jax import main

replace, videos = os.replace, 0

def killed(source, target):
  global videos
  videos += str(target).endswith(".mp4")
  if videos == 2:  # it has all its bytes, but not its name yet
    os.kill(os.getpid(), signal.SIGKILL)
  replace(source, target)

os.replace = killed
flags.mark_flag_as_required("config")
app.run(main.main)
"""


def test_a_killed_process_leaves_whole_videos_and_goes_on(tmp_path):
  folder = tmp_path / "samples"

  def run(*how):
    command = [sys.executable, *how, *SAMPLE, f"--workdir={tmp_path}"]
    return subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, timeout=300
    )

  def lines():
    found = (folder / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in found]

  done = run("-c", KILLED)
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  (first,) = folder.glob("[!.]*.mp4")
  assert media.read(first)[0].shape == (5, 32, 32, 3)
  assert [line["files"] for line in lines()] == [[first.name]]
  assert [p for p in folder.iterdir() if p.name.startswith(".")]
  before = os.stat(first).st_mtime_ns

  done = run("-m", "sora_jax.main")
  assert done.returncode == 0, done.stderr[-2000:]
  assert "3 videos" in done.stderr + done.stdout
  assert os.stat(first).st_mtime_ns == before
  assert len(list(folder.glob("[!.]*.mp4"))) == len(lines()) == 3
  for line in lines():
    assert media.read(folder / line["files"][0])[0].shape == (5, 32, 32, 3)
  assert not [p for p in folder.iterdir() if p.name.startswith(".")]
