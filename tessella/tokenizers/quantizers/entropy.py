"""Entropies of soft code assignments: the regulariser of lookup-free quantizers.

For binary codes the softmax over negative squared distances factorises over bits,
``P(bit j = 1) = sigmoid(l_j)`` with ``l_j = 4 s u_j / T`` (codes at +-s). Two terms follow:

* the token entropy ``E_s``, the mean entropy of a token's assignment, is a sum of binary
  entropies: O(tokens x bits), exact;
* the codebook entropy ``E_c``, the entropy of the mean assignment, needs one histogram of
  2^bits bins a group. The outer product of the two halves' probabilities turns it into a matrix
  product, streamed over tokens and recomputed in the backward pass. Groups above 16 bits use
  histograms of sub-groups or single bits instead, an upper bound of the joint entropy.

``loss = weight (sample_weight E_s - batch_weight E_c)`` (MAGVIT-v2, arXiv 2310.05737; grouped:
WeTok, arXiv 2508.05599; spherical: BSQ, arXiv 2406.07548). All entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from tessella.errors import ConfigError
from tessella.tokenizers.quantizers.distributed import global_mean

Reduction = Literal["pooled_mean", "per_group_mean", "per_group_sum"]
Marginal = Literal["auto", "exact", "subgroup", "bitwise"]
LogForm = Literal["add", "clamp"]

AUTO_EXACT_BITS = 16
MAX_EXACT_BITS = 18  # the largest codebook that was published with a full histogram
SUBGROUP_BITS = 12
_CHUNK_FLOATS = 2**21

ChunkFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class EntropyConfig:
    """How the entropy penalty is computed and weighted.

    Args:
        weight: factor of the whole penalty.
        sample_weight: factor of the token entropy ``E_s`` (low = confident bits).
        batch_weight: factor of the codebook entropy ``E_c`` (high = all codes in use).
        temperature: ``T`` of the soft assignment.
        reduction: "pooled_mean" averages ``E_s`` over groups and pools all groups into one
            histogram (WeTok's released code); "per_group_sum" keeps a histogram a group and sums
            both terms (WeTok's paper, BSQ); "per_group_mean" averages both.
        marginal: histograms behind ``E_c``: "exact" has 2^bits bins a group (at most 18 bits),
            "subgroup" splits a group into parts of at most 12 bits, "bitwise" treats bits as
            independent; "auto" is exact up to 16 bits and "subgroup" above.
        log_form: "add" computes ``log(m + log_eps)``, "clamp" ``log(max(m, log_eps))``.
        log_eps: the small number of ``log_form``.
        clamp_token_log: whether ``E_s`` clamps its logarithm too, ``-sum p log max(p, log_eps)``
            over the codes of a group of at most 12 bits, streamed: for the last digits of
            vector-quantize-pytorch. Otherwise ``E_s`` is exact and O(tokens x bits).
        reduce_marginal: whether ``E_c`` is that of the joint batch of all processes.
    """

    weight: float = 0.1
    sample_weight: float = 1.0
    batch_weight: float = 1.0
    temperature: float = 0.01
    reduction: Reduction = "pooled_mean"
    marginal: Marginal = "auto"
    log_form: LogForm = "add"
    log_eps: float = 1e-5
    clamp_token_log: bool = False
    reduce_marginal: bool = True

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.log_eps <= 0:
            raise ConfigError(
                f"temperature={self.temperature}, log_eps={self.log_eps} given; expected above 0"
            )
        _check_choice(
            "reduction", self.reduction, ("pooled_mean", "per_group_mean", "per_group_sum")
        )
        _check_choice("marginal", self.marginal, ("auto", "exact", "subgroup", "bitwise"))
        _check_choice("log_form", self.log_form, ("add", "clamp"))


class Entropies(NamedTuple):
    """Token entropy ``E_s`` and codebook entropy ``E_c``, scalars in nats."""

    token: Tensor
    codebook: Tensor


def factorized_entropies(logits: Tensor, config: EntropyConfig) -> Entropies:
    """Compute both entropies of factorised binary assignments.

    Args:
        logits: ``(N, G, d)`` logits ``l`` of ``P(bit = 1)``.
        config: reductions, histograms and logarithms.
    """
    per_group = _token_entropies(logits, config)
    token = per_group.sum() if config.reduction == "per_group_sum" else per_group.mean()
    codebook = logits.new_zeros(())
    for histograms in bit_marginals(
        logits, marginal=config.marginal, reduce=config.reduce_marginal
    ):
        if config.reduction == "pooled_mean":
            histograms = histograms.mean(dim=0, keepdim=True)
        summed = entropy_of(histograms, log_form=config.log_form, log_eps=config.log_eps).sum()
        codebook = codebook + (
            summed / logits.shape[1] if config.reduction == "per_group_mean" else summed
        )
    return Entropies(token, codebook)


def _token_entropies(logits: Tensor, config: EntropyConfig) -> Tensor:
    """Average the entropy of the tokens' assignments, ``(N, G, d) -> (G,)``."""
    if not config.clamp_token_log:
        return binary_entropy(logits).sum(dim=-1).mean(dim=0)
    groups, bits = logits.shape[1:]
    if bits > SUBGROUP_BITS:
        raise ConfigError(
            f"clamp_token_log given for groups of {bits} bits; expected at most {SUBGROUP_BITS}: "
            "leave it off, the exact entropy differs by about a millionth"
        )
    function = partial(_clamped_entropies, eps=config.log_eps)
    total: Tensor = _StreamedSum.apply(logits, function, groups * 2**bits)
    return total / logits.shape[0]


def entropy_penalty(
    entropies: Entropies, config: EntropyConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weight two entropies into the penalty and its stats."""
    raw = config.sample_weight * entropies.token - config.batch_weight * entropies.codebook
    stats = {
        "token_entropy": entropies.token.detach(),
        "codebook_entropy": entropies.codebook.detach(),
    }
    return config.weight * raw, stats


def binary_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of ``sigmoid(logits)``, elementwise, finite for any logit.

    ``-p log p`` is NaN in the gradient once the sigmoid saturates; this form is not.
    """
    a = logits.abs()
    return nn.functional.softplus(-a) + a * torch.sigmoid(-a)


def entropy_of(probabilities: Tensor, *, log_form: LogForm, log_eps: float) -> Tensor:
    """Return the entropy of distributions along the last axis, ``(..., M) -> (...)``."""
    if log_form == "add":
        logs = (probabilities + log_eps).log()
    else:
        logs = probabilities.clamp_min(log_eps).log()
    return -(probabilities * logs).sum(dim=-1)


def bit_marginals(
    logits: Tensor, *, marginal: Marginal = "auto", reduce: bool = True
) -> Iterator[Tensor]:
    """Yield histograms of the mean assignment, first bit least significant.

    Args:
        logits: ``(N, G, d)``.
        marginal: see :class:`EntropyConfig`.
        reduce: whether to average over all processes.

    Yields:
        ``(G, P, 2^s)``: P parts of s bits of every group; one or two tensors cover all bits.
    """
    tokens, groups, bits = logits.shape
    start = 0
    for size, parts in histogram_parts(bits, marginal):
        piece = logits[..., start : start + size * parts].reshape(tokens, groups * parts, size)
        cost = groups * parts * 2 ** (size - size // 2)
        total: Tensor = _StreamedSum.apply(piece, _summed_probabilities, cost)
        yield global_mean(total, tokens, reduce=reduce).view(groups, parts, 2**size)
        start += size * parts


def histogram_parts(bits: int, marginal: Marginal) -> list[tuple[int, int]]:
    """Return how a group's bits fall into histograms, as ``(bits of a part, parts)``.

    Raises:
        ConfigError: if "exact" is asked for more than 18 bits.
    """
    if marginal == "bitwise":
        return [(1, bits)]
    if marginal == "exact" and bits > MAX_EXACT_BITS:
        raise ConfigError(
            f"marginal='exact' given for groups of {bits} bits: a histogram of 2^{bits} bins; "
            f"expected at most {MAX_EXACT_BITS} bits. Use 'subgroup' or 'bitwise', or more groups"
        )
    if marginal == "exact" or (marginal == "auto" and bits <= AUTO_EXACT_BITS):
        return [(bits, 1)]
    parts = -(-bits // SUBGROUP_BITS)
    small, extra = divmod(bits, parts)
    return [(size, n) for size, n in ((small + 1, extra), (small, parts - extra)) if n]


class _StreamedSum(torch.autograd.Function):
    """``sum over chunks of function(chunk)`` of ``(N, M, s)`` logits, split along tokens.

    Both passes stream over tokens, so that only the logits outlive the forward pass.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, function: ChunkFunction, cost: int) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.function, ctx.cost = function, cost  # type: ignore[attr-defined]
        chunks = _token_chunks(logits, cost)
        total = function(chunks[0])
        for chunk in chunks[1:]:
            total = total + function(chunk)
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors  # type: ignore[attr-defined]
        grads = []
        for chunk in _token_chunks(logits, ctx.cost):  # type: ignore[attr-defined]
            with torch.enable_grad():
                leaf = chunk.detach().requires_grad_()
                total = ctx.function(leaf)  # type: ignore[attr-defined]
            grads.append(torch.autograd.grad(total, leaf, grad)[0])
        return torch.cat(grads), None, None


def _token_chunks(logits: Tensor, cost: int) -> tuple[Tensor, ...]:
    """Split along tokens so that ``cost`` floats a token stay within the budget."""
    return torch.split(logits, max(1, _CHUNK_FLOATS // max(1, cost)))


def _summed_probabilities(logits: Tensor) -> Tensor:
    low_bits = logits.shape[2] // 2
    low = _code_probabilities(logits[..., :low_bits]).transpose(0, 1)
    high = _code_probabilities(logits[..., low_bits:]).transpose(0, 1)
    return torch.bmm(high.transpose(1, 2), low).flatten(1)


def _clamped_entropies(logits: Tensor, eps: float) -> Tensor:
    """Sum over tokens of ``-sum_a p_a log max(p_a, eps)``, ``(N, M, s) -> (M,)``."""
    p = _code_probabilities(logits)
    return entropy_of(p, log_form="clamp", log_eps=eps).sum(dim=0)


def _code_probabilities(logits: Tensor) -> Tensor:
    """Multiply bit probabilities out, ``(..., s) -> (..., 2^s)``, first bit least significant."""
    ones = torch.sigmoid(logits)
    zeros = torch.sigmoid(-logits)
    table = logits.new_ones(*logits.shape[:-1], 1)
    for j in range(logits.shape[-1]):
        table = torch.cat([table * zeros[..., j, None], table * ones[..., j, None]], dim=-1)
    return table


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} given; expected one of {', '.join(allowed)}")


__all__ = [
    "Entropies",
    "EntropyConfig",
    "LogForm",
    "Marginal",
    "Reduction",
    "binary_entropy",
    "bit_marginals",
    "entropy_of",
    "entropy_penalty",
    "factorized_entropies",
    "histogram_parts",
]
