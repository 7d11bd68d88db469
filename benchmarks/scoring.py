"""Time and memory of the weight-only criteria on a 13B-shaped checkpoint, beside what reading it costs.

Each line is a process of its own; a measurement that others on the machine can disturb is taken several times and the
best one counts. Ratios are to what was measured in the same run:

    python benchmarks/scoring.py [--criteria gate-norm,gate-norm-heads] [--repeat 3] [--layers 40] [--keep DIRECTORY]

The checkpoint (4.2 GB of real bytes) goes to --keep or GATENORM_BENCH_DIR and stays there; without either it
goes to a temporary directory that is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sparse_model import HEAD_DIM, HEADS, LAYERS, WIDTH, sparse_model

from gatenorm.checkpoint import TensorSpec, open_store

CRITERIA = "gate-norm,gate-norm-heads,gate-norm-scaled,gate-norm-rope,gate-norm-outer"
CHUNK = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--criteria", default=CRITERIA)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--keep", type=Path, default=os.environ.get("GATENORM_BENCH_DIR"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.backend, options.keep)))
    elif options.keep:
        report(sparse_model(Path(options.keep), options.layers), options)
    else:
        with tempfile.TemporaryDirectory() as directory:
            report(sparse_model(Path(directory), options.layers), options)


def report(directory: Path, options: argparse.Namespace) -> None:
    """Measure and print the table."""
    reading = {name: best(read, options.repeat) for name, read in readers(directory).items()}
    total = sum(t.nbytes for t in projections(directory))
    print(f"{options.layers} layers, q and k: {total / 1e9:.2f} GB in the page cache")
    for name, seconds in reading.items():
        print(f"  read, {name:<28}{seconds:7.2f} s {total / seconds / 1e9:7.1f} GB/s")
    fastest = min(reading.values())
    peaks = spawn("peak", options, directory)
    for name in ("bfloat16", "float32"):
        print(f"  gemm of {WIDTH}^3, {name:<20}{peaks[name]:7.0f} GFLOP/s")
    bare = spawn("bare", options, directory)["anonymous"]
    print(f"\n{'criterion':<18}{'seconds':>9}{'/ reading':>11}{'GFLOP/s':>9}{'RssAnon above bare':>21}")
    for name in options.criteria.split(","):
        runs = [spawn(name, options, directory) for _ in range(options.repeat)]
        seconds, anonymous = min(r["seconds"] for r in runs), max(r["anonymous"] for r in runs)
        rate = flops(name, options.layers) / seconds / 1e9
        above = (anonymous - bare) / 1e6
        print(f"{name:<18}{seconds:>9.2f}{seconds / fastest:>11.1f}{rate:>9.0f}{above:>18,.0f} MB", flush=True)
    from_disk(directory, options)


def from_disk(directory: Path, options: argparse.Namespace) -> None:
    """The same with nothing in the page cache, reading and scoring in turn: how a first run meets a model."""
    read, name = readers(directory)["1 thread, reused buffer"], "gate-norm-heads"
    print(f"\nfrom disk, in turn{'read':>10}{name:>18}{'ratio':>8}")
    for _ in range(options.repeat):
        evict(directory)
        began = time.perf_counter()
        read()
        reading = time.perf_counter() - began
        evict(directory)
        scoring = spawn(name, options, directory)["seconds"]
        print(f"{'':<18}{reading:>9.2f}s{scoring:>17.2f}s{scoring / reading:>8.1f}", flush=True)


def evict(directory: Path) -> None:
    """Ask the kernel to forget the files' pages."""
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def flops(criterion: str, layers: int) -> float:
    """Multiplications and additions of the one product, or of the symmetric halves of the heads' Gram matrices."""
    inner = HEADS * HEAD_DIM
    whole = criterion in ("gate-norm", "gate-norm-outer")
    return layers * (2.0 * inner * WIDTH * WIDTH if whole else 2.0 * HEADS * HEAD_DIM**2 * WIDTH)


def best(measure: Callable[[], None], repeat: int) -> float:
    """The shortest of some runs: noise only ever adds."""
    seconds = []
    for _ in range(max(repeat, 3)):
        began = time.perf_counter()
        measure()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def projections(directory: Path) -> list[TensorSpec]:
    return [t for t in open_store(directory).specs.values() if "q_proj" in t.name or "k_proj" in t.name]


def readers(directory: Path) -> dict[str, Callable[[], None]]:
    """Ways of reading the same bytes and doing nothing with them."""
    tensors = projections(directory)
    files = {t.file: os.open(directory / t.file, os.O_RDONLY) for t in tensors}

    def reused(share: list[TensorSpec]) -> None:
        buffer = memoryview(bytearray(CHUNK))
        for t in share:
            for offset in range(t.begin, t.end, CHUNK):
                os.preadv(files[t.file], [buffer[: min(CHUNK, t.end - offset)]], offset)

    def two() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(reused, [tensors[::2], tensors[1::2]]))

    def fresh() -> None:
        for t in tensors:
            np.fromfile(directory / t.file, np.uint16, t.nbytes // 2, offset=t.begin)

    return {
        "1 thread, reused buffer": lambda: reused(tensors),
        "2 threads, reused buffers": two,
        "1 thread, arrays": fresh,
    }


def spawn(what: str, options: argparse.Namespace, directory: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--keep", str(directory), "--backend", options.backend]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def child(what: str, backend: str, directory: Path) -> dict[str, float]:
    """One measurement in a process that does nothing else."""
    if what == "peak":
        return peaks()
    watch = AnonymousMemory()
    seconds = 0.0
    if what != "bare":
        from gatenorm.criteria.scoring import score
        from gatenorm.families import detect_layout

        seconds = score(detect_layout(open_store(directory)), what, backend=backend).seconds
    return {"seconds": seconds, "anonymous": float(watch.stop())}


def peaks() -> dict[str, float]:
    """The best rate of one product of the size that gate-norm needs, in GFLOP/s."""
    import torch

    found = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(WIDTH, WIDTH).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), 5)
        if dtype == torch.float32:
            x, y, z = (t.numpy() for t in (a, b, out))
            seconds = min(seconds, best(lambda x=x, y=y, z=z: np.matmul(x, y, out=z), 3))
        found[name] = 2 * WIDTH**3 / seconds / 1e9
    return found


class AnonymousMemory:
    """The peak of this process's anonymous memory in bytes, sampled a hundred times a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.peak

    def _sample(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, 1024 * int(line.split()[1]))
            if self._ended.wait(0.01):
                return


if __name__ == "__main__":
    main()
