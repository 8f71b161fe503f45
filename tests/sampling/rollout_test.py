"""Long videos: block after block, each as if the past were its beginning."""

import dataclasses
import gc
import tracemalloc
import types

import jax
import numpy as np
import pytest

from sora_jax.sampling.request import Request
from sora_jax.sampling.rollout import CONTEXTS, Rollout

CAPTION = "a red three moves left on a black background"
OTHER = "a green eight stays still"
SIZE = (13, 16, 16)  # 4 latent frames, of which 2 are kept


def request(**changes):
  return dataclasses.replace(Request(CAPTION, SIZE, seed=3), **changes)


def clip(frames, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 255, (frames, *SIZE[1:], 3), np.uint8)


def rolled(model, requests, frames, context="frames", anchor=False, **options):
  out = [[] for _ in requests]
  roll = Rollout(model.pipeline, context, anchor)
  for i, part in roll(model.params, model.frozen, requests, frames, **options):
    out[i].append(part)
  return out


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_minute_takes_no_more_memory_than_some_seconds(
  model, context, anchor
):
  """Whatever is handed out is forgotten, but for what is handed on."""
  roll, held = Rollout(model.pipeline, context, anchor), {}
  tracemalloc.start()
  made = 0
  for _, part in roll(model.params, model.frozen, [request()], 480):
    made += len(part)
    gc.collect()
    held[made] = tracemalloc.get_traced_memory()[0], len(jax.live_arrays())
  tracemalloc.stop()
  assert made == 480
  early, late = (held[min(n for n in held if n >= k)] for k in (100, 460))
  # Frames of 768 bytes: those between are some 270 kB.
  assert late[0] - early[0] < 30_000 and late[1] == early[1]


def test_no_script_is_said_on_the_way(model):
  with pytest.raises(ValueError, match=r"is a script: say one shot"):
    rolled(model, [request()], 40, follow=lambda frame: "[0s] a [1s] b")


@pytest.fixture
def blocks(model, monkeypatch):
  """The requests of all blocks, as they are made."""
  seen = []
  groups = type(model.pipeline)._groups

  def spy(self, params, frozen, requests):
    seen.append(list(requests))
    return groups(self, params, frozen, requests)

  monkeypatch.setattr(type(model.pipeline), "_groups", spy)
  return seen


@pytest.mark.parametrize("anchor", [False, True])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_long_video_is_as_long_as_asked_for(model, context, anchor):
  first, *rest = parts = rolled(model, [request()], 40, context, anchor)[0]
  assert sum(map(len, parts)) == 40 and len(first) == 13
  # What is new of a block: its latent frames without those that are known.
  assert {len(part) for part in rest[:-1]} == {4 if anchor else 8}
  assert all(part.dtype == np.uint8 for part in parts)
  (short,) = model.pipeline(model.params, model.frozen, [request()])
  np.testing.assert_array_equal(first, short)
  # The blocks differ: each has noise of its own.
  assert (rest[0] != rest[1]).any()


@pytest.mark.parametrize("anchor", [False, True])
def test_frames_are_handed_on(model, blocks, anchor):
  parts = rolled(model, [request()], 30, "frames", anchor)[0]
  made = np.concatenate(parts)
  later = [some[0] for some in blocks if some[0].task == "extend"]
  at = 13
  for block in later:
    given = block.source
    count = 8 if anchor else 5
    np.testing.assert_array_equal(given[-count:], made[at - count : at])
    if anchor:
      np.testing.assert_array_equal(given[0], made[0])
    assert len(given) == count + anchor
    at += 4 if anchor else 8
  assert len(later) == len(parts) - 1
  assert len({block.seed for some in blocks for block in some}) == len(parts)


@pytest.mark.parametrize("anchor", [False, True])
def test_latents_are_handed_on_and_decoded_as_one_video(model, anchor):
  """Frames of latents that stream on are those of the whole latents."""
  latents = []
  pipeline = model.pipeline

  class Spy(type(pipeline)):
    def latents(self, *args):
      found = super().latents(*args)
      latents.append((args[2][0].latents, found[0]))
      return found

  names = [field.name for field in dataclasses.fields(pipeline)]
  spied = Spy(**{name: getattr(pipeline, name) for name in names})
  model = types.SimpleNamespace(**{**vars(model), "pipeline": spied})
  parts = rolled(model, [request()], 30, "latents", anchor)[0]
  whole = []
  for given, found in latents:
    count = 0 if given is None else len(given)
    if count:
      np.testing.assert_array_equal(found[:count], given)
      np.testing.assert_array_equal(given[-2:], np.concatenate(whole)[-2:])
      if anchor:
        np.testing.assert_array_equal(given[0], whole[0][0])
    whole.append(found[count:])
  (video,) = pipeline.decode(model.frozen, [np.concatenate(whole)])
  found = np.concatenate(parts).astype(int)
  assert np.abs(found - video[: len(found)]).max() <= 1


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_source_comes_back_before_what_follows_it(model, context):
  source = clip(20)
  asked = request(task="extend", source=source)
  video = np.concatenate(rolled(model, [asked], 50, context)[0])
  assert len(video) == 50
  np.testing.assert_array_equal(video[:20], source)


def test_times_of_shots_count_from_the_sources_first_frame(model, blocks):
  asked = request(
    task="extend", source=clip(20), prompt=((0, CAPTION), (22, OTHER))
  )
  rolled(model, [asked], 36)
  # The first block shows frames 15 to 27, the second 23 to 35.
  assert [some[0].prompt for some in blocks] == [
    ((0, CAPTION), (7, OTHER)),
    ((0, OTHER),),
  ]
  with pytest.raises(ValueError, match="15 of the source"):
    rolled(model, [dataclasses.replace(asked, prompt=CAPTION)], 15)


def test_words_that_later_blocks_have_no_room_for(model, blocks):
  much = " ".join([CAPTION] * 3)  # fits once, and not twice
  shots = ((0, CAPTION), (24, much), (28, much))
  with pytest.raises(ValueError, match="max_tokens"):
    rolled(model, [request(prompt=shots)], 40)
  assert not blocks
  # Told on the way, the new one takes the place of the old.
  told = iter([much, None, much + " again", None, None])
  rolled(model, [request()], 40, follow=lambda frame: next(told))
  assert len(blocks[2][0].prompt) == 1


def test_videos_roll_on_together_as_they_do_alone(model):
  asked = [request(), request(prompt=OTHER, seed=9)]
  both = rolled(model, asked, 30)
  for one, found in zip(asked, both):
    (alone,) = rolled(model, [one], 30)
    for a, b in zip(alone, found, strict=True):
      assert np.abs(a.astype(int) - b).max() <= 1


def test_prompts_change_at_the_times_of_the_script(model, blocks):
  shots = ((0, CAPTION), (10, OTHER), (24, "a ball"))
  rolled(model, [request(prompt=shots, scales=(1.0, 0.5, 2.0))], 36)
  found = [(some[0].prompt, some[0].scales) for some in blocks]
  # Blocks begin at frames 0, 8, 16 and 24 of the video.
  assert found == [
    (((0, CAPTION), (10, OTHER)), (1.0, 0.5)),
    (((0, CAPTION), (2, OTHER)), (1.0, 0.5)),
    (((0, OTHER), (8, "a ball")), (0.5, 2.0)),
    (((0, "a ball"),), (2.0,)),
  ]


def test_a_follower_steers_from_the_next_frame_on(model, blocks):
  told = {0: None, 13: OTHER, 21: None}
  asked = []

  def follow(frame):
    asked.append(frame)
    return told[frame]

  rolled(model, [request()], 29, follow=follow)
  assert asked == [0, 13, 21]
  assert [some[0].prompt for some in blocks] == [
    ((0, CAPTION),),
    ((0, CAPTION), (5, OTHER)),
    ((0, OTHER),),
  ]


# Mistakes ---------------------------------------------------------------------


def test_as_many_roll_together_as_a_call_holds(model):
  roll, small = Rollout(model.pipeline, "frames", anchor=False), request()
  each = min(
    model.pipeline.length // model.pipeline.tokens(small), model.pipeline.clips
  )
  assert each > 1
  assert roll.at_once([small] * 9) == each * model.pipeline.rows


def test_mistakes_are_found_before_anything_is_made(model):
  with pytest.raises(ValueError, match=r"'pixels'.*'frames', 'latents'"):
    Rollout(model.pipeline, "pixels", anchor=False)
  with pytest.raises(ValueError, match="4 latent ones, and 4 are known"):
    rolled(model, [request(keep=3)], 30, anchor=True)
  with pytest.raises(ValueError, match="frame 40 of a video of 30"):
    rolled(model, [request(prompt=((0, CAPTION), (40, OTHER)))], 30)
  ends = request(task="last_frame", source=clip(1))
  with pytest.raises(ValueError, match="'last_frame' says all of a video"):
    rolled(model, [ends], 30)
  edited = request(task="edit", source=clip(30))
  with pytest.raises(ValueError, match="'edit' says all of a video"):
    rolled(model, [edited], 60)
