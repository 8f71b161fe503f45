"""Text to video on the captioned physics world, judged by its oracle.

  python -m sora_jax.main --config=configs/world.py:digits

One of the world's sets (sora_jax/data/world/sets.py) at 64 pixels and two
seconds. Behind the colon stands the set, `composition` without one, or `tiny`,
or both with a comma. The evaluator `captions` reads the generated videos back
from pixels and scores them against the ground truth of captions that training
never drew; `laws` continues clips and measures how far their motion is from the
truth's. `--config.evaluation.split=test_parameters` judges out of distribution.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b

# Set -> evaluators that find nothing to judge in it. `laws` and `edits` want
# clips of one shot, `edits` no handwriting, `drift` what stays where it is.
SETS = {
  "simple": (),
  "motion": ("drift",),
  "composition": (),
  "digits": ("edits",),
  "phenomena": (),
  "camera": (),
  "shots": ("laws", "edits", "drift"),
  "sound": ("drift",),
}


def get_config(arg: str | None = None) -> ConfigDict:
  words = arg.split(",") if arg else []
  names = [word for word in words if word in SETS] or ["composition"]
  rest = [word for word in words if word not in SETS]
  if len(names) > 1 or rest not in ([], ["tiny"]):
    raise ValueError(
      f"unknown config argument {arg!r}; valid: one of {list(SETS)}, 'tiny', "
      "or both with a comma"
    )
  c = dit_b.get_config()
  with c.unlocked():
    c.data = {
      "name": "world",
      "set": names[0],
      "count": 50_000,
      "test_count": 256,
      "frames": 17,
      "height": 64,
      "width": 64,
      "fps": 8.0,
      "seed": 0,
      "length": "mixed",  # of captions: short, medium, long
      "channels": 0,  # of sound
      "rate": 16_000,
    }
    c.text.update(vocab_size=1024, max_tokens=128)
    c.dit.rows.text = 256
    c.dit.evaluators.captions.oracle = "world"
    c.dit.evaluators.laws = {
      "name": "laws",
      "task": "extend",  # five frames are given, so velocities are known
      "clips": 64,
      "seed": 0,
    }
    c.dit.evaluators.tasks = {
      "name": "tasks",
      "tasks": (
        "i2v",
        "last_frame",
        "first_last",
        "extend",
        "extend_back",
        "connect",
        "frames",
        "interpolate",
        "inpaint",
        "outpaint",
        "loop",
      ),
      "clips": 32,
      "keep": 2,
      "seed": 0,
    }
    c.dit.evaluators.edits = {
      "name": "edits",
      "edits": ("recolour", "remove", "background"),
      "strength": 0.6,
      "clips": 64,
      "seed": 0,
    }
    c.dit.evaluators.drift = {
      "name": "drift",
      "clips": 48,  # of which those are taken that may go on for ever
      "at": (0.0, 10.0),  # seconds
      "rollout": {"context": "frames", "anchor": False},
      "keep": 2,
      "context_noise": 0.0,
      "seed": 0,
    }
    for name in SETS[names[0]]:
      del c.dit.evaluators[name]
    c.sample.prompts = (
      "a large red ball moves left on a white background",
      "a small blue star spins clockwise on a black background",
      "a small green square falls and bounces on a gray background",
      "a large yellow triangle turns cyan on a checkered background",
    )
  return common.finish(c, rest[0] if rest else None)
