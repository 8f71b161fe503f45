"""How long, by which rule, and judged by whom."""

from __future__ import annotations

from collections.abc import Iterable

from ml_collections import ConfigDict

from sora_jax import check
from sora_jax.evaluators import EVALUATORS
from sora_jax.evaluators.context import Context
from sora_jax.models.autoencoder import ENCODER
from sora_jax.training import loop, optimizer, when
from sora_jax.types import Evaluator
from sora_jax.utils.sections import bound, call, key, plain


def schedule(section: ConfigDict) -> loop.Schedule:
  """When things happen in a stage."""
  found = call(loop.Schedule, section.schedule, "schedule")
  for text in (found.until, found.log, found.save, found.evaluate):
    when.parse(text)
  if found.log == "never":
    raise ValueError("schedule.log='never': divergence is noticed at reports")
  return found


def optimizers(
  section: ConfigDict, players: Iterable[str], steps_per_epoch: int | None
):
  """The optimizers of a stage, by player: the same rule for each."""
  clock = when.Clock(steps_per_epoch)
  steps = when.Until(section.schedule.until, clock).steps()
  options = plain(section.optimizer)
  shared = {
    k: options.pop(k)
    for k in ("schedule", "learning_rate", "warmup", "clip", "clip_unit")
  }
  name, base = shared.pop("schedule"), options.pop("base_width")
  if base and "compression" in section.model:
    raise ValueError(
      f"base_width={base}: learning rates are transferred between "
      "widths of the transformer, not of an autoencoder: set 0"
    )
  shared["narrower"] = base / section.model.width if base else 1.0
  rates = key(optimizer.SCHEDULES, name, "optimizer.schedule")
  rule = bound(optimizer.OPTIMIZERS, options, "optimizer", late=1)
  if steps is None and name != "constant":
    raise ValueError(
      f"schedule {name!r} must know its length, but the run "
      f"ends after {section.schedule.until!r}: use steps or epochs, or the "
      "schedule 'constant'"
    )
  made = optimizer.make(rule, rates, steps=steps or 1, **shared)
  if check.decoder_alone(section):
    made = optimizer.still(made, ENCODER)
  return {player: made for player in players}


def evaluators(
  section: ConfigDict, context: Context | None
) -> dict[str, Evaluator]:
  """The evaluators of a stage, by their name in the config."""
  return {
    name: bound(EVALUATORS, options, f"evaluators.{name}", context=context)()
    for name, options in section.evaluators.items()
  }
