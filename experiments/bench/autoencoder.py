"""How fast is our autoencoder against two published ones on this device?

  pip install -c constraints.txt -e '.[bench]'
  python -m experiments.bench.autoencoder

Pixels a second of encoding and decoding one clip, 17 frames of 128 x 128 and of
256 x 256, float32, beside diffusers' AutoencoderKLWan and
AutoencoderKLCogVideoX in PyTorch at their published sizes (their classes'
defaults: 4x8x8, 16 channels) with random weights. Ours is that of
configs/autoencoder.py with random weights. A figure is how many times as many
pixels a second ours does; the three run in turns. Beside it stand ours alone:
pixels a second; the FLOPs of its matmuls and convolutions over those that the
device multiplies in the same time at best (`estimate.present`); and the
roofline's share, the least time that FLOPs and memory leave over the time that
it takes (`estimate.seconds`). Where PyTorch does not run, as on TPUs, ours is
alone.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import autoencoder as config
from experiments.bench import result
from sora_jax import build, estimate
from sora_jax.utils import logs

SIZES = {"128": (17, 128, 128), "256": (17, 256, 256)}


@dataclasses.dataclass(frozen=True)
class Ours:
  """Our autoencoder on a clip.

  Attributes:
    run: encodes and decodes it once.
    flops: of that.
    least: seconds that a device needs for it, by the roofline.
  """

  run: Callable[[], None]
  flops: int
  least: float


def _ours(video: np.ndarray, device: estimate.Device) -> Ours:
  """Of a clip [1, T, H, W, 3]."""
  codec = build.autoencoder(config.get_config())
  init = jax.jit(codec.model.init)
  params = nn.meta.unbox(init(jax.random.PRNGKey(0), jnp.asarray(video)))

  @jax.jit
  def run(params, video):
    mean, _ = codec.model.apply(params, video, method="encode")
    return codec.model.apply(params, mean, method="decode")

  video = jax.device_put(video)
  return Ours(
    lambda: jax.block_until_ready(run(params, video)),
    estimate.flops(run, params, video),
    estimate.seconds(device, run, params, video),
  )


def _theirs(name: str, video: np.ndarray, kind: str) -> Callable[[], None]:
  """Runs one of diffusers' on the same clip, on a device of PyTorch's."""
  import diffusers
  import torch

  model = getattr(diffusers, name)().eval().to(kind)
  x = torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())  # [1, 3, T, H, W]
  x = x.to(kind)

  def run():
    with torch.inference_mode():
      model.decode(model.encode(x).latent_dist.mode())
    if kind == "cuda":
      torch.cuda.synchronize()

  return run


def _seconds(run: Callable[[], None]) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def main(argv: list[str]) -> None:
  """Measures and prints."""
  del argv
  # Both sides share the device's memory.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  kind = {"cpu": "cpu", "gpu": "cuda"}.get(jax.default_backend())
  others = ("Wan", "CogVideoX") if kind else ()
  if not others:
    logs.say(f"PyTorch does not run on {jax.default_backend()}: ours is alone")
  device = estimate.present()
  peak = device.flops["float32"]
  figures: dict[str, float] = {}
  for size, shape in SIZES.items():
    rng = np.random.default_rng(0)
    video = rng.uniform(-1, 1, (1, *shape, 3)).astype(np.float32)
    ours = _ours(video, device)
    runs = {"ours": ours.run}
    for name in others:
      runs[name] = _theirs(f"AutoencoderKL{name}", video, kind)
    for run in runs.values():
      run()  # compiles, and takes its memory
    rounds = []
    for k in range(flags.FLAGS.rounds):
      rounds.append({name: _seconds(run) for name, run in runs.items()})
      logs.say(f"{size} px, round {k + 1}: {rounds[-1]} s")
    pixels = int(np.prod(shape))
    own = statistics.median(r["ours"] for r in rounds)
    figures[f"pixels_per_s_{size}"] = round(pixels / own)
    figures[f"share_of_peak_{size}"] = round(ours.flops / own / peak, 3)
    figures[f"share_of_roofline_{size}"] = round(ours.least / own, 3)
    for name in runs:
      rate = statistics.median(pixels / r[name] for r in rounds)
      logs.say(f"{size} px, {name}: {rate / 1e6:.3f} million pixels a second")
    for name in others:
      ratio = statistics.median(r[name] / r["ours"] for r in rounds)
      figures[f"pixels_per_s_vs_{name.lower()}_{size}"] = round(ratio, 1)
  result.say("autoencoder", figures)


if __name__ == "__main__":
  flags.DEFINE_integer("rounds", 3, "turns of each")
  app.run(main)
