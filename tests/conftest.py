"""What all tests share: a JAX that compiles fast and forgets, a tiny model."""

import gc
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

# Compiling is most of what tests do. One thread each, because pytest-xdist
# already runs a worker on every core.
XLA_FLAGS = (
  "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
)
# Of a process; Linux allows 65,530, and a compiled function takes several.
MAPS = 20_000
# XLA's devices on one CPU now and then wait for each other for ever: one has
# begun with one exchange, another with the next. The process then ends so.
STUCK = "may be stuck"
TRIES = 3
CAPTIONS = (
  "a red three moves left on a black background",
  "a green eight stays still on a white background",
)


def pytest_configure(config):
  """Runs before JAX is imported; workers and subprocesses inherit it."""
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)
  if hasattr(config, "cache"):  # not under -p no:cacheprovider
    os.environ.setdefault(
      "JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax"))
    )
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
  root = str(config.rootpath)
  paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
  os.environ["PYTHONPATH"] = os.pathsep.join(paths)


@pytest.fixture(autouse=True, scope="module")
def few_maps():
  """Lets compiled functions go before Linux has no memory maps for more.

  XLA does not say so then: the process ends. Who calls one of these functions
  again waits for the compilation cache.
  """
  yield
  maps = pathlib.Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
    import jax

    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def small_blocks():
  """So small that rows of a test have several, and clips, too."""
  from sora_jax.models import attention

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attention, "BLOCK", 4)
    patch.setattr(attention, "CLIP_TILES", (2, 4))
    patch.setattr(attention, "LONG_TILE", 3)
    yield


def tiny(changes=None):
  """configs/dit_b.py:tiny with {dotted key: value} changed."""
  from configs import dit_b

  config = dit_b.get_config("tiny")
  config.update_from_flattened_dict(changes or {})
  return config


@pytest.fixture(name="tiny", scope="session")
def tiny_fixture():
  return tiny


# Blocks of the autoencoder: name -> what to change of `autoencoder`.
BLOCKS = {
  "factored": {},
  "parity": {"parity": True},
  "full, attention": {"factored": False, "heads": 2},
  "transformer": {"block": "transformer", "heads": 2},
}


@pytest.fixture(scope="session")
def on_devices():
  """Runs code in a process with so many devices; returns what it says.

  `code` imports what `sys.argv[1]`, the caller's folder, and `tests` hold; the
  rest of `sys.argv` are the caller's. It may run again, if devices got stuck.
  """

  def run(count, code, folder, *args):
    flag = f"--xla_force_host_platform_device_count={count}"
    flags = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flag}"}
    # Devices wait for each other in threads: with one each they can run out.
    flags["NPROC"] = "64"
    here = pathlib.Path(__file__).parent
    code = f"import sys; sys.path[:0] = [sys.argv[1], {str(here)!r}]\n{code}"
    for _ in range(TRIES):
      done = subprocess.run(
        [sys.executable, "-c", code, folder, *map(str, args)],
        env=os.environ | flags,
        capture_output=True,
        text=True,
      )
      died = done.returncode == -signal.SIGABRT
      if not (died and STUCK in done.stderr):
        break
    assert done.returncode == 0, done.stderr
    return done.stdout

  return run


def autoencoder(compression, channels, width=8, depth=1, kind=None, **changes):
  """A small autoencoder, or one of a kind that derives from it."""
  import jax.numpy as jnp

  from sora_jax.models.autoencoder import Autoencoder

  options = {
    "block": "conv",
    "kernel": (3, 3),
    "factored": True,
    "lowering": "fastest",
  }
  options |= {"heads": 0, "parity": False, "logvar": -8.0, "dtype": jnp.float32}
  return (kind or Autoencoder)(
    compression, channels, width, depth, **(options | changes)
  )


def in_chunks(module, variables, x, sizes):
  """What a causal module makes of x [B, t, ...] in chunks of these sizes."""
  import numpy as np

  from sora_jax.models.causal_conv import STREAM

  parts, state, at = [], {}, 0
  for size in sizes:
    part = x[:, at : at + size]
    out, state = module.apply({**variables, **state}, part, mutable=[STREAM])
    parts.append(out)
    at += size
  return np.concatenate(parts, axis=1)


def filled(abstract, seed=0):
  """Random arrays for ShapeDtypeStructs, so that no weight is zero."""
  import jax
  import numpy as np

  rng = np.random.default_rng(seed)

  def fill(path, x):
    if not np.issubdtype(x.dtype, np.floating):
      return np.zeros(x.shape, x.dtype)
    offset = 1.0 if "scale" in jax.tree_util.keystr(path[-1:]) else 0.0
    return (offset + 0.2 * rng.standard_normal(x.shape)).astype(x.dtype)

  return jax.tree_util.tree_map_with_path(fill, abstract)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
  """A tiny run whose weights are random and nowhere zero; nothing is trained.

  Has run, params and frozen as the transformer's stage has them, its pipeline,
  and `autoencoder`, the state of the other stage.
  """
  import jax
  import jax.numpy as jnp

  from sora_jax.data import tokenizer
  from sora_jax.run import Run

  folder = pathlib.Path(tmp_path_factory.mktemp("model"))
  run = Run(tiny(), folder)
  words = tokenizer.train(CAPTIONS, run.config.text.vocab_size)
  words.save(folder / "tokenizer.json")

  def state(name):
    abstract = run.stage(name, *run.abstract_inputs(name), epoch=1).abstract
    made = jax.tree.map(jnp.asarray, filled(abstract))
    return made.replace(ema=made.params)

  dit, autoencoder = state("dit"), state("autoencoder")
  frozen = {
    "autoencoder": autoencoder.ema["ae"],
    "stats": run.codec.no_stats(),
  }
  return types.SimpleNamespace(
    run=run,
    params=dit.params,
    frozen=frozen,
    state=dit.replace(frozen=frozen),
    autoencoder=autoencoder,
    pipeline=run.pipeline(),
  )
