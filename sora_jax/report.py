"""What a run was and made, on one page: `report.html`, self-contained.

Curves, tables, samples that play, contact sheets, the config and what it ran
on, all in one file that opens without a network. It is made from what lies in
the run's folder, so it can be made again at any time.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from sora_jax.utils import files, logs

NAME = "report.html"
ROOM = 24 * 2**20  # bytes of samples and pictures at most
POINTS = 500  # of a curve at most
_KINDS = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 70rem; color: #1b1b1b; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd;
  text-align: right }
th:first-child, td:first-child { text-align: left }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figcaption { font-size: 12px; max-width: 16rem; overflow-wrap: anywhere }
figure video, figure img.clip { width: 16rem; image-rendering: pixelated }
img.wide, svg { max-width: 100%; height: auto }
pre { font-size: 12px; overflow-x: auto }
"""


def write(folder: Path) -> Path:
  """Makes the page of a run, whole or not at all.

  Args:
    folder: of the run, with any of config.json, metrics.jsonl, samples/,
      grids/, reconstructions/ and novelty/ in it. What is missing is left out.

  Returns:
    where the page is.
  """
  stages = metrics(folder)
  title = html.escape(folder.name)
  parts = [f"<h1>{title}</h1>", _table(facts(stages))]
  room = _Room(ROOM)
  parts += _section("Samples", _samples(folder, room))
  for stage, own in stages.items():
    tables = map(_table, sheet(own))
    parts += _section(f"Stage {stage}", [*_curves(own), *tables])
  pictures = [folder / "samples" / "contact_sheet.png"]
  pictures += _last(folder / "grids")
  parts += _section("Pictures", _files(folder, pictures, room))
  coded = _files(folder, _last(folder / "reconstructions"), room)
  parts += _section("Reconstructions, the originals to the left", coded)
  nearest = _files(folder, _last(folder / "novelty"), room)
  parts += _section("Samples and the nearest clips of training", nearest)
  if room.left_out:
    parts.append(
      f"<p>{room.left_out} files are not on this page, which would have more "
      f"than {ROOM >> 20} MiB with them; they lie in the run's folder.</p>"
    )
  parts += _section("Config", _config(folder))
  page = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
    + "\n".join(parts)
    + "\n</body></html>\n"
  )
  path = folder / NAME
  files.write_text(path, page)
  return path


def metrics(folder: Path) -> dict[str, list[dict[str, Any]]]:
  """The lines of a run's metrics.jsonl, by stage; none without that file."""
  stages: dict[str, list[dict[str, Any]]] = {}
  if (folder / "metrics.jsonl").is_file():
    for line in logs.read_metrics(folder / "metrics.jsonl"):
      stages.setdefault(line["stage"], []).append(line)
  return stages


def _section(title: str, body: Sequence[str] | Iterator[str]) -> list[str]:
  """A headline and what stands under it, or nothing."""
  body = list(body)
  return [f"<h2>{html.escape(title)}</h2>", *body] if body else []


def _table(rows: Sequence[Mapping[str, object]]) -> str:
  """Rows of the same keys, the first of which names the row."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
  body = "".join(
    "<tr>" + "".join(f"<td>{_cell(row, name)}</td>" for name in names) + "</tr>"
    for row in rows
  )
  return f"<table><tr>{head}</tr>{body}</table>"


def _cell(row: Mapping[str, object], name: str) -> str:
  return html.escape(logs.cell(row[name])) if name in row else ""


def facts(
  stages: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, object]]:
  """What it ran on, and what every stage took."""
  versions = [f"{n} {metadata.version(n)}" for n in ("jax", "flax", "optax")]
  device = jax.devices()[0]
  facts: list[dict[str, object]] = [
    {"run": "devices", "": f"{jax.device_count()} x {device.device_kind}"},
    {"run": "machine", "": f"{platform.machine()}, {platform.system()}"},
    {"run": "software", "": ", ".join([platform.python_version(), *versions])},
  ]
  for stage, own in stages.items():
    steps = [line["step"] for line in own if _training(line)]
    if steps:
      hours = _hours(own)
      told = f"{max(steps):,} steps, {hours:.2f} hours"
      facts.append({"run": f"stage {stage}", "": told + _pace(own)})
  return facts


def _pace(lines: Sequence[Mapping[str, Any]]) -> str:
  """How fast it was in the middle of its training, and how large in the end."""
  reports = [line for line in lines if _training(line)]
  found = dict(reports[len(reports) // 2])
  if "peak_gib" in reports[-1]:
    found["peak_gib"] = reports[-1]["peak_gib"]
  said = {
    "clips_per_s": ", {:,.4g} clips/s",
    "tokens_per_s": ", {:,.4g} tokens/s",
    "padding": ", {:.1%} padding",
    "mfu": ", {:.1%} of the matmul rate",
    "peak_gib": ", {:.1f} GiB at most",
  }
  return "".join(
    text.format(float(found[name]))
    for name, text in said.items()
    if name in found
  )


def _training(line: Mapping[str, Any]) -> bool:
  """Whether it reports steps, and not what evaluators found."""
  return any(name.endswith("steps_per_s") for name in line)


def _hours(lines: Sequence[Mapping[str, Any]]) -> float:
  """Of training: without the time between the parts of an interrupted run.

  What ends at a line of evaluators was spent on them.
  """
  pairs = itertools.pairwise(lines)
  gaps = [b["time"] - a["time"] for a, b in pairs if _training(b)]
  if not gaps:
    return 0.0
  usual = sorted(gaps)[len(gaps) // 2]
  return sum(gap for gap in gaps if gap <= max(20 * usual, 600)) / 3600


def _curves(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """All that was reported while training, a small plot each."""
  found: dict[str, list[tuple[float, float]]] = {}
  for line in lines:
    for name, value in line.items():
      if name not in logs.RESERVED and _training(line):
        found.setdefault(name, []).append((line["step"], value))
  found = {k: v for k, v in found.items() if len(v) > 1}
  if not found:
    return
  # Imported here: a third of a second that no command's start need pay.
  from matplotlib.figure import Figure

  columns = 3
  rows = -(-len(found) // columns)
  figure = Figure(figsize=(11, 2.2 * rows), layout="constrained")
  for i, (name, points) in enumerate(found.items(), 1):
    axis = figure.add_subplot(rows, columns, i)
    thin = points[:: -(-len(points) // POINTS)]
    axis.plot(*zip(*thin), linewidth=1)
    axis.set_title(name, fontsize=9)
    axis.tick_params(labelsize=7)
  text = io.StringIO()
  figure.savefig(text, format="svg", metadata={"Date": None})
  yield text.getvalue()[text.getvalue().index("<svg") :]


def sheet(lines: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
  """What a stage's evaluators said last, as rows, a table for each."""
  last: dict[str, float] = {}
  for line in lines:
    last |= {k: v for k, v in line.items() if k.count("/") >= 2}
  return logs.tables(last)


class _Room:
  """Files as data, until they are too many."""

  def __init__(self, left: int):
    self._left, self.left_out = left, 0

  def data(self, path: Path) -> str | None:
    """The file as a URL that holds it; None where there is no room."""
    size = path.stat().st_size
    if size > self._left:
      self.left_out += 1
      return None
    self._left -= size
    text = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_KINDS[path.suffix]};base64,{text}"


def _samples(folder: Path, room: _Room) -> Iterator[str]:
  path = folder / "samples" / "samples.jsonl"
  text = path.read_text() if path.is_file() else ""
  # Not splitlines: prompts may contain the other line ends of Unicode.
  for line in filter(None, text.split("\n")):
    told = json.loads(line)
    file = path.parent / told["files"][0]
    data = room.data(file) if file.is_file() else None
    if data is None:
      continue
    shown = f'<img class="clip" alt="" src="{data}">'
    if file.suffix == ".mp4":
      shown = _video(data)
    prompt = told["prompt"]
    if not isinstance(prompt, str):
      prompt = " ".join(f"[{first}] {caption}" for first, caption in prompt)
    label = f"{told['task']}: {prompt} (seed {told['seed']})"
    caption = f"<figcaption>{html.escape(label)}</figcaption>"
    yield f"<figure>{shown}{caption}</figure>"


def _last(folder: Path) -> list[Path]:
  """An evaluator's files of its last step, with which their names begin."""
  found = sorted(p for p in folder.glob("*") if p.suffix in _KINDS)
  steps = [path.stem.partition("-")[0] for path in found]
  return [p for p, step in zip(found, steps) if step == steps[-1]]


def _files(folder: Path, paths: Sequence[Path], room: _Room) -> Iterator[str]:
  """Pictures and videos of a run, as far as they are there."""
  for path in paths:
    if path.is_file() and (data := room.data(path)):
      name = html.escape(path.relative_to(folder).as_posix())
      shown = f'<img class="wide" alt="{name}" src="{data}">'
      if path.suffix == ".mp4":
        shown = _video(data)
      yield f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def _video(data: str) -> str:
  return f'<video controls loop muted autoplay src="{data}"></video>'


def _config(folder: Path) -> Iterator[str]:
  path = folder / "config.json"
  if path.is_file():
    text = json.dumps(json.loads(path.read_text()), indent=2)
    yield f"<details><summary>all keys</summary><pre>{html.escape(text)}</pre>"
    yield "</details>"
