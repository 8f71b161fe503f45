"""A run: the stages of a config, in order, each resumable.

workdir/config.json     what was asked for
        autoencoder/    checkpoints     latents/  the cache
        dit/            checkpoints     tokenizer.json
        samples/        mp4s, contact sheet, samples.jsonl
        metrics.jsonl   tb/             skipped.jsonl
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sora_jax import build, check, estimate
from sora_jax.data import latents as cache
from sora_jax.data import loader, tokenizer
from sora_jax.evaluators.context import Context
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sharding import mesh as mesh_lib
from sora_jax.sharding import rules as rules_lib
from sora_jax.sharding.placement import Placement
from sora_jax.training import checkpoint, encode, loop
from sora_jax.training import stage as stage_lib
from sora_jax.types import PyTree, Source, State
from sora_jax.utils import files, logs, sections, tree

STAGES = ("autoencoder", "dit", "sample")


class Run:
  """A config and the folder where it lives."""

  def __init__(self, config: ConfigDict, workdir: Path):
    self.config, self.workdir = config, Path(workdir)
    wrong = set(config.stages) - set(STAGES)
    if wrong:
      raise ValueError(f"unknown stages {wrong}; valid: {STAGES}")
    self._clips: dict[str, loader.Prepared] = {}
    if jax.process_count() > 1:
      raise ValueError(
        f"{jax.process_count()} processes: a run is one process so far, with "
        "as many devices as it has"
      )
    # Every name and option is looked up now, before anything is made.
    build.everything(config)
    self.codec = build.autoencoder(config)
    self.mesh = mesh_lib.make(config.mesh)
    self.rules = rules_lib.pick(config.strategy, self.mesh.axis_names)
    self.placement = Placement(self.mesh, self.rules)
    self.diffusion = build.diffusion(config, self.placement)
    self.rows = mesh_lib.rows(self.mesh)
    mesh_lib.check_rows(
      config.autoencoder.batch, self.mesh, "autoencoder.batch"
    )
    mesh_lib.check_rows(config.dit.rows.rows, self.mesh, "dit.rows.rows")

  @functools.cached_property
  def writer(self) -> logs.MetricWriter:
    """Of metrics; opening it makes the folder."""
    self.workdir.mkdir(parents=True, exist_ok=True)
    return logs.MetricWriter(self.workdir)

  @functools.cached_property
  def source(self) -> Source:
    """The data; opening it may read what is on disk."""
    source = build.source(self.config, self.workdir)()
    if source.skipped:
      logs.say(
        f"data: {len(source.skipped)} items cannot be used and are left out; "
        f"{self.workdir / 'skipped.jsonl'} names them"
      )
    return source

  # Stages -------------------------------------------------------------------

  def stage(
    self, name: str, batch: PyTree, frozen: PyTree, epoch: int | None
  ) -> stage_lib.Stage:
    """A stage for batches like `batch`; nothing is computed yet."""
    section = self.config[name]
    objective = self.codec if name == "autoencoder" else self.diffusion
    return stage_lib.make(
      objective,
      build.optimizers(section, objective.losses, epoch),
      section.ema,
      self.config.seed,
      batch,
      frozen,
      self.placement,
    )

  def model_flops(self, name: str, batch: PyTree, frozen: PyTree) -> int:
    """FLOPs of a step over all devices, without what remat computes again.

    Attention is counted over whole rows, as if each held one clip.
    """
    if name == "autoencoder":
      stage = self.stage(name, batch, frozen, epoch=1)
      return estimate.flops(stage.step, stage.abstract, batch)
    plain = ConfigDict(self.config.to_dict())
    plain.dit.model.update(remat="none", attention="full")
    stage = stage_lib.make(
      build.diffusion(plain),
      build.optimizers(plain.dit, self.diffusion.losses, 1),
      plain.dit.ema,
      plain.seed,
      batch,
      frozen,
      self.placement,
    )
    return estimate.flops(stage.step, stage.abstract, batch)

  def checkpointer(self, name: str) -> checkpoint.Checkpointer:
    """Of a stage; for the one process that trains it."""
    return checkpoint.Checkpointer(
      self.workdir / name,
      keep=getattr(self.config, name).keep,
      config=sections.plain(self.config),
    )

  def fit(
    self, name, dataset, start, frozen, epoch, clips, finish, context
  ) -> dict[str, float]:
    """Trains a stage to its end, from its last checkpoint if there is one.

    Args:
      name: of the stage.
      dataset: of batches.
      start: batches that the objective is initialised from.
      frozen: parameters that are not trained, by name.
      epoch: steps in an epoch.
      clips: counts the clips of a batch.
      finish: see `loop.Loop`.
      context: of the evaluators.

    Returns:
      what the stage's evaluators say in the end.
    """
    data = iter(dataset)
    first = list(itertools.islice(iter(dataset), start))
    first = {k: np.concatenate([b[k] for b in first]) for k in first[0]}
    stage = self.stage(name, first, frozen, epoch)
    logs.say(
      f"{name}: {tree.size(stage.abstract.params):,} parameters, "
      f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    )
    with self.checkpointer(name) as saved:
      meta = {"seconds": 0.0, "finished": False}
      if saved.latest() is None:
        state = stage.make()
      else:
        check.same_model(self.config, saved.config(), self.workdir / name)
        state = saved.restore(stage.abstract, data)
        if name == "dit":
          check.same_latents(state.frozen, frozen, self.workdir / name)
        meta = saved.meta()
        self.writer.resume(name, int(state.step))
        logs.say(f"{name}: resumed at step {int(state.step)}")
      _, found = loop.Loop(
        stage=name,
        step=stage.step,
        data=data,
        sharding=self.rows,
        checkpointer=saved,
        writer=self.writer,
        schedule=build.schedule(self.config[name]),
        steps_per_epoch=epoch,
        evaluators=build.evaluators(self.config[name], context),
        clips=clips,
        finish=finish,
        flops=self.model_flops(name, first, frozen),
        peak=estimate.peak(self.config[name].model.dtype),
      ).run(state, **meta)
      return found

  # Train --------------------------------------------------------------------

  def remember(self) -> None:
    """Writes config.json; says so if the folder held another config."""
    self.workdir.mkdir(parents=True, exist_ok=True)
    path = self.workdir / "config.json"
    text = json.dumps(sections.plain(self.config), indent=1, sort_keys=True)
    if path.exists() and path.read_text() != text:
      logs.say(f"note: {path} differs from this config and is replaced")
    files.write_text(path, text)

  def train_autoencoder(self) -> dict[str, float]:
    """Trains the autoencoder and measures its latents' statistics."""
    config, section = self.config, self.config.autoencoder
    clips = self.clips("train")
    frozen = build.untrained(self.config, self.codec)

    def measure(state: State) -> State:
      # What the transformer will see: no augmentation. Another seed than
      # training's: fresh crops of the same data.
      batches = iter(build.pixels(config, clips, config.seed + 1, False))
      batches = itertools.islice(batches, section.statistics)
      stats = encode.statistics(self.codec, state.ema["ae"], batches)
      return state.replace(frozen={**state.frozen, "stats": stats})

    return self.fit(
      "autoencoder",
      build.pixels(config, clips, config.seed, True),
      section.start,
      frozen,
      max(len(clips) // section.batch, 1),
      clips=lambda batch: len(batch["video"]),
      finish=measure,
      context=self.context("autoencoder"),
    )

  def _codec_abstract(self) -> dict[str, PyTree]:
    """What the transformer freezes of an autoencoder's state."""
    inputs = self.abstract_inputs("autoencoder")
    abstract = self.stage("autoencoder", *inputs, epoch=1).abstract
    stats = {"stats": abstract.frozen["stats"]}
    return {"ema": {"ae": abstract.ema["ae"]}, "frozen": stats}

  def autoencoder(self) -> dict[str, PyTree]:
    """{"autoencoder": parameters, "stats": ...} of the trained autoencoder."""
    given = self.config.autoencoder.checkpoint
    folder = Path(given) if given else self.workdir / "autoencoder"
    if not checkpoint.load_meta(folder)["finished"]:
      raise ValueError(
        f"the autoencoder in {folder} is not trained to its end, so its "
        "latents are not measured: run its own training again, it resumes"
      )
    check.same_model(self.config, checkpoint.load_config(folder), folder)
    return _frozen(checkpoint.load(folder, self._codec_abstract()))

  def train_dit(self) -> dict[str, float]:
    """Encodes the data if need be, and trains the transformer on it."""
    frozen = self.autoencoder()
    latents, total = self.encode(frozen)
    words = self.tokenizer()
    for text in cache.manifest(self.workdir / "latents")["captions"]:
      words.encode(text, self.config.text.max_tokens)  # too long? say so now
    length = self.config.dit.rows.length * self.config.dit.rows.rows
    return self.fit(
      "dit",
      build.packed(self.config, latents, words),
      1,  # shapes are all it needs
      frozen,
      max(total // length, 1),
      clips=lambda batch: int(batch["video_segments"].max(axis=1).sum()),
      finish=lambda state: state,
      context=self.context("dit", frozen),
    )

  def encode(self, frozen: PyTree) -> tuple[cache.Latents, int]:
    """The latent cache, made if it is not there, and its video tokens."""
    config, folder = self.config, self.workdir / "latents"
    made_of = {
      "autoencoder": tree.digest(frozen),
      "data": sections.plain(config.data),
      "content": self.source.fingerprint(),
      "transforms": sections.plain(config.transforms),
      "buckets": build.sizes(config),
    }
    if folder.exists():
      cache.check(folder, made_of)
    else:
      clips = self.clips("train")
      prepared = loader.ordered(clips, config.threads)
      items = self._items(frozen, prepared, len(clips))
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
    """The run's tokenizer, trained on the captions of the cache at first."""
    path = self.workdir / "tokenizer.json"
    if not path.exists():
      folder = self.workdir / "latents"
      if not folder.exists():
        raise FileNotFoundError(
          f"{path} is missing, and there are no captions to train it on: train "
          f"first (--mode=train --workdir={self.workdir})"
        )
      captions = cache.manifest(folder)["captions"]
      size = self.config.text.vocab_size
      tokenizer.train(captions, size).save(path)
    found, most = tokenizer.load(path), self.config.text.vocab_size
    if found.vocab_size > most:
      raise ValueError(
        f"{path} has {found.vocab_size} tokens and text.vocab_size is {most}: "
        f"raise it, or delete {path} and {self.workdir / 'dit'}"
      )
    return found

  # Evaluate -----------------------------------------------------------------

  def context(self, stage: str, frozen: PyTree | None = None) -> Context:
    """What a stage's evaluators may use; the transformer's needs `frozen`."""
    context = Context(
      stage=stage,
      workdir=self.workdir,
      writer=self.writer,
      autoencoder=self.codec,
      clips=self.clips(self.config.evaluation.split),
    )
    if stage == "autoencoder":
      return context
    return dataclasses.replace(
      context,
      diffusion=self.diffusion,
      pipeline=self.pipeline(),
      batch=self._validation(context, frozen),
    )

  def _validation(self, context: Context, frozen: PyTree) -> PyTree:
    """A packed batch of the evaluation split."""
    config = self.config
    clips = context.first(config.evaluation.clips)
    items = self._items(frozen, clips, len(clips))
    words = self.tokenizer()
    sequences = [
      loader.tokens(i, config.dit.patch, words, config.text.max_tokens)
      for i in items
    ]
    return loader.rows_of(sequences, build.rows(config))

  def _items(self, frozen, clips, total):
    return encode.encode(
      self.codec,
      frozen["autoencoder"],
      frozen["stats"],
      clips,
      total,
      self.config.sample.decode_batch,
    )

  def clips(self, split: str) -> loader.Prepared:
    """A split's clips in their buckets, as every stage takes them."""
    if split not in self._clips:
      clips = self.source.clips(split)
      self._clips[split] = build.prepared(self.config, clips, split)
    return self._clips[split]

  def pipeline(self) -> Pipeline:
    """The sampling pipeline."""
    return build.pipeline(
      self.config, self.diffusion, self.codec, self.tokenizer()
    )

  def restored(self, name: str) -> State:
    """What sampling and evaluation need of a trained stage.

    Raises:
      FileNotFoundError: if the folder holds no such checkpoint.
      ValueError: if it holds one of another model.
    """
    folder = self.workdir / name
    check.same_model(self.config, checkpoint.load_config(folder), folder)
    abstract = self.stage(name, *self.abstract_inputs(name), epoch=1).abstract
    wanted = {"step": abstract.step, "ema": abstract.ema}
    # What was only minimised is not needed any more.
    kept = abstract.frozen.keys() - {"perceptual"}
    wanted["frozen"] = {k: abstract.frozen[k] for k in sorted(kept)}
    found = checkpoint.load(folder, wanted)
    return State(
      **found, params={}, opt={}, rng=jax.random.PRNGKey(0), bad=jnp.int32(0)
    )

  def abstract_inputs(self, name: str) -> tuple[PyTree, PyTree]:
    """(batch, frozen) of a stage as shapes: enough to trace its step."""
    if name == "dit":
      return build.packed_shapes(self.config, self.rows), _frozen(
        self._codec_abstract()
      )
    batch = build.pixel_shapes(self.config, self.rows)
    return batch, build.untrained(self.config, self.codec, abstract=True)


def _frozen(codec: Mapping[str, PyTree]) -> dict[str, PyTree]:
  return {
    "autoencoder": codec["ema"]["ae"],
    "stats": codec["frozen"]["stats"],
  }
