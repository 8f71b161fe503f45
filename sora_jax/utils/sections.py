"""Sections of a config as constructor calls; errors that list what is valid."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def plain(section: Any) -> Any:
  """A section as ordinary dicts and tuples."""
  return section.to_dict() if isinstance(section, ConfigDict) else section


def config_of(found: Mapping[str, Any]) -> ConfigDict:
  """A config from the JSON that it was saved as: tuples again for lists."""

  def tuples(value):
    if isinstance(value, dict):
      return {k: tuples(v) for k, v in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value

  return ConfigDict(tuples(dict(found))).lock()


def digest(config: ConfigDict) -> str:
  """12 hexadecimal digits that change with any value of the config."""
  text = json.dumps(plain(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def key(table: Mapping[str, Any], name: str, where: str) -> Any:
  """table[name], or a ValueError that lists the valid names."""
  if name not in table:
    raise ValueError(f"{where}={name!r} is not one of {sorted(table)}")
  return table[name]


def partial(
  fn: Callable, options: Any, where: str, late: int = 0, **given
) -> Callable:
  """fn with its options bound.

  Args:
    fn: what takes them.
    options: keyword arguments, from the config.
    where: the section's name, for errors.
    late: how many of its first arguments come when it is called.
    **given: keyword arguments that are no options.

  Raises:
    ValueError: for unknown and missing options, listing the valid ones.
  """
  options, found = plain(options), inspect.signature(fn).parameters
  offered = {k: found[k] for k in list(found)[late:] if k not in given}
  wrong = [k for k in options if k not in offered]
  missing = [
    k for k, p in offered.items() if p.default is p.empty and k not in options
  ]
  for problem, names in (("unknown", wrong), ("missing", missing)):
    if names:
      raise ValueError(f"{where}: {problem} {names}; valid: {list(offered)}")
  return functools.partial(fn, **given, **options)


def call(fn: Callable, options: Any, where: str, **given) -> Any:
  """fn(**given, **options); errors as in `partial`."""
  return partial(fn, options, where, **given)()


def bound(
  table: Mapping[str, Callable], section: Any, where: str, late=0, **given
) -> Callable:
  """`partial` of the row of a table that a section names."""
  options = dict(plain(section))
  fn = key(table, options.pop("name"), f"{where}.name")
  return partial(fn, options, where, late, **given)
