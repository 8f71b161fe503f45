"""The pages' figures are those of the result files."""

import re

import pytest

from configs import autoencoder
from experiments import guidance, record, tables
from sora_jax.run import Run
from sora_jax.utils import media

PAGES = {
  str(page.relative_to(tables.ROOT)): page.read_text()
  for page in (*tables.PAGES, tables.ROOT / "sora_jax" / "README.md")
}


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_up_to_date(page):
  made = tables.written(PAGES[page])
  assert made == PAGES[page], "run python -m experiments.tables"


def test_every_table_stands_on_a_page():
  stand = {
    found[2] for text in PAGES.values() for found in tables.BLOCK.finditer(text)
  }
  for name in set(tables.TABLES) - stand:
    with pytest.raises(FileNotFoundError):  # not run yet
      list(tables.TABLES[name]())


# The demo's card has those of its own evaluators, which its export wrote.
WRITTEN = [p for p in PAGES if tables.ROOT / p != tables.CARD]


@pytest.mark.parametrize("page", WRITTEN)
def test_no_table_has_figures_from_elsewhere(page):
  rest = tables.BLOCK.sub("", PAGES[page])
  rows = [line for line in rest.splitlines() if line.startswith("|")]
  assert rows and not [row for row in rows if re.search(r"\d\.\d", row)]


def test_the_autoencoder_says_what_its_parts_were_worth():
  lines = list(tables.ablation())[2:]
  said = autoencoder.__doc__.splitlines()
  for point, label in {
    "base": "the default",
    "attention": "with attention",
    "transformer": "transformer",
    "l1": "L1",
    "gradient": "gradients",
    "wavelet": "wavelets",
    "temporal": "changes in time",
    "matrix": "a matrix",
  }.items():
    own = "matrix" if point == "matrix" else f"`{point}`"
    (row,) = (line for line in lines if line.startswith(f"| {own} |"))
    _, psnr, _, ssim = (cell.strip() for cell in row.split("|")[2:6])
    (line,) = (line for line in said if label in line and psnr in line)
    assert line.split()[-2:] == [psnr, ssim]


def test_results_of_code_that_was_not_committed_are_named():
  for file in record.RESULTS.glob("*.csv"):
    about, _ = record.load(file.stem)
    if about["commit"].endswith("+"):
      assert f"`{file.stem}`" in PAGES["experiments/README.md"]


def test_figures_in_the_text_are_those_of_the_files():
  page = PAGES["experiments/README.md"]
  _, rows = record.load("physics")
  made, most = (
    [float(row[f"laws/{who}/velocity"]) for row in rows]
    for who in ("generated", "autoencoder")
  )
  above = [f"{a - b:.2f}" for a, b in zip(made, most)]
  assert f"above the ceiling are {', '.join(above[:2])} and {above[2]}" in page
  clips = guidance.base().dit.evaluators.frechet.clips
  assert f"Of {clips} videos against {clips} real ones" in page


def test_a_table_that_nothing_makes_is_an_error():
  text = "<!-- table: nothing -->\n| 1 |\n<!-- end -->"
  with pytest.raises(ValueError, match=r"no table 'nothing': .*'oracle'"):
    tables.written(text)


def _named(page):
  """Files that a page names from the root, and those that it links to."""
  text, here = PAGES[page], (tables.ROOT / page).parent
  named = {
    tables.ROOT / name
    for name in re.findall(r"`((?:experiments|configs|colabs)/[\w/.]+)`", text)
  }
  linked = {here / name for name in re.findall(r"\]\(([\w/.]+\.\w+)\)", text)}
  return named, linked


@pytest.mark.parametrize("page", WRITTEN)
def test_a_file_that_a_page_names_is_there(page):
  named, linked = _named(page)
  missing = [file for file in named | linked if not file.exists()]
  assert named and linked and not missing


def test_the_pages_name_many_files():
  assert len(set.union(*(_named(page)[0] for page in PAGES))) > 10


def test_the_python_of_the_front_page_is_all_that_a_notebook_needs(
  tmp_path, monkeypatch
):
  """In few steps; nothing but the file's name is known here."""
  (source,) = re.findall(r"```python\n(.+?)```", PAGES["README.md"], re.S)
  (tmp_path / "experiments").symlink_to(tables.ROOT / "experiments")
  monkeypatch.chdir(tmp_path)
  opened = Run.open

  def quick(folder):
    run = opened(folder)
    run.config.sample.steps = 2
    return run

  monkeypatch.setattr(Run, "open", quick)
  exec(source, {})
  video, fps = media.read(tmp_path / "ball.mp4")
  assert video.shape == (17, 64, 64, 3) and fps == 8.0
