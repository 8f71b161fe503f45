"""Pictures of every kind: their pixels come as a viewer would show them."""

import numpy as np
import pytest
from PIL import Image

from sora_jax.utils import media

RED, GREEN = (200, 0, 0), (0, 200, 0)


def halves(mode, left, right):
  """A picture of two colours."""
  image = Image.new(mode, (8, 4), right)
  image.paste(left, (0, 0, 4, 4))
  return image


def seen(path, **kwargs):
  """The colours of both halves."""
  video, _ = media.read(path, **kwargs)
  assert video.shape == (1, 4, 8, 3) and video.dtype == np.uint8
  assert (video[:, :, :4] == video[0, 0, 0]).all()
  assert (video[:, :, 4:] == video[0, 0, 7]).all()
  return tuple(video[0, 0, 0].tolist()), tuple(video[0, 0, 7].tolist())


def palette():
  """Green, and red that is transparent."""
  image = halves("P", 0, 1)
  image.putpalette([*RED, *GREEN])
  return image


@pytest.mark.parametrize("mode, kind", [("I;16", "png"), ("I", "tiff")])
def test_grey_of_16_bits_is_scaled(tmp_path, mode, kind):
  grey = np.repeat(np.uint16([[1000, 30000]]), 4, axis=1).repeat(4, axis=0)
  image = Image.fromarray(grey if mode == "I;16" else grey.astype(np.int32))
  # Pillow goes by what is in a file; older ones read such a png as "I".
  image.save(tmp_path / "a.png", kind)
  assert Image.open(tmp_path / "a.png").mode == mode
  assert seen(tmp_path / "a.png") == ((4,) * 3, (117,) * 3)


@pytest.mark.parametrize(
  "mode, hidden, shown",
  [("RGBA", (*RED, 0), (*GREEN, 255)), ("LA", (90, 0), (40, 255))],
)
def test_what_is_transparent_shows_the_backdrop(tmp_path, mode, hidden, shown):
  path, opaque = tmp_path / "a.png", (shown[:-1] * 3)[:3]
  halves(mode, hidden, shown).save(path)
  assert seen(path) == ((255,) * 3, opaque)
  assert seen(path, backdrop=0) == ((0,) * 3, opaque)


def test_what_is_half_transparent_is_mixed(tmp_path):
  halves("RGBA", (*RED, 51), (*RED, 255)).save(tmp_path / "a.png")
  assert seen(tmp_path / "a.png") == ((244, 204, 204), RED)


def test_a_png_and_a_gif_of_one_picture_show_the_same(tmp_path):
  for ending in ("png", "gif"):
    palette().save(tmp_path / f"a.{ending}", transparency=0)
    assert seen(tmp_path / f"a.{ending}") == ((255,) * 3, GREEN)
    assert seen(tmp_path / f"a.{ending}", backdrop=0) == ((0,) * 3, GREEN)


def test_a_colour_can_be_transparent(tmp_path):
  halves("RGB", RED, GREEN).save(tmp_path / "a.png", transparency=RED)
  assert seen(tmp_path / "a.png") == ((255,) * 3, GREEN)


@pytest.mark.parametrize(
  "image, ending, wanted",
  [
    (halves("1", 0, 1), "png", ((0,) * 3, (255,) * 3)),
    (halves("L", 7, 200), "png", ((7,) * 3, (200,) * 3)),
    (palette(), "png", (RED, GREEN)),
    (Image.new("CMYK", (8, 4), (55, 255, 255, 0)), "jpg", (RED, RED)),
  ],
)
def test_other_kinds_of_pictures(tmp_path, image, ending, wanted):
  path = tmp_path / f"a.{ending}"
  image.save(path)
  error = np.subtract(seen(path), wanted)
  assert np.abs(error).max() <= (4 if ending == "jpg" else 0)
