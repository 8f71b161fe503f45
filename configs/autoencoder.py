"""The video autoencoder alone, on captioned moving digits.

  python -m sora_jax.main --config=configs/autoencoder.py

Another run uses it with --config.autoencoder.checkpoint=WORKDIR/autoencoder.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  c = dit_b.get_config()
  with c.unlocked():
    c.stages = ("autoencoder",)
  return common.finish(c, arg)
