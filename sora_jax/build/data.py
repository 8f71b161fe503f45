"""The data, and batches of it: pixels for the autoencoder, rows for the DiT."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from sora_jax.data import buckets, loader, transforms
from sora_jax.data.latents import Latents
from sora_jax.data.sources import SOURCES
from sora_jax.data.tokenizer import Tokenizer
from sora_jax.data.words import Words
from sora_jax.types import Clip, Source
from sora_jax.utils.sections import bound, call, key, plain

Batches = Iterable[dict[str, np.ndarray]]  # with iterators that resume
Transform = Callable[[Clip, np.random.Generator], Clip]


def source(config: ConfigDict, workdir: Path) -> Callable[[], Source]:
  """Opens the data source; undecodable files are noted in the workdir."""
  return _source(plain(config.data), "data", workdir)


def _source(
  section: Mapping[str, Any], where: str, workdir: Path
) -> Callable[[], Source]:
  """One source, or a mixture of those in its `parts`."""
  fn = key(SOURCES, section["name"], f"{where}.name")
  notes: dict[str, Any] = {"log": workdir / "skipped.jsonl"}
  parameters = inspect.signature(fn).parameters
  given = {k: v for k, v in notes.items() if k in parameters}
  if "parts" not in parameters or "parts" not in section:
    return bound(SOURCES, section, where, **given)
  section, parts = dict(section), {}
  for name, part in section.pop("parts").items():
    inner = f"{where}.parts.{name}"
    if missing := {"name", "frames"} - set(part):
      raise ValueError(f"{inner}: missing {sorted(missing)}")
    if part["frames"] > section["frames"]:
      raise ValueError(
        f"{inner}.frames={part['frames']} exceeds {where}.frames="
        f"{section['frames']}: raise the latter"
      )
    parts[name] = _source(part, inner, workdir)
  fixed = bound(SOURCES, section, where, parts={})
  return lambda: fixed(parts={name: part() for name, part in parts.items()})


def prepare(config: ConfigDict, split: str) -> Transform:
  """What every clip goes through first: nearest bucket, whole latents.

  The config's own transforms, which may augment, are for training only, and so
  are its scales: elsewhere clips have the largest.

  Args:
    config: of the run.
    split: "train" or another.
  """
  train = split == "train"
  extra = config.transforms if train else ()
  scales = config.scales if train else (max(config.scales),)
  size = {"tokens": config.tokens, "unit": cell(config), "scales": scales}
  frames = {"multiple": config.autoencoder.model.compression[0]}
  return transforms.build(
    ({"name": "bucket", **size}, {"name": "trim", **frames}, *extra)
  )


def prepared(
  config: ConfigDict, clips: Sequence[Clip | None], split: str
) -> loader.Prepared:
  """Clips as every stage takes them, as many in memory as the config allows.

  Processes that read them share that memory out.
  """
  memory = int(config.cache_gib * 2**30) // max(config.workers, 1)
  return loader.Prepared(clips, prepare(config, split), memory)


def sizes(config: ConfigDict) -> tuple[tuple[int, int], ...]:
  """The (H, W) buckets into which clips are brought."""
  budgets = (max(int(config.tokens * share), 1) for share in config.scales)
  return tuple(s for b in budgets for s in buckets.table(b, cell(config)))


def cell(config: ConfigDict) -> tuple[int, int]:
  """Height and width in pixels of a token, which sizes are multiples of."""
  cells, patch = config.autoencoder.model.compression[1:], config.dit.patch[1:]
  return cells[0] * patch[0], cells[1] * patch[1]


def pixels(
  config: ConfigDict,
  clips: loader.Prepared,
  augmented: bool,
  seed: int,
  share: loader.Share = loader.WHOLE,
) -> Batches:
  """Padded batches of random crops for the autoencoder.

  Args:
    config: of the run.
    clips: that the crops are of.
    augmented: whether they are thinned, zoomed and transformed.
    seed: of the crops.
    share: of the batches.
  """
  section = config.autoencoder
  size = dict(zip(("frames", "height", "width"), section.size))
  zoom = section.zoom if augmented else 1.0
  steps = ({"name": "crop", **size, "zoom": zoom},)
  if augmented:
    thin = {"name": "thin", "most": section.thin}
    steps = (thin, *steps, *section.transforms)
  return loader.clips(
    clips,
    transforms.build(steps),
    size=section.size,
    batch=section.batch,
    seed=seed,
    threads=config.threads,
    share=share,
    workers=config.workers,
  )


def rows(config: ConfigDict) -> loader.Rows:
  """The shape of packed batches."""
  found = call(loader.Rows, plain(config.dit.rows), "dit.rows")
  key(loader.LAYOUTS, found.layout, "dit.rows.layout")
  return found


def words(config: ConfigDict, tokenizer: Tokenizer) -> Words:
  """What the transformer reads of captions."""
  ct = config.autoencoder.model.compression[0]
  return Words(tokenizer, config.text.max_tokens, ct)


def packed(
  config: ConfigDict,
  latents: Latents,
  words: Words,
  seed: int,
  share: loader.Share = loader.WHOLE,
) -> Batches:
  """Rows for the transformer: a share of each batch."""
  shape = rows(config)
  return loader.LAYOUTS[shape.layout](
    latents,
    patch=config.dit.patch,
    words=words,
    rows=shape,
    seed=seed,
    threads=config.threads,
    share=share,
    workers=config.workers,
  )


def pixel_shapes(config: ConfigDict, sharding: NamedSharding):
  """The autoencoder's batches, as shapes."""
  size = (config.autoencoder.batch, *config.autoencoder.size)
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  return {
    "video": shape((*size, 3), jnp.uint8),
    "mask": shape(size, jnp.bool_),
  }


def packed_shapes(config: ConfigDict, sharding: NamedSharding):
  """The transformer's batches, as shapes."""
  size, channels = rows(config), config.autoencoder.model.channels
  patch = int(np.prod(config.dit.patch)) * channels
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  out = {"video": shape((size.rows, size.length, patch), jnp.float32)}
  out["text"] = shape((size.rows, size.text), jnp.int32)
  for name, length in (("video", size.length), ("text", size.text)):
    out[f"{name}_positions"] = shape((size.rows, length, 3), jnp.int32)
    out[f"{name}_segments"] = shape((size.rows, length), jnp.int32)
  return out
