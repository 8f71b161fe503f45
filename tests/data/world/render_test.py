"""Pictures: exact below the pixel, at any size and rate, in the right order."""

import colorsys
import dataclasses

import numpy as np
import pytest

from sora_jax.data.world import camera, nouns, render, vocabulary
from sora_jax.data.world.nouns import Background, Camera, Path, Rod, Wall

TIMES = np.arange(9) / 8
POLYGONS = ("square", "triangle", "star")
SHAPES = ("disc", *POLYGONS)
BLACK = Background("plain", (16, 16), 0)
GLYPHS = np.zeros((2, 20, 20), np.float32)  # a seven and a bar
GLYPHS[0, 3:5, 5:15] = GLYPHS[0, 3:17, 13:15] = 1
GLYPHS[1, 2:18, 9:12] = 0.8


def body(shape="disc", at=(0.0, 0.0), velocity=(0.0, 0.0), **changes):
  base = {"colour": "red", "radius": 1.2, "material": "rubber"}
  if shape == "digit":
    base |= {"glyph": 0, "digit": 7}
  return nouns.Body(shape=shape, path=Path.of(at, velocity), **base | changes)


def scene(*bodies, background=BLACK, view=None, seconds=1.0, **parts):
  view = view or Camera()
  return nouns.Scene("uniform", bodies, background, view, seconds, **parts)


def show(what, times=TIMES, height=64, width=64):
  video = render.render(what, times, height, width, GLYPHS)
  assert video.shape == (len(times), height, width, 3)
  assert video.dtype == np.uint8
  return video


def red(video):
  """How much of its red a red body adds to black, float [T, H, W]."""
  return (video[..., 0].astype(float) - 16) / (230 - 16)


def centroid(ink):
  """(y, x) [T, 2] of ink [T, H, W], pixels."""
  y, x = (np.arange(side) + 0.5 for side in ink.shape[1:])
  places = np.stack([ink.sum(2) @ y, ink.sum(1) @ x], -1)
  return places / ink.sum((1, 2))[:, None]


def lively():
  """A scene with one of everything, on a textured plane and a moving view."""
  bodies = (
    body("disc", (-2, -2), (0, 2), material="metal", becomes="blue"),
    body("star", (1, -1), (0, 1), material="wood", spin=1.0, growth=1.4),
    body("square", (2, 2), (-1, -1), colour="green", angle=0.4),
    body("digit", (-1, 2), (0.5, 0.5), colour="yellow"),
  )
  grains = tuple(
    body("disc", (2.5, x), (0, 1), colour="cyan", radius=0.25)
    for x in np.linspace(-4, 4, 12)
  )
  return scene(
    *bodies,
    background=Background("textured", (90, 160), 4),
    view=Camera(velocity=(0.3, 0.5), rate=1.2, shake=0.1),
    grains=grains,
    walls=(Wall((4.5, 0), (0.5, 5), 90), Wall((0, 3), (2, 0.5), 200, True)),
    rods=(Rod((-4, 0), 0, 90),),
  )


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("radius", [0.7, 1.15, 1.4])
@pytest.mark.parametrize("shape", (*SHAPES, "digit"))
def test_centroid_follows_the_path_below_the_pixel(shape, radius, size):
  turn = {} if shape == "digit" else {"angle": 0.3, "spin": 0.7}
  moving = body(shape, (-1.13, -1.31), (1.07, 0.91), radius=radius, **turn)
  ink = red(show(scene(moving), height=size, width=size))
  expected = moving.path.at(TIMES)[0] * size / 10 + size / 2
  assert np.abs(centroid(ink) - expected).max() < 0.02


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("radius", [0.7, 1.15, 1.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_area_is_that_of_the_disc(shape, radius, size):
  moving = body(shape, (-1.1, -1.3), (1.0, 0.9), radius=radius, spin=0.7)
  area = red(show(scene(moving), height=size, width=size)).sum((1, 2))
  expected = np.pi * (radius * size / 10) ** 2
  np.testing.assert_allclose(area, expected, rtol=0.01)


@pytest.mark.parametrize("radius", [0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_smaller_than_a_pixel_is_faint_and_not_gone(shape, radius):
  moving = body(shape, (-1.1, -1.3), (1.0, 0.9), radius=radius)
  ink = red(show(scene(moving), height=40, width=40))
  expected = np.pi * (radius * 4) ** 2
  # Bytes round: by half a level in the dozen pixels around it.
  atol = 0.02 * expected + 12 * 0.5 / 214
  np.testing.assert_allclose(ink.sum((1, 2)), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", POLYGONS)
def test_polygons_have_their_corners_where_the_table_says(shape):
  angle, size = 0.8, 400
  ink = red(show(scene(body(shape, angle=angle, radius=2.5)), [0], size, size))[
    0
  ]
  corners = np.array(vocabulary.SHAPES[shape])
  sin, cos = np.sin(angle), np.cos(angle)
  for factor, inside in ((0.93, True), (1.07, False)):
    y, x = 2.5 * factor * corners.T
    row, column = y * cos + x * sin, x * cos - y * sin  # clockwise on screen
    place = (np.stack([row, column]) * size / 10 + size / 2).astype(int)
    assert ((ink[tuple(place)] > 0.5) == inside).all()


@pytest.mark.parametrize("size", [32, 64])
def test_a_digit_is_its_glyph(size):
  moving = body("digit", (0.2, -0.3), radius=1.6, growth=1.5)
  ink = red(show(scene(moving), height=size, width=size))
  cell = 1.6 * (1 + 0.5 * TIMES) / 8 * size / 10
  expected = GLYPHS[0].sum() * cell**2
  np.testing.assert_allclose(ink.sum((1, 2)), expected, rtol=0.02)
  reach = np.flatnonzero(ink[-1].max(1) > 0.5)
  # Fourteen cells of ink are high, and twenty would be without the margin.
  np.testing.assert_allclose(np.ptp(reach) + 1, 14 * cell[-1], atol=1.5)


def test_a_smaller_frame_shows_the_same():
  large = show(lively(), height=64, width=64).astype(float)
  large = large.reshape(9, 32, 2, 32, 2, 3).mean((2, 4))
  small = show(lively(), height=32, width=32).astype(float)
  assert np.abs(large - small).mean() < 2.5
  assert np.abs(large - small).max() < 60


def test_a_wider_frame_shows_more_of_the_same():
  square = show(lively(), height=32, width=32)
  wide = show(lively(), height=32, width=80)
  assert (wide[:, :, 24:56] == square).all()


def test_a_faster_rate_adds_frames_and_changes_none():
  slow = show(lively(), np.arange(9) / 8)
  fast = show(lively(), np.arange(17) / 16)
  assert (fast[::2] == slow).all()
  alone = show(lively(), np.array([0.5]))
  assert (alone[0] == slow[4]).all()


def test_a_still_scene_is_the_same_in_every_frame():
  still = scene(
    body("star", (1, 1), material="metal"),
    background=Background("checker", (90, 160), 4),
    walls=(Wall((4.5, 0), (0.5, 5), 90),),
  )
  video = show(still)
  assert (video == video[:1]).all()


def test_later_covers_earlier():
  order = ("red", "green", "blue")
  bodies = [body("square", colour=name) for name in order]
  walls = {front: Wall((0, 0), (2, 2), 222, front) for front in (True, False)}
  grain = body("disc", colour="cyan", radius=0.5)
  rod = Rod((-4, 0), 0, 77)

  def middle(*shown, row=32, **parts):
    return tuple(show(scene(*shown, **parts), [0.0])[0, row, 32])

  rgb = vocabulary.COLOURS
  assert middle(*bodies) == rgb["blue"]
  assert middle(*bodies[::-1]) == rgb["red"]
  assert middle(*bodies, grains=(grain,)) == rgb["blue"]
  assert middle(*bodies, walls=(walls[False],)) == rgb["blue"]
  assert middle(grains=(grain,), walls=(walls[False],)) == rgb["cyan"]
  assert middle(*bodies, walls=(walls[True],)) == (222,) * 3
  assert middle(*bodies, rods=(rod,)) == rgb["blue"]
  bare = middle(*bodies, row=10)
  assert middle(*bodies, rods=(rod,), row=10) != bare
  high = Wall((-3.5, 0), (1, 2), 222)  # below a rod
  on_wall = middle(*bodies, walls=(high,), rods=(rod,), row=10)
  assert 77 <= on_wall[0] < 222


def test_an_occluder_hides():
  passing = body("disc", (0, -3), (0, 6), radius=0.8)
  wall = Wall((0, 0), (2, 1), 128, front=True)
  shown = red(show(scene(passing))).sum((1, 2))
  video = show(scene(passing, walls=(wall,)))
  saturation = np.ptp(video.astype(int), axis=-1).sum((1, 2))
  assert saturation[4] == 0
  assert saturation[0] == saturation[8] > 100
  np.testing.assert_allclose(shown, shown[0], rtol=0.01)


@pytest.mark.parametrize("material", vocabulary.MATERIALS)
@pytest.mark.parametrize("shape", (*SHAPES, "digit"))
@pytest.mark.parametrize("colour", vocabulary.COLOURS)
def test_blending_and_materials_keep_the_hue(colour, shape, material):
  thing = body(shape, (0.3, 0.1), colour=colour, material=material)
  background = Background("textured", (60, 190), 1)
  frame = show(scene(thing, background=background), [0.0])[0]
  expected = colorsys.rgb_to_hsv(*np.array(vocabulary.COLOURS[colour]) / 255)[0]
  pixels = frame.reshape(-1, 3).astype(float)
  chosen = pixels[np.ptp(pixels, axis=1) > 40]
  assert len(chosen) > 20
  hues = np.array([colorsys.rgb_to_hsv(*p / 255)[0] for p in chosen])
  off = np.abs((hues - expected + 0.5) % 1 - 0.5)
  assert off.max() < 1 / 6 / 40  # a level of rounding, at that saturation


def test_materials_look_different_and_hold_their_bounds():
  frames = {
    m: show(scene(body("disc", radius=3, material=m)), [0.0], 256, 256)[0]
    for m in vocabulary.MATERIALS
  }
  frames = {m: frame.astype(float) for m, frame in frames.items()}
  flat = frames["rubber"]
  inside = (flat == vocabulary.COLOURS["red"]).all(-1)
  white = (frames["metal"] - flat)[inside] / (255 - flat[inside])
  assert 0.3 < white[:, 1].max() <= 0.35 + 0.01
  assert white.min() >= 0
  dark = 1 - (frames["wood"] / flat)[inside]
  assert abs(dark[:, 0].max() - 0.3) < 0.02
  share = (dark[:, 0] > 0.15).mean()
  assert abs(share - (1 - 0.8**2)) < 0.02
  assert (frames["wood"][128, 128] == vocabulary.COLOURS["red"]).all()


def test_a_sheen_turns_with_its_body():
  plain = show(scene(body("disc", radius=3)), [0.0])[0].astype(float)
  frames = [
    show(scene(body("disc", radius=3, material="metal", angle=a)), [0.0])[0]
    for a in (0, np.pi / 2)
  ]
  bands = [(f - plain)[..., 1] for f in frames]
  # A quarter turn clockwise takes what is up to the right.
  np.testing.assert_allclose(bands[1], np.rot90(bands[0], -1), atol=1)
  assert np.abs(bands[1] - bands[0]).max() > 40


@pytest.mark.parametrize("kind", vocabulary.BACKGROUNDS)
def test_all_but_the_bodies_is_grey(kind):
  what = dataclasses.replace(
    lively(), background=Background(kind, (60, 190), 1), grains=()
  )
  hidden = tuple(
    dataclasses.replace(b, path=Path.of((90.0, 0.0))) for b in what.bodies
  )
  video = show(dataclasses.replace(what, bodies=hidden)).astype(int)
  assert np.ptp(video, axis=-1).max() == 0


@pytest.mark.parametrize("height, width", [(64, 64), (32, 80), (48, 32)])
def test_things_are_where_to_pixels_says(height, width):
  view = Camera(start=(0.4, -0.3), velocity=(-0.8, 0.9), rate=1.2, shake=0.2)
  moving = body("disc", (0.3, -0.2), (-0.6, 0.5), radius=0.8)
  what = scene(moving, view=view)
  ink = red(show(what, height=height, width=width))
  places = camera.to_pixels(
    moving.path.at(TIMES)[0], *camera.view(view, what, TIMES), height, width
  )
  assert np.abs(centroid(ink) - places).max() < 0.02
  assert np.ptp(places, 0).min() > 1


def test_follow_keeps_the_body_and_moves_the_rest():
  followed = body("star", (-1, -1), (1.7, 2.3))
  other = body("disc", (0, 2), colour="green")
  video = show(scene(followed, view=Camera("follow", follow=0)))
  assert (video == video[:1]).all()
  video = show(scene(followed, other, view=Camera("follow", follow=0)))
  assert (video[-1] != video[0]).any()


def test_zoom_scales_the_area_by_its_square():
  view = Camera("zoom", rate=1.6)
  area = red(show(scene(body("star"), view=view))).sum((1, 2))
  np.testing.assert_allclose(area, area[0] * 1.6 ** (2 * TIMES), rtol=0.01)


@pytest.mark.parametrize("kind", ["gradient", "checker", "textured"])
def test_the_plane_moves_against_the_camera(kind):
  pixel = 10 / 64
  view = Camera("pan", velocity=(8 * 1 * pixel, 8 * -2 * pixel))  # per frame
  video = show(scene(background=Background(kind, (60, 190), 1), view=view))
  before, after = video[:-1].astype(int), video[1:].astype(int)
  assert np.abs(after[:, :-1, 2:] - before[:, 1:, :-2]).max() <= 1
  assert np.abs(after - before).max() > 3


@pytest.mark.parametrize("cut", [-0.4, 0.0, 2.6, 7.9])
def test_what_leaves_the_frame_is_cut_off(cut):
  large = show(scene(body("star", (cut, 3.9))), [0.0], 64, 192)
  small = show(scene(body("star", (cut, 3.9))), [0.0], 64, 64)
  assert (large[:, :, 64:128] == small).all()


def test_a_rod_reaches_from_the_pivot_to_the_body():
  for size in (32, 64):
    what = scene(
      body("disc", (3, 3), radius=0.3), rods=(Rod((-3, -3), 0, 230),)
    )
    video = show(what, [0.0], size, size)[0].astype(float)
    ink = (video[..., 1] - 16) / (230 - 16)
    length, thickness = 6 * np.sqrt(2) * size / 10, 2 * render.ROD * size / 10
    hidden = 0.3 * size / 10
    # The round ends add little, and the red disc hides the last of it.
    expected = (length - hidden) * thickness
    assert abs(ink[video[..., 2] > 29].sum() / expected - 1) < 0.1
    where = np.argwhere(ink > 0.5 * ink.max())
    assert np.abs(where[:, 0] - where[:, 1]).max() <= 1


def test_the_same_scene_gives_the_same_bytes():
  assert show(lively()).tobytes() == show(lively()).tobytes()


@pytest.mark.parametrize(
  "height, width, named", [(7, 64, "height=7"), (64, 0, "width=0")]
)
def test_a_small_frame_is_refused(height, width, named):
  with pytest.raises(ValueError, match=f"{named}.*at least 8"):
    render.render(scene(), TIMES, height, width)


def test_no_times_are_refused():
  with pytest.raises(ValueError, match=r"times of shape \(0,\)"):
    render.render(scene(), np.zeros(0), 32, 32)


@pytest.mark.parametrize(
  "changes, named",
  [
    ({"shape": "hexagon"}, r"'hexagon'.*disc, square"),
    ({"material": "glass"}, r"'glass'.*rubber, wood"),
    ({"colour": "pink"}, r"'pink'.*red, yellow"),
    ({"shape": "digit", "glyph": 2}, r"glyph=2\) with 2 glyphs"),
    ({"shape": "digit", "glyph": -1}, r"glyph=-1\) with 2 glyphs"),
    ({"shape": "digit", "glyph": 0, "spin": 1.0}, "spin=1.0.*upright"),
  ],
)
def test_impossible_bodies_are_refused(changes, named):
  with pytest.raises(ValueError, match=named):
    show(scene(dataclasses.replace(body(), **changes)))


def test_a_digit_without_glyphs_is_refused():
  with pytest.raises(ValueError, match=r"with 0 glyphs.*give"):
    render.render(scene(body("digit")), TIMES, 32, 32)


@pytest.mark.parametrize("index", [-1, 1])
def test_a_rod_without_its_body_is_refused(index):
  with pytest.raises(ValueError, match=rf"body={index}\) in a scene of 1"):
    show(scene(body(), rods=(Rod((0, 0), index, 90),)))
