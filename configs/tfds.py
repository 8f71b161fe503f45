"""Any TFDS dataset of encoded videos (or images) with text, by its name.

  python -m sora_jax.main --config=configs/tfds.py \
    --config.data.dataset=my_clips --config.data.data_dir=/path/to/tfds

Without TensorFlow: see sora_jax/data/features.py for a feature that holds
encoded video. The rest is as in `video_folder`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common, video_folder


def get_config(arg: str | None = None) -> ConfigDict:
  c = video_folder.get_config()
  with c.unlocked():
    c.data = {
      "name": "tfds",
      "dataset": "",  # name[/config][:version]
      "data_dir": "",
      "text_key": "text",
      "video_key": "video",  # one of the two
      "image_key": "",
      "frames": 17,
      "fps": 8.0,
    }
  return common.finish(c, arg)
