"""A sweep checks all it is given, makes what is common once, and goes on."""

import json
import shlex
import types

import numpy as np
import pytest
from PIL import Image

from experiments import caching, record, sweep
from sora_jax.evaluators import metrics
from sora_jax.run import Run

STUDENT = {"name": "consistency", "steps": 4, "parts": 1, "scale": 2.0}
CAPTIONS = {"name": "captions", "oracle": "digits"}
CAPTIONS |= {"clips": 2, "empty": 2, "seed": 0}


def experiment(tiny, points):
  def base():
    config = tiny({"stages": ("autoencoder", "dit")})
    with config.unlocked():
      config.dit.evaluators = {"captions": CAPTIONS}
      config.autoencoder.evaluators = {}
      config.data.count = 16
    return config.lock()

  return types.SimpleNamespace(
    base=base,
    sweep=lambda: iter(points.items()),
    METRICS=("captions/generated/all", "captions/shuffled/all"),
  )


POINTS = {
  "one": {"sample.steps": 1},
  "two": {"sample.guidance.scale": 2.0},
  "muon": {"dit.optimizer.name": "muon"},
  "kl": {"autoencoder.objective.kl": 1e-3},
}


@pytest.mark.parametrize("path", sorted(sweep.HERE.glob("*.py")), ids=str)
def test_every_experiment_stands(path, tmp_path):
  if "\ndef base() ->" not in path.read_text():
    with pytest.raises(ValueError, match="is no experiment"):
      sweep.load(str(path))
    return
  module = sweep.load(str(path))
  found = list(sweep.points(module, 1, tmp_path / "sweep"))
  assert found and module.METRICS
  assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"dit.modle.width": 8}, r"point 'p': the config has no dit\.modle\.width"),
    ({"seed.a": 8}, "the config has no seed.a"),
    ({"dit.model.width": "wide"}, r"dit\.model\.width='wide'"),
    ({"dit.optimizer.name": "sgdd"}, "point 'p': .*'sgdd' is not one of"),
    ({"dit.rows.length": 1}, "point 'p': .*rows.length"),
    ({"dit.objective": {**STUDENT}}, "point 'p': .*distils a trained"),
  ],
)
def test_a_wrong_point_is_named_before_anything_runs(
  tiny, tmp_path, changes, said
):
  module = experiment(tiny, {"good": {}, "p": changes})
  with pytest.raises(ValueError, match=said):
    list(sweep.points(module, 1, tmp_path / "sweep"))
  assert not (tmp_path / "sweep").exists()


def test_what_points_have_in_common_lies_in_one_folder(tiny, tmp_path):
  module = experiment(tiny, POINTS)
  one, two, muon, kl = sweep.points(module, 1, tmp_path)
  assert one.codec == two.codec == muon.codec != kl.codec
  assert one.model == two.model
  assert len({p.model for p in (one, muon, kl)}) == 3
  assert len({p.folder for p in (one, two, muon, kl)}) == 4
  again, other = sweep.points(experiment(tiny, {"one": {}}), 2, tmp_path)
  assert again.codec == other.codec and again.model != other.model


def test_a_sweep_collects_one_table_and_goes_on(tiny, tmp_path, monkeypatch):
  names = ("one", "two", "muon")
  module = experiment(tiny, {name: POINTS[name] for name in names})
  trained, judged = [], []
  fit, judge = Run.fit, sweep.modes.judged

  def counted(self, name, *rest, **more):
    trained.append(name)
    return fit(self, name, *rest, **more)

  def seen(run, name):
    judged.append(run.workdir.name)
    return judge(run, name)

  monkeypatch.setattr(Run, "fit", counted)
  monkeypatch.setattr(sweep.modes, "judged", seen)
  found = list(sweep.points(module, 1, tmp_path / "sweep"))
  rows = [sweep.row(p, module.METRICS, p.judge("new")) for p in found]
  # Two transformers; the second point looks at the first one's, finished.
  assert trained == ["autoencoder", "dit", "dit"]
  assert judged == ["one-0", "two-0", "muon-0"]
  assert [r["point"] for r in rows] == [*names]
  columns = {"point", "seed", "commit", "test set", "minutes", "pflops"}
  assert set(rows[0]) == {*columns, *module.METRICS}

  again = list(sweep.points(module, 1, tmp_path / "sweep"))
  assert [sweep.row(p, module.METRICS, p.judge("new")) for p in again] == rows
  assert len(trained) == 3 and len(judged) == 3
  # What is asked for has changed: that point is judged anew.
  module = experiment(tiny, {"one": {"sample.steps": 2}})
  (other,) = sweep.points(module, 1, tmp_path / "sweep")
  other.judge("new")
  assert len(judged) == 4
  with pytest.raises(ValueError, match=r"METRICS has \['nothing'"):
    sweep.row(found[0], ("nothing",), json.loads("{}"))

  # A transformer that a config names is judged as it is.
  given = {**POINTS["one"], "dit.checkpoint": str(found[0].dit)}
  given["autoencoder.checkpoint"] = str(found[0].autoencoder())
  module = experiment(tiny, {"given": given})
  (point,) = sweep.points(module, 1, tmp_path / "given")
  told = point.judge("new")
  assert len(trained) == 3 and not point.model.exists()
  assert "pflops" in found[0].judge("new") and "pflops" not in told
  assert all(told[name] == rows[0][name] for name in module.METRICS)
  heads = [line for line in sweep.commands("x", [point], []) if line[0] == "#"]
  assert heads == ["# judge: 1 at once, after those above"]

  wrong = experiment(tiny, {"w": {**given, "dit.optimizer.name": "muon"}})
  with pytest.raises(ValueError, match=r"\['dit.optimizer.name'\] would train"):
    list(sweep.points(wrong, 1, tmp_path / "given"))
  with pytest.raises(ValueError, match="--seeds=2 would train"):
    list(sweep.points(module, 2, tmp_path / "given"))

  run = Run.open(found[0].model)
  saved = caching.measured(run, clips=2, rounds=1)
  assert [row["point"] for row in saved] == [
    f"{cache:g}" for cache in caching.THRESHOLDS
  ]
  assert (saved[0]["time"], saved[0]["psnr"]) == (1, metrics.BEST_PSNR)
  assert all(0 < row["psnr_worst"] <= row["psnr"] for row in saved)


def test_a_sweep_that_goes_on_says_what_commit_judged(tiny, tmp_path, capsys):
  (point,) = sweep.points(experiment(tiny, {"one": {}}), 1, tmp_path)
  point.folder.mkdir()
  metric = "captions/generated/all"
  for own, commit in (({"commit": "old"}, "old"), ({}, "unknown")):
    found = {metric: 1.0, "test set": "8 clips", "minutes": 2.0, "pflops": 3.0}
    text = json.dumps({"config": point.told(), "metrics": found | own})
    (point.folder / sweep.FOUND).write_text(text)
    row = sweep.row(point, (metric,), point.judge("new"))
    assert row["commit"] == commit
    said = f"{point.folder} was judged at commit {commit}\n"
    assert capsys.readouterr().out == said
  assert point.judge("unknown") and not capsys.readouterr().out


def test_flops_of_a_given_transformer_are_left_open(tiny, tmp_path):
  given = {"dit.checkpoint": "d", "autoencoder.checkpoint": "a"}
  found = {"captions/generated/all": 1.0, "test set": "8 clips"}
  found |= {"commit": "old", "minutes": 2.0, "pflops": 3.0}
  config = experiment(tiny, {}).base()
  for changes, pflops in (({}, 3.0), (given, "")):
    made = sweep.changed(config, "p", changes)
    point = sweep.Point("p", 0, made, tmp_path)
    row = sweep.row(point, ("captions/generated/all",), found)
    assert row["pflops"] == pflops


def test_commands_make_what_is_shared_before_who_shares_it(tiny, tmp_path):
  module = experiment(tiny, POINTS)
  found = list(sweep.points(module, 2, tmp_path))
  lines = list(sweep.commands("experiments/x y.py", found, ["--seeds=2"]))
  heads = [i for i, line in enumerate(lines) if line.startswith("#")]
  counts = np.diff([*heads, len(lines)]) - 1
  assert [lines[i].split()[1] for i in heads] == ["encode:", "train:", "judge:"]
  assert counts.tolist() == [2, 6, 8]
  words = shlex.split(lines[1])
  assert words[:4] == [
    "python",
    "-m",
    "experiments.sweep",
    "experiments/x y.py",
  ]
  assert words[4:] == ["--seeds=2", "--points=one", "--seed=0", "--do=encode"]


def test_students_are_made_of_their_teacher(tiny, tmp_path):
  points = {"student": {"dit.objective": STUDENT}, "fewer": {"sample.steps": 1}}
  module = experiment(tiny, {**points, "teacher": {}})
  module.TEACHER = "teacher"
  teacher, student, fewer = sweep.points(module, 1, tmp_path / "sweep")
  assert student.teacher is teacher and fewer.teacher is teacher.teacher is None
  assert fewer.model == teacher.model != student.model
  lines = list(sweep.commands("x.py", [teacher, student, fewer], []))
  made = [shlex.split(line)[4:] for line in lines if "sweep" in line]
  assert [f"{w[0]} {w[2]}" for w in made[:3]] == [
    "--points=teacher --do=encode",
    "--points=teacher --do=train",
    "--points=student --do=train",
  ]
  student.train()
  for point in (teacher, student):
    assert sweep.checkpoint.load_meta(point.model / "dit")["finished"]
  module.TEACHER = "nobody"
  with pytest.raises(ValueError, match="TEACHER='nobody' is none of"):
    list(sweep.points(module, 1, tmp_path / "sweep"))


def test_what_a_student_said_is_not_kept_for_another_teacher(tiny, tmp_path):
  points = {"teacher": {}, "student": {"dit.objective": STUDENT}}
  folders = []
  for length in ("4 steps", "5 steps"):
    changes = {"dit.schedule.until": "4 steps", "dit.objective": STUDENT}
    points["student"], points["teacher"] = (
      changes,
      {"dit.schedule.until": length},
    )
    module = experiment(tiny, points)
    module.TEACHER = "teacher"
    _, student = sweep.points(module, 1, tmp_path)
    folders.append(student)
  one, other = folders
  assert one.config.to_dict() == other.config.to_dict()
  assert one.model != other.model
  one.folder.mkdir()
  found = {"captions/generated/all": 1.0, "test set": "8 clips"}
  found |= {"commit": "old"}
  told = {"config": one.told(), "metrics": found}
  (one.folder / sweep.FOUND).write_text(json.dumps(told))
  assert one.judge("new") == told["metrics"]
  assert one.told() != other.told()


def test_metrics_that_no_evaluator_gives_are_named_at_once(tiny, tmp_path):
  module = experiment(tiny, {"one": {}})
  module.METRICS = ("tasks/i2v/psnr",)
  with pytest.raises(ValueError, match=r"METRICS are of .'tasks'.*'captions'"):
    list(sweep.points(module, 1, tmp_path))


def test_a_plot_shows_every_point(tmp_path, monkeypatch):
  monkeypatch.setattr(record, "RESULTS", tmp_path)
  metric = "captions/generated/all"
  low, high = (metric.replace("ted/", f"ted {e}/") for e in record.ENDS)
  rows = [
    {"point": "a", metric: 0.2, low: 0.1, high: 0.3},
    {"point": "b", metric: 0.9, low: 0.8, high: 1.0},
  ]
  path = record.plot("name", rows, metric)
  picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
  bars = (abs(picture - (0x9D, 0xB8, 0xD9)).sum(-1) < 9).sum(1)
  drawn = bars[bars > 0]  # from the top
  assert drawn.max() > 4 * drawn[0]
  assert [p.name for p in tmp_path.iterdir()] == ["name.png"]
