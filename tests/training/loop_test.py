"""The loop: when things happen, and how it ends."""

import itertools
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.sharding import mesh
from sora_jax.training import loop
from sora_jax.training import step as step_lib
from sora_jax.types import Mean
from sora_jax.utils import logs, processes

ROWS = mesh.rows(mesh.make({"data": -1}))


class Square:
  """Minimises w**2 * x."""

  def __init__(self):
    self.losses = {"p": self.loss}

  def loss(self, params, frozen, batch, rng, step):
    del frozen, rng, step
    x = batch["x"]
    return params["p"] ** 2 * x.mean(), {"loss": Mean.of(x)}

  def init(self, rng, batch):
    del rng, batch
    return {"p": jnp.float32(1)}


class Memory:
  """Stands in for the checkpointer: remembers steps."""

  def __init__(self):
    self.saved = {}

  def save(self, step, state, data=None, *, force=False, meta=None):
    self.saved[step] = (float(state.params["p"]), meta)

  def wait(self):
    pass


class Judge:
  """An evaluator that remembers when it was asked."""

  def __init__(self):
    self.asked = []

  def run(self, state):
    self.asked.append(int(state.step))
    yield "w", float(state.params["p"])


@pytest.fixture
def make(tmp_path):
  optimizer = {"p": optax.sgd(0.1)}
  step = jax.jit(step_lib.make(Square(), optimizer, 0.9))

  def build(values, **schedule):
    start = step_lib.initial(Square(), optimizer, jax.random.PRNGKey(0), {}, {})
    data = ({"x": np.full(2, v, np.float32)} for v in values)
    defaults = {
      "until": "6 steps",
      "log": "2 steps",
      "save": "3 steps",
      "evaluate": "never",
      "tolerance": 3,
    }
    made = loop.Loop(
      stage="toy",
      step=step,
      data=data,
      sharding=ROWS,
      checkpointer=Memory(),
      writer=logs.MetricWriter(tmp_path),
      schedule=loop.Schedule(**(defaults | schedule)),
      steps_per_epoch=None,
      evaluators={"judge": Judge()},
      counts=lambda batch: {"clips": len(batch["x"])},
      finish=lambda state: state,
    )
    return made, start

  return build


def test_reports_say_what_share_of_the_peak_is_used(make, tmp_path):
  made, start = make(itertools.count(1.0))
  asked = []
  made.work = lambda: asked.append(0) or (6_000_000, 1e9)
  made.run(start)
  assert len(asked) == 1
  logged = [n for n in lines(tmp_path) if "loss" in n]
  for line in logged:
    rate = 6_000_000 * line["steps_per_s"]
    assert line["tflops_per_s"] == pytest.approx(rate / 1e12)
    assert line["mfu"] == pytest.approx(rate / 1e9)


def test_reports_say_what_share_is_padding(make, tmp_path):
  made, start = make(itertools.count(1.0))
  made.counts = lambda batch: {"clips": 2, "tokens": 30, "places": 40}
  made.run(start)
  logged = [n for n in lines(tmp_path) if "loss" in n]
  assert all(n["padding"] == pytest.approx(0.25) for n in logged)
  for line in logged:
    rate = 15 * line["clips_per_s"]
    assert line["tokens_per_s"] == pytest.approx(rate)


def test_reports_say_how_much_memory_was_held(make, tmp_path, monkeypatch):
  held = itertools.count(1)
  monkeypatch.setattr(processes, "peak_memory", lambda: next(held) * 2**29)
  made, start = make(itertools.count(1.0))
  made.run(start)
  logged = [n for n in lines(tmp_path) if "loss" in n]
  assert [n["peak_gib"] for n in logged] == [0.5, 1.0, 1.5]
  assert all("padding" not in n for n in logged)


@pytest.mark.parametrize(
  "stats, wanted",
  [([{"peak_bytes_in_use": 5}, {"peak_bytes_in_use": 7}], 7), ([None], 3072)],
)
def test_peak_memory_is_of_the_devices_that_say_so(monkeypatch, stats, wanted):
  devices = [types.SimpleNamespace(memory_stats=lambda s=s: s) for s in stats]
  usage = types.SimpleNamespace(ru_maxrss=3)
  monkeypatch.setattr(jax, "local_devices", lambda: devices)
  monkeypatch.setattr(processes.resource, "getrusage", lambda who: usage)
  monkeypatch.setattr(processes.sys, "platform", "linux")
  assert processes.peak_memory() == wanted


def lines(tmp_path):
  return logs.read_metrics(tmp_path / "metrics.jsonl")


def test_logs_saves_and_judges_when_due(make, tmp_path):
  made, start = make(itertools.count(1.0), until="7 steps", evaluate="4 steps")
  state, found = made.run(start)
  assert int(state.step) == 7
  assert list(made.checkpointer.saved) == [3, 6, 7]
  assert made.evaluators["judge"].asked == [4, 7]
  assert found == {"judge/w": pytest.approx(float(state.params["p"]))}
  logged = [n for n in lines(tmp_path) if "loss" in n]
  assert [n["step"] for n in logged] == [2, 4, 6, 7]
  # Means over the steps since the last report.
  assert [n["loss"] for n in logged] == [1.5, 3.5, 5.5, 7.0]
  assert all(n["clips_per_s"] > 0 for n in logged)


def test_the_last_state_is_finished_then_saved(make):
  made, start = make(itertools.repeat(1.0))
  made.finish = lambda state: state.replace(params={"p": jnp.float32(42)})
  state, found = made.run(start)
  assert made.checkpointer.saved[6][0] == 42
  assert found["judge/w"] == 42 == float(state.params["p"])


def test_a_finished_run_takes_no_batch(make):
  made, start = make([])
  start = start.replace(step=jnp.int32(6))
  state, found = made.run(start, finished=True)
  assert state is start and found == {}
  assert not made.checkpointer.saved


def test_an_unfinished_run_at_its_end_is_finished(make):
  """A checkpoint of the last step that was not finished must not pass."""
  made, start = make(itertools.repeat(1.0))
  made.finish = lambda state: state.replace(params={"p": jnp.float32(42)})
  start = start.replace(step=jnp.int32(6))
  state, _ = made.run(start, finished=False)
  assert float(state.params["p"]) == 42
  assert max(made.checkpointer.saved) == 7


def test_sigterm_saves_and_exits_143(make):
  def data():
    for n in itertools.count(1):
      if n == 4:
        signal.raise_signal(signal.SIGTERM)
      yield {"x": np.ones(2, np.float32)}

  made, start = make([])
  made.data = data()
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as stopped:
    made.run(start)
  assert stopped.value.code == 143
  assert list(made.checkpointer.saved) == [3, 4]
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_few_steps_that_are_not_finite_are_survived(make, tmp_path):
  values = [1.0, np.nan, np.nan, 1.0, 1.0, 1.0]
  made, start = make(values, log="1 steps")
  state, _ = made.run(start)
  assert int(state.step) == 6 and int(state.bad) == 0
  assert float(state.params["p"]) == pytest.approx(0.8**4)
  skipped = [n["skipped"] for n in lines(tmp_path) if "skipped" in n]
  assert skipped == [0, 1, 1, 0, 0, 0]


def test_too_many_in_a_row_name_the_step(make):
  values = [1.0, 1.0, np.nan, np.nan, np.nan, np.nan]
  made, start = make(values, log="1 steps")
  with pytest.raises(loop.Diverged, match=r"toy: .* since step 3 \(3 steps"):
    made.run(start)
  # What is saved is from before.
  saved = made.checkpointer.saved
  assert all(np.isfinite(value) for value, _ in saved.values())


def test_seconds_go_on_after_a_resume(make):
  made, start = make(itertools.repeat(1.0))
  made.run(start, seconds=1000.0)
  assert 1000 <= made.checkpointer.saved[6][1]["seconds"] < 1100


def test_time_can_end_a_run(make):
  made, start = make(itertools.repeat(1.0), until="0.2 seconds")
  state, _ = made.run(start)
  assert int(state.step) >= 1
