"""The numeric tests on every kind of CPU that this one can stand in for: `make test-isa`.

oneDNN (the LSTM), PyTorch's own kernels, MKL and NumPy each choose their code by the CPU, and still
have the code of older ones. Each cell of the table is one run of the tests, in a process of its
own. What this CPU lacks is left out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What computes with floats; the rest of the suite is the same on every CPU.
TESTS = [
    *(
        f"tests/lstmcls/test_{name}.py"
        for name in (
            "artifact", "dataset", "evaluate", "fit", "linear", "metrics", "model", "ngrams",
            "onnx", "optimizer", "predict", "train",
        )
    ),
    *(f"tests/tune/test_{name}.py" for name in ("ablation", "intervals", "trial")),
]  # fmt: skip

THREADS = ("1", "2", "4")
SSE, AVX2 = {"sse4_1", "sse4_2"}, {"avx2", "fma"}
AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
# By name: the flags of /proc/cpuinfo that it needs. `default` of oneDNN is all that the CPU has,
# `default` of PyTorch's kernels is the least that they know.
ONEDNN: dict[str, set[str]] = {"SSE41": SSE, "AVX2": AVX2, "AVX512_CORE": AVX512, "default": set()}
ATEN: dict[str, set[str]] = {"default": set(), "avx2": AVX2, "avx512": AVX512}
# MKL and NumPy go with PyTorch's kernels.
WITH_ATEN: dict[str, dict[str, str]] = {
    "default": {
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    },
    "avx2": {
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
    "avx512": {},
}
Cell = tuple[str, str, str]  # of ONEDNN, of ATEN, of THREADS


def cpu_flags() -> set[str]:
    """As Linux names them; none on a CPU that is no x86, where the defaults are left."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def cells(few: bool) -> Iterator[Cell]:
    """All combinations that this CPU has.

    `few`: every level of PyTorch's below the CPU's own, which `make test` has, once, each on other
    threads.
    """
    flags = cpu_flags()
    onednn, aten = ([name for name, needs in of.items() if needs <= flags] for of in (ONEDNN, ATEN))
    if few:
        yield from zip(onednn, aten[:-1], itertools.cycle(("2", "4")), strict=False)
    else:
        yield from itertools.product(onednn, aten, THREADS)


def environment(cell: Cell) -> Mapping[str, str]:
    onednn, aten, threads = cell
    return {
        **os.environ,
        **WITH_ATEN[aten],
        **({} if onednn == "default" else {"ONEDNN_MAX_CPU_ISA": onednn}),
        "ATEN_CPU_CAPABILITY": aten,
        "TEST_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # more threads than cores must not spin while they wait
    }


def run(cell: Cell) -> tuple[str | None, float]:
    """What pytest said if a test failed, and the seconds of CPU."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        tests = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=ROOT, env=environment(cell), stdout=said, stderr=said,
        )  # fmt: skip
        _, status, usage = os.wait4(tests.pid, 0)
        tests.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return (said.read() if tests.returncode else None), usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--few", action="store_true", help="each older instruction set once")
    chosen, failures = list(cells(parser.parse_args().few)), ""
    print(f"{'oneDNN':12} {'PyTorch':8} threads  result  CPU seconds", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for cell, (said, seconds) in zip(chosen, pool.map(run, chosen), strict=True):
            result = "ok" if said is None else "FAILED"
            print(f"{cell[0]:12} {cell[1]:8} {cell[2]:>7}  {result:6}  {seconds:11.0f}", flush=True)
            if said is not None:
                failures += f"\n{' '.join(cell)}:\n{said[-5000:]}"
    print(failures, end="")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
