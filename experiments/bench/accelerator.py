"""How much of an accelerator does training use, and is torch.compile faster?

  pip install -c constraints.txt -e '.[gpu,bench]'
  python -m experiments.bench.accelerator

Training steps in bfloat16 (parameters in float32) of DiT-XL/2 on latents of
32 x 32 x 4, images of 256 pixels: ours, with `--clips` of them packed into each
of `--rows` rows, by every kind of attention that is asked for; and the DiT of
the diffusers package through torch.compile, with its scaled-dot-product
attention, on as many images. All run in turns, in one process.

Figures, for the fastest attention: `mfu`, the model's FLOPs (matmuls; attention
within a clip, nothing counted twice) over those of a large bfloat16 matmul in
the same time; `train_vs_torch_compile`, how many times as many steps a second.
`table` has every attention's. On a CPU it runs too, to see that it does:

  python -m experiments.bench.accelerator --size=S --rows=1 --clips=2 --side=512
"""

from __future__ import annotations

import os
import statistics

import jax
import numpy as np
from absl import app, flags

from experiments.bench import result, trainer, transformer
from sora_jax.models.attention import ATTENTION
from sora_jax.utils import logs
from sora_jax.utils.sections import key

LATENTS = (1, 32, 32)


def config(rows: int, clips: int, attention: str):
  """Rows of so many clips."""
  case = transformer.Case(flags.FLAGS.size, rows, LATENTS, ())
  c = transformer.config(case)
  with c.unlocked():
    c.dit.model.update(
      dtype="bfloat16",
      attention=attention,
      remat=flags.FLAGS.remat,
      scan=flags.FLAGS.scan,
    )
    c.dit.rows.update(length=clips * c.dit.rows.length, text=clips, clips=clips)
  return c


def batch_of(rows: int, clips: int):
  """Rows of so many clips, one after another, of random latents."""
  case = transformer.Case(flags.FLAGS.size, rows * clips, LATENTS, ())
  alone = transformer.batch_of(transformer.config(case), case)
  batch = {k: v.reshape(rows, -1, *v.shape[2:]) for k, v in alone.items()}
  for name in ("video", "text"):
    segments = batch[f"{name}_segments"]
    each = segments.shape[1] // clips
    segments *= 1 + np.arange(segments.shape[1], dtype=np.int32) // each
  return batch


def ours(rows: int, clips: int, attention: str):
  """One training step, as a function of nothing."""
  batch = batch_of(rows, clips)
  made = trainer.make(config(rows, clips, attention), batch)
  held, step = [made.fresh()], made.compiled()
  placed = jax.device_put(batch)  # on one device, as the other side

  def train():
    held[0] = jax.block_until_ready(step(held[0], placed)[0])

  return train


def model_flops(rows: int, clips: int) -> int:
  """Of a step: the same clips, each in a row of its own."""
  c = config(rows * clips, 1, "full")
  with c.unlocked():
    c.dit.model.remat = "none"
  return trainer.flops(c, batch_of(rows * clips, 1))


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  # Both sides share the device's memory.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  asked = flags.FLAGS
  for name in asked.attention:
    key(ATTENTION, name, "--attention")
  kind = "cuda" if jax.default_backend() == "gpu" else "cpu"
  case = transformer.Case(asked.size, asked.rows * asked.clips, LATENTS, ())
  torch = transformer.theirs("torch", case, kind, compiled=asked.compile)
  runs = {"torch.compile": torch["train"]}
  for name in asked.attention:
    runs[name] = ours(asked.rows, asked.clips, name)
  runs["matmul"] = transformer.matmul("bfloat16", asked.side)
  for run in runs.values():
    run()  # compiles
    run()
  rounds = []
  for k in range(asked.rounds):
    rounds.append({n: transformer.seconds(run) for n, run in runs.items()})
    logs.say(
      f"round {k + 1}: { {n: round(s, 4) for n, s in rounds[-1].items()} }"
    )
  flops = model_flops(asked.rows, asked.clips)
  table = []
  for name in asked.attention:
    share = (flops * r["matmul"] / r[name] / 2 / asked.side**3 for r in rounds)
    ratio = (r["torch.compile"] / r[name] for r in rounds)
    table.append(
      {
        "attention": name,
        "mfu": round(statistics.median(share), 4),
        "train_vs_torch_compile": round(statistics.median(ratio), 3),
      }
    )
  best = max(table, key=lambda row: row["mfu"])
  figures = {**best, "table": table}
  result.say("accelerator", figures)


if __name__ == "__main__":
  flags.DEFINE_string("size", "XL", "of configs.common.SIZES")
  flags.DEFINE_integer("rows", 8, "in a batch")
  flags.DEFINE_integer("clips", 16, "packed in a row")
  flags.DEFINE_string("remat", "dots", "what the backward pass keeps")
  flags.DEFINE_bool("scan", True, "all blocks by one program")
  flags.DEFINE_list(
    "attention", ["full", "library", "packed", "flash"], "kinds to try"
  )
  flags.DEFINE_bool("compile", True, "PyTorch's side")
  flags.DEFINE_integer("side", 8192, "of the large matmul")
  flags.DEFINE_integer("rounds", 5, "turns of each")
  flags.DEFINE_string("change", "", "JSON of config keys to change")
  app.run(main)
