"""How long `lstmcls.prepare` takes and what memory, and how both grow with the rows.

`python benchmarks/preparing.py REVIEWS.parquet --copies 1 10`. Of each file one copy is the
reviews as they are; in every other one word in twenty is another review's, and one is new, so
that no row is a duplicate and the vocabulary grows as that of real texts does. All of it lies in
a temporary folder: 100 copies of IMDB's 25,000 reviews take 3 GB there.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from machine import described

from lstmcls.reading import Batch, open_file

REPLACED = 20  # one word in so many


def copied(path: Path, copies: int) -> Iterator[Batch]:
    """The batches of the file at `path`, `copies` times, no row like another."""
    source, draw = open_file(path), random.Random(0)
    words = " ".join(next(source.batches()).texts).split(" ")
    for copy in range(copies):
        for batch in source.batches():
            texts = [_changed(text, copy, words, draw) if copy else text for text in batch.texts]
            yield Batch(texts, batch.labels)


def _changed(text: str, copy: int, words: list[str], draw: random.Random) -> str:
    mine = text.split(" ")
    for at in range(draw.randrange(REPLACED), len(mine), REPLACED):
        mine[at] = draw.choice(words)
    mine[draw.randrange(len(mine))] += str(copy)
    return " ".join(mine)


def write_copies(path: Path, copies: int, to: Path) -> int:
    """A Parquet file of `copied` rows; their number."""
    rows = 0
    schema = pa.schema({"text": pa.string(), "label": pa.string()})
    with pq.ParquetWriter(to, schema, compression="zstd") as writer:
        for batch in copied(path, copies):
            writer.write_table(pa.table(list(batch), schema=schema))
            rows += len(batch.texts)
    return rows


def measure(file: Path, out: Path, tokenizer: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of preparing `file` in a process of its own."""
    command = ["-m", "lstmcls.prepare", str(file), "--out", str(out), "--tokenizer", tokenizer]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{file.name} was not prepared")
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews", type=Path, help="a labelled file, such as IMDB's 25,000 rows")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--tokenizers", nargs="+", default=["word", "bpe"])
    args = parser.parse_args()
    print(f"{described()}\n")
    print("| rows | file, MB | tokenizer | seconds | CPU seconds | peak MiB | ids, MB |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "reviews.parquet", Path(folder) / "prepared"
        for copies in args.copies:
            rows = write_copies(args.reviews, copies, file)
            size = file.stat().st_size / 1e6
            for tokenizer in args.tokenizers:
                seconds, cpu, peak = measure(file, out, tokenizer)
                ids = sum(path.stat().st_size for path in out.glob("*.parquet")) / 1e6
                print(
                    f"| {rows:,} | {size:.0f} | {tokenizer} | {seconds:.1f} | {cpu:.1f} "
                    f"| {peak:.0f} | {ids:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
