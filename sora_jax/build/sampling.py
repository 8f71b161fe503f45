"""Whether the section `sample` agrees with itself and with the model."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from sora_jax import check
from sora_jax.models.autoencoder import latent_size
from sora_jax.packing import patchify
from sora_jax.sampling import excerpts, tasks
from sora_jax.sampling.request import Request
from sora_jax.utils import media

# Solvers that ask once a step and do not look back.
WAITING = ("euler", "ancestral", "renoise")
FROM_INPUT = ("-",)  # prompts that come from standard input
OF_VBENCH = 5  # videos of a prompt (Huang et al. 2024)


def check_sampling(config: ConfigDict) -> None:
  """Whether the section `sample` agrees with itself, and its files are there.

  Raises:
    ValueError: naming the keys.
  """
  sample = config.sample
  for name in ("source", "target", "mask", "file"):
    if sample[name] and not Path(sample[name]).is_file():
      raise ValueError(f"sample.{name}={sample[name]!r} is not a file")
    if (
      name in tasks.NEEDS.get(sample.task, ())
      and sample.prompts
      and not sample.file  # whose lines may bring their own
      and not sample[name]
    ):
      raise ValueError(
        f"sample.task={sample.task!r} needs a {name}: set sample.{name} to a "
        "picture or video"
      )
  long = sample.rollout.seconds > 0
  if "-" in sample.prompts and (
    sample.prompts != FROM_INPUT or sample.file or not long
  ):
    raise ValueError(
      "the prompt '-' reads a line for every block of one long video: it "
      "stands alone, without sample.file, and sample.rollout.seconds > 0"
    )
  if long and (sample.clips or sample.formats != ("mp4",)):
    raise ValueError(
      "sample.rollout makes long mp4s of prompts: set sample.clips=0 and "
      f"sample.formats=('mp4',), not {sample.clips} and {sample.formats}"
    )
  for name in sample.formats:
    if not 0 < sample.fps <= media.WRITABLE[f".{name}"]:
      raise ValueError(
        f"sample.fps={sample.fps}: a {name} takes more than 0 and at most "
        f"{media.WRITABLE[f'.{name}']} frames a second"
      )
  _waits(sample)
  _in_parts(config)
  if sample.names == "vbench" and (
    sample.prompts or sample.file or sample.clips
  ):
    _for_vbench(sample)
  if sample.clips and (wrong := set(sample.tasks) - set(excerpts.ANSWERED)):
    raise ValueError(
      f"sample.tasks={sorted(wrong)} of clips of the data: no clip says what "
      f"is right; choose of {sorted(excerpts.ANSWERED)}"
    )


def _waits(sample: ConfigDict) -> None:
  """Whether the solver can wait, if guidance wants it to."""
  guidance, solver = sample.guidance, sample.solver.name
  if guidance.name != "zero" or guidance.start >= 1 or solver in WAITING:
    return
  raise ValueError(
    f"sample.solver={solver!r} takes a step from what several say, and "
    f"sample.guidance.start={guidance.start} lets the first of them say "
    f"nothing: choose one of {list(WAITING)}, or start=1.0"
  )


def _for_vbench(sample: ConfigDict) -> None:
  """Whether what will be made is all that the suite looks for."""
  if sample.clips:
    raise ValueError(
      f"sample.names='vbench' is for prompts: set sample.clips=0, not "
      f"{sample.clips}"
    )
  if sample.repeats < OF_VBENCH:
    raise ValueError(
      f"sample.names='vbench': the suite takes {OF_VBENCH} videos of each "
      f"prompt: set sample.repeats={OF_VBENCH}, not {sample.repeats}, or "
      "sample.names='index'"
    )
  if "mp4" not in sample.formats:
    raise ValueError(
      "sample.names='vbench': the suite takes mp4s: set "
      f"sample.formats=('mp4',), not {sample.formats}"
    )


def _in_parts(config: ConfigDict) -> None:
  """Whether steps end where a student has learned that they do."""
  objective, sample = config.dit.objective, config.sample
  if "parts" not in objective or objective.parts == 1:
    return
  asked = (sample.steps, sample.solver.name, sample.grid.name)
  if asked != (objective.parts, "euler", "uniform"):
    raise ValueError(
      f"dit.objective.parts={objective.parts} teaches as many steps of the "
      "solver 'euler' on the grid 'uniform', and sample asks for "
      f"{asked[0]} of {asked[1]!r} on {asked[2]!r}: set sample.steps="
      f"{objective.parts}, sample.solver={{'name': 'euler'}} and "
      "sample.grid={'name': 'uniform'}, or train with parts=1"
    )
  if sample.cache > 0 or sample.guidance.name == "zero":
    raise ValueError(
      f"dit.objective.parts={objective.parts}: every step is another part, so "
      f"none can be left out: set sample.cache=0.0, not {sample.cache}, and "
      f"another guidance than 'zero', not {sample.guidance.name!r}"
    )


def fits(config: ConfigDict, request: Request) -> None:
  """Whether a row holds a request's video, and a long one can go on.

  Raises:
    ValueError: naming both numbers and the keys to change.
  """
  cells = latent_size(request.size, config.autoencoder.model.compression)
  tokens = patchify.tokens(cells, config.dit.patch)
  if tokens > config.dit.rows.length:
    raise ValueError(
      f"a video of {request.size} has {tokens} tokens and dit.rows.length is "
      f"{config.dit.rows.length}: raise it, or ask for less (sample.size)"
    )
  rollout = config.sample.rollout
  if rollout.seconds > 0:
    frames = request.size[0]
    check.rolls(config, rollout, request.keep, frames, "sample")
