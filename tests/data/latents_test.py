"""The latent cache: whole or not there, and made of what it says."""

import json

import numpy as np
import pytest

from sora_jax.data import latents

MADE_OF = {"autoencoder": "abc", "size": (17, 64, 64), "seed": 0}
SHAPES = [(1, 2, 2, 4), (3, 2, 4, 4), (1, 2, 2, 4), (2, 1, 1, 4)]


def item(i):
  shape = SHAPES[i % len(SHAPES)]
  values = np.random.default_rng(i).normal(size=shape).astype(np.float16)
  return latents.Item(values, f"clip {i % 5}, näch 🦊\n", f"key/{i}")


def assert_same(a, b):
  assert (a.text, a.key) == (b.text, b.key)
  assert a.latents.dtype == np.float16
  np.testing.assert_array_equal(a.latents, b.latents)


@pytest.mark.parametrize("i", range(4))
def test_item_round_trip(i):
  assert_same(latents.unpack_item(latents.pack_item(item(i))), item(i))


def test_item_of_another_layout_round_trips():
  one = item(1)
  turned = latents.Item(one.latents.T.copy().T, one.text, one.key)
  assert not turned.latents.flags.c_contiguous
  assert_same(latents.unpack_item(latents.pack_item(turned)), one)


@pytest.mark.parametrize("count", [1, 3, 4, 8])
def test_cache_round_trip_over_shards(tmp_path, monkeypatch, count):
  monkeypatch.setattr(latents, "PER_SHARD", 3)
  folder = tmp_path / "a" / "cache"
  latents.write(folder, (item(i) for i in range(count)), MADE_OF)
  found = latents.Latents(folder)
  assert len(found) == count
  for i in reversed(range(count)):
    assert_same(found[i], item(i))

  manifest = latents.manifest(folder)
  assert manifest["count"] == count
  assert len(manifest["shards"]) == -(-count // 3)
  files = {p.name for p in folder.iterdir()}
  assert files == {*manifest["shards"], latents.MANIFEST}
  assert sum(manifest["shapes"].values()) == count
  for shape, n in manifest["shapes"].items():
    of = ["x".join(map(str, item(i).latents.shape)) for i in range(count)]
    assert of.count(shape) == n
  assert set(manifest["captions"]) == {item(i).text for i in range(count)}
  assert [p.name for p in folder.parent.iterdir()] == ["cache"]


def test_fresh_cache_is_accepted(tmp_path):
  latents.write(tmp_path / "cache", [item(0)], MADE_OF)
  latents.check(tmp_path / "cache", MADE_OF)


@pytest.mark.parametrize(
  "now, named",
  [
    (
      MADE_OF | {"autoencoder": "xyz"},
      ["autoencoder: cached 'abc', now 'xyz'"],
    ),
    (MADE_OF | {"new": 1}, ["new: cached None, now 1"]),
    (
      {"autoencoder": "abc", "size": (9, 64, 64)},
      [
        "size: cached [17, 64, 64], now [9, 64, 64]",
        "seed: cached 0, now None",
      ],
    ),
  ],
)
def test_stale_cache_is_refused(tmp_path, now, named):
  latents.write(tmp_path / "cache", [item(0)], MADE_OF)
  with pytest.raises(latents.StaleCache) as error:
    latents.check(tmp_path / "cache", now)
  for line in named:
    assert line in str(error.value)
  assert str(tmp_path / "cache") in str(error.value)
  for key in MADE_OF.keys() & now.keys():
    if now[key] == MADE_OF[key]:
      assert f"{key}:" not in str(error.value)


def test_nothing_is_there_when_writing_fails(tmp_path):
  folder = tmp_path / "cache"

  def items():
    yield item(0)
    yield item(1)
    raise RuntimeError("power cut")

  with pytest.raises(RuntimeError, match="power cut"):
    latents.write(folder, items(), MADE_OF)
  assert not folder.exists()
  with pytest.raises(FileNotFoundError, match="cache holds no latent cache"):
    latents.check(folder, MADE_OF)
  # What is left of it does not get into the next attempt.
  latents.write(folder, [item(5)], MADE_OF)
  found = latents.Latents(folder)
  assert len(found) == 1
  assert_same(found[0], item(5))


def test_without_a_clip_is_an_error(tmp_path):
  with pytest.raises(ValueError, match=r"no clip could be encoded .*cache"):
    latents.write(tmp_path / "cache", [], MADE_OF)
  assert not (tmp_path / "cache").exists()


def test_cache_that_exists_is_not_overwritten(tmp_path):
  folder = tmp_path / "cache"
  latents.write(folder, [item(0)], MADE_OF)
  with pytest.raises(OSError):
    latents.write(folder, [item(1)], MADE_OF)
  assert_same(latents.Latents(folder)[0], item(0))


def test_manifest_is_plain_json(tmp_path):
  latents.write(tmp_path / "cache", [item(0)], MADE_OF)
  text = (tmp_path / "cache" / latents.MANIFEST).read_text()
  assert json.loads(text)["made_of"] == json.loads(json.dumps(MADE_OF))
