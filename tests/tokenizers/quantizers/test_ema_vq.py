"""Running-average codebooks, k-means and dead codes against plain NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from tessella.errors import ShapeError
from tessella.tokenizers.quantizers import EMAVQ, EMAConfig, kmeans
from tessella.tokenizers.quantizers.distributed import sample_rows


def test_updates_follow_the_recurrence_of_the_paper(generator):
    config = EMAConfig(decay=0.9, eps=1e-3)
    quantizer = EMAVQ(3, 6, ema=config)
    table = quantizer.codebook.double().numpy().copy()
    counts, sums = np.ones(6), table.copy()
    for _ in range(4):
        z = torch.randn(20, 3, generator=generator)
        out = quantizer(z)
        x = z.double().numpy()
        chosen = ((x[:, None] - table[None]) ** 2).sum(-1).argmin(1)
        assert out.indices[:, 0].tolist() == chosen.tolist()
        np.testing.assert_allclose(out.z_q.numpy(), table[chosen], atol=1e-5)
        for k in range(6):
            counts[k] = 0.9 * counts[k] + 0.1 * (chosen == k).sum()
            sums[k] = 0.9 * sums[k] + 0.1 * x[chosen == k].sum(0)
        total = counts.sum()
        smoothed = total * (counts + 1e-3) / (total + 6 * 1e-3)
        table = sums / smoothed[:, None]
        np.testing.assert_allclose(quantizer.codebook.numpy(), table, atol=1e-5)


def test_kmeans_agrees_with_scipy(generator):
    data = torch.randn(200, 4, generator=generator)
    initial = data[:9]
    found = kmeans(data, 9, iterations=6, initial=initial)
    means, _ = kmeans2(data.double().numpy(), initial.double().numpy(), iter=6, minit="matrix")
    np.testing.assert_allclose(found.means.numpy(), means, atol=1e-4)
    assert found.counts.sum() == 200


def test_empty_clusters_keep_their_mean():
    data = torch.tensor([[0.0], [1.0], [10.0]])
    found = kmeans(data, 3, initial=torch.tensor([[0.5], [10.0], [500.0]]))
    assert found.means.flatten().tolist() == [0.5, 10.0, 500.0]
    assert found.counts.tolist() == [2, 1, 0]


def test_kmeans_initialisation_happens_once_and_is_saved(generator):
    quantizer = EMAVQ(4, 8, ema=EMAConfig(decay=0.99, kmeans_iterations=10))
    assert not quantizer.initialised
    z = torch.randn(300, 4, generator=generator)
    quantizer.eval()(z)
    assert not quantizer.initialised
    quantizer.train()
    first = quantizer(z, generator=generator)
    assert quantizer.initialised
    variance = z.var(dim=0).sum() / 4
    assert first.stats["commitment"] < 0.8 * variance  # far better than random codes
    assert first.stats["usage"] == 1
    restored = EMAVQ(4, 8, ema=quantizer.ema)
    restored.load_state_dict(quantizer.state_dict())
    before = restored.codebook.clone()
    restored(z, generator=generator)
    assert (restored.codebook - before).abs().max() < 0.1  # a small step, not a new start


def test_dead_codes_are_replaced_by_vectors_of_the_batch(generator):
    quantizer = EMAVQ(2, 5, ema=EMAConfig(decay=0.5, dead_code_threshold=0.6))
    quantizer.codebook.copy_(torch.tensor([[0.0, 0], [1, 1], [50, 50], [60, 60], [70, 70]]))
    quantizer.sums.copy_(quantizer.codebook)
    z = torch.rand(40, 2, generator=generator)
    quantizer(z, generator=generator)
    rows = {tuple(row) for row in z.tolist()}
    replaced = [tuple(row) for row in quantizer.codebook[2:].tolist()]
    assert all(row in rows for row in replaced) and len(set(replaced)) == 3
    assert quantizer.counts[2:].tolist() == pytest.approx([0.6] * 3)
    torch.testing.assert_close(quantizer.sums[2:], quantizer.codebook[2:] * 0.6)
    assert tuple(quantizer.codebook[0].tolist()) not in rows


def test_revival_brings_a_collapsed_codebook_back_to_use(generator):
    quantizer = EMAVQ(4, 32, ema=EMAConfig(decay=0.8, dead_code_threshold=1.0))
    quantizer.codebook.add_(100)
    quantizer.sums.add_(100)
    z = torch.randn(1000, 4, generator=generator)
    first = quantizer(z, generator=generator).stats["perplexity"]
    for _ in range(10):
        last = quantizer(z, generator=generator).stats["perplexity"]
    assert first < 4
    assert last > 20


def test_cosine_codes_stay_on_the_sphere(generator):
    quantizer = EMAVQ(4, 16, cosine=True, ema=EMAConfig(kmeans_iterations=3, decay=0.5))
    for _ in range(3):
        quantizer(torch.randn(50, 4, generator=generator) * 7, generator=generator)
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(16))


def test_samples_are_rows_without_replacement_where_possible(generator):
    rows = torch.arange(30.0).view(10, 3)
    sample = sample_rows(rows, 10, generator=generator)
    assert sorted(sample[:, 0].tolist()) == rows[:, 0].tolist()
    more = sample_rows(rows, 25, generator=generator)
    assert more.shape == (25, 3) and set(more[:, 0].tolist()) <= set(rows[:, 0].tolist())
    with pytest.raises(ShapeError, match="without vectors"):
        sample_rows(rows[:0], 3)


def test_a_seeded_step_repeats(generator):
    z = torch.randn(64, 4, generator=generator)
    torch.manual_seed(3)
    start = EMAVQ(4, 16, ema=EMAConfig(kmeans_iterations=2, dead_code_threshold=2.0))
    tables = []
    for _ in range(2):
        quantizer = EMAVQ(4, 16, ema=start.ema)
        quantizer.load_state_dict(start.state_dict())
        quantizer(z, generator=torch.Generator().manual_seed(11))
        tables.append(quantizer.codebook)
    assert torch.equal(*tables)
