"""A run: the stages of a config, in order, each resumable.

workdir/config.json     what was asked for
        autoencoder/    checkpoints     latents/  the cache
        dit/            checkpoints     tokenizer.json
        samples/        mp4s, contact sheet, samples.jsonl
        metrics.jsonl   tb/             skipped.jsonl

Several processes may share a run, see `utils.processes`; the folder then lies
where all can see it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from sora_jax import build, check, estimate, trained
from sora_jax.datasets import Datasets
from sora_jax.evaluators.context import Context
from sora_jax.packing import pack
from sora_jax.sampling.pipeline import Pipeline
from sora_jax.sampling.request import Request
from sora_jax.sharding import mesh
from sora_jax.training import checkpoint, encode, loop
from sora_jax.training import stage as stage_lib
from sora_jax.types import PyTree, State
from sora_jax.utils import logs, processes, sections, tree

STAGES = ("autoencoder", "dit", "sample")


class Run:
  """A config and the folder where it lives."""

  def __init__(self, config: ConfigDict, workdir: Path):
    self.config, self.workdir = config, Path(workdir)
    wrong = set(config.stages) - set(STAGES)
    if wrong:
      raise ValueError(f"unknown stages {wrong}; valid: {STAGES}")
    # Every name and option is looked up now, before anything is made.
    build.everything(config)
    self.codec = build.autoencoder(config)
    self.data = Datasets(config, self.workdir, self.codec)
    self.placement = build.placement(config)
    self.diffusion = build.diffusion(config, self.placement)
    # What several processes judge, each judges on its own devices.
    alone = jax.process_count() == 1
    self.judged = self.diffusion if alone else build.diffusion(config)
    self.rows = mesh.rows(self.placement.mesh)

  @classmethod
  def open(cls, workdir: str | os.PathLike[str]) -> Run:
    """A trained run, with the config that its transformer was trained by.

    It lies on the devices as it did then, or where they are not as many as its
    mesh says, whole on each.

    Raises:
      FileNotFoundError: if the folder holds none.
    """
    workdir = Path(workdir)
    config = sections.config_of(checkpoint.load_config(workdir / "dit"))
    trained.elsewhere(config)
    plain = {"task": "t2v", "at": (), "clips": 0, "negative": "", "scales": ()}
    config.sample.update(plain, names="index")
    config.stages = tuple(s for s in config.stages if s != "sample")
    return cls(config, workdir)

  @functools.cached_property
  def writer(self) -> logs.MetricWriter:
    """Of metrics; opening it makes the folder."""
    return logs.MetricWriter(self.notes)

  @property
  def notes(self) -> Path:
    """Where this process writes what only the first one's is kept of."""
    return processes.private(self.workdir)

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
    """FLOPs of a step over all devices that are the model's own.

    Not what remat computes again, nor what Muon multiplies. Attention is
    counted over whole rows, as if each held one clip.

    Args:
      name: of the stage.
      batch: as all processes see it; shapes are enough.
      frozen: parameters that are not trained.
    """
    plain, objective = ConfigDict(self.config.to_dict()), self.codec
    if name == "dit":
      plain.dit.model.update(remat="none", attention="full")
      objective = build.diffusion(plain)
    stage = stage_lib.make(
      objective,
      dict.fromkeys(objective.losses, optax.sgd(1.0)),
      plain[name].ema,
      plain.seed,
      batch,
      frozen,
      self.placement,
    )
    return estimate.flops(stage.step, stage.abstract, batch)

  def checkpointer(self, name: str) -> checkpoint.Checkpointer:
    """Of a stage; for the processes that train it, together."""
    return checkpoint.Checkpointer(
      self.workdir / name,
      keep=getattr(self.config, name).keep,
      config=sections.plain(self.config),
    )

  def fit(
    self, name, dataset, start, frozen, epoch, counts, finish, context
  ) -> dict[str, float]:
    """Trains a stage to its end, from its last checkpoint if there is one.

    Args:
      name: of the stage.
      dataset: makes the batches of a `seed`, or a `share` of each.
      start: batches that the objective is initialised from.
      frozen: parameters that are not trained, by name.
      epoch: steps in an epoch.
      counts: see `loop.Loop`; of this process's share of a batch.
      finish: see `loop.Loop`.
      context: of the evaluators.

    Returns:
      what the stage's evaluators say in the end.
    """
    build.check_rows(self.config, self.placement, [name])
    batches = itertools.islice(iter(dataset(seed=self.config.seed)), start)
    batches = list(batches)  # of all processes, for all start alike
    first = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    stage = self.stage(name, first, frozen, epoch)
    shares = self.share(name)[1]  # about alike
    logs.say(
      f"{name}: {tree.size(stage.abstract.params):,} parameters, "
      f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    )
    with self.checkpointer(name) as saved:
      state, data, seed, meta = self._begin(name, saved, stage, dataset, frozen)
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
        counts=lambda share: {k: shares * n for k, n in counts(share).items()},
        finish=finish,
        work=lambda: (
          self.model_flops(name, batches[0], frozen),
          estimate.peak(build.operands(self.config[name].model)),
        ),
        meta={"readers": self.readers(name), "seed": seed},
      ).run(state, **meta)
      return found

  def readers(self, name: str) -> list[int | str]:
    """Shares of the data, processes that read them, workers of each, layout."""
    layout = build.rows(self.config).layout if name == "dit" else "padded"
    shares = self.share(name)[1]
    return [shares, jax.process_count(), self.config.workers, layout]

  def _begin(self, name, saved, stage, dataset, frozen):
    """A fresh or restored state, the data, its seed, and the state's meta."""
    share, seed, step = self.share(name), self.config.seed, saved.latest()
    step = int(processes.agree(-1 if step is None else step))
    if step < 0:
      meta = {"seconds": 0.0, "finished": False}
      state = trained.fresh(self.config, name, stage, frozen)
      return state, iter(dataset(share=share, seed=seed)), seed, meta
    where = self.workdir / name
    check.same_model(self.config, saved.config(step), where, name)
    meta = saved.meta(step)
    before, now = meta.pop("readers"), self.readers(name)
    seed = meta.pop("seed")
    if before == now:
      data = iter(dataset(share=share, seed=seed))
      state = saved.restore(stage.abstract, data, step)
    else:
      logs.say(
        f"{name}: {now[1]} processes read {now[0]} shares of the data, which "
        f"were {before[1]} and {before[0]}, {now[3]}, which were {before[3]}, "
        f"by {now[2]} workers each, which were {before[2]}: it starts again, "
        "in another order"
      )
      state, seed = saved.restore(stage.abstract, step=step), seed + step
      data = iter(dataset(share=share, seed=seed))
    if name == "dit":
      then = processes.local(state.frozen)
      check.same_latents(then, frozen, self.workdir / name)
    self.writer.resume(name, step)
    logs.say(f"{name}: resumed at step {step}")
    return state, data, seed, meta

  # Train --------------------------------------------------------------------

  def share(self, name: str) -> tuple[int, int]:
    """Which share of a stage's batches this process reads, of how many."""
    section = self.config[name]
    rows = section.batch if name == "autoencoder" else section.rows.rows
    return mesh.share(self.rows, rows)

  def train_autoencoder(self) -> dict[str, float]:
    """Trains the autoencoder and measures its latents' statistics."""
    config, section = self.config, self.config.autoencoder
    clips = self.data.clips("train")
    frozen = build.untrained(self.config, self.codec)

    def measure(state: State) -> State:
      if check.decoder_alone(section):
        return state  # with the statistics that it began with
      # What the transformer will see: no augmentation. Another seed than
      # training's: fresh crops of the same data.
      batches = build.pixels(config, clips, False, config.seed + 1)
      batches = itertools.islice(iter(batches), section.statistics)
      params = processes.local(state.ema["ae"])
      stats = encode.statistics(self.codec, params, batches)
      # Kernels of two hosts may differ in the last bit.
      stats = jax.tree.map(
        lambda new, old: jax.device_put(processes.agree(new), old.sharding),
        stats,
        state.frozen["stats"],
      )
      return state.replace(frozen={**state.frozen, "stats": stats})

    return self.fit(
      "autoencoder",
      functools.partial(build.pixels, config, clips, augmented=True),
      section.start,
      frozen,
      max(len(clips) // section.batch, 1),
      counts=lambda batch: {"clips": len(batch["video"])},
      finish=measure,
      context=self.context("autoencoder"),
    )

  def _codec_abstract(self) -> dict[str, PyTree]:
    """What the transformer freezes of an autoencoder's state."""
    inputs = self.abstract_inputs("autoencoder")
    abstract = self.stage("autoencoder", *inputs, epoch=1).abstract
    stats = {"stats": abstract.frozen["stats"]}
    return {"ema": {"ae": abstract.ema["ae"]}, "frozen": stats}

  def _teacher_abstract(self) -> PyTree:
    """A model like this one."""
    rng, batch = jax.random.PRNGKey(0), build.packed_shapes(self.config, None)
    return nn.meta.unbox(jax.eval_shape(self.diffusion.init, rng, batch))["dit"]

  def autoencoder(self) -> dict[str, PyTree]:
    """{"autoencoder": parameters, "stats": ...} of the trained autoencoder."""
    abstract = self._codec_abstract()
    return trained.autoencoder(self.config, self.workdir, abstract)

  def train_dit(self) -> dict[str, float]:
    """Encodes the data if need be, and trains the transformer on it."""
    frozen = self.autoencoder()
    latents, total = self.data.latents(frozen)
    if self.diffusion.taught:
      frozen["teacher"] = trained.teacher(self.config, self._teacher_abstract())
    words = self.data.words()
    for text in self.data.captions:
      words(text)  # too long? say so now
    length = self.config.dit.rows.length * self.config.dit.rows.rows
    return self.fit(
      "dit",
      functools.partial(build.packed, self.config, latents, words),
      1,  # shapes are all it needs
      frozen,
      max(total // length, 1),
      counts=pack.counts,
      finish=lambda state: state,
      context=self.context("dit", frozen),
    )

  # Evaluate -----------------------------------------------------------------

  def context(self, stage: str, frozen: PyTree | None = None) -> Context:
    """What a stage's evaluators may use; the transformer's needs `frozen`."""
    context = Context(
      stage=stage,
      workdir=self.notes,
      writer=self.writer,
      autoencoder=self.codec,
      clips=self.data.clips(self.config.evaluation.split),
      training=functools.partial(self.data.clips, "train"),
    )
    if stage == "autoencoder":
      return context
    judged = context.first(self.config.evaluation.clips)
    return dataclasses.replace(
      context,
      diffusion=self.judged,
      pipeline=self.pipeline(),
      batch=self.data.rows(frozen, judged),
    )

  def pipeline(self) -> Pipeline:
    """The sampling pipeline."""
    return build.pipeline(
      self.config, self.judged, self.codec, self.data.words()
    )

  def sample(
    self, prompts: str | Sequence[str | Request], **changes
  ) -> list[np.ndarray]:
    """Videos uint8 [T, H, W, 3] of prompts, from the last checkpoint.

    Args:
      prompts: plain, scripts, or whole requests.
      **changes: see `build.request`; source="picture.png" or uint8 pixels.
    """
    asked = build.asked(self.config, prompts, **changes)
    return self._pipeline(self._state.ema, self._state.frozen, asked)

  def roll(
    self,
    prompts: str | Sequence[str | Request],
    seconds: float,
    follow: Callable[[int], str | None] | None = None,
    **changes,
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (which video, its next frames) of long ones, as they are made.

    Args:
      prompts, **changes: as in `sample`; `size` is that of a block.
      seconds: of each video.
      follow: see `Rollout.__call__`; may change the prompt on the way.
    """
    if seconds <= 0:
      raise ValueError(f"seconds={seconds}: need more than 0")
    config = ConfigDict(self.config.to_dict())
    config.sample.rollout.seconds = float(seconds)
    asked, frames = build.asked(config, prompts, **changes), build.long(config)
    roll = build.rollout(config, self._pipeline)
    roll.check(asked, frames)  # before weights are read
    return roll(self._state.ema, self._state.frozen, asked, frames, follow)

  @functools.cached_property
  def _pipeline(self) -> Pipeline:
    return self.pipeline()

  @functools.cached_property
  def _state(self) -> State:
    return self.restored("dit")

  def restored(self, name: str) -> State:
    """What sampling and evaluation need of a trained stage.

    Raises:
      FileNotFoundError: if the folder holds no such checkpoint.
      ValueError: if it holds one of another model.
    """
    abstract = self.stage(name, *self.abstract_inputs(name), epoch=1).abstract
    return trained.restored(self.config, self.workdir, name, abstract)

  def abstract_inputs(self, name: str) -> tuple[PyTree, PyTree]:
    """(batch, frozen) of a stage as shapes: enough to trace its step."""
    if name == "dit":
      frozen = trained.frozen(self._codec_abstract())
      if self.diffusion.taught:
        frozen["teacher"] = self._teacher_abstract()
      return build.packed_shapes(self.config, self.rows), frozen
    batch = build.pixel_shapes(self.config, self.rows)
    return batch, build.untrained(self.config, self.codec, abstract=True)
