"""What an experiment's points are judged by."""

from __future__ import annotations

from collections.abc import Mapping

from ml_collections import ConfigDict

# Guidance serves captions; what goes on from frames is judged without it.
UNGUIDED = {"name": "cfg", "scale": 1.0, "low": 0.0, "high": 1.0}


def only(c: ConfigDict, **evaluators: Mapping[str, object]) -> ConfigDict:
  """The config without samples, judged by some of its evaluators alone.

  Args:
    c: is changed.
    **evaluators: of the transformer, that stay, and what changes of each.
  """
  with c.unlocked():
    c.stages = ("autoencoder", "dit")
    for other in set(c.dit.evaluators) - set(evaluators):
      del c.dit.evaluators[other]
    for name, changes in evaluators.items():
      c.dit.evaluators[name].update(changes)
  return c


def unguided(c: ConfigDict) -> ConfigDict:
  """The config without guidance.

  Args:
    c: is changed.
  """
  with c.unlocked():
    c.sample.guidance = UNGUIDED
  return c
