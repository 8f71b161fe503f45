"""What tables of results are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Row = Mapping[str, str]
Lines = Iterator[str]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
  """Lines of Markdown."""
  yield "| " + " | ".join(head) + " |"
  yield "|---" * len(head) + "|"
  for row in rows:
    yield "| " + " | ".join(row) + " |"


def mean(rows: Sequence[Row], column: str) -> float:
  """Of a column of a result file's rows."""
  return float(np.mean([float(row[column]) for row in rows]))


def points(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """Rows by point; several are of several seeds."""
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(row["point"], []).append(row)
  return found
