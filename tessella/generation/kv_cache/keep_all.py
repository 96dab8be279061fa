"""The policy that keeps everything: what a full cache is when its tokens are held otherwise."""

from __future__ import annotations

from tessella.generation.kv_cache.policy import Policy, StepContext


class KeepAll(Policy):
    """Keeps every token."""

    name = "full"

    def select(self, context: StepContext) -> None:
        """Keep all."""


__all__ = ["KeepAll"]
