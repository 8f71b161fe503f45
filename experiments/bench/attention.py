"""Which attention is fastest on packed rows, and is packing free?

  python -m experiments.bench.attention

Every entry of ATTENTION against "full", forward and gradient, on rows that hold
one clip and on rows of the same length that hold eight. A dense mask computes
what it forbids, so eight clips a row cost what one long clip costs; the figure
`eight_vs_one` says how far an entry escapes that. On GPUs "library" and
"packed" take kernels of cuDNN's for bfloat16, and a few rows keep none of them
busy:

  python -m experiments.bench.attention --dtype=bfloat16 --rows=256 \
    --attention=full,library,packed,flash
"""

from __future__ import annotations

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.bench import result
from sora_jax.models.attention import ATTENTION
from sora_jax.utils import logs
from sora_jax.utils.dtypes import DTYPES
from sora_jax.utils.sections import key

HEADS, WIDTH = 6, 64
ROUNDS = 7


def _seconds(fn, *args) -> float:
  start = time.perf_counter()
  jax.block_until_ready(fn(*args))
  return time.perf_counter() - start


def _segments(clips: int) -> jax.Array:
  rows, length = flags.FLAGS.rows, flags.FLAGS.length
  return jnp.asarray(
    np.broadcast_to(1 + np.arange(length) * clips // length, (rows, length))
  )


def _sides():
  """Gradient functions of every entry, by (name, clips in a row)."""
  asked = flags.FLAGS
  shape = (asked.rows, asked.length, HEADS, WIDTH)
  dtype = key(DTYPES, asked.dtype, "--dtype")
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  qkv = [jax.random.normal(k, shape, dtype) for k in keys]
  positions = jnp.zeros((*shape[:2], 3), jnp.int32)
  sides = {}
  for name in dict.fromkeys(("full", *asked.attention)):
    attend = key(ATTENTION, name, "--attention")
    for clips in (1, 8):
      segments = _segments(clips)

      def loss(q, k, v, attend=attend, segments=segments, clips=clips):
        out = attend(q, k, v, segments, positions, clips)
        return jnp.square(out.astype(jnp.float32)).sum()

      run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
      jax.block_until_ready(run(*qkv))
      sides[name, clips] = run
      logs.say(f"compiled {name}, {clips} clips a row")
  return sides, qkv


def main(argv: list[str]) -> None:
  del argv
  sides, qkv = _sides()
  rounds = []
  for i in range(ROUNDS):
    rounds.append({side: _seconds(run, *qkv) for side, run in sides.items()})
    logs.say(f"round {i + 1} of {ROUNDS}")
  asked = flags.FLAGS
  figures = {"rows": asked.rows, "length": asked.length}
  for name in asked.attention:
    for clips in (1, 8):
      ratios = [r["full", clips] / r[name, clips] for r in rounds]
      figures[f"{name}_speed_vs_full_{clips}"] = statistics.median(ratios)
    ratios = [r[name, 1] / r[name, 8] for r in rounds]
    figures[f"{name}_eight_vs_one"] = statistics.median(ratios)
  figures = {key: round(value, 3) for key, value in figures.items()}
  figures["dtype"] = asked.dtype
  result.say("attention", figures)


if __name__ == "__main__":
  flags.DEFINE_list("attention", list(ATTENTION), "kinds to try, and full")
  flags.DEFINE_string("dtype", "float32", "of queries, keys and values")
  flags.DEFINE_integer("rows", 4, "in a batch")
  flags.DEFINE_integer("length", 512, "tokens in a row")
  app.run(main)
