"""Four steps instead of fifty: a trained transformer, distilled.

  python -m sora_jax.main --config=configs/quickstart.py --workdir=DIR
  python -m sora_jax.main --config=configs/few_steps.py \
    --config.dit.checkpoint=DIR/dit \
    --config.autoencoder.checkpoint=DIR/autoencoder

The student begins with its teacher's weights and has its guidance built in, so
a video costs four passes of the model. experiments/few_steps.py says how good
they are.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, quickstart


def get_config(arg: str | None = None) -> ConfigDict:
  c = quickstart.get_config()
  with c.unlocked():
    # A step of the student is a quarter of the way, eight of its teacher's.
    objective = {"name": "consistency", "steps": 32, "parts": 4, "scale": 2.0}
    c.dit.objective = objective
    c.dit.weight = {"name": "x0"}
    c.dit.times = {"name": "uniform"}
    c.dit.optimizer.update(learning_rate=3e-4, warmup=100)
    c.dit.schedule.until = "3000 steps"
    c.sample.solver = {"name": "euler"}
    c.sample.guidance = {"name": "none"}
  c = common.finish(c, arg)
  with c.unlocked():
    c.sample.steps = objective["parts"]  # however small the rest
  return c.lock()
