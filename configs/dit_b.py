"""DiT-B on captioned moving digits. The config to read first.

  python -m sora_jax.main --config=configs/dit_b.py

Every key of every section is here: the library has no defaults of its own. A
section with a `name` is one row of the table of that place, with its options.
Change anything from the command line: --config.dit.model.remat=full. A config
file with `:tiny` behind it runs in seconds.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.stages = ("autoencoder", "dit", "sample")
  c.mesh = {"data": 1, "fsdp": -1}  # -1: all devices that are left
  c.strategy = "fsdp"
  c.threads = 2  # readers of data
  c.workers = 0  # processes of so many readers each; 0: in this one

  # Clips: sora_jax/data/sources. This set ships with scikit-learn.
  c.data = {
    "name": "digits",
    "count": 50_000,
    "test_count": 256,
    "frames": 17,
    "height": 64,
    "width": 64,
    "fps": 8.0,
    "seed": 0,
  }
  c.tokens = 64  # most tokens of one latent frame: sets the size buckets
  c.scales = (1.0,)  # shares of them; each training clip gets one at random
  c.transforms = ()  # extra ones, after clips are brought to their bucket
  c.cache_gib = 0.0  # prepared clips kept in memory; for files, not for digits
  c.text = {"vocab_size": 512, "max_tokens": 24}

  # Pixels -> latents, causal in time: T = 1 + 4 k frames give 1 + k.
  c.autoencoder = {
    "checkpoint": "",  # the autoencoder/ folder of another run; "" trains one
    "init": "",  # such a folder, whose weights the training begins with
    "model": {
      "compression": (4, 8, 8),
      "channels": 16,
      "width": 128,
      "depth": 3,
      "block": "conv",
      "kernel": (3, 3),  # time, space
      "factored": True,  # (2 + 1)-D
      "lowering": "fastest",  # of full kernels
      "heads": 0,  # of attention: a transformer's, or one within a frame
      "parity": False,  # whether it knows odd rows and columns from even
      "logvar": -8.0,
      "dtype": "float32",
      "matmul": "dtype",  # or "bfloat16": operands; sums stay float32
    },
    "objective": {
      "reconstruction": "l2",
      "terms": {"gradient": 0.0, "wavelet": 0.0, "temporal": 0.0},  # weights
      "kl": 1e-6,
      "start": "pca",
      "part": "all",  # "decoder" leaves `init`'s latents as they are
      "equivariance": 0.0,  # weight of the reconstruction at half the scale
      # LPIPS, with weights that you have: see models/perceptual.py.
      "perceptual": {"weight": 0.0, "path": "", "sha256": ""},
      # A discriminator, from the step `start` on; the weight 0 has none.
      "adversary": {
        "weight": 0.0,
        "start": 1000,
        "r1": 1.0,
        "width": 64,
        "depth": 3,
      },
    },
    "size": (17, 64, 64),  # crops that it trains on
    "thin": 1,  # of every frame up to every so-manieth, of longer clips
    "zoom": 1.0,  # of blocks up to so many times as wide, scaled down
    "batch": 16,
    "transforms": (),  # of its crops alone, so "recolour" is no lie
    "start": 16,  # batches for the principal components it starts from
    "statistics": 32,  # batches that measure the latents' mean and std
    "optimizer": common.adamw(learning_rate=1e-3, warmup=50),
    "ema": 0.999,
    "schedule": {
      "until": "3000 steps",
      "log": "20 steps",
      "save": "10 minutes",
      "evaluate": "1000 steps",
      "tolerance": 20,
    },
    "keep": 2,
    "evaluators": {
      "reconstruction": {
        "name": "reconstruction",
        "clips": 32,
        "per_origin": False,
        "lpips": "",  # path of its weights; "" leaves it out
        "sha256": "",  # of these
      },
      "sheet": {"name": "sheet", "clips": 8, "videos": 4, "tile": 10},
    },
  }

  # Latents -> latents, packed: sora_jax/objectives/latent_diffusion.py.
  c.dit = {
    "checkpoint": "",  # the dit/ folder of another run, to begin with
    "model": {
      **common.SIZES["B"],
      "attention": "full",
      "tubes": 0,  # heads that at first look along time, at their own place
      "modulation": "block",  # or "single": one for all blocks
      "rope_base": 100.0,
      "remat": "dots",  # 6 GiB in all with these rows; "none" takes 16
      "scan": True,
      "dtype": "float32",
      "matmul": "dtype",  # or "bfloat16": operands; sums stay float32
      "text": {"width": 256, "depth": 2, "heads": 4},
    },
    "patch": (1, 1, 1),
    "objective": {"name": "denoise"},  # or "consistency": configs/few_steps.py
    "process": {"schedule": "rectified", "target": "velocity"},
    "weight": {"name": "velocity"},
    "times": {"name": "logit_normal", "mean": 0.0, "std": 1.0},
    "shift": {"base_tokens": 320, "power": 0.5},
    # One level for the clip, or clean regions, or a level per latent frame.
    "mixture": {
      "clip": 0.6,
      "first_frame": 0.15,
      "last_frame": 0.02,
      "prefix": 0.08,
      "mask": 0.05,
      "frames": 0.1,
    },
    "text_dropout": 0.1,
    "frames": 5,  # most latent frames of a clip
    "rows": {
      "rows": 8,
      "length": 640,
      "text": 64,
      "clips": 4,
      "bins": 16,
      "layout": "packed",  # or "bucketed": one clip a row, of like lengths
    },
    "optimizer": common.adamw(learning_rate=3e-4, warmup=500),
    "ema": 0.9995,
    "schedule": {
      "until": "100000 steps",
      "log": "30 seconds",
      "save": "20 minutes",
      "evaluate": "5000 steps",
      "tolerance": 20,
    },
    "keep": 2,
    "evaluators": {
      "fixed_times": {"name": "fixed_times", "times": 10},
      "grid": {"name": "grid", "clips": 8, "seed": 0},
      "continuation": {"name": "continuation", "clips": 16, "seed": 0},
      "captions": {
        "name": "captions",
        "oracle": "digits",
        "clips": 256,
        "empty": 64,
        "seed": 0,
      },
      "novelty": {
        "name": "novelty",
        "clips": 32,
        "repeats": 4,
        "among": 2000,  # training clips, evenly spread
        "seed": 0,
      },
      "frechet": {
        "name": "frechet",
        "clips": 128,  # twice as many are read
        "features": "random",  # or "i3d", with weights that you have
        "path": "",
        "sha256": "",
        "seed": 0,
      },
    },
  }

  # What sampling makes: prompts, then clips of the data if asked for.
  c.sample = {
    "prompts": (
      "a red three moves left on a black background",
      "a green eight stays still on a white background",
    ),
    "file": "",  # .txt, .jsonl or .csv of prompts, instead of these
    "repeats": 1,  # videos of each prompt
    "task": "t2v",
    "source": "",  # picture or video for tasks that start from one
    "target": "",  # the same, for tasks that lead to one
    "mask": "",  # white where the source is to be made anew
    "at": (),  # frames of the result at which the source's stand
    "keep": 2,  # latent frames that a task keeps of longer sources
    "strength": 0.6,  # noise from which a source is changed
    "negative": "",  # what guidance leads away from
    "scales": (),  # factors of (guidance scale - 1), one a shot
    "context_noise": 0.0,  # at which the model sees what is known
    "size": (17, 64, 64),
    "fps": 8.0,
    # Longer videos, block after block of this size; the prompt "-" reads a line
    # for each block from standard input.
    "rollout": {"seconds": 0.0, "context": "frames", "anchor": False},
    "clips": 0,
    "tasks": ("t2v", "i2v"),
    "seed": 0,
    "steps": 50,
    "grid": {"name": "uniform"},  # of the steps' times, before the shift
    "cache": 0.0,  # change of x, a share, up to which a prediction serves again
    "solver": {"name": "heun"},
    "guidance": {"name": "cfg", "scale": 3.0, "low": 0.0, "high": 0.7},
    "rows": 8,
    "decode_batch": 8,  # clips at once
    "decode_frames": 16,  # and latent frames of them
    "formats": ("mp4",),
    "names": "index",  # or "vbench": PROMPT-INDEX.mp4
  }
  c.evaluation = {"split": "test", "clips": 64}

  # What --mode=dryrun reckons with: "here", which it measures, or a row of
  # DEVICES in sora_jax/estimate.py; and what one of these costs an hour.
  c.cost = {"device": "here", "price": 0.0}
  return common.finish(c, arg)
