"""The main job on your own clips: a folder of videos and images with captions.

  python -m sora_jax.main --config=configs/video_folder.py \
    --config.data.path=/path/to/clips

Trains on what is there in its own aspect ratios, then samples from the clips'
captions and continues each clip from its first frame. Sized for an hour or two
on two cores and a few dozen clips: the model learns those clips by heart. For
more data and an accelerator raise `tokens`, the model and the rows.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, dit_b


def get_config(arg: str | None = None) -> ConfigDict:
  c = dit_b.get_config()
  with c.unlocked():
    c.data = {
      "name": "video_folder",
      "path": "",
      "frames": 17,  # of a window
      "fps": 8.0,
      "stride": 2.0,  # seconds from window to window
      "held_out": (),  # file names that are the split "test"
      "even": False,  # whether long files come no more often than short ones
    }
    c.tokens = 64
    c.cache_gib = 2.0
    c.text.max_tokens = 48
    # With nothing held out, what is judged is what was trained on.
    c.evaluation.update(split="train", clips=32)

    # At equal time Muon led AdamW, and many small crops fewer large ones.
    c.autoencoder.update(size=(17, 64, 64), batch=4)
    c.autoencoder.optimizer.update(common.muon("linear", 2e-3, warmup=30))
    c.autoencoder.schedule.update(
      until="4500 steps", save="5 minutes", evaluate="never"
    )
    c.autoencoder.evaluators.reconstruction.update(clips=0, per_origin=True)

    # 16 x 16 pixels and four frames a token.
    c.dit.patch = (1, 2, 2)
    c.dit.model.update(width=256, depth=6, heads=4, mlp=1024)
    c.dit.model.text.update(width=128, depth=1, heads=2)
    # At equal time four rows a step led eight, and Muon led AdamW.
    c.dit.rows.update(rows=4, length=320, text=64, clips=2, bins=16)
    c.dit.shift.base_tokens = 160  # towards noise, where the caption decides
    c.dit.mixture = {"clip": 0.6, "first_frame": 0.3, "frames": 0.1}
    c.dit.optimizer.update(common.muon("trapezoid", 3e-3, warmup=100))
    c.dit.ema = 0.999
    c.dit.schedule.update(
      until="5000 steps", save="5 minutes", evaluate="2500 steps"
    )
    del c.dit.evaluators["captions"]  # its oracle reads digits only
    del c.dit.evaluators["frechet"]  # it takes hundreds of clips
    c.dit.evaluators.grid.clips = 0
    c.dit.evaluators.continuation.clips = 0

    c.sample.update(prompts=(), clips=64, steps=50, rows=4, size=(17, 128, 128))
  return common.finish(c, arg)
