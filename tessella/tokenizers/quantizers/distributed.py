"""Sums, means and samples over all processes; with one process they are the local ones.

Codebook statistics must come from the joint batch: broadcasting buffers alone lets processes drift
apart, and a local batch entropy rewards the wrong thing. All calls are collective: every process
makes them, in the same order, in training mode only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from tessella.errors import ShapeError


def world_size() -> int:
    """Number of processes; 1 when no process group is initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def all_sum(values: Tensor) -> Tensor:
    """Sum a tensor over the processes, without gradient; the argument is left alone."""
    values = values.detach()
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


class _GlobalMean(torch.autograd.Function):
    """``sum_r total_r / sum_r count_r``.

    Data-parallel training averages parameter gradients over the W processes, each of which holds
    the same value of the loss. The gradient of the joint loss then needs ``W / count`` on every
    process and no communication in the backward pass.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, total: Tensor, count: int) -> Tensor:
        packed = all_sum(torch.cat([total.flatten(), total.new_tensor([float(count)])]))
        joint_count = packed[-1]
        ctx.scale = world_size() / joint_count  # type: ignore[attr-defined]
        return packed[:-1].view_as(total) / joint_count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None  # type: ignore[attr-defined]


def global_mean(total: Tensor, count: int, *, reduce: bool = True) -> Tensor:
    """Divide a sum by its count, over all processes if ``reduce``; differentiable.

    Args:
        total: sum of this process's tokens, any shape.
        count: how many tokens it sums.
        reduce: whether to join the processes.
    """
    if not reduce or world_size() == 1:
        return total / count
    mean: Tensor = _GlobalMean.apply(total, count)
    return mean


def sample_rows(rows: Tensor, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw rows of the joint batch uniformly; every process receives the same ones.

    Rows are numbered process by process and the numbers are drawn on process 0, so the sample
    equals that of one process holding the concatenated batch. Without replacement when there are
    enough rows.

    Args:
        rows: ``(N, D)`` rows of this process; N may differ between processes.
        count: how many rows to draw.
        generator: source of randomness of process 0; None is torch's global one.

    Returns:
        ``(count, D)``.

    Raises:
        ShapeError: if the joint batch is empty.
    """
    sizes = _sizes(rows)
    total = sum(sizes)
    if total == 0:
        raise ShapeError("a batch without vectors given; expected at least one to sample from")
    chosen = broadcast_draw(_draw(total, count, generator).to(rows.device))
    if len(sizes) == 1:
        return rows.detach()[chosen]
    first = sum(sizes[: dist.get_rank()])
    mine = (chosen >= first) & (chosen < first + rows.shape[0])
    sample = rows.new_zeros(count, rows.shape[1])
    sample[mine] = rows.detach()[chosen[mine] - first]
    return all_sum(sample)


def broadcast_draw(values: Tensor) -> Tensor:
    """Replace a freshly drawn tensor by process 0's."""
    if world_size() > 1:
        dist.broadcast(values, src=0)
    return values


def _sizes(rows: Tensor) -> list[int]:
    if world_size() == 1:
        return [rows.shape[0]]
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=rows.device)
    sizes[dist.get_rank()] = rows.shape[0]
    return [int(size) for size in all_sum(sizes)]


def _draw(total: int, count: int, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else torch.device("cpu")
    if total >= count:
        return torch.randperm(total, generator=generator, device=device)[:count]
    return torch.randint(total, (count,), generator=generator, device=device)


__all__ = ["all_sum", "broadcast_draw", "global_mean", "sample_rows", "world_size"]
