"""Statistics of tokens against plain loops and SciPy."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from tessella.errors import ShapeError
from tessella.eval.metrics import BitsPerPixel, CodebookUse, TokenDensity, TokenLanguage
from tessella.eval.rate import (
    fixed_rate,
    likelihood_bits_per_pixel,
    rgb_ratio,
    sequence_perplexity,
    token_density,
)
from tessella.eval.token_counts import codebook_statistics, gini, zipf_exponent
from tessella.eval.token_language import huffman, mutual_information, ngrams
from tessella.tokens import LevelLayout, TokenLayout


def entropy(symbols: list[object]) -> float:
    counts = Counter(symbols).values()
    return -sum(c / len(symbols) * math.log2(c / len(symbols)) for c in counts)


def tokens(seed: int = 0, size: int = 11) -> np.ndarray:
    draws = np.random.default_rng(seed).zipf(1.6, (6, 4, 5))
    return np.minimum(draws - 1, size - 1).astype(np.int64)


def test_codebook_statistics_equal_loops() -> None:
    values = tokens()
    found = codebook_statistics(np.bincount(values.ravel(), minlength=13))
    symbols = values.ravel().tolist()
    used = len(set(symbols))
    assert (found.tokens, found.used) == (120, used)
    assert found.usage == used / 13
    assert found.entropy == pytest.approx(entropy(symbols), rel=1e-12)
    assert found.perplexity == pytest.approx(2 ** entropy(symbols))
    assert found.normalised_entropy == pytest.approx(entropy(symbols) / math.log2(13))
    counts = np.bincount(symbols, minlength=13).astype(float)
    differences = np.abs(counts[:, None] - counts[None]).sum()
    assert found.gini == pytest.approx(differences / (2 * 13 * counts.sum()))


def test_uniform_and_single_codes() -> None:
    uniform = codebook_statistics([5] * 8)
    assert uniform.perplexity == pytest.approx(8)
    assert uniform.zipf == pytest.approx(0, abs=1e-9)
    assert gini([5] * 8) == pytest.approx(0, abs=1e-12)
    single = codebook_statistics([0, 7, 0, 0])
    assert (single.usage, single.entropy, single.perplexity) == (0.25, 0, 1)
    assert math.isfinite(single.zipf)
    with pytest.raises(ShapeError, match="at least one token"):
        codebook_statistics([0, 0])


def test_zipf_exponent_is_the_maximum_of_the_likelihood() -> None:
    from scipy.optimize import minimize_scalar

    counts = np.sort(np.bincount(tokens(3, 60).ravel()))[::-1]
    counts = counts[counts > 0]
    logs = np.log(np.arange(1, len(counts) + 1))
    best = minimize_scalar(
        lambda s: s * (counts * logs).sum() + counts.sum() * np.log(np.exp(-s * logs).sum()),
        bounds=(-3, 6),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert zipf_exponent(counts) == pytest.approx(best.x, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ngrams_equal_loops(n: int) -> None:
    pictures = [*tokens(), tokens(1)[0, :1, :2], tokens(2)[1, :2, :3]]
    grams: list[object] = []
    for picture in pictures:
        row = picture.ravel().tolist()
        grams += [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    found = ngrams(pictures, n)
    assert (found.total, found.distinct) == (len(grams), len(set(grams)))
    assert found.entropy == pytest.approx(entropy(grams), rel=1e-12)
    assert found.corrected_entropy > found.entropy
    assert 0 < found.distinct_share <= 1


def test_mutual_information_equals_loops() -> None:
    x, y = tokens(0).ravel(), tokens(1).ravel()
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    expected = entropy(x.tolist()) + entropy(y.tolist()) - entropy(pairs)
    assert mutual_information(x, y) == pytest.approx(expected, abs=1e-12)
    assert mutual_information(x, x) == pytest.approx(entropy(x.tolist()))


def test_huffman_is_within_one_bit_of_the_entropy() -> None:
    counts = np.bincount(tokens().ravel(), minlength=16)
    found = huffman(counts, 16)
    bits = codebook_statistics(counts).entropy
    assert bits <= found.mean_bits < bits + 1
    assert huffman([1, 1, 2, 4], 4).total_bits == 3 + 3 + 4 + 4
    assert huffman([0, 9], 2).total_bits == 9


def test_groups_are_counted_alone_and_jointly() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.stack(
        [torch.randint(0, k, (4, 5, 6), generator=generator) for k in (3, 5)], dim=-1
    )
    metric = CodebookUse([3, 5], joint=True)
    for batch in torch.split(values, 3):
        metric.update(batch)
    first, second, joint = metric.compute()
    assert first.tokens == second.tokens == joint.tokens == 120
    pairs = [tuple(pair) for pair in values.flatten(0, 2).tolist()]
    assert joint.entropy == pytest.approx(entropy(pairs))
    assert first.entropy + second.entropy >= joint.entropy
    with pytest.raises(ShapeError, match="below"):
        metric.update(values + 2)
    with pytest.raises(ShapeError, match="integers"):
        metric.update(values[..., :1])
    with pytest.raises(ShapeError, match="2\\^24"):
        CodebookUse([2**13, 2**12], joint=True)


def test_language_of_repeated_pictures_and_of_sequences() -> None:
    values = torch.from_numpy(tokens())
    metric = TokenLanguage(11)
    metric.update(values)
    metric.update(values[:, :2, :3])  # another size
    metric.update(values.flatten(1))  # sequences
    found = metric.compute()
    assert found.ngrams[0].total == 6 * (20 + 6 + 20)
    assert found.innovation[5] == found.innovation[-1] == len(set(values.flatten().tolist()))
    assert found.conditional_entropies[0] <= found.ngrams[0].entropy
    assert found.vertical_information > 0
    assert found.zlib_ratio > 1
    with pytest.raises(ShapeError, match="one group"):
        metric.update(values[..., None])


def test_rates() -> None:
    layout = TokenLayout((LevelLayout((16, 16), (16384,)),), (256, 256))
    assert fixed_rate(layout) == pytest.approx(0.0547, abs=5e-5)
    assert rgb_ratio(layout) == pytest.approx(24 * 256 * 256 / (256 * 14))
    metric = BitsPerPixel()
    metric.update(100, 10, 20)
    metric.update(50, 10, 10)
    found = metric.compute()
    assert (float(found.mean), float(found.pooled)) == (4.0, 4.0)
    nats = torch.full((2, 8), math.log(4))
    assert sequence_perplexity(nats) == pytest.approx(4)
    assert likelihood_bits_per_pixel(nats, 4, 4).tolist() == pytest.approx([1.0, 1.0])
    with pytest.raises(ShapeError, match="0 x 5"):
        metric.update(1, 0, 5)


def test_token_density_of_the_published_table() -> None:
    for accuracy, kept, expected in ((57.72, 13.08, 4.412), (57.46, 32, 1.796)):
        assert token_density(accuracy, kept) == pytest.approx(expected, abs=2e-3)
    metric = TokenDensity()
    metric.update(torch.tensor([True, False]), torch.tensor([10, 30]))
    metric.update(torch.tensor([True, True]), torch.tensor([20, 20]))
    assert float(metric.compute()) == pytest.approx(75 / 20)
    with pytest.raises(ShapeError, match="positive"):
        token_density(50.0, 0)
    with pytest.raises(ShapeError, match="one each"):
        metric.update(torch.tensor([True]), torch.tensor([1, 2]))
