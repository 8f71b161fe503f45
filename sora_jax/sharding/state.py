"""Shardings of a training state, from its abstract shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.sharding.rules import ways
from sora_jax.types import PyTree

WORTH_SAYING = 0.05  # share of a state


def fitting(
  spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh
) -> PartitionSpec:
  """The spec without the axes that do not divide their dimension."""

  def keep(axis, size):
    names = (axis,) if isinstance(axis, str) else axis or ()
    return axis if size % math.prod(mesh.shape[n] for n in names) == 0 else None

  padded = (*spec, *[None] * (len(shape) - len(spec)))
  return PartitionSpec(*(keep(a, n) for a, n in zip(padded, shape)))


def shardings(abstract: PyTree, mesh: Mesh, rules) -> PyTree:
  """NamedSharding of every leaf of a boxed abstract state.

  A dimension that its mesh axis does not divide stays whole on every device.
  """
  specs = nn.get_partition_spec(abstract)
  sharded = nn.logical_to_mesh_sharding(specs, mesh, rules)

  def place(sharding, tree):
    # A tree, because optimizers mask what is not theirs by an empty one.
    return jax.tree.map(
      lambda x: NamedSharding(mesh, fitting(sharding.spec, x.shape, mesh)), tree
    )

  return jax.tree.map(place, sharded, nn.meta.unbox(abstract))


def whole(abstract: PyTree, mesh: Mesh, rules) -> tuple[float, set[str]]:
  """What a strategy means to cut and cannot, of a boxed abstract state.

  Returns:
    its share of the bytes, and which sizes do not divide over which axes.
  """
  table, total, kept, why = dict(rules), 0, 0, set()
  for leaf in jax.tree.leaves(abstract, is_leaf=lambda x: hasattr(x, "names")):
    value = getattr(leaf, "value", leaf)
    if not hasattr(value, "shape"):
      continue  # what an optimizer masks
    size = math.prod(value.shape) * value.dtype.itemsize
    total += size
    reasons = {
      f"{name} {n} over {axis}={mesh.shape[axis]}"
      for name, n in zip(getattr(leaf, "names", ()), value.shape)
      for axis in ways(table.get(name))
      if n % mesh.shape[axis]
    }
    kept += size if reasons else 0
    why |= reasons
  return kept / max(total, 1), why


def create(
  make: Callable[..., Any], args: tuple, mesh: Mesh, rules
) -> tuple[Callable[[], PyTree], PyTree]:
  """How to make a sharded state, and what it will look like.

  Args:
    make: args -> state whose parameters are in flax's logical boxes.
    args: arguments of `make`.
    mesh: devices.
    rules: from `rules.pick`.

  Returns:
    a function that makes the state on the devices, each computing its own
    share; and the state as ShapeDtypeStructs with shardings.
  """
  boxed = jax.eval_shape(make, *args)
  share, why = whole(boxed, mesh, rules)
  if share > WORTH_SAYING:
    logging.warning(
      "%.0f %% of the state stays whole on every device, for these do not "
      "divide: %s. Take another size of the mesh",
      100 * share,
      ", ".join(sorted(why)),
    )
  placed = shardings(boxed, mesh, rules)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    nn.meta.unbox(boxed),
    placed,
  )

  def build() -> PyTree:
    init = jax.jit(lambda *a: nn.meta.unbox(make(*a)), out_shardings=placed)
    # From the host, where every process has the same.
    return init(*jax.device_get(args))

  return build, abstract
