"""Does a learning rate found on a narrow transformer suit a wide one?

  python -m experiments.transfer

The quickstart's transformer at three widths, trained for a few hundred steps at
each of several learning rates: with the same rate for all parameters, and with
`optimizer.base_width` (Yang et al. 2022, "Tensor Programs V"), which slows down
what grows with the width. All see the same latents, of the linear autoencoder.
What is compared is the denoising error of held-out clips, the mean over fixed
noise levels. With transfer the best rate should be the same at all widths;
`best` says which rate it was.

What is trained in --workdir resumes there.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import app, flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs import quickstart
from experiments import record
from sora_jax import modes
from sora_jax.run import Run
from sora_jax.utils import cache, logs

BASE = 64
WIDTHS = (64, 128, 256)
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
HEAD = 32  # width of a head, the same for all
ERROR = "fixed_times/mean/error"


def config(
  width: int, rate: float, transfer: bool, steps: int, codec: str
) -> ConfigDict:
  """One point; without a `codec`, the run that makes what all share."""
  c = quickstart.get_config()
  with c.unlocked():
    c.stages = ("autoencoder", "dit") if codec else ("autoencoder",)
    c.data.count = 8000
    c.autoencoder.checkpoint = codec
    c.autoencoder.schedule.until = "1 steps"
    c.autoencoder.optimizer.schedule = "constant"
    c.autoencoder.evaluators = {}
    heads = width // HEAD
    c.dit.model.update(width=width, heads=heads, mlp=4 * width)
    c.dit.optimizer.update(
      learning_rate=rate, warmup=steps // 10, base_width=BASE * transfer
    )
    c.dit.schedule.until = f"{steps} steps"
    c.dit.ema = 0.9
    c.dit.evaluators = {"fixed_times": c.dit.evaluators.fixed_times.to_dict()}
  return c


def error(shared: Run, folder: pathlib.Path, point: ConfigDict) -> float:
  """The error of a point after its training."""
  folder.mkdir(parents=True, exist_ok=True)
  link = folder / "latents"
  if not link.exists():
    link.symlink_to((shared.workdir / "latents").resolve())
  run = Run(point, folder)
  # Nothing is said by a run that an earlier call has trained to its end.
  found = run.train_dit() or modes.judged(run, "dit")
  run.writer.close()
  return found[ERROR]


def _of(rows, width: int, transfer: bool) -> list[dict[str, object]]:
  return [r for r in rows if (r["width"], r["transfer"]) == (width, transfer)]


def best(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
  """For every width, with and without transfer, the rate of least error."""
  found = []
  for transfer in (False, True):
    for width in WIDTHS:
      if own := _of(rows, width, transfer):
        least = min(own, key=lambda r: r["error"])
        found.append({"transfer": str(transfer), **least})
  return found


def _figure(rows: Sequence[dict[str, object]]) -> Figure:
  figure = Figure(figsize=(8, 3.5), layout="constrained")
  axes = figure.subplots(1, 2, sharey=True)
  for axis, transfer in zip(axes, (False, True)):
    for width in WIDTHS:
      own = [(r["rate"], r["error"]) for r in _of(rows, width, transfer)]
      axis.plot(*zip(*own), "o-", label=f"{width} wide")
    title = f"transferred from {BASE}" if transfer else "one rate for all"
    axis.set(xscale="log", xlabel="learning rate", title=title)
  axes[0].set(ylabel="denoising error")
  axes[0].legend()
  return figure


def main(argv: list[str]) -> None:
  """Trains, judges, prints and saves."""
  del argv
  cache.keep_compiled()
  asked, rows = flags.FLAGS, []
  root = pathlib.Path(asked.workdir) / f"{asked.steps}steps"
  shared = Run(config(BASE, RATES[0], False, asked.steps, ""), root / "shared")
  shared.train_autoencoder()
  shared.data.latents(shared.autoencoder())
  codec = str(shared.workdir / "autoencoder")
  about = {"commit": record.commit(), "steps": asked.steps, "seeds": 1}
  for width in WIDTHS:
    for transfer in (False, True) if width != BASE else (False,):
      for rate in RATES:
        point = config(width, rate, transfer, asked.steps, codec)
        folder = root / f"width{width}-rate{rate:g}-transfer{transfer:d}"
        row = {"width": width, "transfer": transfer, "rate": rate}
        rows.append(row | {"error": round(error(shared, folder, point), 5)})
        logs.say(str(rows[-1]))
  # At the base width transfer changes nothing.
  rows += [row | {"transfer": True} for row in rows if row["width"] == BASE]
  logs.say(f"{record.save('transfer', rows, **about)}")
  logs.say(f"{record.drawn(_figure(rows), 'transfer')}")
  logs.say(logs.table(best(rows)))


if __name__ == "__main__":
  flags.DEFINE_integer("steps", 300, "of each transformer")
  flags.DEFINE_string("workdir", "runs/transfer", "where the points train")
  app.run(main)
