"""Writes the pages' tables of results from the files that they come from.

  python -m experiments.tables

The pages are the repository's README, that of this folder and the demo's card.
A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->`, and
what is between them is replaced. The tests look whether it is up to date, and
whether any other has figures outside of such lines, but for the card, whose own
come from its export: after another export its blocks are to be put in again.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from absl import app

from experiments import (
  demo,
  drift,
  edits,
  oracle,
  physics,
  quickstart,
  record,
  tasks,
)
from sora_jax.evaluators import metrics
from sora_jax.utils import files, logs

ROOT = pathlib.Path(__file__).parents[1]
CARD = ROOT / "experiments" / "results" / "demo" / "README.md"
PAGES = (ROOT / "README.md", ROOT / "experiments" / "README.md", CARD)
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

CODED = ("steps", "PSNR", "first frame", "SSIM")
TRAINED = ("data", "autoencoder", *CODED)

Row = Mapping[str, str]
Lines = Iterator[str]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
  yield "| " + " | ".join(head) + " |"
  yield "|---" * len(head) + "|"
  for row in rows:
    yield "| " + " | ".join(row) + " |"


def _mean(rows: Sequence[Row], column: str) -> float:
  return float(np.mean([float(row[column]) for row in rows]))


def _points(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """Rows by point; several are of several seeds."""
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(row["point"], []).append(row)
  return found


def oracles() -> Lines:
  """Share of attributes that the world's oracle reads right."""
  _, rows = record.load("oracle")
  splits = list(dict.fromkeys(row["split"] for row in rows))
  sides = list(dict.fromkeys(row["side"] for row in rows))

  def share(side: str, split: str) -> str:
    own = [r for r in rows if (r["side"], r["split"]) == (side, split)]
    sets: dict[str, dict[str, list[float]]] = {}
    for row in own:
      score = sets.setdefault(row["set"], {})
      score[row["score"]] = [float(row["mean"])]
    return f"{np.mean([oracle.accuracy(found) for found in sets.values()]):.4f}"

  head = ["share of attributes read right", *(f"`{s}`" for s in splits)]
  yield from _table(
    head,
    [
      [f"{side} pixels", *(share(side, split) for split in splits)]
      for side in sides
      if side != "0"
    ],
  )


def eight_minutes() -> Lines:
  """What the quickstart's model makes of captions."""
  _, rows = record.load("quickstart")
  labels = {
    "real": "real clips",
    "autoencoder": "real clips through the autoencoder (ceiling)",
    "generated": "**generated from the caption**",
    "shuffled": "the same videos against shuffled captions",
    "empty": "generated from the empty caption",
    "chance": "chance",
  }
  names = quickstart.ATTRIBUTES
  yield from _table(
    ["share read back by the oracle", *names],
    [
      [label, *(f"{_mean(rows, f'captions/{who}/{n}'):.2f}" for n in names)]
      for who, label in labels.items()
    ],
  )


def of_sweep(name: str, columns: Mapping[str, str], digits: int = 2) -> Lines:
  """A sweep's points: the mean over seeds of some columns.

  Args:
    name: of the result file.
    columns: heading -> column.
    digits: after the point.
  """
  about, rows = record.load(name)
  yield from _table(
    [f"{name.replace('_', ' ')}, {about['seeds']} seed(s)", *columns],
    [
      [point, *(f"{_mean(own, c):.{digits}f}" for c in columns.values())]
      for point, own in _points(rows).items()
    ],
  )


def _coded(own: Sequence[Row]) -> list[str]:
  """Steps, PSNR, that of first frames and SSIM of clips not seen."""
  tested = [row for row in own if row["split"] == "test"]
  cells = [f"{_mean(tested, c):.2f}" for c in ("psnr", "psnr_first_frame")]
  return [f"{int(own[0]['steps']):,}", *cells, f"{_mean(tested, 'ssim'):.3f}"]


def ablation() -> Lines:
  """The same of one autoencoder's variants, in minutes of training."""
  about, rows = record.load("autoencoder_world")
  yield from _table(
    [f"{about['minutes']} minutes each", *CODED],
    [[name, *_coded(own)] for name, own in _points(rows).items()],
  )


def _autoencoders() -> list[list[str]]:
  """The same of those that were trained longest, beside a matrix."""
  rows: list[list[str]] = []
  trained = [("clips", "parity")]
  trained += [("world", name) for name in ("large", "longer", "decoder")]
  for data, point in trained:
    _, found = record.load(f"autoencoder_{data}_{point}")
    for name, own in _points(found).items():
      if name == "linear" and data in {row[0] for row in rows}:
        continue
      label = "matrix" if name == "linear" else f"`{name}`"
      rows.append([data, label, *_coded(own)])
  return rows


def demo_read() -> Lines:
  """What the oracle reads of the demo's videos, beside the ceiling."""
  _, rows = record.load("demo")
  names = demo.READ

  def cell(row: Row, name: str) -> str:
    made, most, other = (
      float(row[f"captions/{who}/{name}"])
      for who in ("generated", "autoencoder", "shuffled")
    )
    return f"{made:.2f} / {most:.2f} / {other:.2f}"

  head = ["generated / ceiling / shuffled captions", *names]
  yield from _table(
    head,
    [[row["point"], *(cell(row, name) for name in names)] for row in rows],
  )


def demo_tasks() -> Lines:
  """Every task's PSNR on the set `composition`."""
  _, rows = record.load("tasks")
  (row,) = (row for row in rows if row["point"] == "composition")
  columns = ("other caption", "filled", "autoencoder")

  def number(task: str, column: str, digits: int) -> str:
    name = f"tasks/{task}/{column}"
    # What no metric asks for has no cell; what one asks for must be there.
    return f"{float(row[name]):.{digits}f}" if name in tasks.METRICS else ""

  lines = []
  for task in tasks.TASKS:
    cells = [number(task, c, 1) for c in ("generated", *columns)]
    if task != "loop":
      low, high = (number(task, end, 1) for end in record.ENDS)
      cells[0] += f" ({low}-{high})"
    lines.append([f"`{task}`", *cells, number(task, "jump", 2)])
  head = ["task", "generated, dB", "other caption", "dumb answer", "ceiling"]
  yield from _table([*head, "jump"], lines)


def _psnr(value: float, digits: int) -> str:
  """A PSNR; of videos that are the same it says so."""
  return "equal" if value >= metrics.BEST_PSNR else f"{value:.{digits}f}"


def demo_edits() -> Lines:
  """What each strength changes of what it should, and of the rest."""
  _, rows = record.load("edits")

  def cell(row: Row, edit: str, who: str) -> str:
    obeyed, *parts = (
      float(row[f"edits/{edit}/{who}/{what}"]) for what in edits.WHAT
    )
    changed, rest = (_psnr(value, 1) for value in parts)
    return f"{obeyed:.2f}, {changed} / {rest}"

  lines = [
    [row["point"], *(cell(row, edit, "generated") for edit in edits.EDITS)]
    for row in rows
  ]
  for who, name in (("source", "nothing done"), ("autoencoder", "ceiling")):
    lines.append([name, *(cell(rows[0], edit, who) for edit in edits.EDITS)])
  yield from _table(["obeyed, changed / rest in dB", *edits.EDITS], lines)


def demo_physics() -> Lines:
  """How far continued motion is from the truth's, in each split."""
  _, rows = record.load("physics")
  head = [f"{law}, `{row['point']}`" for row in rows for law in physics.LAWS]

  def cell(row: Row, who: str, law: str) -> str:
    said = f"{float(row[f'laws/{who}/{law}']):.2f}"
    if who != "generated":
      return said
    low, high = (
      f"{float(row[f'laws/generated {end}/{law}']):.2f}" for end in record.ENDS
    )
    return f"{said} ({low}-{high})"

  yield from _table(
    ["error", *head],
    [
      [who, *(cell(row, who, law) for row in rows for law in physics.LAWS)]
      for who in physics.WHO
    ],
  )


def _cached(row: Row, name: str) -> str:
  value = float(row[name])
  return f"{value:.2f}" if name == "time" else _psnr(value, 2)


def caching() -> Lines:
  """What reused predictions save, and how far videos move."""
  _, rows = record.load("caching")
  names = {
    "time": "share of the time",
    "psnr": "PSNR to every step's own, dB",
    "psnr_worst": "the worst clip",
  }
  yield from _table(
    ["`sample.cache`", *names.values()],
    [[row["point"], *(_cached(row, n) for n in names)] for row in rows],
  )


def _beside(row: Row, table: str, name: str, digits: int = 2) -> str:
  """A figure of what was generated, and that of the ceiling in brackets."""
  made, most = (
    float(row[f"{table}/{who}/{name}"]) for who in ("generated", "autoencoder")
  )
  return f"{name} {made:.{digits}f} ({most:.{digits}f})"


def headlines() -> Lines:
  """The front page's: what each experiment came to, in a line."""

  def first(name: str, point: str) -> Row:
    return _points(record.load(name)[1])[point][0]

  def read(row: Row, names: Sequence[str]) -> str:
    return ", ".join(_beside(row, "captions", name) for name in names)

  eight = record.load("quickstart")[1][0]
  lines = [
    [
      "captions obeyed by eight minutes of training (ceiling)",
      read(eight, quickstart.ATTRIBUTES),
      "`quickstart.py`",
    ]
  ]
  for point in ("simple", "composition"):
    said = read(first("demo", point), [n for n in demo.READ if n != "all"])
    lines.append([f"by the demo, set `{point}`", said, "`demo.py`"])
  law, task = first("physics", "test"), first("tasks", "composition")
  lines += [
    [
      "the demo's motion after five given frames: error (ceiling)",
      f"{_beside(law, 'laws', 'velocity')} units/s; a still picture "
      f"{float(law['laws/last frame repeated/velocity']):.2f}",
      "`physics.py`",
    ],
    [
      "the demo's video from a picture, PSNR",
      f"{float(task['tasks/i2v/generated']):.1f} dB; with another caption "
      f"{float(task['tasks/i2v/other caption']):.1f}, the picture repeated "
      f"{float(task['tasks/i2v/filled']):.1f}",
      "`tasks.py`",
    ],
  ]
  teacher, student = (
    float(first("few_steps", point)["frechet/generated/distance"])
    for point in ("teacher, 50 steps", "student of 8 times, 4 steps")
  )
  best = {(row[0], row[1]): row[3] for row in _autoencoders()}
  lines += [
    [
      "four steps against fifty of the teacher",
      f"Fréchet distance {student:.2f} and {teacher:.2f}",
      "`few_steps.py`",
    ],
    [
      "autoencoder at 4x8x8 against a matrix, PSNR of unseen clips",
      f"{best['world', '`decoder`']} and {best['world', 'matrix']} dB (world), "
      f"{best['clips', '`parity`']} and {best['clips', 'matrix']} (five real "
      "clips)",
      "`autoencoder.py`",
    ],
  ]
  yield from _table(["what", "measured", "by"], lines)


LOST = {
  f"{name}, {row}": f"drift/{row}/{name}"
  for name in ("identity", "motion", "background", "contrast")
  for row in ("re-encoded 0 s", "0 s", f"{drift.AT[-1]:g} s")
}
READ = {
  "all right": "captions/generated/all",
  "colour": "captions/generated/colour",
  "motion": "captions/generated/motion",
  "background": "captions/generated/background",
  "digit": "captions/generated/digit",
  "Fréchet distance": "frechet/generated/distance",
}
LEARNED = READ | {"denoising error": "fixed_times/mean/error"}
KEPT = {"PSNR, dB": "psnr"} | {
  f"{name}, {who}": f"{who}/{name}"
  for name in ("colour", "background", "motion", "all")
  for who in ("generated", "autoencoder")
}
TABLES: dict[str, Callable[[], Lines]] = {
  "headlines": headlines,
  "oracle": oracles,
  "quickstart": eight_minutes,
  "autoencoder": lambda: _table(TRAINED, _autoencoders()),
  "guidance": lambda: of_sweep("guidance", READ),
  "few_steps": lambda: of_sweep("few_steps", READ),
  "optimizer": lambda: of_sweep("optimizer", LEARNED),
  "ablation": ablation,
  "latents": lambda: of_sweep("latents", KEPT),
  "demo": demo_read,
  "tasks": demo_tasks,
  "edits": demo_edits,
  "caching": caching,
  "drift": lambda: of_sweep("drift", LOST),
  "physics": demo_physics,
}


def written(text: str) -> str:
  """A text with its tables made anew.

  Raises:
    ValueError: for a table that is not one of TABLES.
  """

  def new(found: re.Match[str]) -> str:
    begin, name, _, end = found.groups()
    if name not in TABLES:
      raise ValueError(f"there is no table {name!r}: {sorted(TABLES)}")
    return begin + "\n".join(TABLES[name]()) + "\n" + end

  return BLOCK.sub(new, text)


def main(argv: list[str]) -> None:
  """Writes the pages."""
  del argv
  for page in PAGES:
    files.write_text(page, written(page.read_text()))
    logs.say(f"{page}")


if __name__ == "__main__":
  app.run(main)
