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
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import app

from experiments import (
  demo,
  demo_tables,
  drift,
  oracle,
  quickstart,
  record,
  speed_tables,
)
from experiments.cells import Lines, Row, mean, points, table
from sora_jax.utils import files, logs

ROOT = pathlib.Path(__file__).parents[1]
CARD = ROOT / "experiments" / "results" / "demo" / "README.md"
PAGES = (ROOT / "README.md", ROOT / "experiments" / "README.md", CARD)
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

CODED = ("steps", "PSNR", "first frame", "SSIM")
MORE = "world, 64 of a set"  # of which the other results have judged 16
# Heading -> column of the autoencoder's experiment, grey levels.
SEEN = {"flicker": "flicker", "flat field": "flat"}


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
  yield from table(
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
  yield from table(
    ["share read back by the oracle", *names],
    [
      [label, *(f"{mean(rows, f'captions/{who}/{n}'):.2f}" for n in names)]
      for who, label in labels.items()
    ],
  )


def of_sweep(
  name: str, columns: Mapping[str, str], compute: bool = False
) -> Lines:
  """A sweep's points: the mean over seeds of some columns.

  Args:
    name: of the result file.
    columns: heading -> column.
    compute: whether a point's TFLOPs come first.
  """
  about, rows = record.load(name)
  head = [f"{name.replace('_', ' ')}, {about['seeds']} seed(s)"]
  lines = []
  for point, own in points(rows).items():
    spent = [f"{1e3 * mean(own, 'pflops'):.2g}"] if compute else []
    found = (f"{mean(own, column):.2f}" for column in columns.values())
    lines.append([point, *spent, *found])
  yield from table([*head, *["TFLOPs"] * compute, *columns], lines)


def transferred() -> Lines:
  """Errors of widths by learning rate, with transfer and without."""
  about, rows = record.load("transfer")
  errors: dict[str, dict[float, float]] = {}
  for row in rows:
    moved = ", transferred" if row["transfer"] == "True" else ""
    own = errors.setdefault(f"{row['width']} wide{moved}", {})
    own[float(row["rate"])] = float(row["error"])
  del errors["64 wide, transferred"]  # the base itself, once more
  lines = []
  for name, own in sorted(errors.items(), key=lambda x: "trans" in x[0]):
    least = min(own.values())
    texts = {x: f"{x:.3f}" for x in own.values()}
    texts[least] = f"**{texts[least]}**"
    lines.append([name, *(texts[x] for x in own.values())])
  rates = [f"{rate:g}" for rate in errors["64 wide"]]
  yield from table([f"error, {about['steps']} steps", *rates], lines)


def _coded(own: Sequence[Row]) -> list[str]:
  """Steps, PSNR, that of first frames and SSIM of clips not seen."""
  tested = [row for row in own if row["split"] == "test"]
  cells = [f"{mean(tested, c):.2f}" for c in ("psnr", "psnr_first_frame")]
  return [f"{int(own[0]['steps']):,}", *cells, f"{mean(tested, 'ssim'):.3f}"]


def ablation() -> Lines:
  """PSNR and SSIM of one autoencoder's variants, in equal minutes."""
  about, rows = record.load("autoencoder_world")
  yield from table(
    [f"{float(about['minutes']):g} minutes each", *CODED, *SEEN],
    [
      [
        _coded_by(name),
        *_coded(own),
        *(f"{mean(own, column):.2f}" for column in SEEN.values()),
      ]
      for name, own in points(rows).items()
    ],
  )


def _coded_by(point: str) -> str:
  return "matrix" if point == "linear" else f"`{point}`"


def _autoencoders() -> list[list[str]]:
  """Rows of those that were trained longest, beside a matrix."""
  rows: list[list[str]] = []
  trained = [("clips", "parity")]
  names = ("large", "longer", "decoder", "shipped")
  trained += [("world", name) for name in names]
  for data, point in trained:
    _, found = record.load(f"autoencoder_{data}_{point}")
    if point == "shipped":
      data = MORE
    for name, own in points(found).items():
      if name == "linear" and data in {row[0] for row in rows}:
        continue
      rows.append([data, _coded_by(name), *_coded(own)])
  return rows


def autoencoders() -> Lines:
  """PSNR and SSIM of the autoencoders that were trained longest."""
  yield from table(["data", "autoencoder", *CODED], _autoencoders())


def _beside(row: Row, judge: str, name: str, digits: int = 2) -> str:
  """A figure of what was generated, and that of the ceiling in brackets."""
  made, most = (
    float(row[f"{judge}/{who}/{name}"]) for who in ("generated", "autoencoder")
  )
  return f"{name} {made:.{digits}f} ({most:.{digits}f})"


def _minute() -> list[str]:
  """How much of long videos is still right, by what is handed on."""
  found = points(record.load("drift")[1])
  last = f"drift/{drift.AT[-1]:g} s/identity"
  said = [f"{float(own[0][last]):.2f} ({p})" for p, own in found.items()]
  return [
    f"still right after {drift.AT[-1]:g} s of video, by what is handed on",
    ", ".join(said),
    "`drift.py`",
  ]


def _first(name: str, point: str) -> Row:
  return points(record.load(name)[1])[point][0]


def _framed() -> list[str]:
  """How much native sizes and crops cut off."""
  shares = (
    f"{float(_first('framing', point)['framing/generated/cut']):.2f}"
    for point in ("native sizes", "square crops")
  )
  return [
    "frames of three shapes whose edge cuts a digit off, trained on these and "
    "on square crops",
    " and ".join(shares),
    "`framing.py`",
  ]


def _few() -> list[str]:
  """How near few steps come to many."""
  student, *teachers = (
    f"{float(_first('few_steps', point)['frechet/generated/distance']):.2f}"
    for point in (
      "student of quarters, 4 steps",
      "teacher, 50 steps, guidance 2",
      "teacher, 50 steps",
    )
  )
  return [
    "four steps against fifty of the teacher (the same at its own guidance)",
    f"Fréchet distance {student} and {teachers[0]} ({teachers[1]})",
    "`few_steps.py`",
  ]


def _moved(name: str, what: str, *asked: str) -> list[str]:
  """How many directions of motion points of a sweep get right."""
  column = "captions/generated/motion"
  shares = (f"{float(_first(name, point)[column]):.2f}" for point in asked)
  return [f"directions of motion, {what}", " and ".join(shares), f"`{name}.py`"]


def headlines() -> Lines:
  """The front page's: what each experiment came to, in a line."""

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
    said = read(_first("demo", point), [n for n in demo.READ if n != "all"])
    lines.append([f"by the demo, set `{point}`", said, "`demo.py`"])
  law, task = _first("physics", "test"), _first("tasks", "composition")
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
    _minute(),
  ]
  scaled_by, _ = record.load("scaling_fit")
  best = {(row[0], row[1]): row[3] for row in _autoencoders()}
  lines += [
    _framed(),
    _few(),
    _moved("parameterisation", "predicting x0 and velocity", "x0", "velocity"),
    _moved(
      "compression",
      "16 x 16 pixels to a token by four latent cells and by one",
      "8x8x8, 1x2x2",
      "8x16x16, 1x1x1",
    ),
    [
      "least denoising error of the quickstart by PFLOPs C of its training",
      f"{float(scaled_by['a']):.2g} C^-{float(scaled_by['b']):.2g}",
      "`scaling.py`",
    ],
    [
      "autoencoder at 4x8x8 against a matrix, PSNR of unseen clips",
      f"{best[MORE, '`shipped`']} and {best[MORE, 'matrix']} dB (world), "
      f"{best['clips', '`parity`']} and {best['clips', 'matrix']} (five real "
      "clips)",
      "`autoencoder.py`",
    ],
  ]
  yield from table(["what", "measured", "by"], lines)


LOST = {
  f"{name}, {row}": f"drift/{row}/{name}"
  for name in ("identity", "contrast", "sharpness")
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
TOLD = READ | {
  "motion, low": "captions/generated low/motion",
  "motion, high": "captions/generated high/motion",
}
LEARNED = READ | {"denoising error": "fixed_times/mean/error"}
PACKED = {k: v for k, v in LEARNED.items() if k != "Fréchet distance"}
FRAMED = {
  "frames that cut a digit off": "framing/generated/cut",
  "low": "framing/generated low/cut",
  "high": "framing/generated high/cut",
  "in real clips": "framing/real/cut",
} | {k: READ[k] for k in ("colour", "motion", "background")}
LEVELS = {
  f"{name}, dB": f"tasks/{task}/generated"
  for name, task in (
    ("from a picture", "i2v"),
    ("last frame given", "last_frame"),
    ("inpaint", "inpaint"),
    ("outpaint", "outpaint"),
  )
} | {k: READ[k] for k in ("colour", "motion", "background")}
KEPT = {"PSNR, dB": "psnr"} | {
  f"{name}, {who}": f"{who}/{name}"
  for name in ("motion", "digit", "all")
  for who in ("generated", "autoencoder")
}
TABLES: dict[str, Callable[[], Lines]] = {
  "headlines": headlines,
  "oracle": oracles,
  "quickstart": eight_minutes,
  "autoencoder": autoencoders,
  "guidance": lambda: of_sweep("guidance", READ),
  "few_steps": lambda: of_sweep("few_steps", READ),
  "optimizer": lambda: of_sweep("optimizer", LEARNED),
  "scaling": lambda: of_sweep("scaling", LEARNED, compute=True),
  "framing": lambda: of_sweep("framing", FRAMED),
  "levels": lambda: of_sweep("levels", LEVELS),
  "joint": lambda: of_sweep("joint", READ),
  "parameterisation": lambda: of_sweep("parameterisation", TOLD),
  "compression": lambda: of_sweep("compression", READ, compute=True),
  "transfer": transferred,
  "packing": lambda: of_sweep("packing", PACKED),
  "ablation": ablation,
  "latents": lambda: of_sweep("latents", KEPT),
  "demo": lambda: demo_tables.of_captions("demo"),
  "sizes": lambda: demo_tables.of_captions("sizes"),
  "tasks": demo_tables.of_tasks,
  "edits": demo_tables.of_edits,
  "caching": demo_tables.of_caching,
  "drift": lambda: of_sweep("drift", LOST),
  "physics": demo_tables.of_physics,
  "speed": speed_tables.of_benches,
  "switches": speed_tables.of_switches,
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
