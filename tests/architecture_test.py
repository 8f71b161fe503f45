"""The rules of the house, read off the syntax trees of every file."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TOP = ("sora_jax", "configs", "experiments", "tests")
FILES = sorted(p for top in TOP for p in (ROOT / top).rglob("*.py"))
LIBRARY = [p for p in FILES if p.is_relative_to(ROOT / "sora_jax")]
CONFIGS = [p for p in FILES if p.is_relative_to(ROOT / "configs")]

# From the roof down: a package imports from floors below its own, and never
# from its neighbours.
FLOORS = (
  ("main",),
  ("modes",),
  ("export",),
  ("report",),
  ("run",),
  ("datasets", "trained"),
  ("build",),
  ("check",),
  ("evaluators", "training", "estimate"),
  ("sampling",),
  ("objectives",),
  ("models", "data"),
  ("packing", "diffusion", "sharding"),
  ("types", "utils"),
)
HEIGHT = {n: i for i, floor in enumerate(reversed(FLOORS)) for n in floor}

# Module -> the only places under sora_jax/ that may import it.
ONLY = {
  "tensorflow": "data/",
  "tensorflow_datasets": "data/",
  "grain": "data/",
  "array_record": "data/",
  "orbax": "training/checkpoint.py",
  "av": "utils/media/",
  "safetensors": ("models/weights.py", "training/exported.py"),
  "tensorboardX": "utils/boards.py",
  "matplotlib": "report.py",
}
# Folder -> what nothing in it may import.
NEVER = {
  "diffusion": ("flax", "optax"),
  "models": ("jax.sharding", "sora_jax.sharding"),
  "packing": ("flax", "jax"),
}
# What these do stands in the docstring of their class.
EXPLAINED_BY_CLASS = ("run", "init", "losses", "setup", "skipped")


def name_of(path):
  return path.relative_to(ROOT).as_posix()


def over(files):
  return pytest.mark.parametrize("path", files, ids=name_of)


def parse(path):
  return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
  """Every module a file imports, also inside functions."""
  found = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{name_of(path)}: relative import"
      found.add(node.module)
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def within(module, package):
  return module == package or module.startswith(package + ".")


def home(path):
  """The package or top-level module of a library file."""
  return path.relative_to(ROOT / "sora_jax").with_suffix("").parts[0]


def test_every_package_has_a_floor():
  homes = {home(p) for p in LIBRARY} - {"__init__"}
  assert homes == set(HEIGHT)
  assert sum(map(len, FLOORS)) == len(HEIGHT), "a package stands on two floors"


@over(LIBRARY)
def test_imports_only_go_down(path):
  own = home(path)
  for module in imports(path):
    parts = module.split(".")
    if parts[0] != "sora_jax" or len(parts) < 2 or parts[1] == own:
      continue
    assert HEIGHT[parts[1]] < HEIGHT[own], f"{own} imports {module}"


@over(LIBRARY)
def test_libraries_stay_where_they_belong(path):
  inside = path.relative_to(ROOT / "sora_jax").as_posix()
  for module in imports(path):
    for library, place in ONLY.items():
      if within(module, library):
        assert inside.startswith(place), f"{module} belongs to {place}"
    for folder, banned in NEVER.items():
      if inside.startswith(folder + "/"):
        assert not any(within(module, b) for b in banned), module
    assert not within(module, "configs"), "the library imports a config"


@over([p for p in LIBRARY if home(p) == "models"])
def test_models_never_see_a_mesh(path):
  words = {
    getattr(node, "id", None) or getattr(node, "attr", None)
    for node in ast.walk(parse(path))
  }
  assert not {w for w in words if w and "mesh" in w.lower()}


@over(CONFIGS)
def test_configs_are_pure_data(path):
  for module in imports(path):
    allowed = ("ml_collections", "configs", "__future__")
    assert any(within(module, a) for a in allowed), module


@over(FILES)
def test_files_are_short(path):
  assert len(path.read_text().splitlines()) < 400


@over(LIBRARY)
def test_functions_are_short(path):
  long = {
    node.name: node.end_lineno - node.lineno + 1
    for node in ast.walk(parse(path))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    and node.end_lineno - node.lineno + 1 > 60
  }
  assert not long


@over(LIBRARY)
def test_nothing_is_printed_or_hidden_in_defaults(path):
  for node in ast.walk(parse(path)):
    if not isinstance(node, ast.Call):
      continue
    called = ast.unparse(node.func)
    assert called != "print", f"line {node.lineno}: use utils.logs.say"
    if called.endswith(".get"):
      owner = called.removesuffix(".get").lower()
      assert not re.search("config|section|options", owner), (
        f"line {node.lineno}: {called} hides a default"
      )


@over(FILES)
def test_nothing_is_left_to_do(path):
  marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
  assert not re.search(rf"\b({marks})\b", path.read_text())


def test_a_command_starts_without_what_it_may_never_use():
  # More than a second of every command's start. `import scipy` alone loads its
  # parts when they are first used.
  late = {"matplotlib", "sklearn", "scipy.signal", "scipy.stats"}
  late.add("tensorboardX")  # which imports PyTorch where there is one
  code = f"import sys, sora_jax.main; print({late} & set(sys.modules))"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "set()"


@over(LIBRARY)
def test_every_module_is_importable(path):
  module = name_of(path).removesuffix(".py").replace("/", ".")
  importlib.import_module(module.removesuffix(".__init__"))


def undocumented(tree):
  """Names of public things without a docstring."""
  if tree.body and not ast.get_docstring(tree):
    yield "the module"
  for node in tree.body:
    if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
      continue
    if node.name.startswith("_"):
      continue
    if not ast.get_docstring(node):
      yield node.name
    if isinstance(node, ast.ClassDef):
      for method in node.body:
        if (
          isinstance(method, ast.FunctionDef)
          and not method.name.startswith("_")
          and method.name not in EXPLAINED_BY_CLASS
          and not ast.get_docstring(method)
        ):
          yield f"{node.name}.{method.name}"


@over([p for p in LIBRARY + CONFIGS if p.name != "__init__.py"])
def test_public_names_are_documented(path):
  missing = [n for n in undocumented(parse(path)) if n != "get_config"]
  assert not missing


@pytest.mark.parametrize(
  "source, wanted",
  [
    ('"""Doc."""\ndef f(): pass', ["f"]),
    ('"""Doc."""\nclass A:\n  """Doc."""\n  def g(self): pass', ["A.g"]),
    ("def _f(): pass", ["the module"]),
    ('"""Doc."""\nclass A:\n  """Doc."""\n  def run(self): pass', []),
  ],
)
def test_the_docstring_rule_itself(source, wanted):
  assert list(undocumented(ast.parse(source))) == wanted
