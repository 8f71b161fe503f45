"""The camera is read from the background, to a hundredth of a unit."""

import functools

import numpy as np
import pytest

from sora_jax.data.sources import world
from sora_jax.data.world import camera as cameras
from sora_jax.data.world import captions, render, sets
from sora_jax.data.world.nouns import Background, Body, Camera, Path, Scene
from sora_jax.evaluators.oracle import ground, view
from tests.evaluators.oracle import corruptions


@functools.cache
def clips(name, side, count):
  frames = 33 if name == "shots" else 17  # a second for each shot
  source = world.World(name, 1, frames, side, side, 8.0, 0).clips("test")
  return [source[k] for k in range(count)]


def read(video):
  return view.read(video, ground.read(video))


def error(seen, centre, zoom):
  """Largest errors of the path: units, and of log zoom."""
  return (
    np.abs(seen.centre - (centre - centre[0])).max(),
    np.abs(np.log(seen.zoom / zoom * zoom[0])).max(),
  )


def show(camera, kind="checker", bodies=(), side=32, frames=17, fps=8.0):
  background = Background(kind, (80, 130), 3)
  scene = Scene("rest", bodies, background, camera, 2.0)
  times = np.arange(frames) / fps
  video = render.render(scene, times, side, side)
  return video, *cameras.view(camera, scene, times)


def ball(start, velocity=(0.0, 0.0), colour="red"):
  return Body("disc", colour, 1.0, "rubber", Path.of(start, velocity))


@pytest.mark.parametrize("side, count", [(64, 3), (32, 10)])
def test_reads_moving_cameras(side, count):
  for clip in clips("camera", side, count):
    camera = clip.state.shots[0].scene.camera
    seen = read(clip.video)
    truth = (camera.kind, captions.camera_direction(camera))
    assert (seen.kind, seen.direction) == truth
    away, grown = error(seen, clip.state.centre, clip.state.zoom)
    assert away < 0.05
    assert grown < 0.02


@pytest.mark.parametrize("name", [n for n in sets.SETS if n != "camera"])
def test_other_cameras_are_still(name):
  for clip in clips(name, 32, 4):
    ends = (*clip.state.start[1:], len(clip.video))
    for first, last in zip(clip.state.start, ends):
      seen = read(clip.video[first:last])
      assert (seen.kind, seen.direction) == ("still", "")
      assert np.abs(seen.centre).max() < 0.02


def test_survives_blur_and_noise():
  for clip in clips("camera", 32, 6):
    camera = clip.state.shots[0].scene.camera
    seen = read(corruptions.blurred_and_noisy(clip.video, 0.5))
    assert seen.kind == camera.kind
    assert error(seen, clip.state.centre, clip.state.zoom)[0] < 0.15


@pytest.mark.parametrize("kind", ["checker", "textured"])
@pytest.mark.parametrize(
  "camera",
  [
    Camera("follow", velocity=(0.0, 6.0)),  # half a checker's square a frame
    Camera("follow", velocity=(-4.0, 0.0)),
    Camera("zoom", rate=1.35),
    Camera("zoom", rate=1 / 1.35),
    Camera("shake", shake=0.3, phase=(0.5, 2.0)),
    Camera("follow", velocity=(4.2, 4.2)),  # as fast as the worst shake
  ],
)
def test_periodic_backgrounds_mislead_nobody(camera, kind):
  video, centre, zoom = show(camera, kind)
  away, grown = error(read(video), centre, zoom)
  assert away < 0.08
  assert grown < 0.02


def test_a_camera_follows_only_what_stays_in_view():
  right = Camera("pan", velocity=(0.0, 1.5))
  for body, kind in (
    (ball((1.0, -1.0), (0.0, 1.5)), "follow"),
    (ball((1.0, 1.5)), "pan"),
    (ball((1.0, -1.0), (0.0, 3.0)), "pan"),
  ):
    assert read(show(right, bodies=(body,))[0]).kind == kind
  both = (ball((2.0, 2.0), colour="blue"), ball((-2.0, -1.0), (0.0, 1.5)))
  assert read(show(right, bodies=both)[0]).kind == "follow"
  assert read(show(right)[0]).kind == "pan"


def test_a_body_on_a_plain_background_moves_no_camera():
  body = ball((0.0, -3.0), (0.0, 3.0))
  for kind in ("gradient", "plain"):
    tones = (128, 128) if kind == "plain" else (80, 130)
    scene = Scene("rest", (body,), Background(kind, tones, 0), Camera(), 2.0)
    video = render.render(scene, np.arange(17) / 8, 32, 32)
    assert read(video).kind == "still"


def test_bodies_that_move_alike_on_a_plain_background_move_no_camera():
  one, other = (
    ball((at, -2.0), (0.0, 1.5), colour)
    for at, colour in ((2.0, "red"), (-2.0, "blue"))
  )
  for kind in ("gradient", "plain"):
    scene = Scene(
      "rest", (one, other), Background(kind, (80, 130), 0), Camera(), 2.0
    )
    video = render.render(scene, np.arange(17) / 8, 32, 32)
    seen = read(video)
    assert (seen.kind, seen.direction) == ("still", "")
    assert not seen.centre.any()


def test_corrupted_cameras_are_caught():
  pan = show(Camera("pan", velocity=(0.0, 1.5)), "textured")[0]
  assert read(corruptions.frozen(pan)).kind == "still"
  back = read(corruptions.reversed(pan))
  assert (back.kind, back.direction) == ("pan", "left")
  fast = read(corruptions.doubled(pan)).centre[:9, 1]
  assert np.allclose(fast, 3.0 * np.arange(9) / 8, atol=0.05)


def test_other_shapes_and_rates():
  camera = Camera("tilt", velocity=(-2.0, 0.0))
  for frames, fps in ((1, 8.0), (2, 2.0), (49, 24.0)):
    video, centre, zoom = show(camera, "textured", frames=frames, fps=fps)
    seen = read(video)
    assert error(seen, centre, zoom)[0] < 0.06
    assert seen.kind == ("still" if frames == 1 else "tilt")
  scene = Scene("rest", (), Background("checker", (80, 130), 1), camera, 2.0)
  wide = render.render(scene, np.arange(9) / 8, 32, 56)
  seen = read(wide)
  assert (seen.kind, seen.direction) == ("tilt", "up")
  assert seen.centre[-1, 0] == pytest.approx(-2.0, abs=0.03)
