"""What has been trained: by the run itself, or by another that a config names.

`autoencoder.checkpoint` and `dit.checkpoint` are stage folders of other runs,
or of exported ones. An autoencoder that is given is never trained; a
transformer that is given serves where the run has none of its own, and is what
its training begins with. An autoencoder's begins with `autoencoder.init`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from sora_jax import check
from sora_jax.sharding import mesh
from sora_jax.training import checkpoint
from sora_jax.training.stage import Stage
from sora_jax.types import PyTree, State
from sora_jax.utils import logs, processes

CODEC = ("autoencoder", "stats")  # what a transformer freezes
PLAYERS = {"autoencoder": "ae", "dit": "dit"}  # whose weights a stage is for


def folder(config: ConfigDict, workdir: Path, name: str) -> Path:
  """Where a stage's weights are: of the run, else where the config says."""
  own, given = workdir / name, config[name].checkpoint
  if given and (name == "autoencoder" or not checkpoint.exists(own)):
    return Path(given)
  return own


def elsewhere(config: ConfigDict) -> None:
  """Has a config ask for nothing that only the machine of its training had.

  Its mesh stays if it fits the devices that are here.
  """
  for name in ("file", "source", "target", "mask"):
    config.sample[name] = ""
  config.autoencoder.evaluators = config.dit.evaluators = {}
  try:
    mesh.make(config.mesh)
  except ValueError:
    config.mesh, config.strategy = {"data": -1}, "replicated"


def _begins(config: ConfigDict, name: str) -> str:
  """The folder whose weights a stage's training begins with; "" for none."""
  if name == "dit":
    return config.dit.checkpoint
  return config.autoencoder.init


def check_given(config: ConfigDict, workdir: Path) -> None:
  """Whether what a training begins with is there and fits.

  Args:
    config: of the run.
    workdir: where it lives; what it has trained itself, it begins with no more.

  Raises:
    FileNotFoundError: if a checkpoint that is named is not there.
    ValueError: if it is of another model, or one is missing or too much.
  """
  check.teacher(config)
  for name in ("autoencoder", "dit"):
    if config[name].checkpoint:
      _same_model(config, Path(config[name].checkpoint), name)
  begun = checkpoint.exists(workdir / "autoencoder")
  if check.decoder_alone(config.autoencoder) and not begun:
    check_decoder(config)
  if init := _begins(config, "autoencoder"):
    if config.autoencoder.checkpoint:
      raise ValueError(
        f"autoencoder.checkpoint={config.autoencoder.checkpoint!r} is used as "
        f"it is, and autoencoder.init={init!r} would be trained: set one of "
        "them"
      )
    if not begun:
      _same_model(config, Path(init), "autoencoder")
  if config.dit.checkpoint and not config.autoencoder.checkpoint:
    raise ValueError(
      f"dit.checkpoint={config.dit.checkpoint!r} knows the latents of its own "
      "autoencoder: set autoencoder.checkpoint to that, which lies beside it"
    )


def check_decoder(config: ConfigDict) -> None:
  """Whether a decoder that is trained alone has latents to decode.

  Raises:
    FileNotFoundError: if they are not there.
    ValueError: if none are named, or they are not measured.
  """
  init = _begins(config, "autoencoder")
  if not init or config.autoencoder.checkpoint:
    raise ValueError(
      "autoencoder.objective.part='decoder' trains on a decoder whose encoder "
      "stays: set autoencoder.init to the folder of both, and "
      "autoencoder.checkpoint=''"
    )
  _check_measured(Path(init))


def _check_measured(where: Path) -> None:
  """Whether an autoencoder's latents have their statistics."""
  if not checkpoint.load_meta(where)["finished"]:
    raise ValueError(
      f"the autoencoder in {where} is not trained to its end, so its "
      "latents are not measured: run its own training again, it resumes"
    )


def _same_model(
  config: ConfigDict, where: Path, name: str
) -> Mapping[str, Any]:
  """The config that a folder was trained with, which has to fit."""
  saved = checkpoint.load_config(where)
  check.same_model(config, saved, where, name)
  return saved


def autoencoder(
  config: ConfigDict, workdir: Path, abstract: PyTree
) -> dict[str, PyTree]:
  """What the transformer freezes: {"autoencoder": ..., "stats": ...}.

  Args:
    config: of the run.
    workdir: where it lives.
    abstract: what is asked for of the autoencoder's state.

  Raises:
    FileNotFoundError: if none is trained.
    ValueError: if it is not trained to its end, or another model.
  """
  where = folder(config, workdir, "autoencoder")
  _check_measured(where)
  _same_model(config, where, "autoencoder")
  return processes.local(frozen(checkpoint.load(where, abstract)))


def frozen(codec: Mapping[str, PyTree]) -> dict[str, PyTree]:
  """The part of an autoencoder's state that the transformer freezes."""
  return {
    "autoencoder": codec["ema"]["ae"],
    "stats": codec["frozen"]["stats"],
  }


def teacher(config: ConfigDict, abstract: PyTree) -> PyTree:
  """The parameters that a distillation learns from: `dit.checkpoint`.

  Args:
    config: of the run.
    abstract: of the parameters.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if none is named, or it is another model.
  """
  check.teacher(config)
  where = Path(config.dit.checkpoint)
  _same_model(config, where, "dit")
  found = checkpoint.load(where, {"ema": {"dit": abstract}})
  return processes.local(found["ema"]["dit"])


def restored(
  config: ConfigDict, workdir: Path, name: str, abstract: State
) -> State:
  """What sampling and evaluation need of a trained stage.

  Of a transformer that is given with an autoencoder, the latter decodes, whose
  decoder may have been trained on since; a run's own keeps what it froze.

  Raises:
    FileNotFoundError: if the folder holds no such checkpoint.
    ValueError: if it holds one of another model, or of other latents.
  """
  where = folder(config, workdir, name)
  saved = _same_model(config, where, name)
  given = name == "dit" and where != workdir / name
  if given:
    check.same_objective(config, saved, where)
  wanted = {"step": abstract.step, "ema": abstract.ema}
  # What was only minimised is not needed any more.
  kept = abstract.frozen.keys() - {"perceptual", "teacher"}
  wanted["frozen"] = {k: abstract.frozen[k] for k in sorted(kept)}
  found = processes.local(checkpoint.load(where, wanted))
  if given and config.autoencoder.checkpoint:
    params, stats = (abstract.frozen[k] for k in CODEC)
    codec = {"ema": {"ae": params}, "frozen": {"stats": stats}}
    now = autoencoder(config, workdir, codec)
    check.same_latents(found["frozen"], now, where, decoder=False)
    found["frozen"] |= now
  return State(
    **found, params={}, opt={}, rng=jax.random.PRNGKey(0), bad=jnp.int32(0)
  )


def fresh(config: ConfigDict, name: str, stage: Stage, fixed: PyTree) -> State:
  """The state that a stage begins with.

  Args:
    config: of the run.
    name: of the stage.
    stage: makes the state.
    fixed: what is not trained; what is given has to know the same.

  Raises:
    FileNotFoundError: if weights are given and not there.
    ValueError: if they are of another model, or of other latents.
  """
  state, given = stage.make(), _begins(config, name)
  alone = name == "autoencoder" and check.decoder_alone(config.autoencoder)
  if alone:
    check_decoder(config)
  if not given:
    return state
  where = Path(given)
  _same_model(config, where, name)
  # Not the second player, which learns anew.
  player = PLAYERS[name]
  wanted = {"ema": {player: stage.abstract.ema[player]}}
  if name == "dit":
    wanted["frozen"] = {k: stage.abstract.frozen[k] for k in CODEC}
  elif alone:
    wanted["frozen"] = {"stats": stage.abstract.frozen["stats"]}
  found = checkpoint.load(where, wanted)
  if name == "dit":
    now = {k: fixed[k] for k in CODEC}
    then = processes.local(found["frozen"])
    check.same_latents(then, now, where, decoder=False)
  logs.say(f"{name}: begins with the weights in {where}")
  # Twice, for a step gives both away.
  params = jax.tree.map(jnp.copy, found["ema"])
  if alone:
    state = state.replace(frozen=state.frozen | found["frozen"])
  return state.replace(
    params=state.params | params, ema=state.ema | found["ema"]
  )
