"""Device meshes with named axes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sora_jax.sharding.rules import BATCH


def make(axes: Mapping[str, int]) -> Mesh:
  """A mesh over all devices.

  Args:
    axes: size by axis name, in order; one of them may be -1 = what is left.

  Raises:
    ValueError: if the sizes do not multiply to the number of devices.
  """
  count = jax.device_count()
  sizes = dict(axes)
  free = [name for name, size in sizes.items() if size == -1]
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if len(free) == 1 and fixed > 0 and count % fixed == 0:
    sizes[free[0]] = count // fixed
  elif free or fixed != count:
    raise ValueError(
      f"mesh {dict(axes)} does not fit {count} devices: sizes must multiply "
      f"to {count}, with at most one -1 (it takes what is left)"
    )
  # Linen's sharding constraints need Auto; make_mesh alone gives Explicit.
  return jax.make_mesh(
    tuple(sizes.values()),
    tuple(sizes),
    axis_types=(AxisType.Auto,) * len(sizes),
  )


def rows(mesh: Mesh) -> NamedSharding:
  """Sharding of arrays whose first axis is rows or clips of a batch."""
  axes = tuple(a for a in BATCH if a in mesh.shape)
  return NamedSharding(mesh, PartitionSpec(axes))


def share(sharding: NamedSharding, rows: int) -> tuple[int, int]:
  """Which part of a batch's rows this process's devices hold, of how many.

  Processes across which rows are not spread, but heads or tokens, hold the
  same part.

  Raises:
    ValueError: if the parts of two processes overlap.
  """
  parts: dict[int, set[int]] = {}
  for device, (at, *_) in sharding.devices_indices_map((rows,)).items():
    held = parts.setdefault(device.process_index, set())
    held.update(range(*at.indices(rows)))
  kinds = sorted({tuple(sorted(held)) for held in parts.values()})
  if sum(map(len, kinds)) != rows or len({len(k) for k in kinds}) != 1:
    raise ValueError(
      f"{rows} rows over {dict(sharding.mesh.shape)} give the {len(parts)} "
      "processes parts that overlap: put each process's devices along one of "
      "the mesh axes"
    )
  own = parts[jax.process_index()]
  return kinds.index(tuple(sorted(own))), len(kinds)
