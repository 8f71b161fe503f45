"""What configs share: the sizes of the DiT paper, and `:tiny`."""

from __future__ import annotations

from ml_collections import ConfigDict

# Peebles & Xie 2023, table 1.
SIZES = {
  "S": {"width": 384, "depth": 12, "heads": 6, "mlp": 1536},
  "B": {"width": 768, "depth": 12, "heads": 12, "mlp": 3072},
  "L": {"width": 1024, "depth": 24, "heads": 16, "mlp": 4096},
  "XL": {"width": 1152, "depth": 28, "heads": 16, "mlp": 4608},
}

# Time x height x width pixels to a latent cell, and its channels.
CODECS = {
  "4x8x8": {"compression": (4, 8, 8), "channels": 16},
  "4x16x16": {"compression": (4, 16, 16), "channels": 48},
  "8x8x8": {"compression": (8, 8, 8), "channels": 32},
  "1x8x8": {"compression": (1, 8, 8), "channels": 16},
}


def finish(config: ConfigDict, arg: str | None) -> ConfigDict:
  """Applies the part of --config after the colon, and locks the config."""
  if arg == "tiny":
    shrink(config)
  elif arg:
    raise ValueError(f"unknown config argument {arg!r}; valid: 'tiny'")
  return config.lock()


def shrink(config: ConfigDict) -> None:
  """The same run in seconds: every mechanism, a model too small to learn."""
  with config.unlocked():
    ct, ch, cw = config.autoencoder.model.compression
    pt, ph, pw = config.dit.patch
    unit = (max(ch * ph, 8), max(cw * pw, 8))
    frames, height, width = 1 + ct * pt, 2 * unit[0], 2 * unit[1]
    parts = config.data.parts if "parts" in config.data else {}
    for data in (config.data, *parts.values()):
      data.frames = frames
      if data.name in ("digits", "world"):
        data.update(count=24, test_count=8, height=height, width=width)
        data.fps = 2.0  # few frames, and time for something to happen
    config.tokens = (height // (ch * ph)) * (width // (cw * pw))
    config.evaluation.clips = 4
    config.autoencoder.checkpoint = config.dit.checkpoint = ""
    config.autoencoder.init = ""
    if "scale" in config.dit.objective:
      config.dit.objective.scale = 0.0  # there is no teacher
    heads = min(config.autoencoder.model.heads, 2)
    config.autoencoder.model.update(width=8, depth=1, heads=heads)
    config.autoencoder.update(size=(frames, height, width), batch=8, thin=1)
    config.autoencoder.update(start=2, statistics=2)
    tokens = 2 * config.tokens + 8
    config.text.update(vocab_size=300, max_tokens=160)
    config.dit.model.update(width=16, depth=2, heads=2, mlp=32)
    config.dit.model.text.update(width=16, depth=1, heads=2)
    config.dit.rows.update(rows=8, length=2 * tokens, text=320, clips=2)
    config.sample.update(
      size=(frames, height, width), steps=2, rows=2, clips=2, decode_batch=2
    )
    config.sample.prompts = config.sample.prompts[:2]
    for stage in (config.autoencoder, config.dit):
      stage.schedule.update(
        until="4 steps", log="1 steps", save="2 steps", evaluate="never"
      )
      stage.optimizer.warmup = 1
      for evaluator in stage.evaluators.values():
        for name in ("clips", "empty"):
          if name in evaluator:
            evaluator[name] = 2
        if "among" in evaluator:
          evaluator.update(repeats=2, among=8)
        if "rollout" in evaluator:
          evaluator.update(at=(0.0, 6.0), keep=1)
        if "task" in evaluator:
          evaluator.task = "i2v"  # of two latent frames one is left to make
        if "tasks" in evaluator:
          evaluator.update(tasks=("i2v", "extend_back", "inpaint"), keep=1)


def adamw(learning_rate: float, warmup: int) -> dict:
  """AdamW after a linear warm-up, the usual way of transformers."""
  return {
    "name": "adamw",
    "schedule": "constant",
    "learning_rate": learning_rate,
    "warmup": warmup,
    "clip": 1.0,  # of all gradients together
    "clip_unit": 0.0,  # of a unit's, over its weights; 0.01 is usual, 0 is off
    "base_width": 0,  # where the rate was found, to use it at others; 0 is off
    "b1": 0.9,
    "b2": 0.99,
    "weight_decay": 0.01,
  }


def muon(schedule: str, learning_rate: float, warmup: int) -> dict:
  """What changes of `adamw` for Muon."""
  return {
    "name": "muon",
    "schedule": schedule,
    "learning_rate": learning_rate,
    "warmup": warmup,
    "b1": 0.95,
  }
