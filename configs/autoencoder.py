"""The video autoencoder alone, on captioned moving digits.

  python -m sora_jax.main --config=configs/autoencoder.py
  python -m sora_jax.main --config=configs/autoencoder.py:4x16x16

Behind the colon stands a compression of common.CODECS, 4x8x8 without one, or
`tiny`, or both with a comma. `--mode=eval` with the run's --workdir prints its
sheet and writes originals and reconstructions side by side. Another run uses it
with --config.autoencoder.checkpoint=WORKDIR/autoencoder.

Why its blocks are convolutions, and its loss L2 and a little KL alone: after
two and a half minutes of two cores for each, on all sets of the world (17
frames of 64 x 64 pixels, 4x8x8, 16 channels; experiments/autoencoder.py has
more), on clips that none has seen:

                                        PSNR    SSIM
  convolutions, the default            32.26   0.911
  with attention in each latent frame  32.17   0.911
  transformer, same time               30.50   0.888
  convolutions and an L1 loss          31.72   0.920
  with a loss of gradients             31.71   0.914
  with a loss of wavelets              31.55   0.908
  with a loss of changes in time       30.85   0.885
  a matrix                             29.57   0.859
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  words = arg.split(",") if arg else []
  names = [word for word in words if word in common.CODECS] or ["4x8x8"]
  rest = [word for word in words if word not in common.CODECS]
  if len(names) > 1 or rest not in ([], ["tiny"]):
    raise ValueError(
      f"unknown config argument {arg!r}; valid: one of {list(common.CODECS)}, "
      "'tiny', or both with a comma"
    )
  c = dit_b.get_config()
  with c.unlocked():
    c.stages = ("autoencoder",)
    c.autoencoder.model.update(common.CODECS[names[0]])
    c.autoencoder.evaluators.reconstruction.per_origin = True
    # The transformer's sizes follow, for whoever adds its stage.
    ct, ch, cw = c.autoencoder.model.compression
    c.tokens = (c.data.height // ch) * (c.data.width // cw)
    c.dit.frames = 1 + (c.data.frames - 1) // ct
    c.dit.rows.length = 2 * c.dit.frames * c.tokens
    c.dit.shift.base_tokens = c.dit.frames * c.tokens
  return common.finish(c, rest[0] if rest else None)
