"""Activations on devices: the placement that `utils.axes` asks for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.sharding.rules import Axis, ways
from sora_jax.sharding.state import fitting
from sora_jax.types import Array
from sora_jax.utils.axes import Axes


@dataclasses.dataclass(frozen=True)
class Placement:
  """Logical axes on a mesh; a dimension that does not divide stays whole.

  Without a word: `check` is for those that had better divide.

  Attributes:
    mesh: of devices.
    rules: from `rules.pick`.
  """

  mesh: Mesh
  rules: tuple[tuple[str, Axis], ...]

  @property
  def table(self) -> dict[str, Axis]:
    """Logical axis -> mesh axis."""
    return dict(self.rules)

  def spec(self, axes: Axes, shape: tuple[int, ...]) -> PartitionSpec:
    """The mesh axes of an array of such logical axes and shape."""
    wanted = PartitionSpec(*(self.table[a] if a else None for a in axes))
    return fitting(wanted, shape, self.mesh)

  def devices(self, axes: Axes, shape: tuple[int, ...]) -> int:
    """Over how many an array is spread; its axes may share some."""
    used = {a for axis in self.spec(axes, shape) for a in ways(axis)}
    return math.prod(self.mesh.shape[a] for a in used)

  def check(self, axis: str, size: int, what: str) -> None:
    """Raises ValueError if a dimension that is to be cut would stay whole."""
    names, count = ways(self.table[axis]), self._count(axis)
    if size % count:
      raise ValueError(
        f"{what} is {size}, which does not divide over {count} devices (mesh "
        f"axes {names}): use a multiple of {count}, or another mesh"
      )

  def _count(self, axis: str) -> int:
    return math.prod(self.mesh.shape[a] for a in ways(self.table[axis]))

  def spread(self, axis: str) -> bool:
    """See `utils.axes.Placement`."""
    return self._count(axis) > 1

  def constrain(self, x: Array, axes: Axes) -> jax.Array:
    """See `utils.axes.Placement`."""
    spec = self.spec(axes, x.shape)
    return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec))

  def locally(
    self, fn: Callable, inputs: Sequence[Axes], output: Axes
  ) -> Callable:
    """See `utils.axes.Placement`."""

    def run(*args: Array) -> jax.Array:
      specs = tuple(self.spec(a, x.shape) for a, x in zip(inputs, args))
      shape = jax.eval_shape(fn, *args).shape
      return jax.shard_map(
        fn,
        mesh=self.mesh,
        in_specs=specs,
        out_specs=self.spec(output, shape),
        check_vma=False,  # kernels do not say how their results vary
      )(*args)

    return run
