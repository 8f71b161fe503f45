"""Scripts: shots with their times, and faults with their place."""

import pytest

from sora_jax.sampling import script, tasks
from sora_jax.sampling.request import Request

TWO = "[0s] a red ball rolls left [2s] cut: the same red ball on a beach"


def test_a_script_is_shots_with_their_first_frames():
  assert script.parse(TWO, 8.0) == (
    (0, "a red ball rolls left"),
    (16, "the same red ball on a beach"),
  )


@pytest.mark.parametrize(
  "prompt",
  [
    "[0s] one[1.5 s]two",
    " [ 0s ]cut: one [1.5s]  CUT :two ",
    "[0.0s] one [1.5s] two",
  ],
)
def test_spaces_and_cuts_may_stand_or_not(prompt):
  assert script.parse(prompt, 10) == ((0, "one"), (15, "two"))


@pytest.mark.parametrize(
  "prompt",
  [
    "",
    "a red ball",
    "a [very] red ball",
    "cut: a ball",
    "it is 2s ]",
    "a [2024] sale",
  ],
)
def test_other_prompts_are_plain(prompt):
  assert script.parse(prompt, 8.0) == prompt


FAULTS = {
  "a ball [2s] rolls": (0, "begin with \\[0s\\]"),
  "[1s] a ball": (0, "first shot begins at \\[0s\\]"),
  "[0s] a ball [2] rolls": (12, "no time"),
  "[0s] a ball [2s rolls": (12, "no time"),
  "[0s] a ball [-2s] rolls": (12, "no time"),
  "[0s] a ball [2s] rolls [2s] on": (23, "not after"),
  "[0s] a ball [2s] rolls [1s] on": (23, "not after"),
  "[0s] a ball [0.01s] rolls": (12, "not after .* 8 frames a second"),
  "[0s] [2s] rolls": (4, "without a caption"),
  "[0s] a ball [2s] cut: ": (16, "without a caption"),
}


@pytest.mark.parametrize("prompt", FAULTS)
def test_faults_have_a_position(prompt):
  at, why = FAULTS[prompt]
  with pytest.raises(ValueError, match=rf"position {at} .*{why}"):
    script.parse(prompt, 8.0)


def test_a_shot_after_the_end_is_an_error():
  shots = script.parse(TWO, 8.0)
  tasks.draft(Request(shots, (17, 8, 8)), (4, 8, 8))
  with pytest.raises(ValueError, match="frame 16 of a video of 13"):
    tasks.draft(Request(shots, (13, 8, 8)), (4, 8, 8))
  with pytest.raises(ValueError, match=r"frames \[0, 9, 9\]"):
    Request(((0, "a"), (9, "b"), (9, "c")), (17, 8, 8))
