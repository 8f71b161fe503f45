"""Data sources: anything with `clips(split)` giving random access to clips."""

from sora_jax.data.sources.digits import Digits
from sora_jax.data.sources.mixture import Mixture
from sora_jax.data.sources.tfds import Tfds
from sora_jax.data.sources.video_folder import VideoFolder
from sora_jax.data.sources.world import World

SOURCES = {
  "digits": Digits,
  "mixture": Mixture,
  "tfds": Tfds,
  "video_folder": VideoFolder,
  "world": World,
}
