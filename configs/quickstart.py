"""From nothing to captioned video in minutes on two cores.

python -m sora_jax.main --config=configs/quickstart.py
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  c = dit_b.get_config()
  with c.unlocked():
    c.data.update(count=30_000, frames=9, height=32, width=32)
    c.tokens = 16
    c.text.max_tokens = 12

    # Tokens that span eight frames learn motion early.
    c.autoencoder.model.update(
      compression=(8, 8, 8), channels=64, width=96, depth=2, logvar=-8.0
    )
    c.autoencoder.optimizer.update(schedule="trapezoid", learning_rate=5e-4)
    c.autoencoder.update(size=(9, 32, 32), batch=32)
    c.autoencoder.schedule.update(until="400 steps", evaluate="never")
    c.autoencoder.evaluators.reconstruction.clips = 128

    c.dit.model.update(width=128, depth=4, heads=2, mlp=512, remat="dots")
    c.dit.model.text.update(width=128, depth=1, heads=2)
    # One clip a row: with clips of one size, packing has nothing to gain.
    c.dit.rows.update(rows=32, length=32, text=12, clips=1, bins=1)
    c.dit.frames = 2
    c.dit.process.target = "x0"
    c.dit.weight = {"name": "velocity", "floor": 0.2}
    c.dit.shift.base_tokens = 8
    c.dit.mixture = {
      "clip": 0.8,
      "first_frame": 0.1,
      "last_frame": 0.02,
      "prefix": 0.02,
      "mask": 0.02,
      "frames": 0.04,
    }
    c.dit.optimizer.update(schedule="trapezoid", learning_rate=1e-3, warmup=200)
    c.dit.ema = 0.998
    c.dit.schedule.update(until="3000 steps", log="20 steps", evaluate="never")
    c.dit.evaluators.continuation.clips = 64

    c.sample.update(
      size=(9, 32, 32),
      steps=30,
      solver={"name": "ancestral", "eta": 1.0},
      guidance={"name": "cfg", "scale": 1.5, "low": 0.0, "high": 1.0},
      rows=64,
      decode_batch=64,
      clips=0,
    )
    c.sample.prompts = tuple(
      f"a {colour} {digit} {motion} on a {place} background"
      for colour, digit, motion, place in (
        ("red", "three", "moves left", "black"),
        ("green", "eight", "moves right", "black"),
        ("blue", "one", "moves up", "white"),
        ("yellow", "seven", "moves down", "black"),
        ("cyan", "zero", "stays still", "gray"),
        ("magenta", "five", "moves left", "white"),
        ("red", "six", "moves up", "gray"),
        ("green", "two", "stays still", "white"),
      )
    )
  return common.finish(c, arg)
