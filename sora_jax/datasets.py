"""What a run trains on: clips, their latents, and the words of their captions.

Each part is made when it is first needed; latents and words are kept in the
workdir, where a run that goes on finds them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from sora_jax import build
from sora_jax.data import latents as cache
from sora_jax.data import loader, tokenizer
from sora_jax.data.words import Words
from sora_jax.objectives.autoencode import Autoencode
from sora_jax.training import checkpoint, encode
from sora_jax.types import Clip, PyTree, Source, Text, shots_of
from sora_jax.utils import logs, processes, sections, tree

TOKENIZER = "tokenizer.json"  # in the folder of a run


class Datasets:
  """The data of a run.

  Args:
    config: of the run.
    workdir: where it lives.
    codec: the autoencoder's objective.
  """

  def __init__(self, config: ConfigDict, workdir: Path, codec: Autoencode):
    self._config, self._workdir, self._codec = config, workdir, codec
    self._clips: dict[str, loader.Prepared] = {}

  @functools.cached_property
  def source(self) -> Source:
    """The clips as they are; opening it may read what is on disk."""
    source = build.source(self._config, self._workdir)()
    if processes.share()[1] > 1:  # it looks at every file
      processes.check_same(source.fingerprint(), "data")
    if source.skipped:
      logs.say(
        f"data: {len(source.skipped)} items cannot be used and are left out; "
        f"{self._workdir / 'skipped.jsonl'} names them"
      )
    return source

  def clips(self, split: str) -> loader.Prepared:
    """A split's clips in their buckets, as every stage takes them."""
    if split not in self._clips:
      clips = self.source.clips(split)
      self._clips[split] = build.prepared(self._config, clips, split)
    return self._clips[split]

  @property
  def captions(self) -> list[Text]:
    """Those of the latent cache."""
    return cache.captions(self._workdir / "latents")

  def latents(self, frozen: PyTree) -> tuple[cache.Latents, int]:
    """The latent cache, made if it is not there, and its video tokens.

    Args:
      frozen: "autoencoder" and "stats", on this process's devices.
    """
    config, folder = self._config, self._workdir / "latents"
    made_of = {
      "autoencoder": tree.digest(frozen),
      "data": sections.plain(config.data),
      "content": self.source.fingerprint(),
      "transforms": sections.plain(config.transforms),
      "buckets": build.sizes(config),
    }
    if not processes.missing(folder):
      cache.check(folder, made_of)
    else:
      clips, share = self.clips("train"), processes.share()
      area = max(h * w for h, w in build.sizes(config))
      own = loader.ordered(
        clips,
        config.threads,
        share,
        config.workers,
        size=3 * config.data.frames * area,
      )
      items = self._items(frozen, own, len(clips) // share[1])
      cache.write(folder, items, made_of)
    shapes = cache.manifest(folder)["shapes"]
    frames, total = loader.row_of(
      shapes, config.dit.patch, config.dit.rows.length
    )
    if frames > config.dit.frames:
      raise ValueError(
        f"clips have up to {frames} latent frames and dit.frames is "
        f"{config.dit.frames}: raise dit.frames to {frames}"
      )
    return cache.Latents(folder), total

  def tokenizer(self) -> tokenizer.Tokenizer:
    """The run's: of the transformer that it begins with, or trained.

    What it is trained on are the captions of the latent cache.
    """
    path, most = self._workdir / TOKENIZER, self._config.text.vocab_size
    own = checkpoint.exists(self._workdir / "dit")
    if self._config.dit.checkpoint and not processes.agree(own):
      self._take_tokenizer(path)
    processes.once(path, lambda: self._train_tokenizer(path))
    found = tokenizer.load(path)
    if found.vocab_size > most:
      raise ValueError(
        f"{path} has {found.vocab_size} tokens and text.vocab_size is {most}: "
        f"raise it, or delete {path} and {self._workdir / 'dit'}"
      )
    return found

  def _take_tokenizer(self, path: Path) -> None:
    """Makes the given transformer's the run's, whatever was there."""
    given = Path(self._config.dit.checkpoint).parent / TOKENIZER
    theirs = tokenizer.load(given)
    if processes.first():
      path.parent.mkdir(parents=True, exist_ok=True)
      theirs.save(path)
    processes.wait("tokenizer")

  def _train_tokenizer(self, path: Path) -> None:
    if not (self._workdir / "latents").exists():
      raise FileNotFoundError(
        f"{path} is missing, and there are no captions to train it on: train "
        f"first (--mode=train --workdir={self._workdir})"
      )
    size = self._config.text.vocab_size
    captions = [shot for text in self.captions for _, shot in shots_of(text)]
    tokenizer.train(dict.fromkeys(captions), size).save(path)

  def words(self) -> Words:
    """What the transformer reads of captions."""
    return build.words(self._config, self.tokenizer())

  def rows(
    self, frozen: PyTree, clips: Sequence[Clip]
  ) -> dict[str, np.ndarray]:
    """A few clips as one packed batch, in a fixed order."""
    config, words = self._config, self.words()
    sequences = [
      loader.tokens(i, config.dit.patch, words)
      for i in self._items(frozen, clips, len(clips))
    ]
    return loader.rows_of(sequences, build.rows(config))

  def _items(
    self, frozen: PyTree, clips: Iterable[Clip], total: int
  ) -> Iterator[cache.Item]:
    return encode.encode(
      self._codec,
      frozen["autoencoder"],
      frozen["stats"],
      clips,
      total,
      self._config.sample.decode_batch,
    )
