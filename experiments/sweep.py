"""Runs an experiment: every point of its sweep, one table, one plot.

  python -m experiments.sweep experiments/optimizer.py
  python -m experiments.sweep experiments/optimizer.py --seeds=3
  python -m experiments.sweep experiments/optimizer.py --print

An experiment is a file with a question in its docstring, `base()`, a whole
config; `sweep()`, which yields (name, {dotted key: value}) for every point; and
`METRICS`, the evaluators' figures that answer the question, the first of which
is plotted, but where the file has a `figure` of its own rows. Where some points
distil another, TEACHER names that one. Every key, name and number of every
point is checked before the first one trains.

What points have in common is made once: points of the same data and autoencoder
share these and the latents, and points that differ in sampling and judging
alone share the transformer; one that `dit.checkpoint` names is judged as it
is. All of it lies under --workdir, where a sweep that was interrupted goes on.
`--print` prints one command for each thing to make, in an order that respects
what they share, instead of running them; the sweep itself then collects what
they found.

results/NAME.csv has a line for each point and seed, with the minutes and the
model FLOPs (in 1e15, blank for one that is given) that its transformer was
trained for, and the commit at which it was judged, of an earlier call perhaps;
the header says what made the file. results/NAME.png is the plot.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

from absl import app, flags
from ml_collections import ConfigDict

from experiments import record
from sora_jax import check, modes
from sora_jax.run import Run
from sora_jax.training import checkpoint
from sora_jax.utils import cache, files, logs, sections

HERE = pathlib.Path(__file__).parent
# What makes the latents, and what does not change a trained transformer.
CODEC = ("data", "tokens", "scales", "transforms", "autoencoder", "text")
AFTERWARDS = ("sample", "evaluation", "cost", "stages", "cache_gib", "threads")
FOUND = "found.json"


def load(path: str) -> ModuleType:
  """The experiment in a file.

  Raises:
    ValueError: if it is none, naming those that there are.
  """
  file = pathlib.Path(path)
  there = sorted(
    p
    for p in HERE.glob("*.py")
    if "\ndef sweep() ->" in p.read_text()
    and "\ndef base() ->" in p.read_text()
  )
  if file.resolve() not in [p.resolve() for p in there]:
    names = [f"experiments/{p.name}" for p in there]
    raise ValueError(
      f"{path} is no experiment with base() and sweep(): {names}"
    )
  return importlib.import_module(f"experiments.{file.stem}")


def changed(
  base: ConfigDict, name: str, changes: Mapping[str, object]
) -> ConfigDict:
  """The config of a point.

  Raises:
    ValueError: for a key that the config has not, or a value of another type.
  """
  config = ConfigDict(base.to_dict())
  for dotted, value in changes.items():
    *path, last = dotted.split(".")
    section = config
    for part in (*path, last):
      if not isinstance(section, ConfigDict) or part not in section:
        valid = list(section) if isinstance(section, ConfigDict) else []
        raise ValueError(
          f"point {name!r}: the config has no {dotted}; at {part!r} it has "
          f"{valid}"
        )
      section, parent = section[part], section
    try:
      parent[last] = value
    except TypeError as error:
      raise ValueError(
        f"point {name!r}: {dotted}={value!r}: {error}"
      ) from error
  return config.lock()


@dataclasses.dataclass(frozen=True)
class Point:
  """One run of a sweep.

  Attributes:
    name: of the point.
    seed: of the transformer's training.
    config: of it all, without folders of other runs.
    root: of the sweep.
    teacher: whose transformer it distils, if it does.
  """

  name: str
  seed: int
  config: ConfigDict
  root: pathlib.Path
  teacher: Point | None = None

  @property
  def codec(self) -> pathlib.Path:
    """Where the autoencoder and the latents are."""
    told = {k: self.config.to_dict()[k] for k in CODEC}
    told["compression"] = self.config.dit.patch
    return self.root / f"codec-{sections.digest(ConfigDict(told))}"

  @property
  def model(self) -> pathlib.Path:
    """Where the transformer is."""
    told = self.config.to_dict()
    for name in AFTERWARDS:
      del told[name]
    for stage in ("autoencoder", "dit"):
      del told[stage]["evaluators"]
    if self.teacher:
      told["teacher"] = self.teacher.model.name
    return self.root / f"model-{sections.digest(ConfigDict(told))}"

  @property
  def dit(self) -> pathlib.Path:
    """Where its transformer is or will be."""
    return pathlib.Path(self.given or self.model / "dit")

  @property
  def given(self) -> str:
    """The transformer that its config names, to be judged as it is; or ""."""
    learns = self.config.dit.objective.name != "denoise"
    return "" if learns else self.config.dit.checkpoint

  @property
  def folder(self) -> pathlib.Path:
    """Where it is judged."""
    return self.root / f"{self.name}-{self.seed}".replace(" ", "-")

  def run(self, folder: pathlib.Path, **checkpoints: pathlib.Path) -> Run:
    """Its config in a folder, with stages that are trained elsewhere."""
    config = ConfigDict(self.config.to_dict())
    for stage, where in checkpoints.items():
      config[stage].checkpoint = str(where)
    return Run(config.lock(), folder)

  def autoencoder(self) -> pathlib.Path:
    """Where its autoencoder is or will be."""
    given = self.config.autoencoder.checkpoint
    return pathlib.Path(given) if given else self.codec / "autoencoder"

  def begins(self) -> dict[str, pathlib.Path]:
    """What its transformer's training begins with."""
    given = {"autoencoder": self.autoencoder()}
    return given | ({"dit": self.teacher.dit} if self.teacher else {})

  def encode(self) -> None:
    """Trains its autoencoder, unless it is given, and encodes its data."""
    if (self.codec / "latents").exists():
      return
    run = self.run(self.codec)
    if not self.config.autoencoder.checkpoint:
      run.train_autoencoder()
      run.writer.close()
    run.data.latents(run.autoencoder())

  def train(self) -> None:
    """Trains its transformer, to the end or on from where that stopped."""
    if self.given:
      return
    dit = self.dit
    # Others may be looking at it: only who trains opens it to write.
    if checkpoint.exists(dit) and checkpoint.load_meta(dit)["finished"]:
      return
    self.encode()
    if self.teacher:
      self.teacher.train()
    link = self.model / "latents"
    if not link.exists():
      link.parent.mkdir(parents=True, exist_ok=True)
      link.symlink_to((self.codec / "latents").resolve())
    run = self.run(self.model, **self.begins())
    run.train_dit()
    run.writer.close()

  def told(self) -> str:
    """A digest of all that its figures depend on."""
    made_of = {**self.config.to_dict(), "model": self.model.name}
    if self.given:
      given = (self.dit, self.autoencoder())
      made_of["given"] = [record.content(folder) for folder in given]
    return sections.digest(ConfigDict(made_of))

  def judge(self, commit: str) -> dict[str, float | str]:
    """What the evaluators find, now or when it was judged before.

    Args:
      commit: of the code that runs.

    Returns:
      the metrics, and the commit that judged it.
    """
    path = self.folder / FOUND
    told = self.told()
    if path.exists():
      found = json.loads(path.read_text())
      if found["config"] == told and "test set" in found["metrics"]:
        made = {"commit": "unknown"} | found["metrics"]
        if made["commit"] != commit:
          logs.say(f"{self.folder} was judged at commit {made['commit']}")
        return made
    self.train()
    dit = self.dit
    run = self.run(self.folder, autoencoder=self.autoencoder(), dit=dit)
    modes.remember(run)
    found = modes.judged(run, "dit")
    run.writer.close()
    tested = run.data.clips(run.config.evaluation.split)
    found |= {"commit": commit, "test set": record.counted(tested)}
    found["minutes"] = checkpoint.load_meta(dit)["seconds"] / 60
    if not self.given:  # another may have been trained on other batches
      batch, frozen = run.abstract_inputs("dit")
      stage = run.stage("dit", batch, frozen, epoch=1)
      flops = run.model_flops("dit", batch, frozen)
      steps = checkpoint.load(dit, {"step": stage.abstract.step})["step"]
      found["pflops"] = flops * int(steps) / 1e15
    text = json.dumps({"config": told, "metrics": found})
    files.write_text(path, text)
    return found


def _judged_only(name: str, changes: Mapping[str, object], seeds: int) -> None:
  """Raises ValueError where a transformer that is given would be trained."""
  free = (*AFTERWARDS, "data", "dit.evaluators", "dit.checkpoint", "seed")
  free += ("autoencoder.checkpoint", "tokens", "dit.rows", "dit.frames")
  trains = [
    k for k in changes if not f"{k}.".startswith(tuple(f"{f}." for f in free))
  ]
  if trains or seeds > 1:
    raise ValueError(
      f"point {name!r}: dit.checkpoint names a transformer that is judged as "
      f"it is, and {trains or f'--seeds={seeds}'} would train it: set "
      "dit.checkpoint='' in base()"
    )


def points(
  module: ModuleType, seeds: int, root: pathlib.Path
) -> Iterator[Point]:
  """All points of an experiment, checked; nothing is trained or written.

  Raises:
    ValueError: for a point whose config does not stand, by name.
  """
  base, every = module.base(), list(module.sweep())
  names = [name for name, _ in every]
  if len(set(names)) < len(names):
    raise ValueError(f"two points have one name: {names}")
  teaches = getattr(module, "TEACHER", None)
  if teaches and teaches not in names:
    raise ValueError(f"TEACHER={teaches!r} is none of the points {names}")
  # First of all, for others are made of it.
  every.sort(key=lambda each: each[0] != teaches)
  teachers: dict[int, Point] = {}
  judges = {name.partition("/")[0] for name in module.METRICS}
  if missing := judges - set(base.dit.evaluators):
    raise ValueError(
      f"METRICS are of {sorted(missing)}, and dit.evaluators has "
      f"{sorted(base.dit.evaluators)}"
    )
  for name, changes in every:
    for seed in range(base.seed, base.seed + seeds):
      config = changed(base, name, {"seed": seed, **changes})
      learns = config.dit.objective.name != "denoise" and name != teaches
      teacher = teachers[seed] if learns and teachers else None
      point = Point(name, seed, config, root, teacher)
      if point.given:
        _judged_only(name, changes, seeds)
      if name == teaches:
        teachers[seed] = point
      try:
        point.run(point.folder)
        if teacher:
          saved = json.loads(teacher.config.to_json_best_effort())
          check.same_model(config, saved, teacher.folder)
        else:
          check.teacher(config)
      except ValueError as error:
        raise ValueError(f"point {name!r}: {error}") from error
      yield point


def row(
  point: Point, metrics: Sequence[str], found: Mapping[str, float | str]
) -> dict[str, object]:
  """A point's line in the table.

  Raises:
    ValueError: for a metric that no evaluator gave.
  """
  if missing := [name for name in metrics if name not in found]:
    raise ValueError(f"METRICS has {missing}, and found are {sorted(found)}")
  values = {name: round(found[name], 4) for name in metrics}
  minutes = round(found["minutes"], 1)
  pflops = "" if point.given else float(f"{found['pflops']:.4g}")
  named = {"point": point.name, "seed": point.seed}
  named |= {name: found[name] for name in ("commit", "test set")}
  return named | {"minutes": minutes, "pflops": pflops} | values


def commands(
  path: str, found: Sequence[Point], arguments: Sequence[str]
) -> Iterator[str]:
  """One command for each thing that is made once, before who shares it."""
  teachers = [point.teacher for point in found if point.teacher]
  taught = {point.model for point in teachers}
  others = [point for point in found if point.model not in taught]
  kinds = (
    ("encode", "codec", found),
    ("train", "model", teachers),
    ("train", "model", others),
    ("judge", "folder", found),
  )
  for step, kind, some in kinds:
    made = {}
    for point in some:
      if step != "judge" and point.given:
        continue
      made.setdefault(getattr(point, kind), point)
    if made:
      yield f"# {step}: {len(made)} at once, after those above"
    for point in made.values():
      words = ("python", "-m", "experiments.sweep", path, *arguments)
      only = (f"--points={point.name}", f"--seed={point.seed}", f"--do={step}")
      yield shlex.join((*words, *only))


def main(argv: list[str]) -> None:
  """Runs the points, or prints the commands that do; collects and plots."""
  asked = flags.FLAGS
  if len(argv) != 2:
    raise app.UsageError("give one file: experiments/NAME.py")
  cache.keep_compiled()
  module = load(argv[1])
  name = pathlib.Path(argv[1]).stem
  root = pathlib.Path(asked.workdir or f"runs/sweep-{name}")
  every = list(points(module, asked.seeds, root))
  order = list(dict.fromkeys(point.name for point in every))
  wanted, suffix = record.chosen(asked.points, order)
  chosen = [
    p for p in every if p.name in wanted and asked.seed in (None, p.seed)
  ]
  if asked.print:
    words = (f"--workdir={root}", f"--seeds={asked.seeds}")
    for line in commands(argv[1], chosen, words):
      logs.say(line)
    return
  about, rows = record.made_by(module.base(), asked.seeds), []
  for point in chosen:
    if asked.do != "judge":
      getattr(point, asked.do)()
      continue
    rows.append(row(point, module.METRICS, point.judge(about["commit"])))
    logs.say(logs.table(rows))
    if asked.seed is None:
      logs.say(f"{record.save(name + suffix, rows, **about)}")
      if hasattr(module, "figure"):
        logs.say(f"{record.drawn(module.figure(rows), name + suffix)}")
        continue
      logs.say(f"{record.plot(name + suffix, rows, module.METRICS[0])}")


if __name__ == "__main__":
  flags.DEFINE_multi_string("points", None, "one to run, many times; all")
  flags.DEFINE_integer("seeds", 1, "how many of each")
  flags.DEFINE_integer("seed", None, "run those of this seed alone")
  flags.DEFINE_string("workdir", None, "runs/sweep-NAME by default")
  flags.DEFINE_bool("print", False, "print commands, run nothing")
  flags.DEFINE_enum(
    "do", "judge", ("encode", "train", "judge"), "how far to go with each"
  )
  app.run(main)
