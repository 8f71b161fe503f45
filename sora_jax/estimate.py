"""What a config costs, found without allocating anything.

FLOPs are counted by walking the traced program: two per multiply-add of every
matmul and convolution, loops times their length. XLA's own cost analysis counts
the body of a loop once, so it cannot be used under nn.scan.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax

from sora_jax.types import PyTree
from sora_jax.utils import tree


def flops(fn: Callable[..., Any], *args: Any) -> int:
  """Matmul and convolution FLOPs of fn(*args); args may be abstract."""
  return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr) -> int:
  return sum(_cost(eqn) for eqn in jaxpr.eqns)


def _cost(eqn) -> int:
  kind = eqn.primitive.name
  if kind == "dot_general":
    (contract, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    inner = math.prod(shape[i] for i in contract)
    return 2 * math.prod(eqn.outvars[0].aval.shape) * inner
  if kind == "conv_general_dilated":
    kernel = eqn.invars[1].aval.shape
    out = eqn.params["dimension_numbers"].rhs_spec[0]  # output channels
    inner = math.prod(n for i, n in enumerate(kernel) if i != out)
    return 2 * math.prod(eqn.outvars[0].aval.shape) * inner
  inside = [_count(j) for j in _jaxprs(eqn.params)]
  if kind == "scan":
    return eqn.params["length"] * sum(inside)
  if kind == "cond":
    return max(inside, default=0)
  return sum(inside)


def _jaxprs(params):
  for value in params.values():
    for v in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(v, "jaxpr"):
        yield v.jaxpr
      elif hasattr(v, "eqns"):
        yield v


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What one stage costs.

  Attributes:
    parameters: count by module, two levels deep, largest first.
    flops: of one train step, recomputation by remat included.
    state_bytes: of the training state on one device.
    temporary_bytes: what the compiled step needs beside it, on one device;
      None if it was not compiled.
  """

  parameters: dict[str, int]
  flops: int
  state_bytes: int
  temporary_bytes: int | None


def estimate(
  step: Callable[..., Any], state: PyTree, batch: PyTree, compile: bool
) -> Estimate:
  """Estimates a jitted train step from abstract arguments.

  Args:
    step: jitted (state, batch) -> (state, metrics).
    state: ShapeDtypeStructs with shardings.
    batch: ShapeDtypeStructs with shardings.
    compile: also compile it, to know the memory that it needs.
  """
  temporary = None
  if compile:
    analysis = step.lower(state, batch).compile().memory_analysis()
    temporary = int(analysis.temp_size_in_bytes)
  return Estimate(
    parameters=modules(state.params),
    flops=flops(step, state, batch),
    state_bytes=sum(_local_bytes(x) for x in jax.tree.leaves(state)),
    temporary_bytes=temporary,
  )


def modules(params: PyTree, depth: int = 2) -> dict[str, int]:
  """Parameters by module: names cut to `depth` levels, largest first."""
  found: dict[str, int] = {}
  for name, leaf in tree.named(params):
    short = "/".join(name.split("/")[:depth])
    found[short] = found.get(short, 0) + math.prod(leaf.shape)
  return dict(sorted(found.items(), key=lambda item: -item[1]))


def _local_bytes(x: jax.ShapeDtypeStruct) -> int:
  shape = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
  return math.prod(shape) * x.dtype.itemsize
