"""SnapKV's cache: a window of last tokens, and what these attend to most (arXiv 2404.14469)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tessella.errors import ConfigError
from tessella.generation.kv_cache.base import CacheGeometry
from tessella.generation.kv_cache.observing import received_attention
from tessella.generation.kv_cache.policy import StepContext
from tessella.generation.kv_cache.scored import ScoredPolicy
from tessella.generation.kv_cache.windows import check_kernel, last_window

_LARGEST_WINDOW = 16


class SnapKV(ScoredPolicy):
    """Keeps the last tokens of a scale, and the tokens that these attend to.

    Scores are the attention of the window's queries over all keys, averaged over the queries, and
    over neighbours along the cache. Within the budget, the window always stays.

    Args:
        budget: share of the full cache, or tokens of a head and layer.
        window: tokens of the window; by default 16, but at most a quarter of the budget.
        kernel: width of the pooling along the cache.
    """

    name = "snapkv"

    def __init__(self, budget: float, *, window: int | None = None, kernel: int = 5) -> None:
        super().__init__(budget)
        if window is not None and window < 1:
            raise ConfigError(f"window={window} given; expected at least 1 token")
        check_kernel(kernel)
        self.window, self.kernel = window, kernel
        self._size = 0

    def start(self, geometry: CacheGeometry) -> None:
        """Work out budget and window.

        Raises:
            ConfigError: if the window alone is larger than the budget.
        """
        super().start(geometry)
        if self.window is None:
            self._size = max(1, min(_LARGEST_WINDOW, self._tokens // 4))
        elif self.window > self._tokens and self._tokens < geometry.stored:
            raise ConfigError(
                f"a window of {self.window} tokens given with a budget of {self._tokens}; "
                "give a smaller window or a larger budget"
            )
        else:
            self._size = self.window

    def scores(self, context: StepContext) -> Tensor:
        """Return the window's attention, pooled; the window itself scores highest."""
        window = last_window(context.keys.shape[2], context.new, self._size)
        queries = context.queries[:, :, -len(window) :]
        scale = context.geometry.attention_scale
        attention = received_attention(queries, context.keys, scale) / len(window)
        return snapkv_scores(attention, window, self.kernel)


def snapkv_scores(attention: Tensor, window: Tensor, kernel: int) -> Tensor:
    """Pool the attention that a window pays to the other tokens, ``(R, H, T)``.

    Only the others are pooled, as neighbours of one another, with zeros beyond both ends. Tokens of
    the window get one more than the largest score of all rows and heads.

    Args:
        attention: mean attention of the window's queries to each key, ``(R, H, T)``.
        window: places of the window ``(w,)``, on the CPU.
        kernel: odd width of the pooling.
    """
    is_other = torch.ones(attention.shape[-1], dtype=torch.bool)
    is_other[window] = False
    others = is_other.nonzero().squeeze(1).to(attention.device)
    scores = torch.ones_like(attention)
    if not len(others):
        return scores
    rest = attention.index_select(-1, others)
    pooled = F.avg_pool1d(rest, kernel, stride=1, padding=kernel // 2)
    scores += pooled.max()
    return scores.index_copy_(-1, others, pooled)


__all__ = ["SnapKV", "snapkv_scores"]
