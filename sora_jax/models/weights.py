"""Weights of published networks, from files that the user has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file


def read(
  path: str | os.PathLike[str],
  sha256: str,
  shapes: Mapping[str, tuple[int, ...]],
  what: str,
) -> dict[str, np.ndarray]:
  """Reads and checks a safetensors file.

  Args:
    path: of the file.
    sha256: of it, or its first digits, in either case; "" checks none.
    shapes: of every array that is needed, by its name.
    what: the file holds, for errors.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: naming the hash, or the first array that differs.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"no weights at {path}: give one safetensors file with {what}"
    )
  found = hashlib.sha256(path.read_bytes()).hexdigest()
  if not found.startswith(sha256.lower()):
    raise ValueError(f"{path} has the sha256 {found}, wanted {sha256}")
  try:
    arrays = load_file(path)
  except SafetensorError as error:
    raise ValueError(f"{path} is no safetensors file: {error}") from error
  for name, shape in shapes.items():
    has = arrays[name].shape if name in arrays else None
    if has != shape:
      raise ValueError(
        f"{path}: {name} is {has or 'missing'}, it must be {shape}"
      )
  return {name: arrays[name] for name in shapes}
