"""Checkpoints: written in the background, complete or absent, self-describing.

A checkpoint is the directory `<directory>/<step>` with the items "state" (any
pytree of arrays) and "data" (the position of a grain iterator), and, as JSON,
the run's config and a small `meta`. It is written under a temporary name and
renamed at the end, so a process killed at any moment loses nothing that was
complete. Every process of a run calls these functions together.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from sora_jax.training import exported
from sora_jax.utils import tree

PyTree = Any

_STATE = "state"
_DATA = "data"
_MAX_DIFFERENCES = 8


def _worth_reading(record: logging.LogRecord) -> bool:
  """Drops orbax's progress reports, keeps its warnings."""
  return record.levelno >= logging.WARNING or "orbax" not in record.pathname


# Orbax reports dozens of lines a save at INFO, through the logger that every
# user of absl shares. A filter mutes orbax alone, and outlives app.run, which
# sets that logger's level.
logging.getLogger("absl").addFilter(_worth_reading)


class Checkpointer:
  """A run's checkpoints.

  Opening it removes what a killed process left half written, so only the run
  that writes a directory opens it like this; others use `load` and
  `load_config`.

  Args:
    directory: where they are, relative or absolute; made if missing.
    keep: how many to keep, the newest, >= 1.
    config: what describes the run, as JSON-able data; saved with each.
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep: int,
    config: Mapping[str, Any],
  ):
    if keep < 1:
      raise ValueError(f"keep={keep}: at least 1 checkpoint has to be kept.")
    # Here, because in the background a TypeError would surface a save later.
    self._config = json.loads(json.dumps(dict(config)))
    self._directory = _absolute(directory)
    if exported.there(self._directory):
      raise ValueError(
        f"{directory} holds exported weights, which no training goes on from: "
        "use another --workdir, and name that folder as autoencoder.checkpoint "
        "or dit.checkpoint"
      )
    self._orbax = ocp.training.Checkpointer(
      self._directory,
      preservation_policy=ocp.training.preservation_policies.LatestN(keep),
      cleanup_tmp_directories=True,
    )

  def save(
    self,
    step: int,
    state: PyTree,
    data: Any | None = None,
    *,
    force: bool = False,
    meta: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves `state` as of now in the background; a step that exists is kept.

    Waits only for the save before it, whose failure it raises. The caller may
    donate or overwrite `state` and advance `data` at once.

    Args:
      step: steps taken.
      state: a pytree of arrays, e.g. `types.State`.
      data: a grain iterator, saved with its position.
      force: return only when it is on disk, for a run that is about to end.
      meta: JSON-able facts about this moment, e.g. seconds trained.
    """
    step = int(step)
    if step not in (saved.step for saved in self._orbax.checkpoints):
      items = {_STATE: state} if data is None else {_STATE: state, _DATA: data}
      self._orbax.save_checkpointables_async(
        step,
        items,
        # When to save is the loop's decision; orbax's own policy would skip a
        # step while the one before is still being written.
        force=True,
        custom_metadata={"config": self._config, "meta": dict(meta or {})},
      )
    if force:
      self.wait()

  def latest(self) -> int | None:
    """The newest step on disk, after any save in progress; None if none."""
    self.wait()
    return max(_steps(self._directory), default=None)

  def restore(
    self,
    abstract_state: PyTree,
    data: Any | None = None,
    step: int | None = None,
  ) -> PyTree:
    """The state of `step`, of the newest without; `data` moves to its place.

    Args:
      abstract_state: jax.ShapeDtypeStruct in the structure of the saved state.
        Each array gets the sharding that is given here, whatever it was saved
        with; without one it goes to the first device.
      data: the grain iterator of the same pipeline, moved in place.
      step: the checkpoint to read.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if names, shapes or dtypes differ, naming those that do.
    """
    self.wait()
    return _read(_find(self._directory, step), abstract_state, data)

  def meta(self, step: int | None = None) -> dict[str, Any]:
    """What `save` was given as `meta` at `step`, at the newest without."""
    self.wait()
    return load_meta(self._directory, step)

  def config(self, step: int | None = None) -> dict[str, Any]:
    """The config of the run that saved `step`, tuples having become lists."""
    self.wait()
    return load_config(self._directory, step)

  def wait(self) -> None:
    """Returns when everything is on disk; raises what failed on the way."""
    self._orbax.wait()

  def close(self) -> None:
    """Waits, and frees the writing threads."""
    self._orbax.close()

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *unused_error: object) -> None:
    self.close()


def load(
  directory: str | os.PathLike[str], abstract: PyTree, step: int | None = None
) -> PyTree:
  """Reads a part of a saved state, and only that part.

  Args:
    directory: what `Checkpointer` was given, or of exported weights.
    abstract: jax.ShapeDtypeStruct in the structure of a part of the saved
      state, e.g. {"ema": {"ae": ...}}. Arrays are cast to the dtype given here
      and placed with its sharding, without one on the first device.
    step: the checkpoint to read, the newest by default.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: if a name is missing or a shape differs, naming those that do.
  """
  directory = _absolute(directory)
  if not exported.there(directory):
    return _read(_find(directory, step), abstract, part=True)
  found = exported.arrays(directory)
  _check(directory, dict(tree.named(abstract)), found, part=True)
  return exported.place(found, jax.tree.map(_placed, abstract))


def exists(directory: str | os.PathLike[str]) -> bool:
  """Whether a directory holds a checkpoint, or exported weights."""
  return exported.there(directory) or bool(_steps(_absolute(directory)))


def load_config(
  directory: str | os.PathLike[str], step: int | None = None
) -> dict[str, Any]:
  """The config saved with a checkpoint, the newest by default.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
  """
  return _custom(directory, step, "config")


def load_meta(
  directory: str | os.PathLike[str], step: int | None = None
) -> dict[str, Any]:
  """The `meta` saved with a checkpoint, the newest by default.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
  """
  return _custom(directory, step, "meta")


def _custom(directory: str | os.PathLike[str], step: int | None, name: str):
  """What was saved beside a checkpoint under `name`."""
  directory = _absolute(directory)
  if exported.there(directory):
    return exported.about(directory, name)
  return _metadata(_find(directory, step)).custom_metadata[name]


def _absolute(directory: str | os.PathLike[str]) -> epath.Path:
  # Orbax refuses relative paths; epath also knows buckets (gs://, s3://).
  return epath.Path(directory).expanduser().absolute()


def _steps(directory: epath.Path) -> list[int]:
  """The complete checkpoints; half-written ones bear another name."""
  names = ocp.path.step.standard_name_format()
  return sorted(found.step for found in names.find_all(directory))


def _find(directory: epath.Path, step: int | None) -> epath.Path:
  """The path of a checkpoint, of the newest without `step`."""
  steps = _steps(directory)
  if not steps:
    raise FileNotFoundError(
      f"No checkpoint in {directory}. Train first, which writes them, or give"
      " the checkpoint directory of a run that has trained."
    )
  step = steps[-1] if step is None else int(step)
  if step not in steps:
    raise FileNotFoundError(
      f"No checkpoint of step {step} in {directory}; steps there: {steps}."
    )
  return directory / ocp.path.step.standard_name_format().build_name(step)


def _metadata(path: epath.Path) -> Any:
  """What is known of a checkpoint without reading its arrays."""
  if not (path / _STATE).exists():
    raise ValueError(
      f"{path} has no {_STATE!r}: it is damaged, or not of `Checkpointer`."
      " Remove it to use the one before."
    )
  return ocp.metadata(path, checkpointable_name=_STATE)


def _read(
  path: epath.Path,
  abstract: PyTree,
  data: Any | None = None,
  part: bool = False,
) -> PyTree:
  """Reads `abstract`, and the place of `data`, from a checkpoint."""
  saved = _metadata(path).metadata
  # Before reading, because a partial load returns what it does not find as the
  # ShapeDtypeStruct that it was given, and a full one casts silently. Metadata
  # that cannot be read is None, and the read below says why.
  if saved is not None:
    # Names are the same for a dataclass, a named tuple and a dict.
    _check(path, dict(tree.named(abstract)), dict(tree.named(saved)), part)
  items = {_STATE: jax.tree.map(_placed, abstract)}
  if data is not None:
    items[_DATA] = data
  context = ocp.Context()
  context.pytree.loading.partial_load = part
  try:
    with context:
      return ocp.load_checkpointables(path, items)[_STATE]
  except Exception as error:
    # Orbax wraps all that can go wrong, from a missing item to a full memory,
    # in one error about handlers; the reason is at the end of the chain.
    reason = error
    while reason.__cause__ is not None:
      reason = reason.__cause__
    raise ValueError(
      f"{path} cannot be read: {type(reason).__name__}: {reason}"
    ) from error


def _placed(leaf: Any) -> Any:
  """`leaf` with a sharding: orbax would take the saved one, whose devices
  need not exist here."""
  if not isinstance(leaf, jax.ShapeDtypeStruct) or leaf.sharding is not None:
    return leaf
  sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check(
  path: epath.Path,
  asked: dict[str, Any],
  saved: dict[str, Any],
  part: bool,
) -> None:
  """Raises ValueError with the leaves that differ."""
  differences = []
  for name, leaf in asked.items():
    if name not in saved:
      differences.append(f"{name}: not in the checkpoint")
    elif np.shape(saved[name]) != np.shape(leaf) or (
      not part and _dtype(saved[name]) != _dtype(leaf)
    ):
      differences.append(
        f"{name}: saved {_type(saved[name])}, asked for {_type(leaf)}"
      )
  if not part:
    extra = [name for name in saved if name not in asked]
    differences += [f"{name}: saved, but not asked for" for name in extra]
  if not differences:
    return
  more = len(differences) - _MAX_DIFFERENCES
  shown = differences[:_MAX_DIFFERENCES] + [f"({more} more)"] * (more > 0)
  raise ValueError(
    f"{path} does not fit what it is loaded into:\n  "
    + "\n  ".join(shown)
    + f"\nSaved are {sorted({name.split('/')[0] for name in saved})}. Use the"
    " config that it was trained with (`load_config` reads it), or a new"
    " directory."
  )


def _dtype(leaf: Any) -> Any:
  return getattr(leaf, "dtype", type(leaf))  # Numbers of Python have none.


def _type(leaf: Any) -> str:
  return f"{_dtype(leaf)}{list(np.shape(leaf))}"
