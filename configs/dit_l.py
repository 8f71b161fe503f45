"""DiT-L on captioned moving digits: `dit_b` at another size.

python -m sora_jax.main --config=configs/dit_l.py
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  c = dit_b.get_config()
  with c.unlocked():
    c.dit.model.update(common.SIZES["L"])
  return common.finish(c, arg)
