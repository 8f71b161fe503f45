"""What the modes leave behind when they are interrupted."""

import types

import pytest

from sora_jax import build, modes


class Interrupted:
  """A rollout of which nobody waits for the first frame."""

  pipeline = types.SimpleNamespace(words=str.split)

  def at_once(self, requests):
    return len(requests)

  def __call__(self, *_):
    raise KeyboardInterrupt


def test_a_steered_video_without_a_frame_leaves_no_file(tmp_path):
  config = types.SimpleNamespace(prompts=build.FROM_INPUT, fps=8.0)
  state = types.SimpleNamespace(ema=None, frozen=None)
  samples = types.SimpleNamespace(
    missing=[0], files=lambda i: [tmp_path / f"{i}.mp4"]
  )
  with pytest.raises(KeyboardInterrupt):
    modes._rolled(Interrupted(), state, [None], 9, samples, config, [{}])
  assert not list(tmp_path.iterdir())
