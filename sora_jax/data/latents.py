"""The latent cache: encode a data set once, then train on its latents.

A cache is a folder of ArrayRecord shards and a manifest that says what made
them. It is written under a temporary name and renamed when whole, so a cache
that exists is complete; one that was made of something else refuses to load.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from array_record.python import array_record_module

from sora_jax.types import Text
from sora_jax.utils import processes

MANIFEST = "manifest.json"
PER_SHARD = 4096


class StaleCache(ValueError):
  """The cache was made of other weights or data than those asked for."""


@dataclasses.dataclass(frozen=True)
class Item:
  """One clip's normalised latents.

  Attributes:
    latents: float16 [t, h, w, c].
    text: caption, or (first frame, caption) of every shot.
    key: the clip's key in its source.
  """

  latents: np.ndarray
  text: Text
  key: str


def pack_item(item: Item) -> bytes:
  """Length of the header, the header as JSON, the raw latents."""
  header = json.dumps(
    {"shape": item.latents.shape, "text": item.text, "key": item.key}
  ).encode()
  body = np.ascontiguousarray(item.latents, "<f2").tobytes()
  return struct.pack("<I", len(header)) + header + body


def unpack_item(record: bytes) -> Item:
  """Inverse of `pack_item`."""
  (n,) = struct.unpack_from("<I", record)
  header = json.loads(record[4 : 4 + n])
  latents = np.frombuffer(record, "<f2", offset=4 + n)
  text = _text(header["text"])
  return Item(latents.reshape(header["shape"]), text, header["key"])


def _text(found: str | list) -> Text:
  """A caption or shots, as JSON has them."""
  return found if isinstance(found, str) else tuple(map(tuple, found))


def write(
  directory: Path, items: Iterable[Item], made_of: Mapping[str, Any]
) -> None:
  """Writes a whole cache, or nothing; several processes each a part of it.

  Args:
    directory: must not exist yet.
    items: what this process writes, in order.
    made_of: everything that determines the latents, JSON-able.

  Raises:
    ValueError: if there is not a single item.
  """
  partial = directory.with_name(directory.name + ".partial")
  index, count = processes.share()
  if not index:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
  processes.wait("latents: begun")
  found = _write(partial, f"latents-{index:03d}", items)
  (partial / _part(index)).write_text(json.dumps(found))
  processes.wait("latents: written")
  if not index:
    parts = [partial / _part(i) for i in range(count)]
    whole = _merged([json.loads(path.read_text()) for path in parts])
    if not whole["count"]:
      raise ValueError(
        f"no clip could be encoded for {directory}: see skipped.jsonl for why"
      )
    text = json.dumps({"made_of": made_of, **whole}, indent=1)
    (partial / MANIFEST).write_text(text)
    for path in parts:
      path.unlink()
    os.replace(partial, directory)
  processes.wait("latents: whole")


def _part(index: int) -> str:
  return f"part-{index:03d}.json"


def _write(folder: Path, stem: str, items: Iterable[Item]) -> dict[str, Any]:
  """Writes shards `stem`-00000 and so on; what they hold, for a manifest."""
  writer, shards, count, captions = None, [], 0, set()
  shapes: collections.Counter[str] = collections.Counter()
  for item in items:
    if count % PER_SHARD == 0:
      if writer:
        writer.close()
      shards.append(f"{stem}-{len(shards):05d}.array_record")
      # group_size:1 makes every record directly addressable.
      writer = array_record_module.ArrayRecordWriter(
        str(folder / shards[-1]), "group_size:1"
      )
    writer.write(pack_item(item))
    shapes["x".join(map(str, item.latents.shape))] += 1
    captions.add(item.text)
    count += 1
  if writer:
    writer.close()
  return {
    "count": count,
    "shards": shards,
    "shapes": shapes,
    "captions": sorted(captions, key=json.dumps),
  }


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What several processes wrote, as one."""
  shapes: collections.Counter[str] = collections.Counter()
  for part in parts:
    shapes.update(part["shapes"])
  return {
    "count": sum(part["count"] for part in parts),
    "shards": [name for part in parts for name in part["shards"]],
    "shapes": dict(sorted(shapes.items())),
    "captions": sorted(
      {_text(c) for part in parts for c in part["captions"]}, key=json.dumps
    ),
  }


def manifest(directory: Path) -> dict[str, Any]:
  """The manifest of a cache; FileNotFoundError if there is none."""
  path = directory / MANIFEST
  if not path.exists():
    raise FileNotFoundError(f"{directory} holds no latent cache ({MANIFEST})")
  return json.loads(path.read_text())


def captions(directory: Path) -> list[Text]:
  """The different texts of a cache's clips."""
  return [_text(found) for found in manifest(directory)["captions"]]


def check(directory: Path, made_of: Mapping[str, Any]) -> None:
  """Raises StaleCache unless the cache was made of exactly `made_of`."""
  found = manifest(directory)["made_of"]
  wanted = json.loads(json.dumps(made_of))
  differ = sorted(
    k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k)
  )
  if differ:
    lines = [
      f"  {k}: cached {found.get(k)!r}, now {wanted.get(k)!r}" for k in differ
    ]
    raise StaleCache(
      f"the latent cache {directory} was made of something else:\n"
      + "\n".join(lines)
      + "\nUse another --workdir; or, to start again from the latents, delete "
      "that folder and, beside it, dit/ and tokenizer.json."
    )


class Latents:
  """Random access to the items of a cache, as a grain source."""

  def __init__(self, directory: Path):
    self._paths = [str(directory / s) for s in manifest(directory)["shards"]]
    self._records = grain.sources.ArrayRecordDataSource(self._paths)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Item:
    return unpack_item(self._records[index])
