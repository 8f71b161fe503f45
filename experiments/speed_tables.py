"""Tables of what the benches have recorded (`--record`)."""

from __future__ import annotations

from experiments import record
from experiments.cells import Lines, table

CPU = "cpu"
_SIDES = {
  "torch_S": "the paper's DiT in diffusers, S/2",
  "torch_B": "the same, B/2",
  "latte_B": "`LatteTransformer3DModel`, B",
  "wan_B": "`WanTransformer3DModel`, B",
}
_CASES = (
  "the quickstart's autoencoder",
  "its transformer",
  "six blocks of `dit_s`",
)
# Bench -> figure -> what it is; the order is the table's.
SPEED = {
  "transformer": {
    f"{kind}_vs_{side}": f"{what}, speed over {name}"
    for side, name in _SIDES.items()
    for kind, what in (("train", "training step"), ("forward", "forward"))
  }
  | {
    "peak_share_train_S": "share of a large matmul's rate in training, S/2",
    "peak_share_train_B": "the same, B/2",
  },
  "packing": {
    "fill": "share of places in packed rows that hold data",
    "tokens_per_s_vs_padded": "packed, tokens a second over padding",
    "tokens_per_s_vs_bucketed": "packed, tokens a second over exact buckets",
    "tokens_per_s_vs_blocks": "packed, attention `tiled` over `blocks`",
    "compilations_after_warmup": "packed, compilations after the first step",
  },
  "attention": {
    f"{name}_speed_vs_full_8": f"attention `{name}` over `full`, 8 clips a row"
    for name in ("tiled", "blocks", "library", "window", "factorised")
  },
  "training": {
    "levels_overhead": "a step with levels by frame takes longer by",
    "input_overhead": "a step that reads its input takes longer by",
  },
  "start": {
    "first_step_cold_s": "seconds to the first step of `dit_b`",
    "first_step_warm_s": "the same, compiled before",
    "step_s": "of which the step itself",
  },
  "sampler": {
    "overhead": "sampling takes longer than its forward passes by",
    "long_video_peak_memory_ratio": "memory of 60 s of video over 20 s",
    "long_video_pace_ratio": "time for a second of 60 s over one of 20 s",
    "longest_video_peak_memory_ratio": "memory of an hour over 20 s",
    "longest_video_pace_ratio": "time for a second of an hour over one of 20 s",
  },
  "estimate": {
    f"predicted_over_measured/{k}": f"time of a step, said over taken, {name}"
    for k, name in enumerate(_CASES)
  },
}


def of_benches() -> Lines:
  """A line for each figure of SPEED."""
  lines = []
  for bench, labels in SPEED.items():
    _, rows = record.load(f"bench_{bench}_{CPU}")
    found = {row["figure"]: row["value"] for row in rows}
    lines += [
      [label, f"{float(found[key]):.4g}", f"`bench/{bench}.py`"]
      for key, label in labels.items()
    ]
  yield from table(["what", "measured", "by"], lines)


def of_switches() -> Lines:
  """How many times as long a step takes without each choice of the demo."""
  lines = []
  for stage in ("dit", "autoencoder"):
    _, rows = record.load(f"bench_switches_{stage}_{CPU}")
    for row in rows:
      name = row["figure"].removeprefix("gain/")
      lines.append([stage, name, f"{float(row['value']):.2f}"])
  head = ["stage", "changed", "times as long a step takes"]
  yield from table(head, lines)
