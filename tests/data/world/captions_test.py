"""Captions say what the scene shows, in words that were or were not trained."""

import dataclasses
import itertools

import numpy as np
import pytest

from sora_jax.data.world import captions, motions, scenes, sets

STAGE = (10.0, 10.0)
ALL = sorted(sets.SETS)


def shots(name, split="train", seed=0, length="long", sound=True, seconds=2.0):
  draw = scenes.Draw(name, split, STAGE, seconds)
  return scenes.shots(np.random.default_rng(seed), draw, length, sound)


@pytest.mark.parametrize("name", ALL)
def test_long_captions_name_all_that_matters(name):
  for seed in range(8):
    for shot in shots(name, seed=seed):
      scene, words = shot.scene, shot.text
      for body in scene.bodies:
        assert body.colour in words
        if body.shape == "digit":
          assert captions.digits.WORDS[body.digit] in words
          continue
        assert any(noun in words for noun in captions.NOUNS[body.shape])
        assert captions.size(body) in words
        assert body.material in words
        for word in (body.direction, body.speed, body.becomes):
          assert word in words
      ground = captions.background(scene)
      assert any(w in words for w in captions.GROUNDS.get(ground, (ground,)))
      assert ("camera" in words) or ("zooming" in words)
      for event in scene.events:
        for i in event.bodies:
          sounds = captions.SOUNDS[scene.bodies[i].material]
          assert any(s in words for s in sounds)


@pytest.mark.parametrize("name", ALL)
def test_longer_captions_say_more(name):
  texts = [
    " ".join(s.text for s in shots(name, seed=3, length=length))
    for length in captions.LENGTHS
  ]
  assert len(texts[0]) < len(texts[1]) < len(texts[2])


@pytest.mark.parametrize("split", ["train", "test_paraphrases"])
@pytest.mark.parametrize("name", ALL)
def test_what_a_caption_leaves_open_is_known(name, split):
  open_ = {"background", "camera", "camera_direction", "size", "speed"}
  for seed, length in itertools.product(range(6), captions.LENGTHS):
    for shot in shots(name, split, seed, length):
      scene, found = shot.scene, captions.unsaid(shot.text, shot.scene)
      assert found <= open_
      if length == "short":
        assert found >= open_ - {"size"}  # a fluid's grains are small
        continue
      assert "background" not in found
      moves = scene.camera.kind != "still"
      assert ("camera" in found) == (not moves and length == "medium")
      plain = [body for body in scene.bodies if body.shape != "digit"]
      assert not (plain and "size" in found)
      if any(body.speed for body in scene.bodies):
        assert ("speed" in found) == (length == "medium")


def test_held_out_wordings_are_in_no_other_split():
  forms = [*captions.VERBS.values(), *captions.NOUNS.values()]
  forms += [captions.FLUID, captions.PLACES, *captions.GROUNDS.values()]
  for group in forms:
    assert len(group) == captions.FORMS
    *known, held = group
    assert not any(held in k or k in held for k in known if len(k) > 3), group
  rng = np.random.default_rng(0)
  train = captions.picker(rng, held_out=False)
  test = captions.picker(rng, held_out=True)
  for group in forms:
    assert {train(group) for _ in range(20)} == set(group[:-1])
    assert test(group) == group[-1]


def test_the_caption_changes_with_each_attribute():
  (shot,) = shots("simple", seed=1, length="long")
  first = captions.picker(np.random.default_rng(0), held_out=True)
  scene = shot.scene
  seen = {captions.write(scene, "long", first)}
  changes = {
    "colour": "cyan" if scene.bodies[0].colour != "cyan" else "red",
    "shape": "star" if scene.bodies[0].shape != "star" else "disc",
    "radius": 1.4 if scene.bodies[0].radius < 1 else 0.7,
  }
  for name, value in changes.items():
    body = dataclasses.replace(scene.bodies[0], **{name: value})
    changed = dataclasses.replace(scene, bodies=(body,))
    seen.add(captions.write(changed, "long", first))
  assert len(seen) == 1 + len(changes)


def test_images_name_no_motion():
  for seed in range(5):
    (shot,) = shots("simple", seed=seed, length="medium", seconds=0.0)
    verbs = itertools.chain(*captions.VERBS.values())
    assert not any(v.split()[0] in shot.text.split() for v in verbs)


def test_every_motion_has_words():
  for motion in motions.MOTIONS:
    assert motion in captions.VERBS or motion == "fluid"
