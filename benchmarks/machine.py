"""The machine and the day, for the head of a benchmark's table."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

import psutil
import torch


def described() -> str:
    """One line: processor, cores, memory, GPU, versions, date."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, {gpu}; Python {platform.python_version()}, torch {torch.__version__}; "
        f"{date.today()}"
    )
