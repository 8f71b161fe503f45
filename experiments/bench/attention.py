"""Which attention is fastest on packed rows, and is packing free?

  python -m experiments.bench.attention

Every entry of ATTENTION against "full", forward and gradient, on rows that hold
one clip and on rows of the same length that hold eight. A dense mask computes
what it forbids, so eight clips a row cost what one long clip costs; the figure
`eight_vs_one` says how far an entry escapes that.
"""

from __future__ import annotations

import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from sora_jax.models.attention import ATTENTION
from sora_jax.utils import logs

ROWS, LENGTH, HEADS, WIDTH = 4, 512, 6, 64
ROUNDS = 7


def _seconds(fn, *args) -> float:
  start = time.perf_counter()
  jax.block_until_ready(fn(*args))
  return time.perf_counter() - start


def _segments(clips: int) -> jax.Array:
  return jnp.asarray(
    np.broadcast_to(1 + np.arange(LENGTH) * clips // LENGTH, (ROWS, LENGTH))
  )


def _sides():
  """Gradient functions of every entry, by (name, clips in a row)."""
  shape = (ROWS, LENGTH, HEADS, WIDTH)
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  qkv = [jax.random.normal(k, shape) for k in keys]
  positions = jnp.zeros((ROWS, LENGTH, 3), jnp.int32)
  sides = {}
  for name, attend in ATTENTION.items():
    for clips in (1, 8):
      segments = _segments(clips)

      def loss(q, k, v, attend=attend, segments=segments):
        return jnp.square(attend(q, k, v, segments, positions)).sum()

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
  figures = {"device": jax.devices()[0].device_kind}
  for name in ATTENTION:
    for clips in (1, 8):
      ratios = [r["full", clips] / r[name, clips] for r in rounds]
      figures[f"{name}_speed_vs_full_{clips}"] = statistics.median(ratios)
    ratios = [r[name, 1] / r[name, 8] for r in rounds]
    figures[f"{name}_eight_vs_one"] = statistics.median(ratios)
  logs.say(json.dumps({k: _short(v) for k, v in figures.items()}))


def _short(value):
  return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
  app.run(main)
