"""Logical axes of activations: what models say, without seeing a mesh.

Models name the axes of what they compute; whoever traces them may put a
placement in charge, which knows the devices. Without one nothing happens.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

Axes = tuple[str | None, ...]  # a logical name, or None, for each dimension


class Placement(Protocol):
  """Puts logical axes onto devices."""

  def devices(self, axes: Axes, shape: tuple[int, ...]) -> int:
    """Over how many an array of this shape is spread."""

  def spread(self, axis: str) -> bool:
    """Whether a logical axis lies on more than one device."""

  def constrain(self, x: Any, axes: Axes) -> Any:
    """x, spread over the devices by its axes."""

  def locally(
    self, fn: Callable, inputs: Sequence[Axes], output: Axes
  ) -> Callable:
    """fn, run by every device on its own share of each argument."""


_ACTIVE: contextvars.ContextVar[Placement | None] = contextvars.ContextVar(
  "placement", default=None
)


@contextlib.contextmanager
def placed(placement: Placement | None) -> Iterator[None]:
  """What is traced inside is placed so."""
  token = _ACTIVE.set(placement)
  try:
    yield
  finally:
    _ACTIVE.reset(token)


def spread(axis: str) -> bool:
  """Whether a logical axis lies on more than one device."""
  placement = _ACTIVE.get()
  return placement is not None and placement.spread(axis)


def constrain(x: Any, *axes: str | None) -> Any:
  """x [...] with these logical axes, spread as the placement in charge says."""
  placement = _ACTIVE.get()
  return x if placement is None else placement.constrain(x, axes)


def locally(fn: Callable, inputs: Sequence[Axes], output: Axes) -> Callable:
  """fn for devices that hold a share of its arguments and need no other.

  Args:
    fn: of arrays, the same function on every share.
    inputs: logical axes of its arguments.
    output: of its result.
  """
  placement = _ACTIVE.get()
  return fn if placement is None else placement.locally(fn, inputs, output)


def gathered(weight: Any, axes: Axes) -> Any:
  """A weight as it is used: whole along the width that it is stored cut along.

  Said outright, because a compiler that is left to choose may cut what is
  multiplied instead, and exchange much larger activations.
  """
  return constrain(weight, *(None if a == "embed" else a for a in axes))
