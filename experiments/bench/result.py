"""What a bench has found: one line of JSON, and with --record a result file.

The file is results/bench_NAME_DEVICE.csv, so that one device's figures do not
take the place of another's. A figure is a row; those within others are named by
the way to them ("gain/blocks scanned").
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

import jax
from absl import flags

from experiments import record
from sora_jax.utils import logs

RECORD = flags.DEFINE_bool("record", False, "write results/bench_*.csv, too")
_CPU = pathlib.Path("/proc/cpuinfo")
_MALLOC = "GLIBC_TUNABLES"  # says how memory is taken, which decides the pace


def say(name: str, figures: Mapping[str, object], device: str = "") -> None:
  """Prints the figures of a bench, and records them if that is asked for.

  Args:
    name: of the bench.
    figures: numbers, and sequences and mappings of them, by name.
    device: what ran it, as JAX names it; "" asks JAX, and so opens it.
  """
  device = device or jax.devices()[0].device_kind
  logs.say(json.dumps({"device": device} | dict(figures)))
  if not RECORD.value:
    return
  rows = [{"figure": key, "value": value} for key, value in flat(figures)]
  about = {
    "commit": record.commit(),
    "options": " ".join(a for a in sys.argv[1:] if a != "--record"),
    "machine": processor(),
    _MALLOC: os.environ.get(_MALLOC, ""),
  }
  label = re.sub(r"\W+", "-", device.lower())
  record.save(f"bench_{name}_{label}", rows, **about)


def flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
  """Figures by the way to them: of mappings by key, of sequences by place."""
  if isinstance(value, Mapping):
    inner = value.items()
  elif isinstance(value, Sequence) and not isinstance(value, str):
    inner = enumerate(value)
  else:
    yield at, value
    return
  for key, one in inner:
    yield from flat(one, f"{at}/{key}" if at else str(key))


def processor() -> str:
  """The CPU by name, and how many cores this process may use of it."""
  name = platform.machine()
  if _CPU.exists():
    found = re.search(r"model name\s*: (.*)", _CPU.read_text())
    name = found[1].strip() if found else name
  return f"{name}, {len(os.sched_getaffinity(0))} cores"
