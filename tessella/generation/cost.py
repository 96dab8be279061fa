"""Operations and bytes of next-scale generation by formula (a multiply-add counts two).

For one branch and picture, width C, D layers, n_k tokens in scale k, N in all, and T_k keys visible
there:

    linear layers   24 C^2 D N           (8 of attention, 16 of a perceptron four times as wide)
    attention       4 C D sum_k n_k T_k
    head            2 C V N
    inputs          2 c C (N - n_0)
    keys, values    2 b C D S            (b bytes a number; S tokens kept as the last scale begins)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessella.generation.kv_cache.base import CacheGeometry


@dataclass(frozen=True, slots=True)
class TransformerSizes:
    """The sizes that the formulas need.

    Args:
        width: ``C``.
        depth: ``D``.
        inputs: ``c``, channels read of the running sum.
        logits: ``V``, numbers predicted for a token.
        mlp_ratio: hidden width of the perceptrons over the width.
    """

    width: int
    depth: int
    inputs: int
    logits: int
    mlp_ratio: float = 4.0


@dataclass(frozen=True, slots=True)
class GenerationCost:
    """Floating-point operations of one picture and branch.

    Args:
        linear: of the blocks' linear layers.
        attention: of query-key and weight-value products.
        head: of the last layer.
        inputs: of the layer that reads the running sum.
    """

    linear: float
    attention: float
    head: float
    inputs: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.linear + self.attention + self.head + self.inputs


def generation_cost(
    sizes: TransformerSizes,
    tokens: Sequence[int],
    kept: Sequence[float] | None = None,
) -> GenerationCost:
    """Return the operations of one picture and branch.

    Args:
        sizes: of the transformer.
        tokens: ``n_k`` of every scale.
        kept: mean tokens a head and layer that each scale finds in the cache; all by default.

    Example:
        >>> sides = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
        >>> d16 = TransformerSizes(1024, 16, 32, 4096)
        >>> cost = generation_cost(d16, [side * side for side in sides])
        >>> round(2 * (cost.linear + cost.attention + cost.head) / 1e12, 3)  # with guidance
        0.599
    """
    if kept is None:
        kept = [sum(tokens[:k]) for k in range(len(tokens))]
    width, depth, total = sizes.width, sizes.depth, sum(tokens)
    visible = sum(n * (before + n) for n, before in zip(tokens, kept, strict=True))
    return GenerationCost(
        linear=(8 + 4 * sizes.mlp_ratio) * width**2 * depth * total,
        attention=4 * width * depth * visible,
        head=2 * width * sizes.logits * total,
        inputs=2 * sizes.inputs * width * (total - tokens[0]),
    )


def full_cache_bytes(geometry: CacheGeometry, *, has_last: bool = False) -> int:
    """Return bytes of all keys and values by formula, of all rows.

    Args:
        geometry: of a run.
        has_last: with those of the last scale, which nobody needs to keep.
    """
    tokens = geometry.ends[-1] if has_last else geometry.stored
    width = geometry.heads * geometry.head_dim
    return 2 * geometry.dtype.itemsize * width * geometry.layers * tokens * geometry.rows


__all__ = ["GenerationCost", "TransformerSizes", "full_cache_bytes", "generation_cost"]
