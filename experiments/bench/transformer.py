"""How fast is our transformer against published ones on this CPU?

  pip install -c constraints.txt -e '.[bench]'
  python -m experiments.bench.transformer

Forward passes and training steps in float32 beside PyTorch's models of the
diffusers package at equal width, depth and heads, with random weights, on the
same numbers of tokens:

- `torch`: DiTTransformer2DModel, the DiT of the paper, S/2 and B/2 on latents
  of 32 x 32 x 4: 256 tokens, batch 8;
- `latte`: LatteTransformer3DModel and `wan`: WanTransformer3DModel, size B, on
  1,024 spacetime tokens, batch 2.

A training step is the loss, its gradients and AdamW; ours is the one of
training with its moving average, noise levels and the rest, and one word of
text a clip. Its blocks are unrolled and nothing is recomputed, as on their
side. Figures are how many times as many steps a second ours does; the sides run
in turns, of which the first step is not counted. `peak_share_train_B` is the
FLOPs of a step of B (matmuls alone, nothing counted twice) over those of a
large matmul in the same time. Memory in large pages makes our steps on Linux
faster by a seventh: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import common, dit_b
from experiments.bench import result, trainer
from sora_jax import estimate
from sora_jax.packing import patchify
from sora_jax.types import Batch
from sora_jax.utils import logs

PATCH, CHANNELS = (1, 2, 2), 4
MATMUL = 3072  # rows and columns of the large one


@dataclasses.dataclass(frozen=True)
class Case:
  """One comparison: latents [batch, t, h, w, 4] and the models to run."""

  size: str
  batch: int
  latents: tuple[int, int, int]
  theirs: tuple[str, ...]


CASES = (
  Case("S", 8, (1, 32, 32), ("torch",)),
  Case("B", 8, (1, 32, 32), ("torch",)),
  Case("B", 2, (16, 16, 16), ("latte",)),
  Case("B", 2, (4, 32, 32), ("wan",)),
)
Side = dict[str, Callable[[], None]]  # "forward", "train"


def config(case: Case):
  """Ours: one clip a row."""
  tokens = int(np.prod(patchify.grid((*case.latents, 1), PATCH)))
  c = dit_b.get_config()
  with c.unlocked():
    c.autoencoder.model.channels = CHANNELS
    c.dit.patch = PATCH
    c.dit.model.update(common.SIZES[case.size], remat="none", scan=False)
    c.dit.model.text.update(width=64, depth=0, heads=1)
    c.dit.frames = case.latents[0]
    c.dit.rows.update(rows=case.batch, length=tokens, text=1, clips=1)
    if flags.FLAGS.change:
      c.update_from_flattened_dict(json.loads(flags.FLAGS.change))
  return c


def batch_of(c, case: Case) -> Batch:
  """Random latents."""
  rows, tokens = c.dit.rows.rows, c.dit.rows.length
  size = (rows, tokens, int(np.prod(PATCH)) * CHANNELS)
  video = np.random.default_rng(0).standard_normal(size, np.float32)
  at = patchify.positions(case.latents, PATCH)
  return {
    "video": video,
    "video_positions": np.tile(at, (rows, 1, 1)),
    "video_segments": np.ones((rows, tokens), np.int32),
    "text": np.ones((rows, 1), np.int32),
    "text_positions": np.tile(patchify.text_positions(1), (rows, 1, 1)),
    "text_segments": np.ones((rows, 1), np.int32),
  }


def ours(case: Case) -> tuple[Side, int]:
  """Our steps, and the FLOPs of one of training."""
  c = config(case)
  batch = jax.tree.map(jnp.asarray, batch_of(c, case))
  made = trainer.make(c, batch)
  held, train_step = [made.fresh()], made.compiled()
  flops = estimate.flops(made.update, held[0], batch)
  time, key = jnp.float32(0.5), jax.random.PRNGKey(0)

  @jax.jit
  def loss(params, batch):
    return made.objective.loss_at(params, batch, time, key).compute()

  def train():
    held[0] = jax.block_until_ready(train_step(held[0], batch)[0])

  def forward():
    jax.block_until_ready(loss(held[0].params, batch))

  return {"forward": forward, "train": train}, flops


def _model(name: str, case: Case):
  """(model, its inputs, how to call it) of diffusers."""
  import diffusers
  import torch

  size = common.SIZES[case.size]
  heads, depth = size["heads"], size["depth"]
  shared = {
    "num_attention_heads": heads,
    "attention_head_dim": size["width"] // heads,
    "num_layers": depth,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
  }
  t, h, w = case.latents
  time_step = torch.full((case.batch,), 500)
  if name == "torch":
    model = diffusers.DiTTransformer2DModel(
      **shared, sample_size=h, patch_size=PATCH[1]
    )
    x = torch.randn(case.batch, CHANNELS, h, w)
    labels = torch.zeros(case.batch, dtype=torch.long)
    return model, x, lambda x: model(x, time_step, labels).sample
  x = torch.randn(case.batch, CHANNELS, t, h, w)
  if name == "latte":
    # Half of its blocks look in space and half along time.
    model = diffusers.LatteTransformer3DModel(
      **shared | {"num_layers": depth // 2},
      sample_size=h,
      patch_size=PATCH[1],
      video_length=t,
      cross_attention_dim=None,
      norm_type="ada_norm_single",
      norm_elementwise_affine=False,
      caption_channels=size["width"],
    )
    words = torch.randn(case.batch, 1, size["width"])
    return model, x, lambda x: model(x, time_step, words).sample
  model = diffusers.WanTransformer3DModel(
    **shared, patch_size=PATCH, ffn_dim=size["mlp"], text_dim=64
  )
  words = torch.randn(case.batch, 1, 64)
  return model, x, lambda x: model(x, time_step, words).sample


def theirs(
  name: str, case: Case, device: str = "cpu", compiled: bool = False
) -> Side:
  """The steps of one of diffusers': eager in float32, or compiled in half."""
  import torch

  with torch.device(device):
    model, x, call = _model(name, case)
  half = functools.partial(torch.autocast, device, torch.bfloat16, compiled)
  done = torch.cuda.synchronize if device == "cuda" else lambda: None
  if compiled:
    model.compile()
  weights = sum(p.numel() for p in model.parameters())
  logs.say(f"{name} {case.size}: {weights / 1e6:.1f} M parameters")
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

  def train():
    optimizer.zero_grad(set_to_none=True)
    with half():
      loss = torch.nn.functional.mse_loss(call(x), x)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    done()

  def forward():
    with torch.inference_mode(), half():
      call(x)
    done()

  return {"forward": forward, "train": train}


def matmul(dtype: str = "float32", side: int = MATMUL) -> Callable[[], None]:
  """One large matmul."""
  a = jnp.ones((side, side), dtype)
  run = jax.jit(lambda a: a @ a)
  return lambda: jax.block_until_ready(run(a))


def seconds(run: Callable[[], None]) -> float:
  """How long a call takes."""
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def again(run: Callable[[], None]) -> float:
  """How long a call takes after another one, as steps of training do.

  The first of a turn takes back the memory that another side has left, for
  which a step of ours waited as long again as for its matmuls.
  """
  run()
  return seconds(run)


def measured(case: Case) -> dict[str, float]:
  """Figures of one case, the sides in turns."""
  our, flops = ours(case)
  sides = {"ours": our} | {name: theirs(name, case) for name in case.theirs}
  peak = matmul()
  runs = {(n, k): run for n, side in sides.items() for k, run in side.items()}
  for run in (*runs.values(), peak):
    run()  # compiles
  rounds = []
  for k in range(flags.FLAGS.rounds):
    rounds.append({key: again(run) for key, run in runs.items()})
    rounds[-1]["matmul"] = again(peak)
    shown = {str(key): round(s, 3) for key, s in rounds[-1].items()}
    logs.say(f"{case.size}, {case.latents}, round {k + 1}: {shown}")
  out = {}
  for kind in ("train", "forward"):
    for name in case.theirs:
      ratio = (r[name, kind] / r["ours", kind] for r in rounds)
      out[f"{kind}_vs_{name}_{case.size}"] = statistics.median(ratio)
  share = (
    flops * r["matmul"] / r["ours", "train"] / (2 * MATMUL**3) for r in rounds
  )
  where = "" if case.theirs == ("torch",) else f"_{case.theirs[0]}"
  out[f"peak_share_train_{case.size}{where}"] = statistics.median(share)
  return out


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  if jax.default_backend() != "cpu":
    raise ValueError("both sides run on the CPU: set JAX_PLATFORMS=cpu")
  figures = {}
  for case in CASES:
    found = measured(case)
    figures |= {k: round(v, 3) for k, v in found.items()}
  result.say("transformer", figures)


if __name__ == "__main__":
  flags.DEFINE_integer("rounds", 5, "turns of each")
  flags.DEFINE_string(
    "change", "", "JSON of config keys to change, to try them"
  )
  app.run(main)
