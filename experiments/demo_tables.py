"""The tables of what the demo is judged by."""

from __future__ import annotations

from experiments import demo, edits, physics, record, tasks
from experiments.cells import Lines, Row, table
from sora_jax.evaluators import metrics


def of_captions(experiment: str) -> Lines:
  """What the oracle reads of the demo's videos, beside the ceiling."""
  _, rows = record.load(experiment)
  names = demo.READ

  def cell(row: Row, name: str) -> str:
    made, most, other = (
      float(row[f"captions/{who}/{name}"])
      for who in ("generated", "autoencoder", "shuffled")
    )
    return f"{made:.2f} / {most:.2f} / {other:.2f}"

  head = ["generated / ceiling / shuffled captions", *names]
  yield from table(
    head,
    [[row["point"], *(cell(row, name) for name in names)] for row in rows],
  )


def of_tasks() -> Lines:
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
  yield from table([*head, "jump"], lines)


def _psnr(value: float, digits: int) -> str:
  """A PSNR; of videos that are the same it says so."""
  return "equal" if value >= metrics.BEST_PSNR else f"{value:.{digits}f}"


def of_edits() -> Lines:
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
  yield from table(["obeyed, changed / rest in dB", *edits.EDITS], lines)


def of_physics() -> Lines:
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

  yield from table(
    ["error", *head],
    [
      [who, *(cell(row, who, law) for row in rows for law in physics.LAWS)]
      for who in physics.WHO
    ],
  )


def _cached(row: Row, name: str) -> str:
  value = float(row[name])
  return f"{value:.2f}" if name == "time" else _psnr(value, 2)


def of_caching() -> Lines:
  """What reused predictions save, and how far videos move."""
  _, rows = record.load("caching")
  names = {
    "time": "share of the time",
    "psnr": "PSNR to every step's own, dB",
    "psnr_worst": "the worst clip",
  }
  yield from table(
    ["`sample.cache`", *names.values()],
    [[row["point"], *(_cached(row, n) for n in names)] for row in rows],
  )
