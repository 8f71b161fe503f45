"""Result files: a CSV that says what made it, and a plot of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from sora_jax.training import checkpoint, exported
from sora_jax.types import Clip
from sora_jax.utils import files, sections, tree

ENDS = ("low", "high")  # of an interval
# What the column of that name says, and what it does not.
TEST_SET = (
  "the whole split, counted and hashed; an evaluator judges some of its first "
  "clips, and its section says how many"
)
RESULTS = pathlib.Path(__file__).parent / "results"


def save(name: str, rows: Sequence[dict[str, object]], **about) -> pathlib.Path:
  """Writes rows of one kind to results/NAME.csv, whole or not at all.

  Args:
    name: of the file.
    rows: dicts with the same keys, the columns.
    **about: what else a stranger needs to get the same: `commit` as of the
      start, seeds, counts, hashes. It stands in lines that begin with "#".

  Raises:
    ValueError: without rows.
  """
  if not rows:
    raise ValueError(f"results/{name}.csv would have no rows")
  text = io.StringIO()
  for key, value in about.items():
    text.write(f"# {key}: {value}\n")
  writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f"{name}.csv"
  files.write_text(path, text.getvalue())
  return path


def load(name: str) -> tuple[dict[str, str], list[dict[str, str]]]:
  """What `save` wrote to results/NAME.csv: about, and rows, all as text."""
  lines = (RESULTS / f"{name}.csv").read_text().splitlines()
  head = [line[2:].partition(": ") for line in lines if line.startswith("# ")]
  about = {key: value for key, _, value in head}
  return about, list(csv.DictReader(lines[len(head) :]))


def made_by(base: ConfigDict, seeds: int) -> dict[str, object]:
  """What a sweep's file says of what made it, for `save`.

  Args:
    base: the experiment's, whose evaluators say on how many clips they judge.
    seeds: of each point.
  """
  about = {"commit": commit(), "seeds": seeds, "base": sections.digest(base)}
  if base.dit.checkpoint:
    about["weights"] = weights(pathlib.Path(base.dit.checkpoint))
  about["test set"] = TEST_SET
  about["evaluation"] = json.dumps(sections.plain(base.evaluation))
  judges = sections.plain(base.dit.evaluators)
  return about | {"evaluators": json.dumps(judges, sort_keys=True)}


def plot(
  name: str, rows: Sequence[dict[str, object]], metric: str
) -> pathlib.Path:
  """Draws a metric of every point to results/NAME.png, whole or not at all.

  Args:
    name: of the file.
    rows: with the columns `point` and `metric`; a dot for each, and a bar from
      0 to the mean of a point's. The columns "generated low" and "generated
      high" of a metric "generated" are drawn as its interval, of one seed.
    metric: which to draw.
  """
  points = list(dict.fromkeys(row["point"] for row in rows))
  figure = Figure(figsize=(7, 0.8 + 0.4 * len(points)), layout="constrained")
  axis = figure.add_subplot()
  for i, point in enumerate(points):
    own = [row for row in rows if row["point"] == point]
    values = [float(row[metric]) for row in own]
    axis.barh(i, sum(values) / len(values), color="#9db8d9")
    axis.plot(values, [i] * len(values), "o", color="#27476e", markersize=4)
    ends = [metric.replace("generated", f"generated {e}") for e in ENDS]
    if len(own) == 1 and ends[0] != metric and all(e in own[0] for e in ends):
      interval = [float(own[0][e]) for e in ends]
      axis.plot(interval, [i, i], color="#27476e", linewidth=1.5)
  axis.set_yticks(range(len(points)), points)
  axis.invert_yaxis()
  axis.set_xlabel(metric)
  return drawn(figure, name)


def drawn(figure: Figure, name: str) -> pathlib.Path:
  """Writes a figure to results/NAME.png, whole or not at all."""
  RESULTS.mkdir(exist_ok=True)
  path = RESULTS / f"{name}.png"
  partial = path.with_name(f".{path.name}.partial")
  figure.savefig(partial, format="png", dpi=100, metadata={"Software": None})
  os.replace(partial, path)
  return path


def chosen(
  points: Sequence[str] | None, names: Sequence[str]
) -> tuple[Sequence[str], str]:
  """The points of a sweep to run, and what a file of these is called by.

  Args:
    points: names that are asked for; None or none for all.
    names: of all points.

  Returns:
    the names, and "" for all of them or "_" and theirs, for `save`.

  Raises:
    ValueError: for a point that the sweep has not.
  """
  wanted = points or names
  if unknown := set(wanted) - set(names):
    raise ValueError(f"--points={sorted(unknown)}: choose of {[*names]}")
  if wanted == names:
    return wanted, ""
  return wanted, "_" + "_".join(wanted).replace(" ", "-")


def weights(folder: pathlib.Path) -> str:
  """A digest of exported weights, or the name of a training's folder.

  Of the arrays alone (the autoencoder's beside them, too), and not of the
  config, which may come to say otherwise how they are sampled.
  """
  if not exported.there(folder):
    return str(folder)
  return tree.digest(exported.arrays(folder))


def content(folder: pathlib.Path) -> str:
  """Tells one training's weights from another's."""
  if exported.there(folder):
    return weights(folder)
  return json.dumps(checkpoint.load_meta(folder))


def hashed(clips: Iterable[Clip | None], digest) -> Iterator[Clip]:
  """The clips as they pass by, with all that is judged added to the hash."""
  for clip in clips:
    if clip is None:  # one that cannot be decoded
      continue
    digest.update(clip.video.tobytes() + clip.caption.encode())
    if clip.audio is not None:
      digest.update(clip.audio.tobytes())
    yield clip


def counted(clips: Iterable[Clip | None]) -> str:
  """How many clips a split has, of which fewer may be judged, and its hash."""
  digest = hashlib.sha256()
  count = sum(1 for _ in hashed(clips, digest))
  return f"{count} clips {digest.hexdigest()[:12]}"


def commit() -> str:
  """The commit of this checkout, with a "+" if files differ from it.

  Other tables and plots of results do not count: none is read to make another.
  """
  git = shutil.which("git")
  if git is None:
    return "unknown"

  def ask(*words):
    here = pathlib.Path(__file__).parent
    command = (git, *words)
    return subprocess.run(
      command, cwd=here, capture_output=True, text=True, check=False
    ).stdout.strip()

  made = [f":!results/*.{ending}" for ending in ("csv", "png")]
  ours = (":/", *made)  # the whole checkout, but for these beside this file
  changed = ask("status", "--porcelain", "--untracked-files=no", "--", *ours)
  return (ask("rev-parse", "--short=12", "HEAD") or "unknown") + (
    "+" if changed else ""
  )
