"""Result files say what made them; the oracle's table is what it counts."""

import json
import pathlib
import subprocess
import types

import jax
import numpy as np
import pytest

from experiments import (
  autoencoder,
  drift,
  edits,
  framing,
  guidance,
  joint,
  latents,
  levels,
  oracle,
  parameterisation,
  record,
  scaling,
  sweep,
)
from experiments import packing as packing_at_equal_time
from experiments.bench import autoencoder as codecs
from experiments.bench import packing, result
from sora_jax import build, estimate, trained
from sora_jax.data.latents import Item
from sora_jax.diffusion.process import Process
from sora_jax.types import Clip


def test_a_result_file_says_what_made_it(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
  rows = [{"side": 64, "mean": 0.5}, {"side": 32, "mean": 1.0}]
  path = record.save("one", rows, commit="abc", seed=3)
  assert path.read_text().splitlines() == [
    "# commit: abc",
    "# seed: 3",
    "side,mean",
    "64,0.5",
    "32,1.0",
  ]
  assert [p.name for p in path.parent.iterdir()] == ["one.csv"]
  with pytest.raises(ValueError, match=r"results/none\.csv"):
    record.save("none", [])


@pytest.mark.parametrize("name", ("demo", "tasks", "physics", "drift", "edits"))
def test_no_result_counts_the_flops_of_weights_that_were_given(name):
  about, rows = record.load(name)
  assert about["weights"] and not any(row["pflops"] for row in rows)


def test_a_result_file_says_how_many_clips_are_judged(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  about = record.made_by(edits.base(), seeds=1)
  record.save("one", [{"test set": "256 clips abc"}], **about)
  head, _ = record.load("one")
  assert "an evaluator judges some of its first" in head["test set"]
  assert json.loads(head["evaluators"])["edits"]["clips"] == 20
  assert json.loads(head["evaluation"])["split"] == "test"
  assert head["weights"] and len(head["base"]) == 12


def test_points_are_chosen_by_name():
  names = ["base", "own colours"]
  assert record.chosen(None, names) == (names, "")
  assert record.chosen(["own colours"], names)[1] == "_own-colours"
  with pytest.raises(ValueError, match=r"\['other'\]: choose of \['base'"):
    record.chosen(["other"], names)


def test_a_commit_is_named_with_and_without_git(monkeypatch, tmp_path):
  assert record.commit()
  for file in ("experiments/code.py", "experiments/results/old.csv"):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("1")
  (tmp_path / "README.md").write_text("1")
  me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
  for words in (("init", "-q"), ("add", "."), (*me, "commit", "-qm", "one")):
    subprocess.run(["git", *words], cwd=tmp_path, check=True)
  monkeypatch.setattr(record, "__file__", str(tmp_path / "experiments/r.py"))
  assert not record.commit().endswith("+")
  (tmp_path / "experiments/results/old.csv").write_text("2")
  assert not record.commit().endswith("+")  # not what anything was made with
  (tmp_path / "README.md").write_text("2")
  assert record.commit().endswith("+")
  monkeypatch.setattr(record.shutil, "which", lambda name: None)
  assert record.commit() == "unknown"


def test_accuracy_counts_what_a_caption_says():
  found = {"colour": [1.0, 0.0], "shape": [1.0], "all": [0.0]}
  found |= {"debris": [0.3], "law velocity": [0.1], "sound recall": [0.0]}
  assert oracle.attributes(found) == ["colour", "shape"]
  assert oracle.accuracy(found) == 0.75


def test_a_cell_is_read_and_hashed():
  found, digest = oracle._cell((32, "test", "simple"), clips=2, seed=0)
  assert oracle.accuracy(found) == 1
  assert len(found["colour"]) == len(found["law velocity"]) == 2
  assert oracle._cell((32, "test", "simple"), 2, 0)[1] == digest
  heard, other = oracle._cell((0, "test", "sound"), clips=1, seed=0)
  assert set(heard) <= {f"sound {name}" for name in oracle.HEARD}
  assert heard and other != digest


def test_the_curves_of_drift_are_those_of_the_rows():
  found = {name: i / 10 for i, name in enumerate(drift.METRICS)}
  figure = drift.figure([{"point": "a"} | found, {"point": "b"} | found])
  assert [axis.get_title() for axis in figure.axes] == list(drift.MEASURES)
  for axis in figure.axes:
    one, other = axis.get_lines()
    seconds = [f"drift/{at:g} s/{axis.get_title()}" for at in drift.AT]
    for line in (one, other):
      assert list(line.get_ydata()) == [found[name] for name in seconds]


@pytest.mark.parametrize("data", autoencoder.DATA)
def test_every_point_of_the_autoencoder_is_a_config(data):
  for judged in (True, False):
    build.everything(autoencoder.config_of(data, judged, "clips"))
  for _, changes in autoencoder.sweep(data):
    config = autoencoder.config_of(data, False, "clips")
    with config.unlocked():
      config.update_from_flattened_dict(changes)
    build.everything(config)
    trained.check_given(config, pathlib.Path("none"))


def test_where_torch_does_not_run_our_autoencoder_is_alone(monkeypatch, capsys):
  monkeypatch.setattr(result, "RECORD", types.SimpleNamespace(value=False))
  monkeypatch.setattr(codecs, "SIZES", {"16": (5, 16, 16)})
  monkeypatch.setattr(codecs.flags, "FLAGS", types.SimpleNamespace(rounds=2))
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  known = estimate.DEVICES["tpu_v4"]
  monkeypatch.setattr(codecs.estimate, "_known", lambda: known)
  codecs.main([])
  *_, last = capsys.readouterr().out.splitlines()
  found = json.loads(last)
  assert found.keys() == {"device"} | {
    f"{name}_16"
    for name in ("pixels_per_s", "share_of_peak", "share_of_roofline")
  }
  pace = 5 * 16 * 16 / found["pixels_per_s_16"]
  assert 0 < pace < 60 and 0 <= found["share_of_roofline_16"] <= 1


SWEEPS = ("guidance", "optimizer", "few_steps", "scaling")
SWEEPS += ("parameterisation", "compression", "joint", "framing", "packing")


@pytest.mark.parametrize("name", SWEEPS)
def test_figures_stand_beside_floor_ceiling_and_other_captions(name):
  metrics = sweep.load(str(sweep.HERE / f"{name}.py")).METRICS
  assert {f"captions/shuffled/{n}" for n in guidance.READ} <= set(metrics)
  for who in ("real", "autoencoder"):
    beside = f"frechet/{who}/distance"
    assert (beside in metrics) == ("frechet/generated/distance" in metrics)


def test_tasks_stand_beside_their_intervals_and_their_ceiling():
  for task in levels.TASKS:
    for column in ("generated", "low", "high", "filled", "autoencoder"):
      assert f"tasks/{task}/{column}" in levels.METRICS


@pytest.mark.parametrize("name", ("guidance", "optimizer", "few_steps"))
def test_results_with_fewer_columns_are_drawn(name, tmp_path, monkeypatch):
  _, rows = record.load(name)
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  metrics = sweep.load(str(sweep.HERE / f"{name}.py")).METRICS
  assert record.plot(name, rows, metrics[0]).exists()


def test_parameterisations_are_compared_where_they_can_be():
  base = parameterisation.base()
  assert not any("fixed_times" in name for name in parameterisation.METRICS)
  for name, changes in parameterisation.sweep():
    c = sweep.changed(base, name, changes)
    x0, noise, end = np.full(3, 2.0), np.full(3, 0.5), np.float32(1)
    process = Process(**c.dit.process)
    told = process.target_of(x0, noise, end)
    # A prediction that is half wrong says data that are as wrong, not more.
    found, _ = process.solve(told + 0.5, process.corrupt(x0, noise, end), end)
    assert np.abs(found - x0).max() < 1, name


@pytest.mark.parametrize("module", [framing, joint, packing_at_equal_time])
def test_a_mixture_keeps_its_sizes(module):
  config = module.base()
  for name, part in config.data.parts.items():
    size = (part.frames, part.height, part.width)
    clip = Clip(np.zeros((*size, 3), np.uint8), 8.0, "a red one", name)
    kept = build.prepare(config, "test")(clip, np.random.default_rng(0))
    assert kept.video.shape[:3] == size


def test_every_point_of_the_latents_is_a_config():
  for _, changes in latents.sweep():
    build.everything(latents.config(0, 100, changes))


def test_latents_of_more_tokens_are_said_to_cost_more():
  page = (sweep.HERE / "README.md").read_text()
  made = {name: latents.config(0, 9, c) for name, c in latents.sweep()}
  tokens = {name: c.dit.rows.length for name, c in made.items()}
  (dearer,) = (n for n in tokens if tokens[n] != tokens["base"])
  assert (tokens["base"], tokens[dearer]) == (32, 48)
  shifted = (48 / made[dearer].dit.shift.base_tokens) ** 0.5
  for text in (latents.__doc__, page):
    assert "48 tokens" in text and f"{shifted:.1f}" in text


def test_layouts_hold_the_same_clips_with_less_and_less_padding():
  c, rng = packing.config(""), np.random.default_rng(0)
  build.everything(c)
  sizes = [(5, 16, 16), (3, 12, 20), (1, 20, 12), (5, 8, 8)] * 40
  found = [
    Item(rng.standard_normal((*size, 16)).astype(np.float16), "a ball", str(i))
    for i, size in enumerate(sizes)
  ]
  kinds = packing.layouts(c, found)
  total = sum(packing.tokens_of(c, item) for item in found)
  fill = {name: k.tokens / k.places for name, k in kinds.items()}
  assert fill["bucketed"] == 1 and fill["packed"] > 0.95
  assert fill["padded"] < 0.6
  # An epoch each, but for what does not fill a batch.
  for kind in kinds.values():
    assert abs(kind.tokens / total - 1) < 0.1
  shapes = {
    n: len({b["video"].shape for b in k.batches}) for n, k in kinds.items()
  }
  assert shapes == {"packed": 1, "padded": 1, "bucketed": 4}


def test_a_power_law_is_found_on_the_frontier():
  compute = 2.0 ** np.arange(6)
  law = [(c, 0.3 * c**-0.25) for c in compute]
  points = [*law, (3.0, 0.9), (40.0, 0.2)]  # which others beat in both
  best = scaling.frontier(points)
  assert best == [*range(6)]
  found = scaling.fit([points[i] for i in best])
  np.testing.assert_allclose(found, (0.3, 0.25), rtol=1e-6)
  with pytest.raises(ValueError, match="2 points"):
    scaling.fit(law[:2])


def test_a_point_of_several_seeds_is_fitted_once(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  steps = dict(zip(scaling.STEPS, (1.0, 4.0, 16.0)))
  rows = [
    {"point": f"{width} wide, {n} steps", "pflops": compute * width / 32}
    | {scaling.ERROR: (compute * width / 32) ** -0.5 + lucky}
    for width in scaling.WIDTHS
    for n, compute in steps.items()
    for lucky in (-0.05, 0.0, 0.05)
  ]
  record.save("scaling", rows, seeds=3)
  scaling.main([])
  about, found = record.load("scaling_fit")
  compute = [float(row["pflops"]) for row in found]
  assert compute == [1, 2, 4, 6, 8, 16, 24, 32, 64, 96]
  assert (float(about["a"]), float(about["b"])) == (1, 0.5)
  assert (tmp_path / "scaling_fit.png").exists()


def test_a_result_file_is_read_as_it_was_written(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  record.save("one", [{"point": "a: b", "x": 1}], commit="a", seeds="1: 2")
  about, rows = record.load("one")
  assert about == {"commit": "a", "seeds": "1: 2"}
  assert rows == [{"point": "a: b", "x": "1"}]


def test_a_bench_records_its_figures_where_that_is_asked(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  monkeypatch.setattr(result, "RECORD", types.SimpleNamespace(value=False))
  figures = {"rate": 0.5, "gain": {"a b": 2.0}, "each": [1, 3]}
  result.say("some", figures, "NVIDIA H200")
  assert json.loads(capsys.readouterr().out) == figures | {
    "device": "NVIDIA H200"
  }
  assert not [*tmp_path.iterdir()]
  result.RECORD.value = True
  monkeypatch.setattr("sys.argv", ["bench", "--rounds=3", "--record"])
  result.say("some", figures, "NVIDIA H200")
  about, rows = record.load("bench_some_nvidia-h200")
  assert about["options"] == "--rounds=3" and "cores" in about["machine"]
  assert {row["figure"]: row["value"] for row in rows} == {
    "rate": "0.5",
    "gain/a b": "2.0",
    "each/0": "1",
    "each/1": "3",
  }
