"""DiT-XL on captioned moving digits: `dit_b` at another size.

python -m sora_jax.main --config=configs/dit_xl.py
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  c = dit_b.get_config()
  with c.unlocked():
    c.dit.model.update(common.SIZES["XL"])
    c.dit.model.update(dtype="bfloat16", remat="full")
  return common.finish(c, arg)
