"""What processes agree on, seen from one of two that are not there."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from sora_jax.utils import processes


@pytest.fixture
def other(monkeypatch):
  """What the second of two processes says, of which this is the first."""
  says, asked = {"seconds": 0.0, "flag": False}, []

  def gather(x):
    asked.append(x)
    return np.stack([x, np.float32([says["seconds"], says["flag"]])])

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(multihost_utils, "process_allgather", gather)
  return {"says": says, "asked": asked}


@pytest.fixture
def clock(monkeypatch):
  """A clock that is moved by hand."""
  at = [100.0]
  monkeypatch.setattr(processes.time, "monotonic", lambda: at[0])
  return at


def test_alone_the_clock_runs_at_every_step(clock):
  pace = processes.Pace(7)
  for step in range(8, 12):
    clock[0] += 2
    assert not pace.tick(step, False)
    assert pace.now() == 2 * (step - 7)
  assert pace.tick(12, True)


def test_several_agree_every_few_seconds_on_the_first_ones_clock(other, clock):
  pace, agreed = processes.Pace(0), []
  other["says"]["seconds"] = 1e6  # the other's clock counts for nothing
  for step in range(1, 41):
    clock[0] += 1
    before = len(other["asked"])
    pace.tick(step, False)
    if len(other["asked"]) > before:
      agreed.append(step)
      assert pace.now() == step
    else:
      assert pace.now() == agreed[-1]  # stands still
  assert agreed[0] == 1
  gaps = np.diff(agreed)
  assert [*gaps[:2]] == [2, 4]  # not more than twice the one before
  assert set(gaps[2:]) == {int(processes.BETWEEN)}  # at a step a second


def test_quick_steps_do_not_put_off_the_next_agreement(other, clock):
  pace = processes.Pace(0)
  for step in range(1, 20):
    clock[0] += 0.01
    pace.tick(step, False)
  assert len(other["asked"]) >= 4


def test_different_data_is_an_error_everywhere(other, monkeypatch):
  monkeypatch.setattr(
    multihost_utils, "process_allgather", lambda x: np.stack([x, x])
  )
  processes.check_same("twelve", "data")
  monkeypatch.setattr(
    multihost_utils, "process_allgather", lambda x: np.stack([x, x + 1])
  )
  with pytest.raises(ValueError, match=r"different data.*: twelve"):
    processes.check_same("twelve", "data")


def test_a_slow_step_is_agreed_on_every_time(other, clock):
  pace = processes.Pace(0)
  for step in range(1, 6):
    clock[0] += 60
    pace.tick(step, False)
  assert len(other["asked"]) == 5


def test_a_flag_of_any_is_seen_by_all_and_stays(other, clock):
  pace = processes.Pace(0)
  clock[0] += 10
  assert not pace.tick(1, False)
  other["says"]["flag"] = True
  clock[0] += 10
  assert pace.tick(2, False)
  other["says"]["flag"] = False
  clock[0] += 10
  assert pace.tick(3, False)


def test_a_process_alone_needs_no_other(tmp_path):
  assert processes.agree(3) == 3
  assert processes.any_of(True) and not processes.any_of(False)
  assert processes.private(tmp_path) == tmp_path
  made = []
  path = tmp_path / "file"

  def make():
    made.append(path.write_text("x"))

  processes.once(path, make)
  processes.once(path, make)
  assert len(made) == 1
  tree = {"a": jax.numpy.ones(2), "b": 3}
  assert processes.local(tree)["a"] is tree["a"]


def test_those_after_the_first_have_a_folder_of_their_own(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  own = processes.private(tmp_path / "run")
  assert own != tmp_path / "run" and own.is_dir()
  assert processes.private(tmp_path / "run") == own
