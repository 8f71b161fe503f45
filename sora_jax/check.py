"""Whether a config agrees with itself, and with a checkpoint.

Names and options are looked up by `build`; here numbers are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sora_jax.data import buckets
from sora_jax.data.world import sets
from sora_jax.evaluators import drift
from sora_jax.models import i3d
from sora_jax.models.attention import EXACT
from sora_jax.models.autoencoder import ENCODER, latent_size
from sora_jax.packing import patchify
from sora_jax.sampling import excerpts, tasks
from sora_jax.sampling.request import Request
from sora_jax.utils import tree


def heads(config: ConfigDict) -> None:
  """Whether each model's heads divide its width, for rotary pairs evenly.

  Raises:
    ValueError: naming both.
  """
  codec, dit = config.autoencoder.model, config.dit.model
  for where, model, block in (
    ("autoencoder.model", codec, codec.block),
    ("dit.model", dit, "transformer"),
    ("dit.model.text", dit.text, "transformer"),
  ):
    least = 1 if block == "transformer" else 0
    if model.heads < least or (model.heads and model.width % (2 * model.heads)):
      raise ValueError(
        f"{where}.heads={model.heads} with block={block!r} and width="
        f"{model.width}: need >= {least}, and an even width for each head"
      )


def kernel(config: ConfigDict) -> None:
  """Whether the autoencoder's convolutions see as far to all sides.

  Raises:
    ValueError: for an even kernel, which not all lowerings pad alike.
  """
  temporal, spatial = config.autoencoder.model.kernel
  if min(temporal, spatial) < 1 or spatial % 2 == 0:
    raise ValueError(
      f"autoencoder.model.kernel={(temporal, spatial)}: (time, space) must be "
      ">= 1, and space odd"
    )


def sizes(config: ConfigDict) -> None:
  """Whether clips fit the rows and the patches, and crops the clips.

  Raises:
    ValueError: naming both numbers and the keys to change.
  """
  model, packed = config.autoencoder.model, config.dit.rows
  patch = config.dit.patch
  if patch[0] != 1:
    raise ValueError(
      f"dit.patch={patch}: a token is one latent frame, since the first frame "
      "stands alone; use (1, ph, pw), and compress time in the autoencoder"
    )
  if not config.scales or not all(0 < share <= 1 for share in config.scales):
    raise ValueError(
      f"scales={config.scales}: give at least one share of `tokens`, each > 0 "
      "and <= 1"
    )
  frames = _latent_frames(config, config.data.frames)
  if frames > config.dit.frames:
    raise ValueError(
      f"data.frames={config.data.frames} makes {frames} latent frames and "
      f"dit.frames is {config.dit.frames}: raise dit.frames to {frames}"
    )
  if frames * config.tokens > packed.length:
    raise ValueError(
      f"a clip may have {frames} x {config.tokens} tokens and dit.rows.length "
      f"is {packed.length}: raise it, or lower tokens or data.frames"
    )
  if config.text.max_tokens > packed.text:
    raise ValueError(
      f"text.max_tokens={config.text.max_tokens} exceeds dit.rows.text="
      f"{packed.text}: raise dit.rows.text"
    )
  if config.sample.cache < 0:
    raise ValueError(f"sample.cache={config.sample.cache}: need at least 0")
  if config.sample.decode_frames < 1:
    raise ValueError(
      f"sample.decode_frames={config.sample.decode_frames}: the decoder takes "
      "at least 1 latent frame at a time"
    )
  _crops(config)
  size = latent_size(config.sample.size, model.compression)
  patchify.grid((*size, 1), patch)


def _crops(config: ConfigDict) -> None:
  """Whether the autoencoder's crops are possible, of clips so long."""
  section = config.autoencoder
  if section.zoom < 1 or section.thin < 1 or section.thin % 1:
    raise ValueError(
      f"autoencoder.zoom={section.zoom}, autoencoder.thin={section.thin}: zoom "
      "must be >= 1, and thin a whole number >= 1"
    )
  needed = 1 + (section.size[0] - 1) * section.thin
  if section.thin > 1 and config.data.frames < needed:
    raise ValueError(
      f"autoencoder.thin={section.thin} leaves too little of clips of "
      f"data.frames={config.data.frames} for crops of {section.size[0]}: raise "
      f"data.frames to {needed}, or take thin=1"
    )
  _, *crop = latent_size(section.size, section.model.compression)
  if section.objective.equivariance and any(n % 2 for n in crop):
    raise ValueError(
      f"autoencoder.objective.equivariance halves latents, and those of "
      f"autoencoder.size={section.size} are {crop}: take sizes of "
      f"an even number of cells of {section.model.compression[1:]} pixels"
    )


def teacher(config: ConfigDict) -> None:
  """Whether a distillation knows whom to learn from.

  Raises:
    ValueError: naming the keys.
  """
  objective = config.dit.objective
  if "scale" not in objective or config.dit.checkpoint:
    return
  if objective.scale > 0:
    raise ValueError(
      f"dit.objective={objective.to_dict()} distils a trained transformer: set "
      "dit.checkpoint to its folder, and autoencoder.checkpoint to that of its "
      "autoencoder; or scale=0 to learn from data alone"
    )


def evaluators(config: ConfigDict) -> None:
  """Whether the data has what its judges need.

  Raises:
    ValueError: naming the evaluator, now and not after hours of training.
  """
  for name, section in config.dit.evaluators.items():
    where = f"dit.evaluators.{name}"
    _judged_tasks(config, section, where)
    _enough(config, section, where)
    laws = section.name == "laws"
    judges = section.name in ("laws", "drift", "edits")
    if judges or ("oracle" in section and section.oracle == "world"):
      _exact(config, where)
    if "rollout" in section:
      frames = config.data.frames
      rolls(config, section.rollout, section.keep, frames, where)
    if laws and sets.SETS[config.data.set].shots[0] > 1:
      raise ValueError(
        f"{where} judges clips of one shot, and those of data.set="
        f"{config.data.set!r} have more: remove the evaluator"
      )
    if section.name == "edits":
      _edited(config, where)
    if section.name == "drift":
      _stays(config, where)


def _edited(config: ConfigDict, where: str) -> None:
  """Whether a set shows anything whose edits have a known answer."""
  rules = sets.SETS[config.data.set]
  if rules.shots[0] > 1 or set(rules.shapes) == {"digit"}:
    raise ValueError(
      f"{where} judges changes of clips of one shot without handwriting, and "
      f"data.set={config.data.set!r} shows none: remove the evaluator"
    )


def _stays(config: ConfigDict, where: str) -> None:
  """Whether a set shows anything that may go on for ever."""
  rules = sets.SETS[config.data.set]
  still = rules.shots[0] == 1 and "still" in rules.cameras
  if not still or not set(drift.STEADY) & set(rules.motions):
    raise ValueError(
      f"{where} judges what rests or spins before a still camera in one shot, "
      f"and data.set={config.data.set!r} shows none: remove the evaluator"
    )


def rolls(
  config: ConfigDict, rollout: ConfigDict, keep: int, frames: int, where: str
) -> None:
  """Whether a block of so many frames leaves something to make.

  Raises:
    ValueError: naming the numbers and the key to change.
  """
  anchor = "anchor" in rollout and rollout.anchor
  known, there = keep + anchor, _latent_frames(config, frames)
  if known >= there:
    raise ValueError(
      f"{where}.keep={keep} latent frames and the anchor fill a block "
      f"of {frames} frames, which has {there}: lower it"
    )


def _enough(config: ConfigDict, section: ConfigDict, where: str) -> None:
  """Whether clips are long enough, and two there for each that is judged."""
  if section.name != "frechet":
    return
  data = config.data
  sources = data.parts.values() if "parts" in data else [data]
  shortest = min(source.frames for source in sources)
  if section.features == "i3d" and shortest < i3d.LEAST:
    raise ValueError(
      f"{where}.features='i3d' sees clips of {i3d.LEAST} frames or more, and "
      f"data has some of {shortest}: leave them out, or take 'random'"
    )
  if config.evaluation.split == "train":
    return
  if not all("test_count" in source for source in sources):
    return  # until the files are read
  there = sum(source.test_count for source in sources)
  if there < 2 * section.clips:
    raise ValueError(
      f"{where}.clips={section.clips} are compared with as many others, and "
      f"the split has {there}: lower it, or raise test_count"
    )


def _judged_tasks(config: ConfigDict, section: ConfigDict, where: str) -> None:
  """Whether a judge's tasks leave something to make of the data's clips."""
  cell = config.autoencoder.model.compression
  frames = 1 + cell[0] * (_latent_frames(config, config.data.frames) - 1)
  clip = np.zeros((frames, 2 * cell[1], 2 * cell[2], 3), np.uint8)
  keep = section.keep if "keep" in section else 2
  wanted = section.tasks if "tasks" in section else ()
  if "task" in section:
    wanted = (section.task,)
  for task in wanted:
    if task not in excerpts.ANSWERED or task == "t2i":
      continue  # what no clip answers, its class refuses
    asked = excerpts.excerpt(task, clip, cell, keep)
    try:
      tasks.draft(Request("", clip.shape[:3], task, keep=keep, **asked), cell)
    except ValueError as error:
      raise ValueError(
        f"{where} cannot judge clips of data.frames={config.data.frames}: "
        f"{error}"
      ) from error


def _exact(config: ConfigDict, where: str) -> None:
  """Whether clips reach an evaluator with their ground truth."""
  data, (ct, ch, cw) = config.data, config.autoencoder.model.compression
  if data.name != "world":
    raise ValueError(
      f"{where} judges against the ground truth of the source 'world', and "
      f"data.name is {data.name!r}: take the data 'world', or remove the "
      "evaluator"
    )
  _, ph, pw = config.dit.patch
  tokens = max(int(config.tokens * max(config.scales)), 1)
  sizes = buckets.table(tokens, (ch * ph, cw * pw))
  drawn = config.evaluation.split == "train" and len(config.scales) > 1
  if drawn or (data.height, data.width) not in sizes or (data.frames - 1) % ct:
    raise ValueError(
      f"{where} judges clips that nothing has cut or scaled, and data is "
      f"{data.frames} x {data.height} x {data.width}: take 1 + {ct} * k frames "
      f"and a size of {sizes}, which `tokens` decides, and one of `scales`"
    )


def _latent_frames(config: ConfigDict, frames: int) -> int:
  return 1 + (frames - 1) // config.autoencoder.model.compression[0]


# What may differ between training and sampling: how it is computed, and where
# its training began.
_FREE = ("remat", "dtype", "matmul", "lowering", "max_tokens", "tubes")


def same_model(
  config: ConfigDict, saved: Mapping[str, Any], folder: Path, stage: str = "dit"
) -> None:
  """Raises ValueError if a stage's checkpoint is of another model.

  A transformer's means its autoencoder's, too, and not the other way round.
  """

  def meaning(c):
    dit = {k: c["dit"][k] for k in ("model", "patch", "process", "shift")}
    if dit["model"]["attention"] in EXACT:
      dit["model"] = dit["model"] | {"attention": "full"}
    found = {"autoencoder.model": c["autoencoder"]["model"], "text": c["text"]}
    found |= {f"dit.{k}": v for k, v in dit.items()}
    return {
      k: {o: x for o, x in v.items() if o not in _FREE}
      if isinstance(v, dict)
      else v
      for k, v in found.items()
    }

  now = meaning(json.loads(config.to_json_best_effort()))
  before = meaning(saved)
  differ = [k for k in now if now[k] != before[k]]
  if stage == "autoencoder":
    differ = [k for k in differ if k == "autoencoder.model"]
  if differ:
    lines = [f"  {k}: saved {before[k]}, now {now[k]}" for k in differ]
    raise ValueError(
      f"the checkpoint in {folder} is of another model:\n"
      + "\n".join(lines)
      + "\nGive the config that it was trained with, or another --workdir."
    )


def same_objective(
  config: ConfigDict, saved: Mapping[str, Any], folder: Path
) -> None:
  """Raises ValueError if a transformer learned something else to say."""
  whole = {"parts": 1}
  then = whole | dict(saved["dit"]["objective"])
  now = whole | config.dit.objective.to_dict()
  before, asked = (f"{o['name']!r}, parts={o['parts']}" for o in (then, now))
  if before != asked:
    raise ValueError(
      f"the transformer in {folder} learned {before}, and dit.objective is "
      f"{asked}: train first, which begins with it"
    )


def decoder_alone(section: ConfigDict) -> bool:
  """Whether a stage trains an autoencoder's decoder and nothing else."""
  objective = section.objective  # a transformer's has no parts
  return "part" in objective and objective.part == "decoder"


def same_latents(
  trained_on: Any, now: Any, folder: Path, decoder: bool = True
) -> None:
  """Raises ValueError if a transformer knows another latent space.

  Args:
    trained_on: the autoencoder that it froze, and its latents' statistics.
    now: those that it meets.
    folder: where the transformer is.
    decoder: whether decoders must agree, too; latents do not depend on them.
  """

  def makes(codec):
    params = codec["autoencoder"]
    if not decoder:
      params = {k: v for k, v in params.items() if k.startswith(ENCODER)}
    return tree.digest([params, codec["stats"]])

  if makes(trained_on) != makes(now):
    raise ValueError(
      f"{folder} was trained on the latents of another autoencoder: use that "
      "one (autoencoder.checkpoint; exported weights are rounded, so beside "
      "them the exported one), or another --workdir"
    )
