"""Every evaluator on a tiny model, and the numbers that a pencil can check."""

import dataclasses
import math

import numpy as np
import pytest

from configs import dit_b, world
from experiments import framing as experiment
from sora_jax import build
from sora_jax.data import loader
from sora_jax.data.latents import Item
from sora_jax.data.sources.world import World
from sora_jax.data.world import edits as edits_lib
from sora_jax.evaluators import (
  EVALUATORS,
  captions,
  context,
  continuation,
  framing,
  metrics,
)
from sora_jax.types import Clip
from sora_jax.utils import logs


@pytest.fixture(scope="module")
def contexts(model, tmp_path_factory):
  """A context for each stage, with clips of the digits set."""
  run, folder = model.run, tmp_path_factory.mktemp("evaluators")
  clips = run.data.clips("test")
  first = [clip for clip in clips if clip is not None][:4]
  items = [
    Item(model.pipeline.encode(model.frozen, c.video)[0], c.text, c.key)
    for c in first
  ]
  words = run.data.words()
  sequences = [loader.tokens(i, run.config.dit.patch, words) for i in items]
  plain = context.Context(
    stage="autoencoder",
    workdir=folder,
    writer=logs.MetricWriter(folder),
    autoencoder=run.codec,
    clips=clips,
    training=lambda: run.data.clips("train"),
  )
  return {
    "autoencoder": plain,
    "dit": dataclasses.replace(
      plain,
      stage="dit",
      diffusion=run.diffusion,
      pipeline=model.pipeline,
      batch=loader.rows_of(sequences, build.rows(run.config)),
    ),
  }


def options_of(name):
  """(stage, options) of the first use of an evaluator in a tiny config."""
  tiny = (config.get_config("tiny") for config in (dit_b, world))
  for config in (*tiny, experiment.base()):
    for stage in ("autoencoder", "dit"):
      for section in config[stage].evaluators.to_dict().values():
        if section["name"] == name:
          return stage, {k: v for k, v in section.items() if k != "name"}
  raise AssertionError(f"no config shows a use of {name!r}")


def of_the_world(made, name="motion"):
  """The context with clips of a set of the world, of the same size."""
  shape = made.first(1)[0].video.shape
  source = World(name, 1, *shape[:3], fps=2.0, seed=0, test_count=8)
  return dataclasses.replace(made, clips=list(source.clips("test")))


@pytest.mark.parametrize("name", EVALUATORS)
def test_every_evaluator_yields_finite_numbers(name, model, contexts):
  stage, options = options_of(name)
  if "clips" in options:
    # Of eight, some of which move; one evaluator takes twice as many.
    options["clips"] = 4 if name == "frechet" else 6
  made = contexts[stage]
  if name in ("laws", "drift", "edits"):
    made = of_the_world(made, "simple" if name == "drift" else "motion")
  evaluator = EVALUATORS[name](context=made, **options)
  state = model.autoencoder if stage == "autoencoder" else model.state
  found = list(evaluator.run(state))
  assert found
  names = [key for key, _ in found]
  assert len(set(names)) == len(names)
  for key, value in found:
    assert isinstance(value, float) and math.isfinite(value), key
  again = list(evaluator.run(state))
  assert again == found  # the noise is fixed


def test_what_crosses_the_edge_is_cut():
  video = np.full((4, 12, 16, 3), 128, np.uint8)
  video[:2, 4:8, 5:9] = (255, 0, 0)  # in the middle
  video[2:, 4:8, 13:] = (255, 0, 0)  # out of view on the right
  spot = video[:2].copy()
  spot[:, 0, 0] = 255  # one pixel is no object
  np.testing.assert_allclose(framing.cut([video, spot]), [0.5, 0])


def test_laws_reports_errors_of_the_oracle_and_of_dumb_baselines(
  model, contexts
):
  evaluator = EVALUATORS["laws"](of_the_world(contexts["dit"]), "i2v", 8, 0)
  found = dict(evaluator.run(model.state))
  rows = {name.split("/")[0] for name in found}
  assert rows >= {"real", "generated", "straight on", "last frame repeated"}
  assert found["real/velocity"] < found["last frame repeated/velocity"]
  assert found["real clips/velocity"] == 8
  assert found["generated clips/seen"] == 8
  low, high = (found[f"generated {k}/seen"] for k in ("low", "high"))
  assert low <= found["generated/seen"] <= high
  with pytest.raises(ValueError, match=r"task='t2v'.*extend"):
    EVALUATORS["laws"](contexts["dit"], "t2v", 8, 0)
  with pytest.raises(ValueError, match="no ground truth"):
    evaluator = EVALUATORS["laws"](contexts["dit"], "i2v", 2, 0)
    list(evaluator.run(model.state))


def test_frechet_reports_floor_ceiling_and_dumb_baselines(model, contexts):
  made = of_the_world(contexts["dit"])
  options = {"features": "random", "path": "", "sha256": "", "seed": 0}
  found = dict(EVALUATORS["frechet"](made, 4, **options).run(model.state))
  rows = {name.split("/")[0] for name in found}
  assert rows == {
    "real",
    "autoencoder",
    "generated",
    "first frame",
    "shuffled",
  }
  assert found["real/distance"] < found["first frame/distance"]
  assert found["real/distance"] < found["generated/distance"]
  for row in rows:
    assert found[f"{row}/low"] < found[f"{row}/high"]
    assert found[f"{row}/clips"] == 4
  with pytest.raises(ValueError, match=r"clips=5.*there are 8"):
    list(EVALUATORS["frechet"](made, 5, **options).run(model.state))
  with pytest.raises(ValueError, match=r"features='vgg'.*i3d.*random"):
    EVALUATORS["frechet"](made, 4, **options | {"features": "vgg"})
  with pytest.raises(FileNotFoundError, match="i3d"):
    EVALUATORS["frechet"](made, 4, **options | {"features": "i3d"})
  with pytest.raises(ValueError, match="need no weights"):
    EVALUATORS["frechet"](made, 4, **options | {"path": "a.safetensors"})


# By hand ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 10, 257])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_moves_every_element(count, seed):
  order = captions.shuffled(count, seed)
  assert sorted(order) == list(range(count))
  assert (order != np.arange(count)).all()


def test_shuffled_depends_on_the_seed():
  orders = {tuple(captions.shuffled(20, seed)) for seed in range(5)}
  assert len(orders) == 5
  np.testing.assert_array_equal(
    captions.shuffled(20, 0), captions.shuffled(20, 0)
  )


def test_continuation_yields_its_dumb_baseline_by_hand(model, contexts):
  made = contexts["dit"]
  evaluator = continuation.Continuation(made, 6, seed=0)
  found = dict(evaluator.run(model.state))
  moving = [c for c in made.first(6) if continuation.moves(c)]
  assert moving
  scores = [
    metrics.psnr(
      np.broadcast_to(c.video[:1], c.video[1:].shape).copy(), c.video[1:]
    )
    for c in moving
  ]
  wanted = found["first frame repeated/psnr"]
  assert wanted == pytest.approx(np.mean(scores))


def test_still_clips_and_images_are_passed_over(model, contexts):
  still = [
    Clip(np.full((t, 16, 16, 3), 9, np.uint8), 8.0, "a", str(t)) for t in (1, 5)
  ]
  made = dataclasses.replace(contexts["dit"], clips=still)
  evaluator = continuation.Continuation(made, 2, seed=0)
  assert list(evaluator.run(model.state)) == []


def test_fixed_times_averages_its_levels(model, contexts):
  name = "fixed_times"
  evaluator = EVALUATORS[name](context=contexts["dit"], times=4)
  found = dict(evaluator.run(model.state))
  levels = [v for k, v in found.items() if not k.startswith("mean")]
  assert len(levels) == 4
  assert found["mean/error"] == pytest.approx(np.mean(levels))


# Clips ------------------------------------------------------------------------


def test_first_passes_over_what_cannot_be_decoded(contexts):
  one, two = (
    Clip(np.zeros((1, 8, 8, 3), np.uint8), 8.0, "", key) for key in "ab"
  )
  made = dataclasses.replace(
    contexts["autoencoder"], clips=[None, one, None, two]
  )
  assert made.first(2) == [one, two]
  assert made.first(1) == [one]
  assert made.first(3) == [one, two]  # at most: small folders are judged too


def test_one_clip_of_each_origin(contexts):
  clips = [
    Clip(np.zeros((1, 8, 8, 3), np.uint8), 8.0, "", key)
    for key in ("a.mp4@0.000", "a.mp4@2.000", "b.mp4@0.000", "c")
  ]
  made = dataclasses.replace(contexts["autoencoder"], clips=clips)
  assert made.first(0) == clips
  apart = made.first(0, apart=True)
  assert [c.origin for c in apart] == ["a.mp4", "b.mp4", "c"]


class Right:
  """A pipeline that makes what really happened, or half of it."""

  def __init__(self, pipeline, videos, share=1.0):
    self._pipeline, self._videos, self._share = pipeline, videos, share

  def __getattr__(self, name):
    return getattr(self._pipeline, name)

  def __call__(self, params, frozen, requests):
    assert len(requests) == len(self._videos)
    return [(self._share * v).astype(np.uint8) for v in self._videos]


def test_tasks_are_judged_where_nothing_was_given(model, contexts):
  made = of_the_world(contexts["dit"])
  clips = [clip for clip in made.clips if continuation.moves(clip)][:3]
  asked = ("i2v", "last_frame", "extend_back", "inpaint", "outpaint")

  def judged(share):
    pipeline = Right(made.pipeline, [c.video for c in clips], share)
    context_ = dataclasses.replace(made, clips=clips, pipeline=pipeline)
    judge = EVALUATORS["tasks"](context_, asked, clips=3, keep=1, seed=0)
    return dict(judge.run(model.state))

  right, half = judged(1.0), judged(0.5)
  for task in asked:
    assert right[f"{task}/generated"] == metrics.BEST_PSNR
    assert half[f"{task}/generated"] < right[f"{task}/filled"] < 100
    assert half[f"{task}/filled"] == right[f"{task}/filled"]
    if task in ("i2v", "last_frame", "extend_back"):
      assert right[f"{task}/jump"] == pytest.approx(1)
    else:
      assert f"{task}/jump" not in right
  # The dumb baseline of i2v repeats the first frame.
  repeated = [
    metrics.psnr(np.repeat(c.video[:1], len(c.video) - 1, axis=0), c.video[1:])
    for c in clips
  ]
  assert right["i2v/filled"] == pytest.approx(np.mean(repeated))


def test_a_loop_is_judged_by_its_end(model, contexts):
  clip = of_the_world(contexts["dit"]).clips[0]
  still = Right(model.pipeline, [np.repeat(clip.video[:1], 9, axis=0)])
  made = dataclasses.replace(contexts["dit"], clips=[clip], pipeline=still)
  judge = EVALUATORS["tasks"](made, ("loop",), clips=1, keep=1, seed=0)
  assert dict(judge.run(model.state)) == {"loop/jump": 0.0}
  with pytest.raises(ValueError, match=r"\['edit'\].*'i2v'"):
    EVALUATORS["tasks"](made, ("i2v", "edit"), clips=1, keep=1, seed=0)


def test_what_was_learned_by_heart_is_near_its_training_clip(model, contexts):
  made = contexts["dit"]
  clips = made.first(4)
  training = [c for c in made.training() if c is not None]
  heart = [training[i].video for i in (3, 3, 0, 0, 2, 2, 1, 1)]
  noise = np.random.default_rng(0)
  fresh = [noise.integers(0, 256, v.shape, np.uint8) for v in heart]

  def judged(videos, among=0):
    context_ = dataclasses.replace(made, pipeline=Right(model.pipeline, videos))
    judge = EVALUATORS["novelty"](context_, 4, repeats=2, among=among, seed=0)
    return dict(judge.run(model.state))

  learned, other = judged(heart), judged(fresh)
  assert learned["generated/nearest"] == 0
  assert learned["generated/copies"] == 1
  assert learned["diversity/one caption"] == 0
  assert learned["diversity/other captions"] > 0
  picture = made.workdir / "novelty" / f"{int(model.state.step):08d}.png"
  assert picture.exists()
  assert other["generated/copies"] == 0
  assert other["diversity/one caption"] == pytest.approx(
    255 / math.sqrt(6),
    rel=0.1,  # of independent uniform numbers
  )
  # By hand, of all pairs.
  held = [
    min(np.sqrt(((c.video / 1.0 - t.video) ** 2).mean()) for t in training)
    for c in clips
  ]
  assert other["held out/nearest"] == pytest.approx(np.mean(held), rel=1e-5)
  few = judged(heart, among=1)
  assert few["held out/nearest"] >= other["held out/nearest"]
  with pytest.raises(ValueError, match=r"repeats=1.*at least 2"):
    EVALUATORS["novelty"](made, 4, repeats=1, among=0, seed=0)


def test_edits_are_judged_by_what_they_change(model, contexts):
  made = of_the_world(contexts["dit"], "composition")
  clips = [c for c in made.clips if edits_lib.edited(c, "recolour", 0)]
  answers = [edits_lib.edited(c, "recolour", i) for i, c in enumerate(clips)]

  def judged(videos):
    pipeline = Right(made.pipeline, videos)
    context_ = dataclasses.replace(made, clips=clips, pipeline=pipeline)
    judge = EVALUATORS["edits"](context_, ("recolour",), 0.5, clips=0, seed=0)
    return dict(judge.run(model.state))

  right = judged([a.video for a in answers])
  assert right["recolour/clips"] == len(clips) > 2
  assert right["recolour/generated/changed"] == metrics.BEST_PSNR
  assert right["recolour/generated/rest"] == metrics.BEST_PSNR
  assert right["recolour/source/changed"] < 20  # two colours are far apart
  assert right["recolour/source/rest"] == metrics.BEST_PSNR
  nothing = judged([c.video for c in clips])
  for what in ("changed", "rest", "obeyed"):
    assert (
      nothing[f"recolour/generated/{what}"] == right[f"recolour/source/{what}"]
    )
  assert (
    nothing["recolour/generated/obeyed"] < right["recolour/generated/obeyed"]
  )


@pytest.mark.parametrize(
  "options, match",
  [
    ({"edits": ("paint",)}, r"\['paint'\].*'recolour'"),
    ({"strength": 0.0}, r"strength=0.0.*\(0, 1\]"),
  ],
)
def test_edits_refuses_what_there_is_not(contexts, options, match):
  usual = {"edits": ("remove",), "strength": 0.5, "clips": 1, "seed": 0}
  with pytest.raises(ValueError, match=match):
    EVALUATORS["edits"](contexts["dit"], **usual | options)


def test_edits_that_find_nothing_are_an_error(model, contexts):
  made = of_the_world(contexts["dit"], "shots")
  judge = EVALUATORS["edits"](made, ("recolour", "remove"), 0.5, 2, seed=0)
  with pytest.raises(ValueError, match=r"nothing to change.*another data.set"):
    list(judge.run(model.state))
