"""Where a run's arrays lie, and whether devices have equal shares of them."""

from __future__ import annotations

from collections.abc import Iterable

from ml_collections import ConfigDict

from sora_jax.build.data import rows
from sora_jax.data import loader
from sora_jax.sharding import mesh, rules
from sora_jax.sharding.placement import Placement


def placement(config: ConfigDict) -> Placement:
  """The devices, and what each has of the transformer's attention.

  Raises:
    ValueError: if the mesh is impossible, or would leave attention whole; that
      of the text encoder, which is small, may stay so.
  """
  devices = mesh.make(config.mesh)
  made = Placement(devices, rules.pick(config.strategy, devices.axis_names))
  if set(config.stages) != {"autoencoder"}:  # which has no transformer
    heads, shape = config.dit.model.heads, rows(config)
    made.check("attend", heads, "dit.model.heads")
    length = shape.length + shape.text
    made.check("length", length, "dit.rows.length + dit.rows.text")
  return made


def check_rows(
  config: ConfigDict, placement: Placement, stages: Iterable[str]
) -> None:
  """Whether the batches of stages divide: sampling fills its calls anyhow.

  Raises:
    ValueError: naming both numbers.
  """
  if "autoencoder" in stages:
    placement.check("rows", config.autoencoder.batch, "autoencoder.batch")
  if "dit" in stages:
    shape = rows(config)
    placement.check("rows", shape.rows, "dit.rows.rows")
    if shape.layout == "bucketed":  # of which batches are multiples
      what = f"the power of two in dit.rows.rows={shape.rows}"
      placement.check("rows", loader.unit(shape.rows), what)
