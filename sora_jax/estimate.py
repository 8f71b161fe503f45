"""What a config costs, found without allocating anything.

FLOPs are counted by walking the traced program: two per multiply-add of every
matmul and convolution, loops times their length. XLA's own cost analysis counts
the body of a loop once, so it cannot be used under nn.scan. Of a loop that data
ends the length is not known, nor what a kernel does: neither is to be traced.

Time is a roofline (Williams et al. 2009): a matmul takes as long as its FLOPs
or its bytes, whichever is more, and everything else as long as what it writes,
of which compilers keep most in registers; on the CPU each takes a microsecond
besides. It is what a device could do; how devices exchange what they share is
not counted.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.types import PyTree
from sora_jax.utils import tree

GIB = 1 << 30
# Bytes moved for each that an operation yields that is neither a matmul nor a
# convolution. Loops are fused on accelerators (a guess). On CPUs they read more
# than they write, and wait for new pages: fitted once, on training steps of
# three configs on two cores, to the bandwidth of memory that is at hand.
FUSED, ON_CPU = 0.35, 3.3
FREE = ("reshape", "squeeze", "broadcast_in_dim", "sharding_constraint")


@dataclasses.dataclass(frozen=True)
class Device:
  """What a device can do at most.

  Attributes:
    flops: per second, by number format of a matmul's inputs.
    bandwidth: bytes per second of its memory.
    memory: bytes.
    moved: bytes, for each that all else yields.
    convolutions: share of the FLOPs that convolutions reach.
    launch: seconds that any operation takes, however small; 0 where many are
      one kernel, and it is not known.
  """

  flops: dict[str, float]
  bandwidth: float
  memory: float
  moved: float = FUSED
  convolutions: float = 1.0
  launch: float = 0.0


def _accelerator(half: float, single: float, bandwidth: float, memory: int):
  """In TFLOP/s of bfloat16 and float32, TB/s and GB, as data sheets say."""
  flops = {"bfloat16": half * 1e12, "float32": single * 1e12}
  return Device(flops, bandwidth * 1e12, memory * 1e9)


# Dense matmuls. In float32 GPUs round inputs to TF32, and TPUs to bfloat16, as
# JAX does by default.
DEVICES: dict[str, Device] = {
  "a100": _accelerator(312, 156, 2.04, 80),
  "h100": _accelerator(989, 495, 3.35, 80),
  "h200": _accelerator(989, 495, 4.8, 141),
  "tpu_v4": _accelerator(275, 275, 1.23, 32),
  "tpu_v5e": _accelerator(197, 197, 0.82, 16),
  "tpu_v5p": _accelerator(459, 459, 2.77, 95),
  "tpu_v6e": _accelerator(918, 918, 1.64, 32),
}


# Part of what JAX calls them, the longer first.
KINDS = {
  "tpu v6 lite": "tpu_v6e",
  "tpu v5 lite": "tpu_v5e",
  "tpu v5": "tpu_v5p",
  "tpu v4": "tpu_v4",
  "h200": "h200",
  "h100": "h100",
  "a100": "a100",
}


def _best(fn: Callable[..., Any], *args: Any) -> float:
  """Seconds of the fastest of a few calls."""
  run = jax.jit(fn)
  return _fastest(lambda: run(*args))


def _fastest(run: Callable[[], Any]) -> float:
  """Seconds of the fastest of a few calls; another one compiles before."""
  taken = []
  for _ in range(8):
    start = time.perf_counter()
    jax.block_until_ready(run())
    taken.append(time.perf_counter() - start)
  return min(taken[1:])


@functools.cache
def _matmul_rate(dtype: str) -> float:
  rows, inner, columns = 2048, 512, 2048
  a, b = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
  return 2 * rows * inner * columns / _best(jnp.matmul, a, b)


def _bandwidth(size: int) -> float:
  """Bytes a second, of arrays of so many, read and written where they lie.

  A new array would have to be taken from the system first, page by page, which
  now and then takes ten times as long: no two measurements would agree.
  """
  run = jax.jit(lambda x: 0.5 * x + 1, donate_argnums=0)
  held = [jnp.ones(size // 4, jnp.float32)]

  def turn():
    held[0] = run(held[0])
    return held[0]

  return 2 * size / _fastest(turn)


def _convolution_rate() -> float:
  images, kernel = jnp.ones((64, 16, 16, 128)), jnp.ones((3, 3, 128, 128))

  def convolve(x, k):
    return jax.lax.conv_general_dilated(
      x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  # Gradients reach less of the peak than the pass itself, and take longer.
  both = jax.grad(lambda x, k: convolve(x, k).sum(), argnums=(0, 1))
  return flops(both, images, kernel) / _best(both, images, kernel)


def _launch() -> float:
  """Seconds of a matmul that has nothing to do, among others."""
  count, x = 256, jnp.eye(4)

  def chain(x):
    y = x
    for _ in range(count):
      y = y @ x
    return y

  return _best(chain, x) / count


def here() -> Device:
  """This machine's first device, measured in a few seconds."""
  stats = jax.devices()[0].memory_stats() or {}
  rates = {dtype: _matmul_rate(dtype) for dtype in ("bfloat16", "float32")}
  return Device(
    flops=rates,
    bandwidth=_bandwidth(256 << 20),
    memory=stats.get("bytes_limit", math.inf),
    moved=ON_CPU if jax.default_backend() == "cpu" else FUSED,
    convolutions=_convolution_rate() / rates["float32"],
    launch=_launch(),
  )


def _known() -> Device | None:
  """The row of the table of this machine's first device."""
  kind = jax.devices()[0].device_kind.lower()
  found = [name for words, name in KINDS.items() if words in kind]
  return DEVICES[found[0]] if found else None


def present() -> Device:
  """This machine's first device: of the table, or measured."""
  return _known() or here()


def peak(dtype: str) -> float:
  """Matmul FLOPs a second of all devices: of the table, or measured."""
  known = _known()
  one = known.flops[dtype] if known else _matmul_rate(dtype)
  if jax.default_backend() == "cpu":
    return one  # simulated devices share it
  return one * jax.device_count()


def device(name: str) -> Device:
  """A row of DEVICES, or "here", which is measured."""
  return here() if name == "here" else DEVICES[name]


def flops(fn: Callable[..., Any], *args: Any) -> int:
  """Matmul and convolution FLOPs of fn(*args); args may be abstract."""
  return _sum(jax.make_jaxpr(fn)(*args).jaxpr, _flops)


def seconds(device: Device, fn: Callable[..., Any], *args: Any) -> float:
  """How long fn(*args) takes at least on a device; args may be abstract."""

  def cost(eqn) -> float:
    name, outputs = eqn.primitive.name, sum(map(_bytes, eqn.outvars))
    if name in FREE:
      return 0.0
    count = _flops(eqn)
    if not count:
      return device.launch + device.moved * outputs / device.bandwidth
    kind = eqn.invars[0].aval.dtype.name
    peak = device.flops.get(kind, device.flops["float32"])
    if name != "dot_general":
      peak *= device.convolutions
    total = outputs + sum(map(_bytes, eqn.invars))
    return device.launch + max(count / peak, total / device.bandwidth)

  return _sum(jax.make_jaxpr(fn)(*args).jaxpr, cost)


def _bytes(var) -> int:
  aval = var.aval
  size = getattr(aval, "size", 0)
  return size * getattr(getattr(aval, "dtype", None), "itemsize", 4)


def _sum(jaxpr, cost: Callable[[Any], float]) -> Any:
  """The cost of every primitive, loops times their length."""
  total = 0
  for eqn in jaxpr.eqns:
    inside = [_sum(j, cost) for j in _jaxprs(eqn.params)]
    if not inside:
      total += cost(eqn)
    elif eqn.primitive.name == "scan":
      total += eqn.params["length"] * sum(inside)
    elif eqn.primitive.name == "cond":
      total += max(inside)
    elif eqn.primitive.name == "shard_map":  # written for one device's share
      total += eqn.params["mesh"].size * sum(inside)
    else:
      total += sum(inside)
  return total


def _flops(eqn) -> int:
  kind = eqn.primitive.name
  if kind == "dot_general":
    (contract, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    inner = math.prod(shape[i] for i in contract)
    return 2 * math.prod(eqn.outvars[0].aval.shape) * inner
  if kind == "conv_general_dilated":
    kernel = eqn.invars[1].aval.shape
    out = eqn.params["dimension_numbers"].rhs_spec[0]  # output channels
    inner = math.prod(n for i, n in enumerate(kernel) if i != out)
    return 2 * math.prod(eqn.outvars[0].aval.shape) * inner
  return 0


def _jaxprs(params):
  for value in params.values():
    for v in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(v, "jaxpr"):
        yield v.jaxpr
      elif hasattr(v, "eqns"):
        yield v


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What one stage costs.

  Attributes:
    parameters: count by module, two levels deep, largest first.
    state_bytes: of the training state on one device.
    temporary_bytes: what the compiled step needs beside it, on one device;
      None if it was not compiled.
  """

  parameters: dict[str, int]
  state_bytes: int
  temporary_bytes: int | None


def estimate(
  step: Callable[..., Any], state: PyTree, batch: PyTree, compile: bool
) -> Estimate:
  """Estimates a jitted train step from abstract arguments.

  Args:
    step: jitted (state, batch) -> (state, metrics).
    state: ShapeDtypeStructs with shardings.
    batch: ShapeDtypeStructs with shardings.
    compile: also compile it, to know the memory that it needs.
  """
  temporary = None
  if compile:
    analysis = step.lower(state, batch).compile().memory_analysis()
    temporary = int(analysis.temp_size_in_bytes)
  return Estimate(
    parameters=modules(state.params),
    state_bytes=sum(_local_bytes(x) for x in jax.tree.leaves(state)),
    temporary_bytes=temporary,
  )


def modules(params: PyTree, depth: int = 2) -> dict[str, int]:
  """Parameters by module: names cut to `depth` levels, largest first."""
  found: dict[str, int] = {}
  for name, leaf in tree.named(params):
    short = "/".join(name.split("/")[:depth])
    found[short] = found.get(short, 0) + math.prod(leaf.shape)
  return dict(sorted(found.items(), key=lambda item: -item[1]))


def _local_bytes(x: jax.ShapeDtypeStruct) -> int:
  shape = x.sharding.shard_shape(x.shape) if x.sharding else x.shape
  return math.prod(shape) * x.dtype.itemsize
