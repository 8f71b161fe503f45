"""A trained run as a folder to give away: weights, words, a model card.

workdir/exported/README.md                        the card
                 tokenizer.json
                 autoencoder/weights.safetensors
                 dit/weights.safetensors

`Run.open` and the configs' `autoencoder.checkpoint` and `dit.checkpoint` take
such a folder as they take a run's. Weights are the averaged ones that sampling
uses, as float16; to go on training from them starts the optimizer anew.

The config beside them is the one that the export is asked for with: `dtype`,
`attention`, `matmul` and `workers` are best set to what suits the machines
that the folder is for, whatever the run was trained with, since `Run.open`
computes as that config says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from sora_jax import check, report, trained
from sora_jax.datasets import TOKENIZER
from sora_jax.run import Run
from sora_jax.training import checkpoint, exported
from sora_jax.types import State
from sora_jax.utils import files, logs, processes, sections, tree

NAME = "exported"
# Where a transformer finds the autoencoder that it froze.
FROZEN = {
  "frozen/autoencoder": ("autoencoder", "ema/ae"),
  "frozen/stats": ("autoencoder", "frozen/stats"),
}


def write(run: Run) -> Path:
  """Writes the folder of a trained run, its card last.

  Raises:
    FileNotFoundError: if a stage of the config is not trained.
    ValueError: if the transformer knows the latents of another autoencoder.
  """
  folder = run.workdir / NAME
  wanted = (
    ("autoencoder", "dit") if "dit" in run.config.stages else ("autoencoder",)
  )
  states = {name: run.restored(name) for name in wanted}
  if "dit" in states:
    where = trained.folder(run.config, run.workdir, "dit")
    check.same_latents(states["dit"].frozen, run.autoencoder(), where)
    words = run.data.tokenizer()
    if processes.first():
      folder.mkdir(parents=True, exist_ok=True)
      words.save(folder / TOKENIZER)
  if not processes.first():
    return folder
  for name, state in states.items():
    _write(run, folder, name, state)
  text = "\n".join(_card(run, folder, states)) + "\n"
  files.write_text(folder / "README.md", text)
  return folder


def _write(run: Run, folder: Path, name: str, state: State) -> None:
  """One stage's weights."""
  where = trained.folder(run.config, run.workdir, name)
  parts = {"step": state.step, "ema": state.ema}
  if name == "autoencoder":
    parts["frozen"] = state.frozen
  exported.write(
    folder / name,
    parts,
    FROZEN if name == "dit" else {},
    config=sections.plain(_alone(run.config)),
    meta=checkpoint.load_meta(where),
  )


def _alone(config: ConfigDict) -> ConfigDict:
  """The config without what lies on the machine that it ran on."""
  config = ConfigDict(config.to_dict())
  trained.elsewhere(config)
  config.mesh, config.strategy = {"data": -1}, "replicated"
  config.autoencoder.checkpoint = config.dit.checkpoint = ""
  config.autoencoder.init = ""
  if check.decoder_alone(config.autoencoder):
    config.autoencoder.objective.part = "all"
  config.autoencoder.objective.perceptual.update(weight=0.0, path="")
  for name in ("path", "data_dir"):
    if name in config.data:
      config.data[name] = ""
  return config


def _card(run: Run, folder: Path, states: Mapping[str, State]) -> Iterator[str]:
  """Lines of Markdown: what it is, how to use it, how it was judged."""
  stages = report.metrics(run.workdir)
  yield f"# {run.workdir.name}"
  yield "\nWeights trained by sora_jax, to be named by a config's keys:\n"
  for name in states:
    yield f"* `{name}.checkpoint`: the folder `{name}` beside this file"
  if "dit" in states:
    yield "\n`Run.open` takes this folder as a run's."
  yield ""
  rows = []
  for name, state in states.items():
    path = folder / name / exported.NAME
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    rows.append(
      {
        "stage": name,
        "parameters": f"{tree.size(state.ema):,}",
        "steps": f"{int(state.step):,}",
        "MB": f"{path.stat().st_size / 1e6:.1f}",
        "sha256": digest[:16],
      }
    )
  yield from _markdown(rows)
  yield "\n## Training\n"
  yield from _markdown(report.facts(stages))
  for stage, lines in stages.items():
    for i, rows in enumerate(report.sheet(lines)):
      if not i:
        yield f"\n## What the evaluators of the stage {stage} said last"
      yield ""
      yield from _markdown(rows)
  yield "\n## Config\n\n```json"
  yield json.dumps(sections.plain(_alone(run.config)), indent=1)
  yield "```"


def _markdown(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
  """Rows as a table, "-" where one has not got a column."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  yield "| " + " | ".join(names) + " |"
  yield "|---" * len(names) + "|"
  for row in rows:
    cells = (logs.cell(row[n]) if n in row else "-" for n in names)
    yield "| " + " | ".join(cells) + " |"
