"""Compiled programs are kept, and where the user says."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
CODE = (
  "import jax; from sora_jax.utils import cache; cache.keep_compiled();"
  "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0);"
  "jax.jit(lambda x: x * 2)(1.0); print(jax.config.jax_compilation_cache_dir)"
)


def run(**changes):
  env = {k: v for k, v in os.environ.items() if k[:8] != "JAX_COMP"}
  done = subprocess.run(
    [sys.executable, "-c", CODE],
    env=env | changes,
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  return pathlib.Path(done.stdout.strip())


def test_programs_are_kept_in_the_users_cache(tmp_path):
  folder = run(XDG_CACHE_HOME=str(tmp_path))
  assert folder.is_relative_to(tmp_path / "sora_jax" / "xla")
  assert any(folder.iterdir())
  assert run(XDG_CACHE_HOME=str(tmp_path)) == folder


def test_a_folder_that_the_user_names_is_kept(tmp_path):
  own = tmp_path / "own"
  assert run(JAX_COMPILATION_CACHE_DIR=str(own)) == own
