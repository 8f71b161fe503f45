"""An edit changes one thing, and says which."""

import dataclasses

import numpy as np
import pytest

from sora_jax.data.sources.world import World
from sora_jax.data.world import captions, edits
from sora_jax.evaluators import edits as judges
from sora_jax.evaluators.oracle import read, scores


def clips(name, count=24, frames=9):
  source = World(name, 1, frames, 64, 64, 8.0, seed=0, test_count=count)
  return list(source.clips("test"))


@pytest.mark.parametrize("name", edits.EDITS)
def test_an_edit_changes_its_pixels_and_no_others(name):
  found = 0
  for i, clip in enumerate(clips("composition")):
    answer = edits.edited(clip, name, seed=i)
    if answer is None:
      continue
    found += 1
    old, new = clip.state.shots[0].scene, answer.state.shots[0].scene
    changed = (answer.video != clip.video).any(-1)
    assert changed.any() and not changed.all()
    assert answer.video.shape == clip.video.shape
    assert answer.text != clip.text
    colours = [b.colour for b in old.bodies]
    if name == "recolour":
      assert new.bodies[0].colour not in colours
      assert new.bodies[0].colour in answer.text
      assert new.bodies[1:] == old.bodies[1:]
      assert new.background == old.background
    elif name == "remove":
      assert new.bodies == old.bodies[:-1]
      assert answer.state.pixels.shape[1] == len(new.bodies)
      # The body's own place differs, and what is far from it does not.
      rows, columns = np.moveaxis(clip.state.pixels[:, -1], -1, 0)
      away = np.hypot(
        np.arange(64)[:, None] - rows[:, None, None],
        np.arange(64) - columns[:, None, None],
      )
      assert (away > 16).any((1, 2)).all()
      assert not changed[away > 16].any()
    else:
      assert captions.background(new) != captions.background(old)
      assert new.bodies == old.bodies
  assert found > 5


def test_every_edit_asks_for_something():
  assert set(judges.ASKED) == set(edits.EDITS)


def test_the_oracle_reads_what_was_edited():
  right = []
  for i, clip in enumerate(clips("composition", frames=17)):
    for name in edits.EDITS:
      answer = edits.edited(clip, name, seed=i)
      if answer is not None:
        found = scores.attributes(
          read.read(answer.video, answer.fps), answer.state
        )
        right.append(found["all"])
  assert len(right) > 30
  assert np.mean(right) > 0.95


def test_an_edit_is_a_function_of_its_seed():
  clip = clips("simple", 1)[0]
  one, same, other = (edits.edited(clip, "recolour", seed=s) for s in (1, 1, 2))
  np.testing.assert_array_equal(one.video, same.video)
  assert one.text == same.text
  assert (one.video != other.video).any()


def test_what_cannot_be_edited_is_passed_over():
  digit, shots = clips("digits", 1)[0], clips("shots", 1, frames=17)[0]
  alone = clips("simple", 1)[0]
  assert edits.edited(digit, "recolour", 0) is None
  assert edits.edited(shots, "recolour", 0) is None
  assert edits.edited(alone, "remove", 0) is None
  # Bodies that touch change each other's ways.
  hits = [c for c in clips("motion", frames=17) if c.state.events]
  hits = [c for c in hits if any(len(e.bodies) > 1 for e in c.state.events)]
  assert hits
  assert all(edits.edited(c, "remove", 0) is None for c in hits)
  # A plain background would hide that the camera moves.
  moves = [
    c
    for c in clips("camera", frames=17)
    if c.state.shots[0].scene.camera.kind != "still"
  ]
  assert moves
  assert all(edits.edited(c, "background", 0) is None for c in moves)
  sound = dataclasses.replace(alone, audio=np.zeros(8, np.float32), rate=8)
  answer = edits.edited(sound, "recolour", 0)
  assert answer.audio is None and answer.rate == 0
