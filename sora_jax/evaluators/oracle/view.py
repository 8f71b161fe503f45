"""How the camera of a shot moves: from what stays in the world, its background.

Every frame is laid on a key frame (oracle.align): a pixel at p from the frame's
middle shows what the key shows at d + r p. With s the pixels per unit,

  p = (x - c_t) s_t  and  d + r p = (x - c_k) s_k  for every point x, so
  c_t = c_k + d / s_k  and  s_t = s_k / r.

The key is the first frame for as long as the two overlap well, and the one
before then: errors do not add up from frame to frame. A checker looks the same
after a move by (i, j) squares with i + j even; the smallest such move is taken,
which is right up to 0.6 units a frame in both directions.

The words are read from the path: its travel is the slope of the straight line
through it times its length, its wobble what is left. A travelling camera
follows if one coloured thing stays where it is in the view, and pans or tilts
otherwise. Before a plain or gradient background a moving camera looks like
bodies that move alike, and there the world's stands still: so it is read.
"""

from __future__ import annotations

import numpy as np
import scipy

from sora_jax.data.world import background, vocabulary
from sora_jax.data.world.nouns import UNITS
from sora_jax.evaluators.oracle import align, ground, nouns

REACH = 0.8  # units that the camera may move between two frames
OVERLAP = 0.6  # least share of a key that a frame still shows
BLUR = 0.7  # pixels, so that edges can be interpolated
ZOOM = 0.06  # least log of a zoom over the shot
TRAVEL = 0.4  # least travel of a moving camera over the shot, units
STRAIGHT = 0.2  # wobble of a moving camera, share of its travel
SHAKE = 0.04  # least wobble of a shaking one, units
STAYS = 0.15  # most travel in the view of a thing that is followed, units
SHARE = 0.05  # the same as a share of the camera's
# Moves, units, after which a checker looks the same.
SAME = background.SQUARE * np.array(
  [(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i + j) % 2 == 0]
)
SMALL = 0.2  # units squared; what is smaller is followed by no camera


def read(video: np.ndarray, behind: nouns.Ground) -> nouns.View:
  """The camera of a shot.

  Args:
    video: uint8 [T, H, W, 3], without cuts.
    behind: of this shot, from ground.read.
  """
  unit = min(video.shape[1:3]) / UNITS
  if behind.kind in (*vocabulary.TONES, "gradient"):
    centre, zoom = np.zeros((len(video), 2)), np.ones(len(video))
  else:
    centre, zoom = _path(video, behind, unit)
  kind, direction = _words(centre, zoom)
  if kind in ("pan", "tilt") and _follows(video, centre, unit):
    kind, direction = "follow", nouns.NONE
  return nouns.View(kind, direction, centre, zoom)


def _path(video, behind, unit) -> tuple[np.ndarray, np.ndarray]:
  """Centre [T, 2] and zoom [T] of the view."""
  seen = ground.clean(video)
  soft = scipy.ndimage.gaussian_filter(
    behind.grey.astype(np.float64), (0, BLUR, BLUR)
  )
  centre, zoom = np.zeros((len(video), 2)), np.ones(len(video))
  key, pose = 0, np.zeros(3)
  for t in range(1, len(video)):
    if key < t - 1 and _overlap(pose, video.shape[1:3]) < OVERLAP:
      key, pose = t - 1, np.zeros(3)
    reach = max(1, round(REACH * unit * zoom[t - 1]))
    step = align.shift(soft[t - 1], soft[t], seen[t - 1], seen[t], reach)
    start = pose + np.append(np.exp(pose[2]) * step, 0.0)
    pose = align.refine(soft[key], soft[t], seen[key], seen[t], start)
    centre[t] = centre[key] + pose[:2] / (unit * zoom[key])
    if behind.kind == "checker":
      moves = centre[t] - centre[t - 1] - SAME
      least = np.linalg.norm(moves, axis=1).argmin()
      centre[t] -= SAME[least]
      pose[:2] -= unit * zoom[key] * SAME[least]
    zoom[t] = zoom[key] * np.exp(-pose[2])
  return centre, zoom


def _overlap(pose: np.ndarray, size: tuple[int, int]) -> float:
  """Share of the larger of two pictures that the other shows as well."""
  sides = np.array(size)
  ratio = np.exp(pose[2])
  common = np.minimum(sides, ratio * sides)
  common = np.minimum(common, (sides + ratio * sides) / 2 - np.abs(pose[:2]))
  return float(np.prod(np.maximum(common, 0) / (sides * max(ratio, 1))))


def _line(path: np.ndarray) -> tuple[np.ndarray, float]:
  """Travel [k] on the straight line through a path [T, k], and its wobble."""
  if len(path) < 2:
    return np.zeros(path.shape[1]), 0.0
  time = np.linspace(-0.5, 0.5, len(path))
  travel = time @ path / (time @ time)
  rest = path - path.mean(0) - time[:, None] * travel
  return travel, float(np.sqrt((rest**2).sum(1).mean()))


def _words(centre: np.ndarray, zoom: np.ndarray) -> tuple[str, str]:
  """The camera's kind and direction."""
  grown = float(_line(np.log(zoom)[:, None])[0][0])
  if abs(grown) > ZOOM:
    return "zoom", "in" if grown > 0 else "out"
  travel, wobble = _line(centre)
  far = float(np.linalg.norm(travel))
  if far > TRAVEL and wobble < STRAIGHT * far:
    axis = int(np.abs(travel).argmax())
    words = (("up", "down"), ("left", "right"))[axis]
    return ("tilt", "pan")[axis], words[int(travel[axis] > 0)]
  return "shake" if wobble > SHAKE else "still", nouns.NONE


def _follows(video, centre, unit) -> bool:
  """Whether a coloured thing stays where it is in the view."""
  far = np.linalg.norm(_line(centre)[0])
  limit = max(STAYS, SHARE * far)
  for path in _things(np.ptp(video, axis=-1) >= ground.CHROMA, unit):
    travel, wobble = _line(path)
    if np.linalg.norm(travel) < limit and wobble < limit:
      return True
  return False


def _things(mask: np.ndarray, unit: float) -> list[np.ndarray]:
  """Centres [T, 2] in the view, units, of what is marked in every frame."""
  labels, count = scipy.ndimage.label(mask, np.ones((3, 3, 3)))
  paths = []
  for thing in range(1, count + 1):
    own = labels == thing
    if own.sum((1, 2)).min() < SMALL * unit**2:
      continue
    places = [scipy.ndimage.center_of_mass(frame) for frame in own]
    paths.append(np.array(places) / unit)
  return paths
