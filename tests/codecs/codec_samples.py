"""Token values of every kind, made by formula from a seed, for the tests of token files."""

from __future__ import annotations

import torch

from tessella.tokens import LevelLayout, TokenLayout, Tokens

SPACE_ID = "1f2e3d4c5b6a7988" * 4

LAYOUTS: dict[str, tuple[LevelLayout, ...]] = {
    "grid": (LevelLayout((5, 7), (1000,)),),
    "binary grid": (LevelLayout((9, 4), (2,)),),
    "large alphabet": (LevelLayout((3, 3), (2**18,)),),
    "ordered groups": (LevelLayout((6, 9), (16,) * 5, ordered="groups"),),
    "unlike groups": (LevelLayout((9, 4), (256, 16, 5)),),
    "sequence": (LevelLayout((32,), (4096,), ordered="length"),),
    "long sequence": (LevelLayout((300,), (64, 8), ordered="length"),),
    "pyramid": tuple(LevelLayout((n, n), (4096,)) for n in (1, 2, 3, 4, 6, 9, 13)),
    "residual pyramid": tuple(LevelLayout((n, n), (32,) * 3, ordered="groups") for n in (2, 5)),
    "unlike levels": (LevelLayout((2, 2), (64,) * 3), LevelLayout((4,), (100,))),
    "latent": (LevelLayout((4, 5), (), 16),),
    "ordered latent": (LevelLayout((4, 5), (), 6, "groups"),),
    "latent sequence": (LevelLayout((12,), (), 8, "length"),),
    "mixed": (LevelLayout((4, 5), (), 3), LevelLayout((3, 3), (17,))),
}


def sample(
    levels: tuple[LevelLayout, ...],
    seed: int = 0,
    *,
    image_size: tuple[int, int] = (48, 72),
    tokenizer_id: str = SPACE_ID,
) -> Tokens:
    """Tokens that are far from uniform and repeat their neighbours now and then."""
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for level in levels:
        if level.is_continuous:
            shape = (1, *level.grid, level.channels)
            # multiples of 1/256, a few of them far out
            values = torch.randn(shape, generator=generator) ** 3
            tensors.append((values * 256).round() / 256)
            continue
        groups = []
        for size in level.vocab_sizes:
            flat = torch.rand(level.positions, generator=generator) ** 3
            indices = (flat * size).long()
            for i in range(1, level.positions):
                if flat[i] < 0.05:
                    indices[i] = indices[i - 1]
            groups.append(indices.reshape(1, *level.grid))
        tensors.append(torch.stack(groups, dim=-1))
    return Tokens(tensors, TokenLayout(levels, image_size, tokenizer_id))
