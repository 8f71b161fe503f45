"""Tasks are data: what is known, where, and what they refuse."""

import dataclasses

import numpy as np
import pytest

from sora_jax.sampling import excerpts, tasks
from sora_jax.sampling.tasks import NEEDS, TASKS, Request

CELL = (4, 1, 1)  # frames and pixels of a latent cell
CT = CELL[0]
SIZE = (17, 6, 10)


def clip(frames=SIZE[0], size=SIZE[1:], seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (frames, *size, 3), np.uint8)


def box():
  """A mask of one frame that covers its middle."""
  mask = np.zeros((1, *SIZE[1:]), bool)
  mask[:, 2:4, 3:6] = True
  return mask


GIVEN = {
  "i2v": {"source": clip(1)},
  "last_frame": {"source": clip(1)},
  "first_last": {"source": clip(1), "target": clip(1, seed=1)},
  "frames": {"source": clip(3), "at": (0, 6, -1)},
  "extend": {"source": clip(9)},
  "extend_back": {"source": clip(9)},
  "connect": {"source": clip(9), "target": clip(12, seed=1)},
  "loop": {"source": clip(13)},
  "interpolate": {"source": clip(9)},
  "inpaint": {"source": clip(), "mask": box()},
  "outpaint": {"source": clip(size=(4, 6))},
  "edit": {"source": clip()},
}


def request(task, **changes):
  size = (1, *SIZE[1:]) if task == "t2i" else SIZE
  asked = Request("a prompt", size, task, **GIVEN.get(task, {}))
  return dataclasses.replace(asked, **changes)


def draft(task, **changes):
  return tasks.draft(request(task, **changes), CELL)


def runs(known):
  """First and last + 1 of every run of wholly known frames."""
  edges = np.diff(np.pad(known.all((1, 2)).astype(int), 1))
  starts, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
  return list(zip(starts.tolist(), ends.tolist()))


def test_the_table_of_this_test_is_whole():
  assert set(GIVEN) == set(NEEDS) == set(TASKS) - {"t2v", "t2i"}


# Task -> wholly known frames, where they come from, and at which frame there.
KNOWN = {
  "t2v": (),
  "t2i": (),
  "i2v": ((0, 1, "source", 0),),
  "last_frame": ((13, 17, "source", None),),
  "first_last": ((0, 1, "source", 0), (13, 17, "target", None)),
  "frames": ((0, 1, "source", 0), (5, 9, "source", 1), (13, 17, "source", 2)),
  "extend": ((0, 5, "source", 4),),
  "extend_back": ((9, 17, "source", 0),),
  "connect": ((0, 5, "source", 4), (9, 17, "target", 0)),
  "loop": ((0, 5, "source", 8), (9, 17, "source", 0)),
  "inpaint": (),
  "outpaint": (),
  "edit": (),
}


@pytest.mark.parametrize("task", KNOWN)
def test_known_frames_are_those_of_the_source(task):
  asked, found = request(task), draft(task)
  assert runs(found.known) == [(a, b) for a, b, *_ in KNOWN[task]]
  for first, last, name, at in KNOWN[task]:
    given = getattr(asked, name)
    for n in range(first, last):
      # A picture, or a frame at a time, stands still for a latent frame.
      still = at is None or task == "frames"
      there = (at or 0) if still else at + n - first
      np.testing.assert_array_equal(found.video[n], given[there])


@pytest.mark.parametrize("task", TASKS)
def test_drafts_are_of_the_size_that_was_asked_for(task):
  asked, found = request(task), draft(task)
  assert found.video.shape == (*asked.size, 3)
  assert found.video.dtype == np.uint8
  assert found.known.shape == asked.size and found.known.dtype == bool
  assert 0 < found.start <= 1
  assert not found.known.all()


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_is_only_read(task):
  given = {k: np.array(v) for k, v in GIVEN.get(task, {}).items() if k != "at"}
  for value in given.values():
    value.flags.writeable = False  # writing raises
  tasks.draft(request(task, **given), CELL)


@pytest.mark.parametrize("task", excerpts.ANSWERED)
def test_the_excerpt_of_a_clip_has_the_clip_as_its_answer(task):
  video = clip(1 if task == "t2i" else 17)
  given = excerpts.excerpt(task, video, CELL)
  asked = Request("", video.shape[:3], task, **given)
  found = tasks.draft(asked, CELL)
  if task == "frames":  # one frame stands for its latent frame
    video[5:9] = video[8]
  np.testing.assert_array_equal(found.video[found.known], video[found.known])
  np.testing.assert_array_equal(found.whole(video), video)
  # And it is not given away.
  assert not found.known.all((1, 2)).all()


def test_other_tasks_have_no_excerpt():
  for task in excerpts.OPEN:
    with pytest.raises(ValueError, match=f"'{task}'.*'connect', 'extend'"):
      excerpts.excerpt(task, clip(), CELL)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_long_sources_come_back_whole(keep):
  """The new part follows the frames of a source, or leads to them."""
  source, target, made = clip(30), clip(25, seed=1), clip(17, seed=2)

  def whole(task):
    more = {"target": target} if task == "connect" else {}
    asked = request(task, source=source, keep=keep, **more)
    found = tasks.draft(asked, CELL)
    return found.whole(np.where(found.known[..., None], found.video, made))

  end, begin = 1 + CT * (keep - 1), CT * keep
  longer = whole("extend")
  np.testing.assert_array_equal(longer[:30], source)
  np.testing.assert_array_equal(longer[30:], made[end:])
  longer = whole("extend_back")
  np.testing.assert_array_equal(longer[-30:], source)
  np.testing.assert_array_equal(longer[:-30], made[:-begin])
  if keep < 3:  # three and three leave nothing to make of 17 frames
    both = whole("connect")
    np.testing.assert_array_equal(both[:30], source)
    np.testing.assert_array_equal(both[-25:], target)
    np.testing.assert_array_equal(both[30:-25], made[end:-begin])
    played = whole("loop")
    np.testing.assert_array_equal(played[:30], source)
    np.testing.assert_array_equal(played[30:], made[end:-begin])


def test_nothing_of_a_gap_but_its_neighbours():
  """The causal autoencoder sees what comes before known frames."""
  found, asked = draft("connect"), request("connect")
  np.testing.assert_array_equal(found.video[6], asked.source[-1])
  np.testing.assert_array_equal(found.video[8], asked.target[0])


def test_blended_frames_lie_between_their_neighbours():
  found, source = draft("interpolate"), GIVEN["interpolate"]["source"]
  np.testing.assert_array_equal(found.video[::2], source)
  mean = (source[:-1].astype(float) + source[1:]) / 2
  assert np.abs(found.video[1::2] - mean).max() <= 0.5
  assert found.known[::2].all() and not found.known[1::2].any()
  assert found.start == request("interpolate").strength


def test_nothing_of_what_the_mask_covers_is_left():
  source = clip()
  there = np.broadcast_to(box(), SIZE)
  other = np.where(there[..., None], 255 - source, source)
  one, two = draft("inpaint"), draft("inpaint", source=other)
  np.testing.assert_array_equal(one.video, two.video)
  np.testing.assert_array_equal(one.known, ~there)
  np.testing.assert_array_equal(one.video[~there], source[~there])
  assert one.start == 1


def test_a_mask_may_move():
  mask = np.zeros(SIZE, bool)
  for n in range(SIZE[0]):
    mask[n, :, n % 10] = True
  np.testing.assert_array_equal(draft("inpaint", mask=mask).known, ~mask)


def test_outpainting_centres_the_source():
  found, source = draft("outpaint"), GIVEN["outpaint"]["source"]
  np.testing.assert_array_equal(found.video[:, 1:5, 2:8], source)
  assert found.known[:, 1:5, 2:8].all() and found.known.sum() == 17 * 4 * 6


def test_outpainting_lays_cell_upon_cell():
  found = tasks.draft(request("outpaint"), (4, 2, 3))
  assert found.known[:, 0:4, 0:6].all() and found.known.sum() == 17 * 4 * 6


def test_edits_start_from_the_noised_source():
  found = draft("edit", strength=0.3)
  np.testing.assert_array_equal(found.video, GIVEN["edit"]["source"])
  assert found.start == 0.3 and not found.known.any()
  masked = draft("edit", mask=box())
  np.testing.assert_array_equal(masked.known, ~np.broadcast_to(box(), SIZE))


@pytest.mark.parametrize("task", ["inpaint", "outpaint", "edit"])
def test_a_picture_stands_still_for_as_long_as_the_video(task):
  source = GIVEN[task]["source"]
  still = np.repeat(source[:1], SIZE[0], axis=0)
  one, two = draft(task, source=source[:1]), draft(task, source=still)
  np.testing.assert_array_equal(one.video, two.video)


# Mistakes ---------------------------------------------------------------------

NEEDED = [(task, name) for task, names in NEEDS.items() for name in names]


@pytest.mark.parametrize("task, name", NEEDED)
def test_what_is_missing_says_what_to_set(task, name):
  with pytest.raises(ValueError, match=rf"'{task}' needs a {name}: .*\.{name}"):
    draft(task, **{name: None})


@pytest.mark.parametrize("task", [t for t in NEEDS if t != "outpaint"])
def test_another_size_names_both(task):
  source = clip(len(GIVEN[task]["source"]), size=(4, 10))
  with pytest.raises(ValueError, match=rf"'{task}'.*source .*4x10.* 6x10"):
    draft(task, source=source)


MISTAKES = {
  "more than one frame": ("t2i", {"size": SIZE}, "one frame, but 17"),
  "too short to extend": ("extend", {"source": clip(3)}, r"5 frames.* has 3"),
  "too short to lead to": ("extend_back", {"source": clip(7)}, r"8 .* has 7"),
  "all known": ("extend", {"keep": 5, "source": clip(17)}, "all 17 frames"),
  "too much known": ("connect", {"keep": 3, "target": clip(12)}, "not fit"),
  "times": ("frames", {"at": (0, 3)}, r"at=\(0, 3\) for 3 frames"),
  "late": ("frames", {"at": (0, 3, 17)}, r"its own in 0\.\.16"),
  "twice": ("frames", {"at": (0, 3, 3)}, "a time of its own"),
  "steps": ("interpolate", {"source": clip(8)}, "17 frames of the source's 8"),
  "no steps": ("interpolate", {"source": clip(17)}, "two or more each"),
  "one frame": ("interpolate", {"source": clip(1)}, "two or more each"),
  "too short": ("edit", {"source": clip(9)}, "17 frames of a source of 9"),
  "smaller": ("outpaint", {"source": clip(size=(8, 10))}, r"\(8, 10\)"),
  "the same": ("outpaint", {"source": clip()}, "larger size"),
  "mask of a size": ("inpaint", {"mask": box()[:, 1:]}, r"\(1, 5, 10\)"),
  "mask of a length": ("inpaint", {"mask": box().repeat(3, 0)}, "3 frames"),
  "mask of numbers": ("inpaint", {"mask": box() * 1.0}, "float64"),
  "mask of nothing": ("inpaint", {"mask": box() & False}, "covers nothing"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
  task, changes, message = MISTAKES[name]
  with pytest.raises(ValueError, match=message):
    draft(task, **changes)


def test_an_unknown_task_names_the_others():
  with pytest.raises(ValueError, match=r"'t3v'.*'connect'.*'t2v'"):
    tasks.draft(dataclasses.replace(request("t2v"), task="t3v"), CELL)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_what_a_task_has_no_use_for_is_refused(task):
  """And not ignored: a picture that nothing looks at is a mistake."""
  given = {"source": clip(1), "target": clip(1), "mask": box(), "at": (0,)}
  optional = {"first_last": "target", "edit": "mask"}
  takes = {*GIVEN.get(task, ()), optional.get(task)}
  for name in set(given) - takes:
    with pytest.raises(ValueError, match=f"{task}.* no use for {name}: leave"):
      draft(task, **{name: given[name]})


@pytest.mark.parametrize("changes", [{"keep": 0}, {"strength": 0.0}])
def test_numbers_out_of_range(changes):
  with pytest.raises(ValueError, match="keep >= 1 and 0 < strength <= 1"):
    request("extend", **changes)
