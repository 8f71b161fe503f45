"""Trees of arrays: names, sizes, hashes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


def named(tree: Any) -> Iterator[tuple[str, object]]:
  """Yields ("a/b/c", leaf) in a stable order."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def size(tree: Any) -> int:
  """Numbers in all leaves together."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
  """Bytes of all leaves together."""
  return sum(
    math.prod(x.shape) * np.dtype(x.dtype).itemsize
    for x in jax.tree.leaves(tree)
  )


def digest(tree: Any) -> str:
  """Sha256 of names, shapes, types and bytes: 12 hexadecimal digits."""
  h = hashlib.sha256()
  for name, leaf in named(tree):
    x = np.asarray(leaf)
    h.update(f"{name} {x.shape} {x.dtype}".encode())
    h.update(np.ascontiguousarray(x).tobytes())
  return h.hexdigest()[:12]
