"""Radius, angle and colour over a shot."""

import dataclasses

import numpy as np
import pytest

from sora_jax.data.world import moments, nouns, vocabulary

BODY = nouns.Body("disc", "red", 0.8, "rubber", nouns.Path.of((0.0, 0.0)))
TIMES = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0])


def changed(**changes):
  return dataclasses.replace(BODY, **changes)


def test_radius_grows_linearly_until_the_end():
  grown = moments.radius(changed(growth=2.5), TIMES, 3.0)
  np.testing.assert_allclose(grown, [0.8, 1.2, 1.4, 1.6, 2.0, 2.0])
  shrunk = moments.radius(changed(growth=0.5), TIMES, 3.0)
  np.testing.assert_allclose(shrunk[[0, 4]], [0.8, 0.4])


def test_angle_turns_uniformly():
  turned = moments.angle(changed(angle=0.5, spin=-2.0), TIMES)
  np.testing.assert_allclose(turned, 0.5 - 2 * TIMES)


def test_colour_fades_in_the_middle_third_only():
  first, last = (np.array(vocabulary.COLOURS[name]) for name in ("red", "cyan"))
  faded = moments.colour(changed(becomes="cyan"), TIMES, 3.0)
  middle = (first + last) / 2
  expected = [first, first, middle, last, last, last]
  np.testing.assert_allclose(faded, expected)


@pytest.mark.parametrize("times", [np.zeros(1), TIMES])
def test_a_shot_without_length_changes_nothing(times):
  body = changed(becomes="cyan", growth=3.0)
  assert (moments.radius(body, times, 0.0) == 0.8).all()
  expected = np.tile(vocabulary.COLOURS["red"], (len(times), 1))
  assert (moments.colour(body, times, 0.0) == expected).all()


@pytest.mark.parametrize("change", [{"colour": "pink"}, {"becomes": "pink"}])
def test_unknown_colour_names_the_valid_ones(change):
  with pytest.raises(ValueError, match=r"'pink'.*red.*magenta"):
    moments.colour(changed(**change), TIMES, 3.0)
