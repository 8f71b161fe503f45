"""Prompts that are scripts: several shots, each with its time.

  [0s] a red ball rolls left [2s] cut: the same red ball on a beach

Seconds in brackets begin a shot, `cut:` after them may stand or not. A prompt
without any, and that does not begin with a number in brackets, is one shot.
"""

from __future__ import annotations

import re

from sora_jax.types import Text

_ANY = re.compile(r"\[\s*[-+.\d][^\[\]]*\]?")  # meant as a time in a script
_TIME = re.compile(r"\[\s*(\d+(?:\.\d+)?)\s*s\s*\]")
_CUT = re.compile(r"\s*(?:cut\s*:)?\s*", re.IGNORECASE)


def parse(prompt: str, fps: float) -> Text:
  """The shots of a script: (first frame, caption) each; or the plain prompt.

  Args:
    prompt: a script, or any text without times in brackets.
    fps: frames per second of the video to make, > 0.

  Raises:
    ValueError: for a broken script, with the position of the fault.
  """
  marks = list(_ANY.finditer(prompt))
  if not _ANY.match(prompt.lstrip()) and not _TIME.search(prompt):
    return prompt

  def fault(at: int, why: str) -> ValueError:
    return ValueError(
      f"prompt {prompt!r}, position {at} ({prompt[at : at + 12]!r}): {why}"
    )

  if prompt[: marks[0].start()].strip():
    raise fault(0, "text before the first time; begin with [0s]")
  shots: list[tuple[int, str]] = []
  ends = [mark.start() for mark in marks[1:]] + [len(prompt)]
  for mark, end in zip(marks, ends):
    time = _TIME.fullmatch(mark.group())
    if not time:
      raise fault(mark.start(), "no time; write seconds like [2s] or [0.5s]")
    first = round(float(time[1]) * fps)
    if not shots and first:
      raise fault(mark.start(), "the first shot begins at [0s]")
    if shots and first <= shots[-1][0]:
      raise fault(
        mark.start(),
        f"not after the shot before it, at {fps:g} frames a second",
      )
    begin = _CUT.match(prompt, mark.end(), end).end()
    caption = prompt[begin:end].strip()
    if not caption:
      raise fault(mark.end(), "a shot without a caption")
    shots.append((first, caption))
  return tuple(shots)


def one_shot(prompt: str) -> str:
  """The prompt, if it is plain.

  Raises:
    ValueError: for a script.
  """
  if isinstance(parse(prompt, fps=1.0), str):
    return prompt
  raise ValueError(f"{prompt!r} is a script: say one shot, without times.")
