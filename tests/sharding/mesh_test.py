"""Which rows a process reads, for devices that are not here."""

import dataclasses

import jax
import pytest

from sora_jax.sharding import mesh


@dataclasses.dataclass(frozen=True)
class Device:
  process_index: int
  id: int


@dataclasses.dataclass
class Sharding:
  """Rows by (process, device)."""

  parts: dict
  mesh = dataclasses.make_dataclass("Mesh", [("shape", dict)])({"data": 2})

  def devices_indices_map(self, shape):
    del shape
    return {Device(*d): (slice(*at),) for d, at in self.parts.items()}


ROWS = {
  # Rows spread over all: each process its own half.
  "data": {(0, 0): (0, 2), (0, 1): (2, 4), (1, 2): (4, 6), (1, 3): (6, 8)},
  # Heads spread over processes: both read the same rows.
  "tensor": {(0, 0): (0, 4), (0, 1): (4, 8), (1, 2): (0, 4), (1, 3): (4, 8)},
  # One row each way, in another order than that of the processes.
  "turned": {(0, 0): (4, 8), (1, 1): (0, 4)},
  "whole": {(0, 0): (None, None)},
}


@pytest.mark.parametrize(
  "name, process, share",
  [
    ("data", 0, (0, 2)),
    ("data", 1, (1, 2)),
    ("tensor", 0, (0, 1)),
    ("tensor", 1, (0, 1)),
    ("turned", 0, (1, 2)),
    ("turned", 1, (0, 2)),
    ("whole", 0, (0, 1)),
  ],
)
def test_a_process_reads_the_rows_of_its_devices(
  name, process, share, monkeypatch
):
  monkeypatch.setattr(jax, "process_index", lambda: process)
  assert mesh.share(Sharding(ROWS[name]), 8) == share


def test_rows_that_processes_hold_in_part_are_refused(monkeypatch):
  parts = {(0, 0): (0, 4), (0, 1): (4, 6), (1, 2): (4, 6), (1, 3): (6, 8)}
  monkeypatch.setattr(jax, "process_index", lambda: 0)
  with pytest.raises(ValueError, match=r"8 rows over .*2 processes.*overlap"):
    mesh.share(Sharding(parts), 8)
