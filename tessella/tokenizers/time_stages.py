"""How many leading tokens count at a diffusion time: Selftok's schedule (arXiv 2505.07538).

Stage s of the times lo_s..hi_s adds n_s tokens to those before it:

    k(t) = floor( n_0 + .. + n_{s-1} + n_s (t - lo_s) / (hi_s - lo_s) ),   from 0 to K - 1

A decoder at time t reads the tokens 0..k(t). The first ones count at every time, the last ones near
pure noise only, so the sequence is ordered by how long its tokens are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tessella.errors import ConfigError

TIMES = 1000  # where the last stage ends


def last_visible(t: Tensor, stages: Sequence[int], counts: Sequence[int]) -> Tensor:
    """Return the largest index of a token that counts at times ``t``.

    Args:
        t: times from 0 (clean) to 1000 (noise), of any shape.
        stages: end of each stage.
        counts: tokens that each stage adds.

    Returns:
        int64, of the shape of ``t``.
    """
    starts, bases = [0, *stages[:-1]], [0, *accumulate(counts)]
    result = torch.zeros_like(t, dtype=torch.float32)
    for start, end, base, count in zip(starts, stages, bases, counts, strict=False):
        here = base + count * (t.float() - start) / (end - start)
        result = torch.where(t >= start, here, result)
    return result.floor().long().clamp(0, sum(counts) - 1)


def check_stages(stages: Sequence[int], counts: Sequence[int]) -> None:
    """Check that stages rise to 1000 and add tokens.

    Raises:
        ConfigError: if they do not.
    """
    rising = all(a < b for a, b in zip((0, *stages), stages, strict=False))
    if not rising or not stages or stages[-1] != TIMES or len(stages) != len(counts):
        raise ConfigError(
            f"stages={tuple(stages)} given for {len(counts)} numbers of tokens; expected as many "
            f"rising times, the last one {TIMES}"
        )
    if min(counts) < 1:
        raise ConfigError(
            f"tokens_per_stage={tuple(counts)} given; expected at least one in each stage"
        )


__all__ = ["TIMES", "check_stages", "last_visible"]
