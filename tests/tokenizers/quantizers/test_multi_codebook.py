"""Codes are drawn by their probabilities, counted, and renewed where they are dead."""

from __future__ import annotations

import pytest
import torch

from tessella.errors import ConfigError
from tessella.tokenizers.layers.lower_bound import at_least
from tessella.tokenizers.quantizers.code_frequencies import without_dead_codes
from tessella.tokenizers.quantizers.gumbel import gumbel_codes, seeded_uniforms
from tessella.tokenizers.quantizers.multi_codebook import MultiCodebookVQ


def test_codes_are_drawn_by_their_distance(generator: torch.Generator) -> None:
    codebook = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    vector = torch.tensor([0.3, 0.2])
    noise = seeded_uniforms(3, codebook.device, generator)
    rows = vector.expand(20_000, 2)
    _, indices = gumbel_codes(rows, codebook, torch.tensor(0.7), noise, max_scores=9_000)
    found = torch.bincount(indices, minlength=3) / len(indices)
    expected = torch.softmax(-0.7 * (vector - codebook).square().sum(dim=1), dim=0)
    torch.testing.assert_close(found, expected, atol=0.015, rtol=0)


def test_blocks_draw_again_what_they_drew(generator: torch.Generator) -> None:
    codebook = torch.randn(16, 4, generator=generator, requires_grad=True)
    vectors = torch.randn(50, 4, generator=generator)
    scale = torch.tensor(1.0)
    noise = seeded_uniforms(16, vectors.device, generator)
    whole = torch.cat([noise(start, min(start + 10, 50)) for start in range(0, 50, 10)])
    codes, indices = gumbel_codes(vectors, codebook, scale, noise, max_scores=160)
    same, again = gumbel_codes(vectors, codebook, scale, lambda a, b: whole[a:b])
    assert torch.equal(indices, again)
    (gradient,) = torch.autograd.grad(codes.square().sum(), codebook)
    (expected,) = torch.autograd.grad(same.square().sum(), codebook)
    torch.testing.assert_close(gradient, expected)


def test_evaluation_takes_the_nearest_code_of_each_part(generator: torch.Generator) -> None:
    quantizer = MultiCodebookVQ(6, 20, 3).eval()
    z = torch.randn(40, 6, generator=generator)
    found = quantizer(z)
    distance = torch.cdist(z.view(40, 3, 2).transpose(0, 1), quantizer.codebook)
    assert torch.equal(found.indices, distance.argmin(dim=-1).T)


def test_frequencies_are_averaged_and_weigh_the_mean_code() -> None:
    quantizer = MultiCodebookVQ(2, 4, 2, decay=0.75)
    quantizer.count(torch.tensor([[0, 3], [0, 3], [1, 3], [2, 3]]))
    rest = 0.75 / 4
    first = torch.tensor([rest + 0.125, rest + 0.0625, rest + 0.0625, rest])
    second = torch.tensor([rest, rest, rest, rest + 0.25])
    torch.testing.assert_close(quantizer.probabilities, torch.stack([first, second]))
    mean = torch.stack([first @ quantizer.codebook[0], second @ quantizer.codebook[1]]).flatten()
    torch.testing.assert_close(quantizer.mean_code(), mean)


def test_dead_codes_move_to_codes_in_use(generator: torch.Generator) -> None:
    quantizer = MultiCodebookVQ(4, 64, 1, renew_every=3)
    z = quantizer.codebook.detach()[0, :40].clone()
    quantizer.decay = 0.0
    assert [float(quantizer(z, generator=generator).stats["renewed"]) for _ in range(3)] == [0] * 3
    assert float(quantizer(z, generator=generator).stats["renewed"]) == pytest.approx(24 / 64)
    table = quantizer.codebook.detach()[0]
    assert torch.equal(table[:40], z)
    assert len(table.unique(dim=0)) == 40
    copies = torch.cdist(table[40:], z).argmin(dim=1)
    assert len(copies.unique()) == 24  # without replacement


@pytest.mark.parametrize(("size", "alive"), [(8, 1), (9, 2), (7, 0)])
def test_no_more_than_half_of_the_codes_move(
    size: int, alive: int, generator: torch.Generator
) -> None:
    codebook = torch.arange(float(size))[:, None]
    frequencies = torch.zeros(size)
    frequencies[:alive] = 1.0
    if not alive:
        frequencies += 1e-9
        frequencies[0] = 1e9
    renewed = without_dead_codes(
        codebook, frequencies, 1e-3, lambda n: torch.randperm(n, generator=generator)
    )
    moved = (renewed != codebook).squeeze(1)
    assert int(moved.sum()) == size // 2
    assert not bool(moved[0])
    assert set(renewed.flatten().tolist()) <= set(codebook.flatten().tolist())


def test_some_positions_take_any_code(generator: torch.Generator) -> None:
    quantizer = MultiCodebookVQ(2, 8, 1, permutation_rate=0.5)
    with torch.no_grad():
        quantizer.codebook.mul_(100)  # far apart: what is drawn is the nearest
    z = quantizer.codebook.detach()[0, :1].expand(4000, 2).clone().requires_grad_()
    found = quantizer(z, generator=generator)
    share = (found.indices != 0).float().mean()
    assert float(share) == pytest.approx(0.5 * 7 / 8, abs=0.03)
    assert torch.equal(found.z_q, quantizer.indices_to_codes(found.indices))
    (found.z_q.sum()).backward()
    assert not bool(z.grad[found.indices[:, 0] != 0].any())


def test_a_bound_lets_values_come_back() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    y = at_least(x, 0.5)
    assert y.tolist() == [0.5, 0.5, 2.0, 2.0]
    y.backward(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert x.grad.tolist() == [0.0, -1.0, 1.0, -1.0]


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="expected a multiple of groups"):
        MultiCodebookVQ(6, 8, 4)
