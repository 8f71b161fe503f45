"""What the modes leave behind: all that is needed, and nothing half-made."""

import dataclasses
import json
import types

import numpy as np
import pytest

from sora_jax import build, modes
from sora_jax.build.requests import COLUMNS
from sora_jax.run import Run
from sora_jax.utils import media


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


@pytest.mark.parametrize("task", ["edit", "inpaint", "connect"])
def test_a_line_says_how_to_make_its_video_again(tiny, tmp_path, task):
  rng = np.random.default_rng(0)
  for name in ("source", "target", "mask"):
    clip = rng.integers(0, 255, (17, 32, 64, 3), np.uint8)
    media.write(tmp_path / f"{name}.mp4", clip, 8.0)
  changes = {"task": task, "strength": 0.4, "negative": "a blue one"}
  changes |= {"seed": 7, "keep": 1, "size": (17, 16, 32), "scales": (1.0, 0.5)}
  for name in ("source", "target", "mask"):
    used = {"edit": "", "inpaint": "mask", "connect": "target"}[task]
    used = name in ("source", used)
    changes[name] = str(tmp_path / f"{name}.mp4") if used else ""
  config = tiny()
  asked = build.request(config, "[0s] a three [1s] cut: an eight", **changes)
  line = modes._told(Run(config, tmp_path / "run"), asked, step=3, weights="")
  line = json.loads(json.dumps(line))
  told = {k: v for k, v in line.items() if k in COLUMNS and k != "prompt"}
  told |= dict.fromkeys(("source", "target", "mask"), "") | line["paths"]
  shots = "".join(
    f"[{at / config.sample.fps}s] {t}" for at, t in line["prompt"]
  )
  again = build.request(config, shots, **told)
  for field in dataclasses.fields(asked):
    one, other = (getattr(r, field.name) for r in (asked, again))
    np.testing.assert_array_equal(one, other, err_msg=field.name)
