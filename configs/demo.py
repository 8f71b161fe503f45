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

`images` instead of a set trains on images, at a fifth of the cost: what things
look like, and that each is in one place. A few videos are among them, so that
the tokenizer knows the words of motion. Videos go on from there:

  python -m sora_jax.main --config=configs/demo.py:images \
    --config.dit.checkpoint='' --workdir=runs/images
  python -m sora_jax.main --config=configs/demo.py \
    --config.dit.checkpoint=runs/images/dit --workdir=runs/videos
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b, world

# Set, frames, height, width: so many clips of each, in thousands.
PARTS = (
  ("simple", 17, 64, 64, 8),
  ("motion", 17, 64, 64, 8),
  ("composition", 17, 64, 64, 8),
  ("digits", 17, 64, 64, 6),
  ("phenomena", 17, 64, 64, 4),
  ("camera", 17, 64, 64, 4),
  ("shots", 17, 64, 64, 4),
  ("sound", 17, 64, 64, 4),
  ("composition", 17, 48, 80, 3),
  ("motion", 17, 80, 48, 3),
  ("simple", 9, 64, 64, 2),
  ("composition", 1, 64, 64, 2),
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


def _mixture(c: ConfigDict, images: bool) -> None:
  """All sets in their sizes, or mostly images of these."""
  parts = {}
  for name, *size, count in PARTS:
    shown = [(size, count / 16), ([1, *size[1:]], 4 * count)]
    for found, some in shown if images else [(size, count)]:
      key = f"{name}-{'x'.join(map(str, found))}"
      parts.setdefault(key, _part(name, *found, some))
  c.data = {"name": "mixture", "frames": 17, "parts": parts, "repeat": {}}
  unfit = {"captions"}  # they need one set, see above
  if images:
    unfit |= {"continuation", "frechet"}
  for name in unfit:
    del c.dit.evaluators[name]


def _chosen(arg: str | None) -> tuple[str | None, str | None]:
  """What stands behind the colon: a set or `images`, and `tiny`."""
  valid = {"images", *(name for name, *_ in PARTS)}
  words = arg.split(",") if arg else []
  data = [word for word in words if word in valid]
  rest = [word for word in words if word not in valid]
  if len(data) > 1 or rest not in ([], ["tiny"]):
    raise ValueError(
      f"unknown config argument {arg!r}; valid: one of {sorted(valid)}, "
      "'tiny', or both with a comma"
    )
  return data[0] if data else None, rest[0] if rest else None


def get_config(arg: str | None = None) -> ConfigDict:
  data, rest = _chosen(arg)
  of_one = data not in (None, "images")
  c = world.get_config() if of_one else dit_b.get_config()
  with c.unlocked():
    if of_one:
      c.data.update(set=data, length="mixed")
      if data == "shots":
        del c.dit.evaluators["laws"]  # it judges clips of one shot
    else:
      _mixture(c, images=data == "images")
    c.text.update(vocab_size=1024, max_tokens=80)
    c.tokens = 16  # of 16 x 16 pixels: nothing is scaled

    # The models of the points "large" and "longer" of
    # experiments/autoencoder.py, one trained on from the other.
    c.autoencoder.checkpoint = "experiments/results/demo/autoencoder"
    c.autoencoder.model.update(width=192, depth=4, parity=True)
    c.autoencoder.model.matmul = "bfloat16"
    c.autoencoder.update(size=(17, 64, 64), batch=8)
    c.autoencoder.optimizer.update(
      common.muon("linear", 2e-3, warmup=30), matmul="bfloat16"
    )
    c.autoencoder.schedule.update(until="10000 steps", evaluate="never")

    c.dit.checkpoint = "experiments/results/demo/dit"
    # A token is 16 x 16 pixels and four frames: 80 to a clip of two seconds.
    c.dit.patch = (1, 2, 2)
    # Small, for hours of two cores: at equal rows twice the steps of width 256
    # and depth 8. Unrolled, and with memory to keep everything, a step takes
    # four fifths of the time.
    c.dit.model.update(width=192, depth=6, heads=3, mlp=768, matmul="bfloat16")
    c.dit.model.update(scan=False, remat="none")
    c.dit.model.text.update(width=128, depth=1, heads=2)
    # Tokens have 64 numbers, and a small model predicts data best.
    c.dit.process.target = "x0"
    c.dit.weight = {"name": "velocity", "floor": 0.2}
    # Where things are is decided in much noise: of 80 tokens that say much the
    # same. Three times as far there, videos hang together far earlier.
    c.dit.shift.base_tokens = 9
    c.dit.rows.update(rows=16, length=160, text=80, clips=4, bins=16)
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
      guidance={"name": "cfg", "scale": 2.0, "low": 0.0, "high": 1.0},
      rows=8,
      clips=0,
      strength=0.8,  # of edits: below, few are obeyed
    )
    c.sample.prompts = (
      "a big red ball bounces under gravity on a white background",
      "a large yellow triangle stays still on a checkered background",
      "a large cyan square moves right on a gray background",
      "a large red ball moves left on a white background",
      "a small blue ball moves up on a black background",
      "[0s] a large magenta ball moves right on a white background "
      "[1s] cut: a large magenta ball moves up on a black background",
    )
    if data == "images":
      # 16 tokens each, and captions; longer rows would look at more that they
      # mask.
      c.dit.rows.update(rows=32, length=80, text=80, clips=5)
      # The first frame of an image is all of it, and leaves nothing to learn.
      c.dit.mixture = {"clip": 0.9, "mask": 0.1}
      c.sample.size = (1, 64, 64)
      c.sample.prompts = c.sample.prompts[:-1]  # an image has no cut
  return common.finish(c, rest)
