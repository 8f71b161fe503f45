"""Every notebook runs from top to bottom, and is committed without outputs."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

COLABS = pathlib.Path(__file__).parents[1] / "colabs"
NOTEBOOKS = sorted(COLABS.glob("*.ipynb"))


def cells(path):
  book = json.loads(path.read_text(encoding="utf-8"))
  return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


# The notebooks' own switches to a form that takes seconds.
QUICK = {"MINUTES": "0", "STEPS": "2"}
# In a process of its own, for one of them wants eight devices.
RUN = """
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
shown = []
pyplot.show = lambda: shown.append(pyplot.gcf())
space = {{"__name__": "notebook"}}
for number, source in enumerate({sources!r}):
  exec(compile(source, f"{name}[{{number}}]", "exec"), space)
  pyplot.close("all")
assert shown, "it shows nothing"
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path):
  sources = ["".join(cell["source"]) for cell in cells(path)]
  script = tmp_path / "notebook.py"
  script.write_text(RUN.format(sources=sources, name=path.name))
  done = subprocess.run(
    [sys.executable, script],
    env=os.environ | QUICK,
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_begins_with_what_is_known_at_its_end(path):
  book = json.loads(path.read_text(encoding="utf-8"))
  assert book["cells"][0]["cell_type"] == "markdown"
  text = "".join(book["cells"][0]["source"])
  assert text.startswith("# ") and "At the end of this notebook" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_no_outputs(path):
  assert NOTEBOOKS
  for cell in cells(path):
    assert not cell["outputs"]
    assert cell["execution_count"] is None
