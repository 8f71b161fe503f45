"""Every notebook runs from top to bottom, and is committed without outputs."""

import json
import pathlib

import matplotlib
import pytest

COLABS = pathlib.Path(__file__).parents[1] / "colabs"
NOTEBOOKS = sorted(COLABS.glob("*.ipynb"))


def cells(path):
  book = json.loads(path.read_text(encoding="utf-8"))
  return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, monkeypatch):
  matplotlib.use("Agg")
  from matplotlib import pyplot

  shown = []
  monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
  space = {"__name__": "notebook"}
  for number, cell in enumerate(cells(path)):
    source = "".join(cell["source"])
    exec(compile(source, f"{path.name}[{number}]", "exec"), space)
    pyplot.close("all")
  assert shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_no_outputs(path):
  assert NOTEBOOKS
  for cell in cells(path):
    assert not cell["outputs"]
    assert cell["execution_count"] is None
