"""What a config asks to be made: prompts, prompt files, clips of the data."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sora_jax.build.given import given
from sora_jax.build.transformer import guided
from sora_jax.sampling import excerpts, script, tasks
from sora_jax.sampling.request import Request
from sora_jax.types import Clip
from sora_jax.utils import logs


def _numbers(kind: Callable) -> Callable[[Any], tuple]:
  """Reads "1 2", "17x64x64" or a list as numbers."""

  def read(value):
    words = value.replace("x", " ").split() if isinstance(value, str) else value
    return tuple(kind(word) for word in words)

  return read


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise ValueError("need a text")
  return value


def _whole(value: Any) -> int:
  if int(value) != float(value):
    raise ValueError("need a whole number")
  return int(value)


# What a line of a prompt file may say instead of the config.
COLUMNS: dict[str, Callable[[Any], Any]] = {
  "prompt": _text,
  "negative": _text,
  "task": _text,
  "size": _numbers(int),
  "source": _text,
  "target": _text,
  "mask": _text,
  "at": _numbers(int),
  "keep": _whole,
  "strength": float,
  "scales": _numbers(float),
  "context_noise": float,
  "seed": _whole,
}


def requests(config: ConfigDict) -> list[Request]:
  """The config's prompts, or those of its file, each as often as asked for.

  Raises:
    ValueError: for what cannot be read or does not fit, naming the line.
  """
  sample = config.sample
  if sample.repeats < 1:
    raise ValueError(f"sample.repeats={sample.repeats}: need at least 1")
  lines = [
    ("sample.prompts", {"prompt": "" if prompt == "-" else prompt})
    for prompt in sample.prompts
  ]
  if sample.file:
    lines = list(_lines(Path(sample.file)))
  out, seed = [], sample.seed
  for where, line in lines:
    for repeat in range(sample.repeats):
      asked = {"seed": seed} | line
      asked["seed"] += repeat
      try:
        out.append(request(config, **asked))
      except (ValueError, OSError) as error:
        raise ValueError(f"{where}: {error}") from error
    seed += sample.repeats
  return out


def request(config: ConfigDict, prompt: str, **changes) -> Request:
  """One request: what the config's section `sample` says, and changes of it.

  Args:
    config: of a run.
    prompt: plain, or a script of several shots (sampling/script.py).
    **changes: fields of the section by name, see COLUMNS.
  """
  sample = config.sample
  if wrong := sorted(set(changes) - set(COLUMNS)):
    raise ValueError(f"unknown {wrong}; valid: {[*COLUMNS][1:]}")
  asked = {k: sample[k] for k in COLUMNS if k != "prompt"} | changes
  size = tuple(asked.pop("size"))
  if len(size) != 3:
    raise ValueError(f"size={size}: need frames, height and width")
  _check_guided(config, asked["negative"], asked["scales"])
  asked, size = given(config, asked, size, "size" in changes)
  asked["at"], asked["scales"] = tuple(asked["at"]), tuple(asked["scales"])
  made = Request(script.parse(prompt, sample.fps), size, **asked)
  if not sample.rollout.seconds:  # of a long video this is the first block
    tasks.draft(made, config.autoencoder.model.compression)
  return made


def asked(
  config: ConfigDict, prompts: str | Sequence[str | Request], **changes
) -> list[Request]:
  """Requests of prompts, one seed after the other; whole ones stay.

  Raises:
    ValueError: for what does not fit, or changes of a whole request.
  """
  prompts = (prompts,) if isinstance(prompts, str) else prompts
  if changes and not all(isinstance(one, str) for one in prompts):
    raise ValueError(
      f"{sorted(changes)} would change nothing of whole requests: put them "
      "there, or give prompts"
    )
  seed = changes.pop("seed", config.sample.seed)
  return [
    request(config, one, seed=seed + i, **changes)
    if isinstance(one, str)
    else one
    for i, one in enumerate(prompts)
  ]


def continuations(
  config: ConfigDict, clips: Iterable[Clip], seed: int
) -> list[Request]:
  """The config's tasks for clips of the data, as far as they fit."""
  sample, cell = config.sample, config.autoencoder.model.compression
  _check_guided(config, sample.negative, ())
  out = []
  for clip, task in itertools.product(clips, sample.tasks):
    part = excerpts.excerpt(task, clip.video, cell, sample.keep)
    made = Request(
      clip.text,
      clip.video.shape[:3],
      task,
      **part,
      keep=sample.keep,
      strength=sample.strength,
      negative=sample.negative,
      context_noise=sample.context_noise,
      seed=seed + len(out),
    )
    try:
      tasks.draft(made, cell)
    except ValueError as error:
      logs.say(f"sample: {clip.key} is left out: {error}")
      continue
    out.append(made)
  return out


def _check_guided(
  config: ConfigDict, negative: str, scales: Sequence[float]
) -> None:
  """Refuses what says how to guide where nothing is guided, or not so."""
  told = {"negative": negative, "scales": scales}
  given = {name: value for name, value in told.items() if len(value)}
  if given and not guided(config):
    raise ValueError(
      f"{given} needs guidance, and sample.guidance="
      f"{config.sample.guidance.to_dict()} is none: leave it out, or guide"
    )
  if not isinstance(script.parse(negative, config.sample.fps), str):
    raise ValueError(
      f"negative={negative!r} is a script, and leads away from all of a video: "
      "give it without times"
    )


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
  """(Where it stands, what it says) of every line of a prompt file."""
  if path.suffix not in FORMATS:
    raise ValueError(
      f"sample.file={str(path)!r}: a prompt file ends in one of {[*FORMATS]}"
    )
  if not path.is_file():
    raise ValueError(f"sample.file={str(path)!r} is not a file")
  try:
    text = path.read_text("utf-8-sig")  # spreadsheets begin with a mark
  except UnicodeDecodeError as error:
    raise ValueError(
      f"sample.file={str(path)!r} is no UTF-8 text: {error}"
    ) from error
  count = 0
  for number, found in FORMATS[path.suffix](text):
    where = f"{path} line {number}"
    wrong = set(found) - set(COLUMNS)
    if wrong or "prompt" not in found:
      raise ValueError(
        f"{where}: it has {sorted(map(str, found))}; need 'prompt', and "
        f"possibly {[k for k in COLUMNS if k != 'prompt']}"
      )
    line = {}
    for name, value in found.items():
      try:
        line[name] = COLUMNS[name](value)
      except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {name}={value!r} ({error})") from error
    count += 1
    yield where, line
  if not count:
    raise ValueError(f"sample.file={str(path)!r} holds no prompt")


Numbered = Iterator[tuple[int, Mapping[str, Any]]]


def _txt(text: str) -> Numbered:
  """A prompt a line; empty lines say nothing."""
  # Not `splitlines`: what else it takes for a line's end may stand in a prompt.
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      yield number, {"prompt": line.strip()}


def _jsonl(text: str) -> Numbered:
  """An object a line."""
  for number, line in _txt(text):
    try:
      found = json.loads(line["prompt"])
    except json.JSONDecodeError as error:
      raise ValueError(f"line {number} is no JSON: {error}") from error
    if not isinstance(found, dict):
      raise ValueError(f"line {number} is no JSON object: {line['prompt']}")
    yield number, found


def _csv(text: str) -> Numbered:
  """A table whose first line names the columns; empty cells say nothing."""
  reader = csv.DictReader(
    io.StringIO(text, newline=""), restkey="too many cells"
  )
  for found in reader:
    cells = {k: v for k, v in found.items() if v or k == "prompt"}
    yield reader.line_num, cells


FORMATS = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv}
