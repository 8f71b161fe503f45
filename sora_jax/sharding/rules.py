"""Sharding strategies: logical axis of a weight -> mesh axis.

Models name the logical axes of their weights and never see a mesh.
"""

from __future__ import annotations

# Every logical name that a model may use.
AXES = ("embed", "mlp", "heads", "vocab", "layers")

STRATEGIES: dict[str, dict[str, str | None]] = {
  # Every device holds everything.
  "replicated": dict.fromkeys(AXES),
  # ZeRO-3: weights, gradients and optimizer state cut along the width.
  "fsdp": {**dict.fromkeys(AXES), "embed": "fsdp"},
}


def pick(name: str, mesh_axes: tuple[str, ...]) -> tuple[tuple, ...]:
  """The strategy as flax's rules.

  Raises:
    ValueError: for an unknown strategy, or one that needs an axis that the
      mesh lacks.
  """
  if name not in STRATEGIES:
    raise ValueError(f"unknown strategy {name!r}; valid: {sorted(STRATEGIES)}")
  table = STRATEGIES[name]
  missing = {a for a in table.values() if a} - set(mesh_axes)
  if missing:
    raise ValueError(
      f"strategy {name!r} shards over {sorted(missing)}, which the mesh "
      f"{mesh_axes} lacks: add the axis to `mesh`, or take another strategy"
    )
  return tuple(table.items())
