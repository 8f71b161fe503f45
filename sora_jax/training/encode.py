"""Running the frozen autoencoder over a data set: statistics and latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.data.latents import Item
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.types import Clip, PyTree, Text
from sora_jax.utils import logs


def statistics(
  objective: Autoencode,
  params: PyTree,
  batches: Iterable[Mapping[str, np.ndarray]],
) -> PyTree:
  """Mean and standard deviation of the latents, per channel.

  Args:
    objective: the autoencoder's.
    params: of the player "ae".
    batches: as the autoencoder trains on.

  Returns:
    {"mean": [c], "std": [c]}.
  """
  raw = objective.no_stats()
  total = square = jnp.zeros(objective.model.channels)
  count = 0
  encode = jax.jit(objective.encode)
  for batch in batches:
    z = encode(params, raw, batch["video"])
    real = objective.real(batch["mask"])[..., None]  # padding is no data
    axes = tuple(range(z.ndim - 1))
    total += (z * real).sum(axes)
    square += (jnp.square(z) * real).sum(axes)
    count += real.sum()
  mean = total / count
  std = jnp.sqrt(jnp.maximum(square / count - mean**2, 1e-6))
  return {"mean": mean, "std": std}


def encode(
  objective: Autoencode,
  params: PyTree,
  stats: PyTree,
  clips: Iterable[Clip],
  total: int,
  batch: int,
) -> Iterator[Item]:
  """Yields the latents of every clip, clips of one size encoded together.

  Order: clips come out in the order in which their batch fills up, which
  depends on the clips alone.

  Args:
    objective: the autoencoder's.
    params: of the player "ae".
    stats: from `statistics`.
    clips: transformed clips.
    total: how many there will be, for the progress bar.
    batch: clips encoded at once.
  """
  run = jax.jit(objective.encode)
  waiting: dict[tuple[int, ...], list[Clip]] = {}
  ahead: list[tuple[list[tuple[Text, str]], jax.Array]] = []
  seen = 0

  def flush(group: list[Clip]) -> Iterator[Item]:
    # Filled up, so that each size compiles once.
    filled = group + [group[-1]] * (batch - len(group))
    z = run(params, stats, np.stack([c.video for c in filled]))
    # While the device is at it, the next is read, and what was before written.
    ahead.append(([(c.text, c.key) for c in group], z))
    if len(ahead) > 1:
      yield from done(*ahead.pop(0))

  def done(named: list[tuple[Text, str]], z: jax.Array) -> Iterator[Item]:
    for (text, key), latents in zip(named, np.asarray(z, np.float16)):
      yield Item(latents, text, key)

  with logs.Progress(total, "encode") as progress:
    for clip in clips:
      group = waiting.setdefault(clip.video.shape, [])
      group.append(clip)
      seen += 1
      if len(group) == batch:
        yield from flush(group)
        group.clear()
        progress.update(seen)
    for group in waiting.values():
      if group:
        yield from flush(group)
    for last in ahead:
      yield from done(*last)
    progress.update(seen)
