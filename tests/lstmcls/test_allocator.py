"""Freed memory is kept: a training step that has been seen before costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, for what is kept is kept to the end of it.
_FAULTS_OF_A_STEP = """
import resource, torch
from lstmcls.allocator import keep_freed_memory
torch.set_num_threads(1)
lstm = torch.nn.LSTM(64, 64, batch_first=True)
def faults():
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        lstm(torch.ones(64, 200, 64))[0].sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
assert keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_a_step_costs_no_page_faults_again() -> None:
    command = [sys.executable, "-c", _FAULTS_OF_A_STEP]
    given_back, kept = subprocess.run(command, capture_output=True, check=True).stdout.split()
    assert int(kept) < int(given_back) / 10
