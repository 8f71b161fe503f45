"""Trained weights as one safetensors file, small enough to give away.

The folder of an exported stage holds `weights.safetensors` alone: arrays by
their names in the state, and in the file's metadata the run's config, the
checkpoint's `meta`, and where to find what is not repeated, all as JSON.
`checkpoint.load`, `load_config` and `load_meta` read such a folder as they read
a run's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sora_jax.utils import tree

NAME = "weights.safetensors"
HALF = 2  # dimensions from which on float32 is written as float16


def write(
  folder: str | os.PathLike[str],
  state: Any,
  elsewhere: Mapping[str, tuple[str, str]],
  **about: Any,
) -> Path:
  """Writes a part of a state, whole or not at all.

  Matrices and kernels are rounded to float16: of a weight 1 part in 2,048.

  Args:
    folder: of the stage; made if missing.
    state: pytree of arrays.
    elsewhere: where what begins with a name is, as (folder beside this one,
      name there), instead of in `state`.
    **about: JSON-able: `config` and `meta`.

  Raises:
    ValueError: for a weight too large for float16.
  """
  arrays = {name: np.asarray(leaf) for name, leaf in tree.named(state)}
  for name, array in arrays.items():
    if array.dtype == np.float32 and array.ndim >= HALF:
      most = np.abs(array).max(initial=0)
      if not most <= np.finfo(np.float16).max:
        raise ValueError(f"{name} has a weight of {most:g}, beyond float16")
      arrays[name] = np.ascontiguousarray(array.astype(np.float16))
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / f".{NAME}.partial"
  told = {"elsewhere": elsewhere, **about}
  # Not `save_file`, whose files nobody else may read.
  partial.write_bytes(save(arrays, {k: json.dumps(v) for k, v in told.items()}))
  os.replace(partial, folder / NAME)
  return folder / NAME


def there(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder holds exported weights."""
  return (Path(folder) / NAME).is_file()


def about(folder: str | os.PathLike[str], what: str) -> Any:
  """What was said beside the weights: "config", "meta" or "elsewhere"."""
  with _open(folder) as file:
    return json.loads(file.metadata()[what])


def arrays(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """All arrays by name, with those that lie elsewhere.

  Raises:
    FileNotFoundError: if what lies elsewhere is not there.
    ValueError: if a file cannot be read.
  """
  with _open(folder) as file:
    # A list: the file is no dict, and has no other way through it.
    names = list(file.keys())
    found = {name: file.get_tensor(name) for name in names}
  for name, (beside, there_) in about(folder, "elsewhere").items():
    other = Path(folder).parent / beside
    if not there(other):
      raise FileNotFoundError(f"{folder} needs {other / NAME}: copy both")
    for theirs, array in arrays(other).items():
      if theirs.startswith(there_ + "/"):
        found[name + theirs.removeprefix(there_)] = array
  return found


def place(found: Mapping[str, np.ndarray], abstract: Any) -> Any:
  """Arrays in the structure, dtypes and shardings of a part of a state."""
  put = [
    jax.device_put(found[name].astype(leaf.dtype), leaf.sharding)
    for name, leaf in tree.named(abstract)
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), put)


def _open(folder: str | os.PathLike[str]):
  path = Path(folder) / NAME
  try:
    return safe_open(path, "np")
  except SafetensorError as error:
    raise ValueError(f"{path} is no safetensors file: {error}") from error
