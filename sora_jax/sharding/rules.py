"""Sharding strategies: logical axis -> mesh axis.

Models name the logical axes of their weights and activations and never see a
mesh. Rows of a batch are spread over "data" and "fsdp" by every strategy.
"""

from __future__ import annotations

Axis = str | tuple[str, ...] | None

BATCH = ("data", "fsdp")  # the axes over which rows of a batch are spread

# Every logical name that a model may use. Of weights:
WEIGHTS = ("embed", "mlp", "heads", "vocab", "layers")
# Of activations: tokens of a row where they are spread, and the heads of
# attention where every head sees a whole row. "mlp" and "heads" are of both.
ACTIVATIONS = ("rows", "length", "attend")
AXES = WEIGHTS + ACTIVATIONS

_REPLICATED: dict[str, Axis] = dict.fromkeys(AXES) | {"rows": BATCH}
# ZeRO-3: weights, gradients and optimizer state cut along the width.
_FSDP: dict[str, Axis] = {"embed": "fsdp"}
# Heads and hidden units each on their own device (Shoeybi et al. 2019).
_TENSOR: dict[str, Axis] = {
  "mlp": "tensor",
  "heads": "tensor",
  "vocab": "tensor",
  "attend": "tensor",
}
# Tokens of a row spread, but for attention, for which they are exchanged for
# heads (Jacobs et al. 2023, "DeepSpeed Ulysses").
_SEQUENCE: dict[str, Axis] = {"length": "sequence", "attend": "sequence"}

STRATEGIES: dict[str, dict[str, Axis]] = {
  "replicated": _REPLICATED,
  "fsdp": _REPLICATED | _FSDP,
  "tensor": _REPLICATED | _TENSOR,
  "sequence": _REPLICATED | _SEQUENCE,
  "fsdp_tensor": _REPLICATED | _FSDP | _TENSOR,
  "fsdp_sequence": _REPLICATED | _FSDP | _SEQUENCE,
  "fsdp_tensor_sequence": (
    _REPLICATED
    | _FSDP
    | _TENSOR
    | _SEQUENCE
    | {"attend": ("tensor", "sequence")}
  ),
}


def ways(axis: Axis) -> tuple[str, ...]:
  """The mesh axes that a logical axis is spread over."""
  if axis is None:
    return ()
  return (axis,) if isinstance(axis, str) else axis


def pick(name: str, mesh_axes: tuple[str, ...]) -> tuple[tuple[str, Axis], ...]:
  """The strategy as flax's rules, with rows over what the mesh has of BATCH.

  Raises:
    ValueError: for an unknown strategy, or one that needs an axis that the
      mesh lacks.
  """
  if name not in STRATEGIES:
    raise ValueError(f"unknown strategy {name!r}; valid: {sorted(STRATEGIES)}")
  table = STRATEGIES[name]
  needed = {a for k, axis in table.items() if k != "rows" for a in ways(axis)}
  if missing := needed - set(mesh_axes):
    raise ValueError(
      f"strategy {name!r} shards over {sorted(missing)}, which the mesh "
      f"{mesh_axes} lacks: add the axis to `mesh`, or take another strategy"
    )
  rows = tuple(a for a in BATCH if a in mesh_axes)
  return tuple((table | {"rows": rows}).items())
