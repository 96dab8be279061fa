from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_probe import LargestTensor

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers import nearest_codes
from tessella.tokenizers.quantizers.nearest import match_codes


def brute_force(z: torch.Tensor, codebook: torch.Tensor, metric: str) -> np.ndarray:
    a, b = z.double().numpy(), codebook.double().numpy()
    if metric == "dot":
        return np.einsum("nd,kd->nk", a, b)
    return -((a[:, None] - b[None]) ** 2).sum(axis=2)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 70),
    st.integers(1, 90),
    st.integers(1, 9),
    st.integers(1, 200),
    st.sampled_from(["euclidean", "dot"]),
    st.integers(0, 2**31),
)
def test_search_finds_the_best_code_for_any_block_size(n, k, d, max_scores, metric, seed):
    g = torch.Generator().manual_seed(seed)
    z, codebook = torch.randn(n, d, generator=g), torch.randn(k, d, generator=g)
    scores = brute_force(z, codebook, metric)
    found = nearest_codes(z, codebook, metric=metric, max_scores=max_scores).numpy()
    gap = scores.max(axis=1) - scores[np.arange(n), found]
    assert gap.max() < 1e-5  # a near-tie may fall either way
    assert (found[gap == 0] == scores.argmax(axis=1)[gap == 0]).all()


@pytest.mark.parametrize("max_scores", [1, 7, 64, 10_000])
def test_ties_go_to_the_lowest_index(max_scores):
    codebook = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0], [0, 1]]).repeat(30, 1)
    z = torch.tensor([[1.0, 0], [0, 1], [2, 0]])
    assert nearest_codes(z, codebook, max_scores=max_scores).tolist() == [0, 1, 0]


def test_leading_axes_are_kept_and_empty_batches_pass():
    codebook = torch.randn(5, 3)
    assert nearest_codes(torch.randn(2, 4, 3), codebook).shape == (2, 4)
    assert nearest_codes(torch.empty(0, 3), codebook).shape == (0,)


def test_half_precision_vectors_are_searched_in_float32():
    codebook = torch.arange(1000.0).unsqueeze(1)
    z = torch.tensor([[251.0], [252.0], [253.0]], dtype=torch.bfloat16)
    assert nearest_codes(z, codebook.half()).tolist() == [251, 252, 253]


def test_scores_exist_for_one_block_at_a_time():
    z, codebook = torch.randn(1500, 4), torch.randn(3000, 4)
    with LargestTensor() as probe:
        nearest_codes(z, codebook, max_scores=2**16)
    result_bytes = 8 * len(z)
    assert probe.bytes <= max(4 * 2**16, z.numel() * 4, result_bytes)  # all scores: 18 MB


def test_widths_that_differ_are_refused():
    with pytest.raises(ShapeError, match=r"\(7, 3\) and a codebook \(5, 4\)"):
        nearest_codes(torch.randn(7, 3), torch.randn(5, 4))


def test_codes_are_matched_exactly_where_expanded_distances_cannot_tell_them_apart():
    codebook = 1000 + torch.arange(300.0).unsqueeze(1) * 1e-3
    assert (nearest_codes(codebook, codebook) != torch.arange(300)).any()
    assert torch.equal(match_codes(codebook, codebook, max_scores=1000), torch.arange(300))


# getrusage would tell the peak of the process that started this one, if that was larger
PEAK = """
import torch
from pathlib import Path
from tessella.tokenizers.quantizers.nearest import nearest_codes
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
torch.manual_seed(0)
z, codebook = torch.randn(1_000_000, 8), torch.randn(16384, 8)
nearest_codes(z[:1000], codebook)
before = peak()
found = nearest_codes(z, codebook)
print(before, peak())
rows = torch.randint(1_000_000, (300,))
assert torch.equal(found[rows], torch.cdist(z[rows].double(), codebook.double()).argmin(1))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's accounts")
@pytest.mark.slow
def test_a_million_vectors_and_16384_codes_stay_under_a_gigabyte():
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, peak = map(int, done.stdout.split())
    assert peak < 2**30  # the whole process, libraries included
    assert peak - before < 100e6
