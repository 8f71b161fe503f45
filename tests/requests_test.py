"""What a config asks for: prompts, files of prompts, sources of any size."""

import json

import numpy as np
import pytest
from PIL import Image

from sora_jax import build
from sora_jax.types import Clip
from sora_jax.utils import media


def requests(tiny, **changes):
  return build.requests(tiny({f"sample.{k}": v for k, v in changes.items()}))


def picture(path, size=(40, 60)):
  rng = np.random.default_rng(0)
  media.write(path, rng.integers(0, 255, (1, *size, 3), np.uint8), 8.0)
  return str(path)


def test_prompts_come_in_order_with_seeds_of_their_own(tiny):
  found = requests(tiny, prompts=("a", "b"), repeats=2, seed=5)
  assert [(r.prompt, r.seed) for r in found] == [
    ("a", 5),
    ("a", 6),
    ("b", 7),
    ("b", 8),
  ]


def test_a_script_is_shots_at_the_frame_rate(tiny):
  (found,) = requests(tiny, prompts=("[0s] a [0.25s] cut: b",), fps=8.0)
  assert found.prompt == ((0, "a"), (2, "b"))


SAID = [
  {"prompt": "a red three"},
  {"prompt": 'a "green", eight', "size": "9x16x24", "seed": 7, "keep": 1},
  {"prompt": "[0s] a [1s] b", "scales": "1 0.5", "negative": "a blue one"},
]


def in_txt(lines):
  return "\n".join(line["prompt"] for line in lines) + "\n\n"


def in_jsonl(lines):
  return "\n".join(map(json.dumps, lines))


def in_csv(lines):
  names = list(dict.fromkeys(name for line in lines for name in line))
  rows = [names] + [[str(line.get(k, "")) for k in names] for line in lines]
  quoted = [['"' + c.replace('"', '""') + '"' for c in row] for row in rows]
  return "\n".join(",".join(row) for row in quoted)


WRITERS = {".txt": in_txt, ".jsonl": in_jsonl, ".csv": in_csv}


@pytest.mark.parametrize("ending", WRITERS)
def test_prompt_files_say_the_same_in_every_form(tiny, tmp_path, ending):
  path = tmp_path / f"prompts{ending}"
  path.write_text(WRITERS[ending](SAID), "utf-8")
  one, two, three = requests(tiny, file=str(path), size=(9, 16, 16), seed=3)
  assert (one.prompt, one.seed, one.size) == ("a red three", 3, (9, 16, 16))
  assert two.prompt == 'a "green", eight'
  assert three.prompt == ((0, "a"), (8, "b"))
  if ending != ".txt":
    assert (two.size, two.seed, two.keep) == ((9, 16, 24), 7, 1)
    assert (three.scales, three.negative) == ((1.0, 0.5), "a blue one")


FAULTS = {
  "empty.txt": ("\n", "holds no prompt"),
  "empty.csv": ("prompt\n", "holds no prompt"),
  "columns.csv": ("prompt,colour\na,red\n", r"line 2.*\['colour', 'prompt'\]"),
  "cells.csv": ("prompt\na,b\n", "line 2.*too many cells"),
  "words.csv": ("prompt,seed\na,five\n", "line 2: seed='five'"),
  "null.jsonl": ('{"prompt": null}', "line 1: prompt=None"),
  "half.jsonl": ('{"prompt": "a", "keep": 1.5}', "line 1: keep=1.5"),
  "size.jsonl": ('{"prompt": "a", "size": "8x8"}', "frames, height and width"),
  "seed.jsonl": ('{"prompt": "a", "seed": -1}', "0 <= seed < 2"),
  "broken.jsonl": ('{"prompt": "a"}\n{"prompt"\n', "line 2 is no JSON"),
  "list.jsonl": ('["a"]\n', "line 1 is no JSON object"),
  "script.txt": ("a\n[0s] b [x] c [1] d\n", r"line 2: .*position 13 .*\[2s\]"),
  "source.jsonl": (
    '{"prompt": "a", "task": "i2v", "source": "no.png"}\n',
    "line 1: no.png is not a file",
  ),
  "prompts.xlsx": ("", r"ends in one of \['.txt', '.jsonl', '.csv'\]"),
}


@pytest.mark.parametrize(
  "name, text, prompts",
  [
    ("cell.csv", 'prompt\n"a red\nball"\n', ["a red\nball"]),
    ("windows.csv", '\ufeffprompt\r\n"a\r\nb"\r\nc\r\n', ["a\nb", "c"]),
    ("strange.csv", "prompt\na\u2028b\x85c\n", ["a\u2028b\x85c"]),
    ("mark.txt", "\ufeffa\r\nb\r\n", ["a", "b"]),
    ("strange.txt", "a\u2028b\x85c\x0cd\n", ["a\u2028b\x85c\x0cd"]),
    ("mark.jsonl", '\ufeff{"prompt": "a"}\r\n', ["a"]),
    ("strange.jsonl", '{"prompt": "a\u2028b\x85c"}\n', ["a\u2028b\x85c"]),
  ],
)
def test_prompts_are_what_the_file_says(tiny, tmp_path, name, text, prompts):
  (tmp_path / name).write_text(text, "utf-8", newline="")
  found = requests(tiny, file=str(tmp_path / name))
  assert [one.prompt for one in found] == prompts


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_prompt_file_that_is_no_text_is_named(tiny, tmp_path, name):
  (tmp_path / name).write_text("prompt\n", "utf-16")
  with pytest.raises(ValueError, match=rf"{name}' is no UTF-8 text: .*0xff"):
    requests(tiny, file=str(tmp_path / name))


@pytest.mark.parametrize("name", FAULTS)
def test_faults_in_prompt_files_have_a_place(tiny, tmp_path, name):
  text, message = FAULTS[name]
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    requests(tiny, file=str(tmp_path / name))


def test_a_missing_prompt_file(tiny, tmp_path):
  with pytest.raises(ValueError, match=r"none\.txt' is not a file"):
    requests(tiny, file=str(tmp_path / "none.txt"))


def test_an_unreadable_source(tiny, tmp_path):
  path = tmp_path / "broken.png"
  path.write_bytes(b"no picture")
  with pytest.raises(ValueError, match=r"sample\.prompts: cannot decode"):
    requests(tiny, task="i2v", source=str(path))


def test_a_source_keeps_its_aspect_ratio(tiny, tmp_path):
  source = picture(tmp_path / "wide.png", (20, 80))
  found = requests(tiny, task="i2v", source=source, size=(9, 16, 16))[0]
  # As much as the size has, in the source's shape.
  assert found.size == (9, 8, 32) and found.source.shape[1:3] == (8, 32)
  assert found.paths == {"source": source}


def test_what_a_source_leads_to_has_its_shape(tiny, tmp_path, capsys):
  """Cut to it, which is said, or nothing could lead from one to the other."""
  source = picture(tmp_path / "wide.png", (20, 80))
  target = picture(tmp_path / "square.png", (40, 40))
  asked = {"task": "first_last", "source": source, "target": target}
  found = requests(tiny, **asked, size=(9, 16, 16))[0]
  assert found.size == (9, 8, 32) and found.target.shape[1:3] == (8, 32)
  assert "75% of" in capsys.readouterr().out
  pixels = np.zeros((1, 8, 32, 3), np.uint8)
  asked = {"task": "first_last", "source": pixels, "target": target}
  found = build.request(tiny({"sample.size": (9, 16, 16)}), "a", **asked)
  assert found.target.shape[1:3] == (8, 32)


def test_a_size_that_is_told_holds(tiny, tmp_path, capsys):
  """And what stands out of it, or of a bucket, is not cut off in silence."""
  source = picture(tmp_path / "square.png", (40, 40))
  config = tiny({"sample.size": (9, 16, 16)})
  asked = {"task": "i2v", "source": source}
  found = build.request(config, "a", **asked, size=(9, 16, 32))
  assert found.size == (9, 16, 32) and found.source.shape[1:3] == (16, 32)
  assert "50% of" in capsys.readouterr().out
  assert build.request(config, "a", **asked).size == (9, 16, 16)
  assert "cut off" not in capsys.readouterr().out
  picture(tmp_path / "wide.png", (20, 160))
  build.request(config, "a", task="i2v", source=str(tmp_path / "wide.png"))
  assert "cut off" in capsys.readouterr().out


def test_what_guides_needs_guidance(tiny):
  config = tiny({"sample.guidance.scale": 1.0})
  for given in ({"negative": "a blue one"}, {"scales": (2.0,)}):
    with pytest.raises(ValueError, match="needs guidance"):
      build.request(config, "a", **given)
    assert build.request(tiny(), "a", **given)
  with pytest.raises(ValueError, match="is a script"):
    build.request(tiny(), "a", negative="[0s] blue [1s] green")
  config.sample.negative = "a blue one"
  with pytest.raises(ValueError, match="needs guidance"):
    build.continuations(config, (), seed=0)


def test_a_longer_source_is_not_cut_in_silence(tiny, tmp_path, capsys):
  video = np.random.default_rng(0).integers(0, 255, (24, 16, 16, 3), np.uint8)
  media.write(tmp_path / "long.mp4", video, 8.0)
  asked = {"task": "edit", "source": str(tmp_path / "long.mp4")}
  requests(tiny, **asked, size=(9, 16, 16))
  assert "the first 9 frames of the source's 24" in capsys.readouterr().out


def test_a_mask_lasts_as_long_as_its_source(tiny, tmp_path):
  video = np.random.default_rng(0).integers(0, 255, (24, 16, 16, 3), np.uint8)
  paint = np.zeros_like(video)
  paint[:12, :8], paint[12:, 8:] = 255, 255
  for name, frames in (("a", video), ("mask", paint)):
    media.write(tmp_path / f"{name}.mp4", frames, 8.0)
  asked = {"task": "inpaint", "source": str(tmp_path / "a.mp4")}
  asked |= {"mask": str(tmp_path / "mask.mp4")}
  found = requests(tiny, **asked, size=(9, 16, 16))[0]
  assert len(found.mask) == 9 and found.mask[:, :8].all()
  media.write(tmp_path / "mask.mp4", paint[:20], 8.0)
  with pytest.raises(ValueError, match="mask has 20 frames and the output 9"):
    requests(tiny, **asked, size=(9, 16, 16))


def test_interpolation_takes_the_frames_of_a_file_as_they_are(tiny, tmp_path):
  rng = np.random.default_rng(0)
  video = rng.integers(0, 255, (5, 16, 16, 3), np.uint8)
  media.write(tmp_path / "slow.gif", video, 4.0)
  asked = {"task": "interpolate", "source": str(tmp_path / "slow.gif")}
  found = requests(tiny, **asked, fps=8.0)[0]
  assert len(found.source) == 5 and found.size[0] == 9
  found = requests(tiny, **asked, fps=16.0)[0]
  assert len(found.source) == 5 and found.size[0] == 17
  for fps in (4.0, 6.0):
    with pytest.raises(ValueError, match=r"multiple of it: set that to 8"):
      requests(tiny, **asked, fps=fps)


def test_interpolation_takes_as_much_as_fits(tiny, tmp_path, capsys):
  video = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), np.uint8)
  media.write(tmp_path / "odd.gif", video, 4.0)
  asked = {"task": "interpolate", "source": str(tmp_path / "odd.gif")}
  found = requests(tiny, **asked, fps=8.0)[0]
  assert len(found.source) == 5 and found.size[0] == 9
  assert "the first 5 frames" in capsys.readouterr().out
  config = tiny({"sample.fps": 8.0})
  with pytest.raises(ValueError, match=r"makes 9 frames .* asks for 17"):
    build.request(config, "a", **asked, size=(17, 16, 16))
  media.write(tmp_path / "odd.gif", video[:2], 4.0)
  with pytest.raises(ValueError, match="has 2: give at least 3"):
    requests(tiny, **asked, fps=8.0)


def test_lines_with_a_seed_repeat_with_others(tiny, tmp_path):
  path = tmp_path / "prompts.jsonl"
  path.write_text('{"prompt": "a", "seed": 7}\n{"prompt": "b"}\n')
  found = requests(tiny, file=str(path), repeats=2, seed=20)
  assert [r.seed for r in found] == [7, 8, 22, 23]


def test_outpainting_fits_the_source_into_the_size(tiny, tmp_path):
  source = picture(tmp_path / "wide.png", (20, 80))
  found = requests(tiny, task="outpaint", source=source, size=(9, 24, 32))[0]
  assert found.size == (9, 24, 32)
  assert found.source.shape == (1, 8, 32, 3)
  # In its own aspect ratio it leaves room.
  own = picture(tmp_path / "own.png", (96, 128))
  found = requests(tiny, task="outpaint", source=own, size=(9, 24, 32))[0]
  assert found.source.shape == (1, 18, 24, 3)
  # What is smaller stays as it is.
  found = requests(tiny, task="outpaint", source=source, size=(9, 32, 96))[0]
  assert found.source.shape == (1, 20, 80, 3)


def test_a_mask_is_white_where_something_is_to_be_made(tiny, tmp_path):
  source = picture(tmp_path / "source.png", (32, 32))
  white = np.zeros((1, 32, 32, 3), np.uint8)
  white[:, :16] = 255
  media.write(tmp_path / "mask.png", white, 8.0)
  asked = {"task": "inpaint", "source": source}
  asked["mask"] = str(tmp_path / "mask.png")
  found = requests(tiny, **asked)[0]
  half = found.size[1] // 2
  assert found.mask.dtype == bool
  assert found.mask[:, :half].all() and not found.mask[:, half:].any()
  # White on nothing.
  alpha = Image.fromarray(white[0, ..., 0])
  clear = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
  clear.putalpha(alpha)
  clear.save(tmp_path / "mask.png")
  again = requests(tiny, **asked)[0]
  np.testing.assert_array_equal(again.mask, found.mask)
  media.write(tmp_path / "mask.png", white[:, :24], 8.0)
  with pytest.raises(ValueError, match="24x32 pixels and the source 32x32"):
    requests(tiny, **asked)


def test_clips_of_the_data_are_continued_as_far_as_they_fit(tiny, capsys):
  clips = [
    Clip(np.zeros((frames, 16, 16, 3), np.uint8), 8.0, "a", key)
    for frames, key in ((9, "long"), (5, "short"))
  ]
  config = tiny({"sample.tasks": ("t2v", "extend"), "sample.keep": 2})
  found = build.continuations(config, clips, seed=4)
  assert [(r.task, r.size[0], r.seed) for r in found] == [
    ("t2v", 9, 4),
    ("extend", 9, 5),
    ("t2v", 5, 6),
  ]
  assert "short is left out" in capsys.readouterr().out
