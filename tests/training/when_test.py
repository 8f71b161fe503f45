"""Durations: what parses, and when it fires, also across a resume."""

import math

import pytest

from sora_jax.training import when


class FakeTime:
  """A clock that moves when it is told to."""

  def __init__(self):
    self.seconds = 1000.0  # Monotonic clocks start anywhere.

  def __call__(self):
    return self.seconds


@pytest.mark.parametrize(
  "text, amount, unit",
  [
    ("1000 steps", 1000, "steps"),
    ("1 step", 1, "steps"),
    ("1e6 steps", 1e6, "steps"),
    ("2 epochs", 2, "epochs"),
    ("0.5 epochs", 0.5, "epochs"),
    ("30 seconds", 30, "seconds"),
    ("10 minutes", 600, "seconds"),
    ("1.5 hours", 5400, "seconds"),
    ("never", math.inf, "steps"),
  ],
)
def test_parse(text, amount, unit):
  assert when.parse(text) == when.Duration(amount, unit)


@pytest.mark.parametrize(
  "text",
  [
    *("", "10", "steps", "10steps", "1 2 steps", "3 days", 1000, None),
    *("ten steps", "-1 steps", "1.5 steps", "nan steps", "inf seconds"),
  ],
)
def test_parse_names_the_valid_forms(text):
  with pytest.raises(ValueError, match=r"1000 steps.*never") as error:
    when.parse(text)
  assert repr(text) in str(error.value)


def fired(text, steps, **clock):
  every = when.Every(text, when.Clock(**clock))
  return [step for step in steps if every(step)]


def test_every_multiple_once():
  clock = dict(steps_per_epoch=10)
  assert fired("3 steps", range(1, 11), **clock) == [3, 6, 9]
  assert fired("2 epochs", range(1, 50), **clock) == [20, 40]
  assert fired("0.3 epochs", range(1, 11), **clock) == [3, 6, 9]
  assert fired("0.25 epochs", range(1, 11), **clock) == [3, 5, 8, 10]
  assert fired("never", range(1, 1000), **clock) == []


def test_every_does_not_depend_on_where_the_run_resumed():
  whole = fired("7 steps", range(1, 101), steps_per_epoch=None)
  for start in range(1, 30):
    before = fired("7 steps", range(1, start + 1), steps_per_epoch=None)
    after = fired(
      "7 steps", range(start + 1, 101), steps_per_epoch=None, start_step=start
    )
    assert before + after == whole


def test_every_with_steps_that_skip_or_repeat():
  assert fired(
    "10 steps", [4, 8, 12, 16, 20, 20, 45], steps_per_epoch=None
  ) == [
    12,
    20,
    45,
  ]


def test_every_seconds_since_the_last_time():
  now = FakeTime()
  every = when.Every("1 minute", when.Clock(None, seconds=500.0, now=now))
  answers = []
  for seconds in (0, 59, 1, 30, 90, 1, 58, 1):
    now.seconds += seconds
    answers.append(every(step=1))
  assert answers == [False, False, True, False, True, False, False, True]


def test_every_zero_is_an_error():
  with pytest.raises(ValueError, match="never"):
    when.Every("0 steps", when.Clock(None))


def test_until_steps_and_epochs():
  clock = when.Clock(steps_per_epoch=7)
  until = when.Until("1.5 epochs", clock)
  assert until.steps() == 11
  assert [until.done(step) for step in (10, 11, 12)] == [False, True, True]
  assert when.Until("0 steps", clock).done(0)
  never = when.Until("never", clock)
  assert never.steps() is None and not never.done(10**9)


def test_until_counts_the_seconds_before_a_resume():
  now = FakeTime()
  clock = when.Clock(None, start_step=50, seconds=100.0, now=now)
  until = when.Until("2 minutes", clock)
  assert until.steps() is None
  now.seconds += 19.5
  assert clock.elapsed() == 119.5 and not until.done(60)
  now.seconds += 0.5
  assert until.done(61)


@pytest.mark.parametrize("make", [when.Every, when.Until])
def test_epochs_of_unknown_length(make):
  with pytest.raises(ValueError, match=r"2 epochs.*steps_per_epoch.*steps or"):
    make("2 epochs", when.Clock(steps_per_epoch=None))
