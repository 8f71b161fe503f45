"""The demo: one model for the whole captioned physics world, at 64 pixels.

  python -m sora_jax.main --mode=sample --config=configs/demo.py

Every set of the world in several lengths and aspect ratios, images among them,
packed in common rows. Its weights are in experiments/results/demo, named from
the repository's root, and it samples with them at once. `--mode=train` goes on
from them, for hours, and resumes; --config.dit.checkpoint='' begins anew, and
with --config.autoencoder.checkpoint='' so does the autoencoder. Behind the
colon stands a set of the world that the model is judged on, or `tiny`, or both
with a comma:

  python -m sora_jax.main --mode=eval --config=configs/demo.py:composition

`gpu` behind the colon trains as its weights were trained: a quarter of an hour
of one H200, four minutes of which 16 cores of its host draw the clips.

  python -m sora_jax.main --config=configs/demo.py:gpu \
    --config.dit.checkpoint='' --workdir=runs/demo
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b, world

# Set, frames, height, width: so many clips of each, in thousands.
PARTS = (
  ("simple", 17, 64, 64, 24),
  ("motion", 17, 64, 64, 32),
  ("composition", 17, 64, 64, 36),
  ("digits", 17, 64, 64, 22),
  ("phenomena", 17, 64, 64, 20),
  ("camera", 17, 64, 64, 26),
  ("shots", 17, 64, 64, 22),
  ("sound", 17, 64, 64, 4),
  ("composition", 17, 48, 80, 8),
  ("motion", 17, 80, 48, 8),
  ("simple", 9, 64, 64, 4),
  ("composition", 1, 64, 64, 4),
)


def _part(
  name: str, frames: int, height: int, width: int, count: float
) -> dict:
  return {
    **world.get_config().data.to_dict(),
    "set": name,
    "frames": frames,
    "height": height,
    "width": width,
    "count": int(1000 * count),
    "test_count": 64,
  }


def _mixture(c: ConfigDict) -> None:
  """All sets in their sizes."""
  parts = {}
  for name, *size, count in PARTS:
    parts[f"{name}-{'x'.join(map(str, size))}"] = _part(name, *size, count)
  c.data = {"name": "mixture", "frames": 17, "parts": parts, "repeat": {}}
  del c.dit.evaluators.captions  # it needs one set, see above


def _chosen(arg: str | None) -> tuple[str | None, bool, str | None]:
  """What stands behind the colon: a set, whether `gpu`, and `tiny`."""
  sets = {name for name, *_ in PARTS}
  words = arg.split(",") if arg else []
  data = [word for word in words if word in sets]
  rest = [word for word in words if word not in {*sets, "gpu"}]
  if len(data) > 1 or rest not in ([], ["tiny"]):
    raise ValueError(
      f"unknown config argument {arg!r}; valid: one of {sorted(sets)}, "
      "'gpu', 'tiny', or several with commas"
    )
  return data[0] if data else None, "gpu" in words, rest[0] if rest else None


def _gpu(c: ConfigDict) -> None:
  """How it is computed, and in which batches, on one large GPU."""
  c.workers = 14
  c.stages = ("autoencoder", "dit")
  c.sample.decode_batch = 128
  c.dit.model.update(dtype="bfloat16", matmul="dtype", attention="packed")
  c.dit.rows.rows = 256
  c.dit.schedule.update(until="9600 steps", log="5 seconds", evaluate="never")
  # The experiments judge it afterwards, at leisure.
  for name in set(c.dit.evaluators) - {"fixed_times"}:
    del c.dit.evaluators[name]


def get_config(arg: str | None = None) -> ConfigDict:
  data, gpu, rest = _chosen(arg)
  c = world.get_config(data) if data else dit_b.get_config()
  with c.unlocked():
    if not data:
      _mixture(c)
    c.text.update(vocab_size=1024, max_tokens=80)
    c.tokens = 64  # of 8 x 8 pixels: nothing is scaled

    # The models of the points "large", "longer" and "decoder" of
    # experiments/autoencoder.py, each trained on from the one before; the last
    # one three times, by L2 and then by the mean PSNR.
    c.autoencoder.checkpoint = "experiments/results/demo/autoencoder"
    c.autoencoder.model.update(width=192, depth=4, parity=True)
    c.autoencoder.model.matmul = "bfloat16"
    c.autoencoder.update(size=(17, 64, 64), batch=8)
    c.autoencoder.optimizer.update(
      common.muon("linear", 2e-3, warmup=30), matmul="bfloat16"
    )
    c.autoencoder.schedule.update(until="10000 steps", evaluate="never")

    c.dit.checkpoint = "experiments/results/demo/dit"
    # A token is one latent cell, of 8 x 8 pixels and four frames: 320 to a clip
    # of two seconds. Of 16 x 16, shapes tore at the tokens' borders and were
    # not learned in an hour of two cores.
    c.dit.patch = (1, 1, 1)
    c.dit.model.update(width=384, depth=7, heads=6, mlp=1536, tubes=1)
    c.dit.model.update(modulation="single", matmul="bfloat16")
    # Unrolled, and with memory to keep everything, a step on CPUs takes four
    # fifths of the time.
    c.dit.model.update(scan=False, remat="none")
    c.dit.model.text.update(width=128, depth=2, heads=2)
    c.dit.process.target = "v"
    c.dit.weight = {"name": "velocity", "floor": 0.1}
    # Where things are is decided in much noise: of tokens that say much the
    # same. Three times as far there, videos hang together far earlier.
    c.dit.shift.base_tokens = 36
    c.dit.rows.update(rows=16, length=320, text=80, clips=4, bins=64)
    c.dit.mixture = {
      "clip": 0.6,
      "first_frame": 0.15,
      "last_frame": 0.02,
      "prefix": 0.08,
      "mask": 0.1,
      "frames": 0.05,
    }
    c.dit.optimizer.update(
      common.muon("trapezoid", 3e-3, warmup=200), matmul="bfloat16"
    )
    c.dit.ema = 0.999
    c.dit.schedule.update(until="40000 steps", evaluate="10000 steps")

    c.sample.update(
      size=(17, 64, 64),
      steps=30,
      solver={"name": "ancestral", "eta": 1.0},
      # Without it stars are blobs. At little noise it only draws halos.
      guidance={"name": "cfg", "scale": 2.5, "low": 0.3, "high": 1.0},
      rows=8,
      clips=0,
      strength=0.8,  # of edits: below, few are obeyed
    )
    c.sample.prompts = (
      "a big red ball bounces under gravity on a white background",
      "a magenta seven moves down on a white background",
      "a large yellow star spins clockwise on a checkered background",
      "small blue balls pour into a vessel like water on a white background",
      "a large red disc stays where it is before a checkered background, "
      "the camera pans right",
      "a large green ball moves left and a small magenta square moves up "
      "on a white background",
      "[0s] a large magenta ball moves right on a white background "
      "[1s] cut: a large magenta ball moves up on a black background",
    )
    if gpu:
      _gpu(c)
  return common.finish(c, rest)
