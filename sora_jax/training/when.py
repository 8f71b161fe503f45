"""Durations as text, and the two questions a training loop asks of them.

"1000 steps", "2 epochs", "30 seconds", "10 minutes", "2 hours" or "never":
`Every` says whether something periodic is due, `Until` whether the run is over.
Both read the run's `Clock`, which a resumed run continues.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

# The unit in the text -> the unit of a Duration and how many of it.
_UNITS = {
  "step": ("steps", 1),
  "epoch": ("epochs", 1),
  "second": ("seconds", 1),
  "minute": ("seconds", 60),
  "hour": ("seconds", 3600),
}
_FORMS = (
  '"1000 steps", "2 epochs", "30 seconds", "10 minutes", "2 hours" or "never"'
)
# "0.3 epochs" of 10 steps are 3 steps, though 0.3 * 10 is a little more.
_SLACK = 1e-9


def steps_of(text: str) -> int | None:
  """Steps of a duration in steps, None for others."""
  found = parse(text)
  whole = found.unit == "steps" and found.amount < math.inf
  return int(found.amount) if whole else None


@dataclasses.dataclass(frozen=True)
class Duration:
  """An amount >= 0 of a unit; "never" is an infinite one.

  Attributes:
    amount: how many; whole for steps.
    unit: "steps", "epochs" or "seconds".
  """

  amount: float
  unit: str


def parse(text: str) -> Duration:
  """The duration that `text` names.

  Raises:
    ValueError: for anything else, naming the valid forms.
  """
  if text == "never":
    return Duration(math.inf, "steps")
  error = ValueError(f"{text!r} is not a duration; write one like {_FORMS}.")
  try:
    number, word = text.split()
    amount = float(number)
    unit, scale = _UNITS[word.removesuffix("s")]
  except (AttributeError, KeyError, ValueError):
    raise error from None
  if not 0 <= amount < math.inf or (unit == "steps" and amount % 1):
    raise error
  return Duration(amount * scale, unit)


class Clock:
  """Seconds of training so far, over all the run's sessions.

  Processes of one run read different clocks: where they must agree, as on the
  step of a checkpoint, pass a `now` that all of them share, or count steps.

  Args:
    steps_per_epoch: optimizer steps in an epoch; None if data has no epochs.
    start_step: the step at which this session starts or resumes.
    seconds: what `elapsed` said when the resumed checkpoint was written.
    now: a monotonic clock in seconds.
  """

  def __init__(
    self,
    steps_per_epoch: int | None,
    start_step: int = 0,
    seconds: float = 0.0,
    now: Callable[[], float] = time.monotonic,
  ):
    self.steps_per_epoch = steps_per_epoch
    self.start_step = start_step
    self._now = now
    self._start = now() - seconds

  def elapsed(self) -> float:
    """Seconds of training, those before a resume included."""
    return self._now() - self._start

  def steps(self, duration: Duration) -> float | None:
    """`duration` in steps, perhaps a fraction; None for a time in seconds.

    Raises:
      ValueError: for epochs where the length of an epoch is unknown.
    """
    if duration.unit == "seconds":
      return None
    if duration.unit == "steps":
      return duration.amount
    if not self.steps_per_epoch:
      raise ValueError(
        f"{duration.amount:g} epochs cannot be counted: the clock has"
        f" steps_per_epoch={self.steps_per_epoch}. Give the duration in steps"
        " or minutes, or use data with a known length."
      )
    return duration.amount * self.steps_per_epoch


class Every:
  """Says when something periodic is due.

  Steps and epochs fire at the first step at or after each multiple of the
  period, wherever the run was resumed; seconds fire once the period has passed
  since the last time. Raises ValueError for a period of zero.
  """

  def __init__(self, text: str, clock: Clock):
    duration = parse(text)
    if duration.amount == 0:
      raise ValueError(f'Every {text!r} has no period; "never" turns it off.')
    self._clock = clock
    self._steps = clock.steps(duration)
    self._seconds = duration.amount
    self._last_step = clock.start_step
    self._last_seconds = clock.elapsed()

  def __call__(self, step: int) -> bool:
    """Whether it is due at `step`; True once per period."""
    if self._steps is None:
      elapsed = self._clock.elapsed()
      due = elapsed - self._last_seconds >= self._seconds
      if due:
        self._last_seconds = elapsed
      return due
    due = self._periods(step) > self._periods(self._last_step)
    self._last_step = step
    return due

  def _periods(self, step: int) -> int:
    return math.floor(step / self._steps + _SLACK)


class Until:
  """Says when a run is over."""

  def __init__(self, text: str, clock: Clock):
    duration = parse(text)
    self._clock = clock
    self._steps = clock.steps(duration)
    self._seconds = duration.amount

  def done(self, step: int) -> bool:
    """Whether the run ends now, `step` steps having been taken."""
    if self._steps is None:
      return self._clock.elapsed() >= self._seconds
    return step >= self._steps - _SLACK

  def steps(self) -> int | None:
    """The last step; None where a wall clock, or nothing, ends the run."""
    if self._steps is None or math.isinf(self._steps):
      return None
    return math.ceil(self._steps - _SLACK)
