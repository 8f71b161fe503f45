"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
  """Writes a file under a temporary name, then renames it."""
  partial = path.with_name(f".{path.name}.partial")
  partial.write_text(text)
  os.replace(partial, path)
