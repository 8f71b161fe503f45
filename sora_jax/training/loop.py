"""The one training loop."""

from __future__ import annotations

import collections
import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding

from sora_jax.training import when
from sora_jax.training.checkpoint import Checkpointer
from sora_jax.types import Evaluator, Metrics, PyTree, State
from sora_jax.utils import logs, processes


class Diverged(RuntimeError):
  """Too many non-finite steps in a row."""


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When things happen; durations as in `when`.

  Attributes:
    until: length of the run.
    log: how often metrics are reported.
    save: how often a checkpoint is written.
    evaluate: how often evaluators run; they also run at the end.
    tolerance: consecutive skipped steps that end the run.
  """

  until: str
  log: str
  save: str
  evaluate: str
  tolerance: int


class _Sigterm:
  """Turns SIGTERM into a flag, so that a step is never cut in half."""

  def __enter__(self):
    self.raised = False
    try:
      self._old = signal.signal(signal.SIGTERM, self._note)
    except ValueError:  # not the main thread: the signal is not ours to take
      self._old = None
    return self

  def _note(self, *_):
    self.raised = True

  def __exit__(self, *_):
    if self._old is not None:
      signal.signal(signal.SIGTERM, self._old)


def put(batch: Mapping[str, np.ndarray], sharding: NamedSharding) -> PyTree:
  """This process's share of a batch -> global arrays."""
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), dict(batch)
  )


def merge(metrics: Sequence[Metrics]) -> dict[str, float]:
  """The mean of each metric over many steps; nan where nothing was counted."""
  out = {}
  for name in metrics[0]:
    total = sum(float(m[name].total) for m in metrics)
    count = sum(float(m[name].count) for m in metrics)
    out[name] = total / count if count else float("nan")
  return out


def evaluate(
  evaluators: Mapping[str, Evaluator],
  state: State,
  stage: str,
  writer: logs.MetricWriter,
) -> dict[str, float]:
  """Runs evaluators and writes what they yield as "evaluator/name".

  Several processes do so each, alike, with what evaluators need of the state
  whole on its own devices.
  """
  if evaluators and jax.process_count() > 1:
    state = processes.local(state.replace(params={}, opt={}))
  found = {
    f"{name}/{key}": float(value)
    for name, evaluator in evaluators.items()
    for key, value in evaluator.run(state)
  }
  if found:
    writer.scalars(stage, int(state.step), found)
  return found


@dataclasses.dataclass
class Loop:
  """What a run needs beside its state; see `run`.

  Attributes:
    stage: its name in logs and metrics.
    step: (state, batch) -> (state, metrics), compiled.
    data: grain iterator over batches.
    sharding: of a batch.
    checkpointer: where the state goes.
    writer: where metrics go.
    schedule: when things happen.
    steps_per_epoch: for durations in epochs, if known.
    evaluators: by name.
    counts: of a batch, all processes together: its "clips", and of packed rows
      the "tokens" that hold data, of so many "places"; for what is reported of
      speed and padding.
    finish: applied to the last state before it is saved.
    work: says the FLOPs of the model in one step, nothing counted twice, and
      the matmul FLOPs a second of all devices; 0 for what is unknown. Asked at
      the first report, for it takes seconds that the first step need not wait.
    meta: what else checkpoints say, beside what `run` takes.
  """

  stage: str
  step: Callable[[State, PyTree], tuple[State, Metrics]]
  data: Any
  sharding: NamedSharding
  checkpointer: Checkpointer
  writer: logs.MetricWriter
  schedule: Schedule
  steps_per_epoch: int | None
  evaluators: Mapping[str, Evaluator]
  counts: Callable[[Mapping[str, np.ndarray]], Mapping[str, int]]
  finish: Callable[[State], State]
  work: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def run(
    self, state: State, seconds: float = 0.0, finished: bool = False
  ) -> tuple[State, dict[str, float]]:
    """Trains from `state` until the schedule says stop.

    Args:
      state: fresh, or restored with its data iterator.
      seconds: training time already spent.
      finished: whether the checkpoint says that this run came to its end; if
        not, it takes at least one step more.

    Returns:
      the last state, and what the evaluators say of it.

    Raises:
      Diverged: naming the step at which losses stopped being finite.
      SystemExit: 143 after a SIGTERM, with everything saved.
    """
    n = int(state.step)
    pace = processes.Pace(n)
    clock = when.Clock(self.steps_per_epoch, n, seconds, pace.now)
    until = when.Until(self.schedule.until, clock)
    log, save, judge = (
      when.Every(getattr(self.schedule, name), clock)
      for name in ("log", "save", "evaluate")
    )
    if done := finished and until.done(n):
      logs.say(f"{self.stage}: already trained, {n} steps")
      return state, {}
    stop, pending, mark = False, [], time.monotonic()
    with (
      _Sigterm() as sigterm,
      logs.Progress(until.steps(), self.stage, start=n) as progress,
    ):
      while not done:
        batch = next(self.data)
        state, metrics = self.step(state, put(batch, self.sharding))
        pending.append((metrics, self.counts(batch)))
        n += 1
        stop = pace.tick(n, sigterm.raised)
        done = until.done(n)
        if log(n):
          progress.update(n, **self._report(n, state, pending, mark))
          pending, mark = [], time.monotonic()
        if judge(n) and not done:
          evaluate(self.evaluators, state, self.stage, self.writer)
          mark = time.monotonic()
        if (save(n) or stop) and not done:
          self._save(n, state, clock)
        if stop and not done:
          self._exit(n)
      if pending:
        self._report(n, state, pending, mark)
      state = self.finish(state)
      self._save(n, state, clock, finished=True)
      if processes.any_of(stop or sigterm.raised):
        self._exit(n)
    self.checkpointer.wait()
    return state, evaluate(self.evaluators, state, self.stage, self.writer)

  def _exit(self, n: int) -> None:
    self.checkpointer.wait()
    logs.say(f"{self.stage}: SIGTERM; saved step {n}, stopping")
    raise SystemExit(143)

  def _save(self, n, state, clock, finished=False):
    meta = {"seconds": clock.elapsed(), "finished": finished, **self.meta}
    self.checkpointer.save(n, state, self.data, meta=meta)

  @functools.cached_property
  def _work(self) -> tuple[int, float]:
    return self.work()

  def _report(self, n, state, pending, mark) -> dict[str, float]:
    metrics, counts = zip(*pending, strict=True)
    values, held = merge(jax.device_get(metrics)), collections.Counter()
    for count in counts:
      held.update(count)
    elapsed = max(time.monotonic() - mark, 1e-9)
    values["steps_per_s"] = len(pending) / elapsed
    values["clips_per_s"] = held["clips"] / elapsed
    if held["places"]:
      values["tokens_per_s"] = held["tokens"] / elapsed
      values["padding"] = 1 - held["tokens"] / held["places"]
    values["peak_gib"] = processes.peak_memory() / 2**30
    flops, peak = self._work
    rate = flops * values["steps_per_s"]
    if flops:
      values["tflops_per_s"] = rate / 1e12
    if flops and peak:
      values["mfu"] = rate / peak
    self.writer.scalars(self.stage, n, values)
    bad = int(state.bad)
    if bad:
      logging.warning("%s: the last %d steps were skipped", self.stage, bad)
    if bad >= self.schedule.tolerance:
      raise Diverged(
        f"{self.stage}: loss or gradients are not finite since step "
        f"{n - bad + 1} ({bad} steps in a row were skipped). Resume from the "
        "last checkpoint with a lower learning rate or a lower `clip`"
      )
    own = {name.rpartition("/")[2]: v for name, v in reversed(values.items())}
    shown = {k: own[k] for k in ("loss", "psnr") if k in own}
    return shown | {"clips/s": values["clips_per_s"]}
