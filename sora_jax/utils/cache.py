"""Compiled programs kept between runs, in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

_CPU = Path("/proc/cpuinfo")


def keep_compiled() -> None:
  """Lets JAX find tomorrow what it compiles today.

  In $XDG_CACHE_HOME or ~/.cache, a folder for each kind of machine, since
  programs for a CPU use what that CPU has. A folder that the user has named
  ($JAX_COMPILATION_CACHE_DIR) is left as it is.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  folder = root / "sora_jax" / "xla" / _machine()
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _machine() -> str:
  """12 hexadecimal digits that differ where a CPU can do other things."""
  told = [platform.machine(), platform.processor(), jax.__version__]
  if _CPU.exists():
    lines = _CPU.read_text().splitlines()
    told += sorted({x for x in lines if x.startswith(("flags", "Features"))})
  return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
