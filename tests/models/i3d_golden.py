"""Makes i3d_golden.json: what PyTorch says of I3D with made-up weights.

  pip install torch
  python tests/models/i3d_golden.py

The network is written in PyTorch's own layers, padded as TensorFlow pads, which
is what the published weights were trained with.
"""

import json
import pathlib
import zlib

import numpy as np

PATH = pathlib.Path(__file__).with_suffix(".json")
FRAMES = 9


def made_up(shapes):
  """Arrays by name, the same everywhere, of sizes that keep signals alive."""
  out = {}
  for name, shape in shapes.items():
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    x = rng.integers(-1000, 1001, shape) / 1000  # of variance 1/3
    if name.endswith("conv3d.weight"):
      x *= np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith(("running_var", "bn.weight")):
      x = 1 + 0.5 * x
    else:
      x *= 0.3
    out[name] = np.float32(x)
  return out


def clip():
  """uint8 [T, 224, 224, 3] in which something moves."""
  t, y, x, c = np.ogrid[:FRAMES, :224, :224, :3]
  wave = np.sin(x / 9 + t) + np.cos(y / (5 + c) - t / 2) + (x > 100 + 9 * t)
  return np.uint8(np.clip(70 + 50 * wave, 0, 255))


def reference(arrays, video):
  """Logits [400] by PyTorch."""
  import torch
  from torch.nn import functional as F

  def padded(x, kernel, stride):
    pads = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1]):
      total = max((-(-size // s) - 1) * s + k - size, 0)
      pads += [total // 2, total - total // 2]
    return F.pad(x, pads)

  def unit(name, x, stride=1):
    weight = torch.tensor(arrays[f"{name}.conv3d.weight"])
    x = padded(x, weight.shape[2:], (stride,) * 3)
    x = F.conv3d(x, weight, stride=stride)
    parts = ("running_mean", "running_var", "weight", "bias")
    found = [torch.tensor(arrays[f"{name}.bn.{part}"]) for part in parts]
    return F.relu(F.batch_norm(x, *found, eps=1e-3))

  def pool(x, kernel, stride):
    return F.max_pool3d(padded(x, kernel, stride), kernel, stride)

  def mixed(name, x):
    two = unit(f"{name}.b1b", unit(f"{name}.b1a", x))
    three = unit(f"{name}.b2b", unit(f"{name}.b2a", x))
    four = unit(f"{name}.b3b", pool(x, (3, 3, 3), (1, 1, 1)))
    return torch.cat([unit(f"{name}.b0", x), two, three, four], 1)

  with torch.no_grad():
    x = torch.tensor(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    x = unit("Conv3d_1a_7x7", x, 2)
    x = pool(x, (1, 3, 3), (1, 2, 2))
    x = unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x))
    x = pool(x, (1, 3, 3), (1, 2, 2))
    x = mixed("Mixed_3c", mixed("Mixed_3b", x))
    x = pool(x, (3, 3, 3), (2, 2, 2))
    for letter in "bcdef":
      x = mixed(f"Mixed_4{letter}", x)
    x = pool(x, (2, 2, 2), (2, 2, 2))
    x = mixed("Mixed_5c", mixed("Mixed_5b", x))
    x = F.avg_pool3d(x, (2, 7, 7), stride=1)
    weight = torch.tensor(arrays["logits.conv3d.weight"])
    x = F.conv3d(x, weight, torch.tensor(arrays["logits.conv3d.bias"]))
    return x.squeeze(4).squeeze(3).mean(2)[0].numpy()


if __name__ == "__main__":
  from sora_jax.models import i3d

  said = reference(made_up(i3d.shapes()), clip())
  PATH.write_text(json.dumps([round(float(x), 6) for x in said]) + "\n")
