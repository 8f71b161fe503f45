"""Whole tiny runs: interrupted ones end bit for bit like the others."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from sora_jax import build, modes
from sora_jax.data.latents import StaleCache
from sora_jax.run import Run
from sora_jax.sampling.request import Request
from sora_jax.sampling.rollout import Rollout
from sora_jax.training import checkpoint
from sora_jax.utils import logs, media

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f"--config={ROOT}/configs/dit_b.py:tiny"
# What no two runs share.
CLOCK = ("time", "clips_per_s", "steps_per_s", "tokens_per_s", "peak_gib")
CLOCK += ("tflops_per_s", "mfu")


def call(workdir, *arguments, interrupt=None):
  """Runs sora_jax.main in a process of its own."""
  command = [CONFIG, f"--workdir={workdir}", *arguments]
  if interrupt:
    script = str(ROOT / "tests" / "interrupted.py")
    head = [script, *map(str, interrupt), str(workdir)]
  else:
    head = ["-m", "sora_jax.main"]
  return subprocess.run(
    [sys.executable, *head, *command],
    cwd=workdir.parent,
    env=os.environ,
    capture_output=True,
    text=True,
    timeout=300,
  )


def arrays(folder):
  """Every array of a checkpoint by name, as it is on the disk."""
  context = ocp.Context()
  with context:
    tree = ocp.load_checkpointables(folder, {"state": None})["state"]
  found = {}

  def walk(name, node):
    if isinstance(node, dict):
      for key, value in node.items():
        walk(f"{name}/{key}", value)
    elif isinstance(node, (list, tuple)):
      walk(name, dict(enumerate(node)))
    elif node is not None:
      found[name] = np.asarray(node)

  walk("", tree)
  return found


def assert_same_end(one, other):
  """The last checkpoints, and all that was ever logged, are equal."""
  for stage in ("autoencoder", "dit"):
    a, b = arrays(one / stage / "4"), arrays(other / stage / "4")
    assert a.keys() == b.keys()
    players = {name.split("/")[1] for name in a}
    assert {"params", "opt", "ema", "rng", "frozen", "step"} <= players
    for name in a:
      assert a[name].dtype == b[name].dtype
      assert a[name].tobytes() == b[name].tobytes(), f"{stage}{name}"
  lines = [
    [
      {k: v for k, v in line.items() if k not in CLOCK}
      for line in logs.read_metrics(folder / "metrics.jsonl")
    ]
    for folder in (one, other)
  ]
  for stage in ("autoencoder", "dit"):
    trained = [
      [n for n in each if n["stage"] == stage and "grad_norm" in n]
      for each in lines
    ]
    assert trained[0] == trained[1]
    assert [n["step"] for n in trained[0]] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
  """The folder of a run that nothing interrupted."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  run = Run(tiny(), folder)
  modes.train(run)
  run.writer.close()
  return folder


@pytest.fixture
def copy(whole, tmp_path):
  return pathlib.Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.mark.parametrize(
  "interrupts",
  [
    [("autoencoder", 3, "SIGTERM"), ("dit", 4, "SIGKILL")],
    [("autoencoder", 4, "SIGKILL"), ("dit", 3, "SIGTERM")],
  ],
  ids=lambda found: "-".join(name for *_, name in found),
)
def test_interrupted_runs_end_like_the_others(whole, tmp_path, interrupts):
  folder = tmp_path / "run"
  for i, (stage, at, name) in enumerate(interrupts):
    done = call(folder, interrupt=(stage, at, name))
    code = 143 if name == "SIGTERM" else -signal.SIGKILL
    assert done.returncode == code, done.stderr
    if name == "SIGTERM":
      assert f"{stage}: SIGTERM; saved step {at}" in done.stdout
      assert (folder / stage / str(at)).is_dir()
    if i:
      assert "autoencoder: resumed at step" in done.stdout
  done = call(folder)
  assert done.returncode == 0, done.stderr
  # A SIGTERM saves where it comes; after a kill the last checkpoint counts.
  saved = at if name == "SIGTERM" else 2
  assert f"{stage}: resumed at step {saved}" in done.stdout
  assert_same_end(whole, folder)
  for path in (whole / "samples").iterdir():
    if path.suffix == ".mp4":
      assert path.read_bytes() == (folder / "samples" / path.name).read_bytes()


def test_a_finished_run_does_nothing_again(copy, tiny, capsys):
  before = (copy / "metrics.jsonl").read_text()
  config = tiny()
  with config.unlocked():
    config.stages = ("autoencoder", "dit")
  run = Run(config, copy)
  modes.train(run)
  run.writer.close()
  said = capsys.readouterr().out
  assert said.count("already trained, 4 steps") == 2
  assert (copy / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
  "key, value, words",
  [
    ("workers", 1, "by 1 workers each, which were 0: it starts again"),
    ("dit.rows.layout", "bucketed", "bucketed, which were packed, by 0"),
  ],
)
def test_other_readers_go_on_in_another_order(
  copy, tiny, capsys, key, value, words
):
  for steps in (5, 6):
    changes = {key: value, "dit.schedule.until": f"{steps} steps"}
    run = Run(tiny(changes | {"stages": ("dit",)}), copy)
    modes.train(run)
    run.writer.close()
    assert (words in capsys.readouterr().out) == (steps == 5)
    told = checkpoint.load_meta(copy / "dit", steps)
    assert told["readers"] == run.readers("dit") and told["seed"] == 4  # step


def test_another_config_in_the_same_folder(copy, tiny, capsys):
  """Weights that changed make the cached latents stale, and it says so."""
  config = tiny({"autoencoder.schedule.until": "5 steps"})
  run = Run(config, copy)
  with pytest.raises(StaleCache, match=r"autoencoder: cached .* delete that"):
    try:
      modes.train(run)
    except StaleCache as error:
      raise StaleCache(str(error).replace("\n", " ")) from error
    finally:
      run.writer.close()
  assert "differs from this config" in capsys.readouterr().out


def test_other_shapes_in_the_same_folder_are_named(copy, tiny):
  run = Run(tiny({"autoencoder.model.width": 16}), copy)
  with pytest.raises(ValueError, match=r"autoencoder\.model: saved .*now"):
    run.restored("autoencoder")


def test_evaluate_after_training(copy, tiny, whole):
  run = Run(tiny(), copy)
  modes.MODES["eval"](run)
  run.writer.close()
  lines = [
    line
    for line in logs.read_metrics(copy / "metrics.jsonl")
    if any(key.startswith("captions/") for key in line)
  ]
  assert len(lines) == 2
  first, second = (
    {k: v for k, v in n.items() if k not in CLOCK} for n in lines
  )
  assert first == second  # of the same weights, so the same numbers


def test_sample_after_training(copy):
  shutil.rmtree(copy / "samples")
  done = call(copy, "--mode=sample", "--config.sample.clips=0")
  assert done.returncode == 0, done.stderr
  lines = (copy / "samples" / "samples.jsonl").read_text().splitlines()
  assert len(lines) == 2
  for line in lines:
    for file in json.loads(line)["files"]:
      assert (copy / "samples" / file).stat().st_size


def test_sample_with_a_source(copy, tiny, whole):
  """A task that starts from a file keeps its first frame's latents."""
  given = next((whole / "samples").glob("000-*.mp4"))
  config = tiny(
    {"sample.task": "i2v", "sample.source": str(given), "sample.clips": 0}
  )
  run = Run(config, copy)
  modes.MODES["sample"](run)
  run.writer.close()
  assert sorted((copy / "samples").glob("000-i2v-*.mp4"))


def sampled(folder, tiny, **changes):
  """Samples again; the lines, and when each file was written."""
  config = tiny({f"sample.{k}": v for k, v in {"clips": 0, **changes}.items()})
  run = Run(config, folder)
  modes.MODES["sample"](run)
  run.writer.close()
  found = folder / "samples"
  lines = (found / "samples.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines], {
    path.name: path.stat().st_mtime_ns for path in found.iterdir()
  }


def test_what_is_sampled_already_is_not_sampled_again(copy, tiny):
  prompts = ("a red three", "a green eight", "a blue one")
  shutil.rmtree(copy / "samples")
  lines, before = sampled(copy, tiny, prompts=prompts)
  names = [line["files"][0] for line in lines]
  video = copy / "samples" / names[1]
  whole, frames = video.read_bytes(), media.read(video)[0]
  # Interrupted while the second was written, and the last one's line.
  video.unlink()
  text = "\n".join(map(json.dumps, lines))
  (copy / "samples" / "samples.jsonl").write_text(text[:-9])
  again, after = sampled(copy, tiny, prompts=prompts)
  assert again == lines
  np.testing.assert_array_equal(media.read(video)[0], frames)
  assert video.read_bytes() == whole
  assert after[names[0]] == before[names[0]]
  assert after[names[1]] > before[names[1]]
  # Another sampler makes all of them anew.
  other, later = sampled(copy, tiny, prompts=prompts, steps=1)
  assert all(later[name] > after[name] for name in names)
  assert [line["steps"] for line in other] == [1, 1, 1]


def test_a_prompt_file_and_names_for_vbench(copy, tiny, tmp_path):
  path = tmp_path / "prompts.csv"
  path.write_text("prompt,size\na red three,9x16x16\na green eight,\n")
  options = {"file": str(path), "repeats": 5, "names": "vbench"}
  shutil.rmtree(copy / "samples")
  lines, _ = sampled(copy, tiny, **options)
  assert [line["files"] for line in lines] == [
    [f"{prompt}-{i}.mp4"]
    for prompt in ("a red three", "a green eight")
    for i in range(5)
  ]
  assert len({line["seed"] for line in lines}) == 10
  video, _ = media.read(copy / "samples" / "a red three-1.mp4")
  assert video.shape == (9, 16, 16, 3)


def test_a_long_video_steered_line_by_line(copy, tiny, monkeypatch):
  said, seen = ["a red three", "", "[0s] a [1s] b", "a green eight"], []

  def readline():
    for path in (copy / "samples").glob("*.growing.mp4"):
      if path.stat().st_size:
        seen.append(len(media.read(path)[0]))
    return f"{said.pop(0)}\n" if said else ""

  monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(readline=readline))
  shutil.rmtree(copy / "samples")
  options = {"size": (9, 16, 16), "keep": 1, "rollout.seconds": 4.0}
  (line,), _ = sampled(copy, tiny, prompts=("-",), **options)
  video, fps = media.read(copy / "samples" / line["files"][0])
  assert len(video) == 32 and fps == 8.0
  # Blocks begin at frames 0, 9 and 17.
  assert line["steered"] == [[0, "a red three"], [17, "a green eight"]]
  # What there is can be watched, but for its last frame, until all is there.
  assert seen[:2] == [8, 16]
  assert not list((copy / "samples").glob("*.growing.mp4"))
  # What was said cannot be said again: the video stays.
  before = (copy / "samples" / line["files"][0]).read_bytes()
  (again,), _ = sampled(copy, tiny, prompts=("-",), **options)
  assert again == line
  assert (copy / "samples" / line["files"][0]).read_bytes() == before


def test_long_videos_are_finished_a_few_at_a_time(copy, tiny, monkeypatch):
  """Whoever interrupts many of them loses those that are being made."""
  calls, roll = [], Rollout.__call__

  def interrupted(self, params, frozen, requests, *rest):
    calls.append(len(requests))
    if len(calls) == 2:
      raise KeyboardInterrupt
    return roll(self, params, frozen, requests, *rest)

  monkeypatch.setattr(Rollout, "at_once", lambda self, requests: 1)
  monkeypatch.setattr(Rollout, "__call__", interrupted)
  shutil.rmtree(copy / "samples")
  options = {"prompts": ("a red three", "a green eight"), "keep": 1}
  options |= {"size": (9, 16, 16), "rollout.seconds": 2.0}
  with pytest.raises(KeyboardInterrupt):
    sampled(copy, tiny, **options)
  first = (copy / "samples" / "samples.jsonl").read_text().splitlines()
  assert [json.loads(line)["prompt"] for line in first] == ["a red three"]
  lines, _ = sampled(copy, tiny, **options)
  assert calls == [1, 1, 1]
  assert [json.dumps(lines[0])] == first and len(lines) == 2


def test_other_weights_make_other_videos(copy, tiny, monkeypatch):
  """Trained anew to the same step, or another decoder: all that is told."""
  shutil.rmtree(copy / "samples")
  (line,), before = sampled(copy, tiny, prompts=("a red three",))
  restored = Run.restored

  def changed(self, name):
    state = restored(self, name)
    frozen = dict(state.frozen)
    frozen["autoencoder"] = jax.tree.map(
      lambda x: 1.01 * x, frozen["autoencoder"]
    )
    return state.replace(frozen=frozen)

  monkeypatch.setattr(Run, "restored", changed)
  (other,), after = sampled(copy, tiny, prompts=("a red three",))
  assert other["weights"] != line["weights"]
  name = line["files"][0]
  assert after[name] > before[name]


def test_a_notebook_needs_five_lines(copy):
  run = Run.open(copy)
  one, two = run.sample(["a red three", "a green eight"], size=(5, 16, 24))
  assert one.shape == two.shape == (5, 16, 24, 3) and one.dtype == np.uint8
  (again,) = run.sample(["a red three"], size=(5, 16, 24))
  assert np.abs(again.astype(int) - one).max() <= 1
  asked = {"task": "i2v", "source": one[:1], "size": (5, 16, 24)}
  (moving,) = run.sample(["a red three"], **asked)
  np.testing.assert_array_equal(moving[0], one[0])
  whole = [Request("a red three", (5, 16, 24))]
  assert len(run.sample(whole)) == 1
  with pytest.raises(ValueError, match=r"\['size'\] would change nothing"):
    run.sample(whole, size=(5, 16, 16))
  with pytest.raises(FileNotFoundError):
    Run.open(copy / "nothing")


def test_dryrun_allocates_and_writes_nothing(tiny, tmp_path, capsys):
  folder = tmp_path / "run"
  before = {id(x) for x in jax.live_arrays()}
  modes.MODES["dryrun"](Run(tiny(), folder))
  after = [x for x in jax.live_arrays() if id(x) not in before]
  assert sum(x.size for x in after) < 1000
  assert not folder.exists()
  said = capsys.readouterr().out
  for name in ("autoencoder", "dit", "sample"):
    assert f"\n{name}\n" in said
  assert "GFLOPs per step" in said
  assert "hours" in said and "seconds per second of video" in said
  for height, width in build.sizes(tiny()):
    assert f"x{height}x{width}" in said.split("\nsample\n")[1]


@pytest.mark.parametrize("mode", ["sample", "eval"])
def test_modes_before_training_say_what_to_do(mode, tiny, tmp_path):
  run = Run(tiny(), tmp_path / "run")
  with pytest.raises(FileNotFoundError, match=r"[Tt]rain\s+first"):
    modes.MODES[mode](run)


def test_tasks_that_need_a_source_say_so(tiny, tmp_path):
  with pytest.raises(ValueError, match=r"set sample\.source"):
    Run(tiny({"sample.task": "i2v"}), tmp_path / "run")
