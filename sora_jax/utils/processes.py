"""Several processes that train one model, each with devices of its own.

All of them run the same program. Arrays of a train step are spread over the
devices of all; what is not worth spreading (evaluation, sampling, statistics)
every process computes for itself, alike, and only the first one's files count.
Where they could come to differ, on time and on what lies on the disk, they
agree first. They share a file system.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sora_jax.utils import logs

BETWEEN = 5.0  # seconds between agreements on the time, about


def start(address: str, count: int, index: int) -> None:
  """Joins the other processes, of which the first alone talks from now on.

  To be called before anything else asks for devices.

  Args:
    address: "host:port" of the first process; "auto" where SLURM, Open MPI, GKE
      or Cloud TPU say it, and the rest, themselves. SLURM and Open MPI give a
      process one device, unless JAX_LOCAL_DEVICE_IDS names more.
    count: of processes; with "auto" ignored.
    index: of this one.

  Raises:
    ValueError: for what does not say who the others are.
  """
  advice = (
    "give --coordinator=HOST:PORT of the first process, --processes=COUNT of 2 "
    "or more, and --process=INDEX from 0 to COUNT - 1; or --coordinator=auto "
    "on SLURM, Open MPI, GKE or Cloud TPU"
  )
  if address == "auto":
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise ValueError(f"no other processes are found: {advice}") from error
  elif ":" not in address or count < 2 or not 0 <= index < count:
    raise ValueError(f"process {index} of {count} at {address!r}: {advice}")
  else:
    jax.distributed.initialize(
      address, count, index, cluster_detection_method="deactivate"
    )
  # JAX's own handler notes a SIGTERM and lets the process live on.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  if not first():
    logs.hush()


def check_shared(folder: Path) -> None:
  """Raises ValueError where a process does not see the first one's folder."""
  if jax.process_count() == 1:
    return
  token = int(agree(np.int32(time.time_ns() % 2**31)))
  path = folder / f"shared-{token}"
  if first():
    folder.mkdir(parents=True, exist_ok=True)
    path.touch()
  wait("the workdir is there")
  seen = path.exists()
  if any_of(not seen):
    where = "here" if not seen else "on another host"
    raise ValueError(
      f"--workdir={folder} of the first process is not seen {where} "
      f"({socket.gethostname()}): it has to be on a file system in common"
    )
  if first():
    path.unlink()


def check_same(text: str, what: str) -> None:
  """Raises ValueError if processes come with different texts."""
  digest = hashlib.sha256(text.encode()).digest()[:8]
  told = multihost_utils.process_allgather(np.frombuffer(digest, np.uint32))
  if (told != told[0]).any():
    raise ValueError(
      f"processes find different {what}; this one, on {socket.gethostname()}: "
      f"{text[:200]}"
    )


def first() -> bool:
  """Whether this process is the one whose files count."""
  return jax.process_index() == 0


def share() -> tuple[int, int]:
  """(index of this process, number of processes)."""
  return jax.process_index(), jax.process_count()


def agree(value: Any) -> np.ndarray:
  """What the first process says."""
  if jax.process_count() == 1:
    return np.asarray(value)
  return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def any_of(flag: bool) -> bool:
  """Whether it is true in any process."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.bool_(flag)).any())


def wait(what: str) -> None:
  """Returns when every process has come here, and calls it the same."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def missing(path: Path) -> bool:
  """Whether the first process finds nothing there.

  The others do not look: on a network they would go on seeing nothing.
  """
  return bool(agree(first() and not path.exists()))


def once(path: Path, make: Callable[[], None]) -> None:
  """Has the first process make what is not there yet; the others wait."""
  if missing(path):
    if first():
      make()
    wait(path.name)


@functools.cache
def private(folder: Path) -> Path:
  """The folder, for the first process; for others one that they can litter."""
  if first():
    return folder
  own = tempfile.mkdtemp()
  atexit.register(shutil.rmtree, own, ignore_errors=True)
  return Path(own)


def local(tree: Any) -> Any:
  """The tree with arrays whole on this process's first device.

  Arrays that are here in full are left as they are. All processes have to call
  it together.
  """

  def whole(x):
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
      return x
    x = multihost_utils.process_allgather(x, tiled=True)
    return jax.device_put(x, jax.local_devices()[0])

  return jax.tree.map(whole, tree)


def peak_memory() -> int:
  """Bytes: the most that one of its devices held, else that the process did.

  Since the process began, whatever it trained before.
  """
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  most = max(found.get("peak_bytes_in_use", 0) for found in stats)
  if most:
    return most
  held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return held if sys.platform == "darwin" else 1024 * held


class Pace:
  """A clock that all processes read alike, and a flag that any may raise.

  A process alone reads its own at every step. Several agree every few seconds,
  at a step that they agreed on before; in between their clock stands still.
  """

  def __init__(self, step: int):
    self._start, self._seconds = time.monotonic(), 0.0
    self._last, self._due, self._gap = step, step, 1
    self._raised = False

  def now(self) -> float:
    """Seconds since it was made, as of the last `tick`."""
    return self._seconds

  def tick(self, step: int, raised: bool) -> bool:
    """Takes the time; whether any process has raised its flag.

    Args:
      step: how many are done, one more at every call.
      raised: the flag of this process.
    """
    passed = time.monotonic() - self._start
    if jax.process_count() == 1:
      self._seconds, self._raised = passed, raised
    elif step >= self._due:
      told = multihost_utils.process_allgather(np.float32([passed, raised]))
      rate = (step - self._last) / max(float(told[0, 0]) - self._seconds, 1e-3)
      self._seconds, self._last = float(told[0, 0]), step
      # A few quick steps from a full buffer must not put off the next one.
      self._gap = min(max(int(BETWEEN * rate), 1), 2 * self._gap)
      self._due = step + self._gap
      self._raised |= bool(told[:, 1].any())
    return self._raised
