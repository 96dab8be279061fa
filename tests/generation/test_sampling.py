"""Drawing of tokens against plain loops, and noise that belongs to a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tessella.errors import ConfigError, ShapeError
from tessella.generation.guidance import guidance_weights
from tessella.generation.sampling import Sampling, draw, exponential, filtered, probabilities


def reference(logits: np.ndarray, top_k: int, top_p: float, temperature: float) -> np.ndarray:
    """Probabilities of one token, by sorting and counting."""
    x = logits.astype(np.float64) / temperature
    order = np.argsort(-x, kind="stable")
    allowed = np.ones(len(x), bool)
    if top_k:
        allowed &= x >= x[order[min(top_k, len(x)) - 1]]
    chances = np.where(allowed, np.exp(x - x.max()), 0)
    chances /= chances.sum()
    if 0 < top_p < 1:
        # from the least likely on, while all of them together have at most 1 - top_p
        ascending = np.argsort(x, kind="stable")
        below = 0.0
        for place in ascending[:-1]:
            below += chances[place]
            if below > 1 - top_p:
                break
            allowed[place] = False
        chances = np.where(allowed, chances, 0)
        chances /= chances.sum()
    return chances


@given(
    st.integers(0, 40),
    st.sampled_from([0.0, 0.3, 0.9, 0.97, 1.0]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 1000),
)
def test_probabilities_are_those_of_a_plain_loop(
    top_k: int, top_p: float, temperature: float, seed: int
) -> None:
    logits = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(seed)) * 3
    sampling = Sampling(top_k=top_k, top_p=top_p, temperature=temperature)
    found = probabilities(logits, sampling)
    for row, chances in zip(logits.view(-1, 32), found.view(-1, 32), strict=True):
        expected = reference(row.numpy(), top_k, top_p, temperature)
        np.testing.assert_allclose(chances.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found, filtered(logits, sampling).softmax(dim=-1))


def test_ties_at_the_cut_all_stay() -> None:
    logits = torch.tensor([[[2.0, 1.0, 1.0, 1.0, 0.0]]])
    assert probabilities(logits, Sampling(top_k=2)).gt(0).tolist() == [[[True] * 4 + [False]]]
    assert probabilities(logits, Sampling(top_k=2, top_p=0.9)).gt(0).sum() == 4


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(1, 20_000, 4)
    drawn = draw(logits, Sampling(), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn.flatten(), minlength=4) / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015, rtol=0)


def test_noise_of_a_picture_does_not_depend_on_the_batch() -> None:
    logits = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))

    def noise(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    sampling = Sampling(top_k=8, top_p=0.95)
    together = draw(logits, sampling, noise(7, 8, 9))
    alone = draw(logits[1:2], sampling, noise(8))
    assert torch.equal(together[1:2], alone)
    assert torch.equal(draw(logits[1:2], sampling, noise(8)[0]), alone)
    spread = exponential(logits, noise(7, 8, 9))
    assert torch.equal(spread[1], exponential(logits[1:2], noise(8))[0])
    with pytest.raises(ShapeError, match="2 generators given for 3 pictures"):
        draw(logits, sampling, noise(1, 2))


def test_greedy_needs_no_noise() -> None:
    logits = torch.randn(2, 4, 9)
    assert torch.equal(draw(logits, Sampling(greedy=True), None), logits.argmax(dim=-1))
    noise = torch.Generator().manual_seed(0)
    assert torch.equal(draw(logits, Sampling(top_k=1), noise), logits.argmax(dim=-1))


@pytest.mark.parametrize("options", [{"top_k": -1}, {"top_p": 1.5}, {"temperature": 0.0}])
def test_impossible_settings(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="given; expected"):
        Sampling(**options)  # type: ignore[arg-type]


def test_guidance() -> None:
    assert guidance_weights(2.0, "linear", 5) == (1.0, 1.5, 2.0, 2.5, 3.0)
    assert guidance_weights(3.0, "constant", 2) == (3.0, 3.0)
    assert guidance_weights([1, 2], "constant", 2) == (1.0, 2.0)
    assert all(math.isclose(w, 1) for w in guidance_weights(0.0, "linear", 4))
    with pytest.raises(ConfigError, match="2 guidance weights given; expected 3"):
        guidance_weights([1, 2], "linear", 3)
    with pytest.raises(ConfigError, match="expected 0 or more"):
        guidance_weights(-1.0, "linear", 3)
