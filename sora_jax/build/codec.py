"""The autoencoder and what it minimises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sora_jax.models import perceptual
from sora_jax.models.autoencoder import BLOCKS, Autoencoder
from sora_jax.models.causal_conv import LOWERINGS
from sora_jax.models.discriminator import Discriminator
from sora_jax.objectives.autoencode import Adversary, Autoencode
from sora_jax.objectives.penalties import TERMS
from sora_jax.types import PyTree
from sora_jax.utils.dtypes import DTYPES, OPERANDS
from sora_jax.utils.sections import call, key, plain


def autoencoder(config: ConfigDict) -> Autoencode:
  """The autoencoder's objective."""
  section = plain(config.autoencoder.model)
  dtype = key(DTYPES, section.pop("dtype"), "autoencoder.model.dtype")
  matmul = key(OPERANDS, section.pop("matmul"), "autoencoder.model.matmul")
  formats = {"dtype": dtype, "matmul": matmul}
  model = call(Autoencoder, section, "autoencoder.model", **formats)
  key(LOWERINGS, model.lowering, "autoencoder.model.lowering")
  key(BLOCKS, model.block, "autoencoder.model.block")
  options = plain(config.autoencoder.objective)
  for name in options["terms"]:
    key(TERMS, name, "autoencoder.objective.terms")
  options["terms"] = {k: v for k, v in options["terms"].items() if v}
  player = adversary(options.pop("adversary"), dtype)
  weight = options.pop("perceptual")["weight"]
  where, given = "autoencoder.objective", {"model": model, "perceptual": weight}
  return call(Autoencode, options, where, **given, adversary=player)


def untrained(
  config: ConfigDict, codec: Autoencode, abstract: bool = False
) -> dict[str, PyTree]:
  """What the autoencoder's stage starts with and does not train.

  Latent statistics that change nothing, and LPIPS's weights if it minimises it.

  Args:
    config: of the run.
    codec: its autoencoder.
    abstract: only the shapes of the weights; their file need not be there.

  Raises:
    FileNotFoundError, ValueError: for what is no file of such weights.
  """
  out, section = {"stats": codec.no_stats()}, lpips(config)
  if section is None:
    return out
  if abstract:
    return out | {"perceptual": perceptual.abstract()}
  return out | {"perceptual": perceptual.load(section.path, section.sha256)}


def lpips(config: ConfigDict) -> ConfigDict | None:
  """The section of LPIPS if the autoencoder minimises it."""
  section = config.autoencoder.objective.perceptual
  if section.weight and not section.path:
    raise ValueError(
      f"autoencoder.objective.perceptual.weight={section.weight} needs the "
      "weights of LPIPS: set its path, see models/perceptual.py"
    )
  return section if section.weight else None


def adversary(section: Mapping[str, Any], dtype: Any) -> Adversary | None:
  """The autoencoder's second player; None for the weight 0."""
  where, options = "autoencoder.objective.adversary", dict(section)
  model = {k: options.pop(k) for k in ("width", "depth") if k in options}
  judge = call(Discriminator, model, where, dtype=dtype)
  made = call(Adversary, options, where, model=judge)
  return made if made.weight else None
