"""The README's figures are those of the result files."""

import re

import pytest

from experiments import tables

TEXT = tables.README.read_text()


def test_tables_are_up_to_date():
  assert tables.BLOCK.search(TEXT)
  assert tables.written(TEXT) == TEXT, "run python -m experiments.tables"


def test_no_table_has_figures_from_elsewhere():
  rest = tables.BLOCK.sub("", TEXT)
  rows = [line for line in rest.splitlines() if line.startswith("|")]
  assert rows and not [row for row in rows if re.search(r"\d\.\d", row)]


def test_a_table_that_nothing_makes_is_an_error():
  text = "<!-- table: nothing -->\n| 1 |\n<!-- end -->"
  with pytest.raises(ValueError, match=r"no table 'nothing': .*'oracle'"):
    tables.written(text)


def test_a_file_that_the_readme_names_is_there():
  named = set(re.findall(r"`((?:experiments|configs|colabs)/[\w/.]+)`", TEXT))
  missing = [
    name for name in named if not (tables.README.parent / name).exists()
  ]
  assert len(named) > 10 and not missing
