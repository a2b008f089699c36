"""The rows of all processes, differentiably, and the gradients of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from crossrec.adaptation.pairs import DomainViews


def world_size() -> int:
    """Number of processes that train together; 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_views(view: DomainViews) -> DomainViews:
    """Return the rows of every process, sorted by their ``order``; ``view`` itself when there is one process.

    All processes must call it, with any number of rows each, 0 included. Every process then computes the same loss of
    the same rows, so the gradient of the mean over processes, which is what DistributedDataParallel takes, is the
    gradient of that loss: the backward pass multiplies a process's own rows by the number of processes and sends
    nothing.

    Args:
        view: rows of this process, without a mask.
    """
    if world_size() == 1:
        return view
    sizes = _sizes(len(view), view.ids.device)
    membership = view.membership
    every = replace(
        view,
        vectors=_differentiably(view.vectors, sizes),
        layers={name: _differentiably(layer, sizes) for name, layer in sorted(view.layers.items())},
        domains=_gather(view.domains, sizes),
        ids=_gather(view.ids, sizes),
        membership=None if membership is None else _gather(membership.to(torch.uint8), sizes).bool(),
        order=None if view.order is None else _gather(view.order, sizes),
    )
    return every if every.order is None else every.take(every.order.argsort(stable=True))


def gather_rows(*rows: Tensor) -> list[Tensor]:
    """Return each of ``rows`` (n, ...) of every process, those of one before those of the next.

    All processes must call it, with any number of rows each, 0 included, and compute the same of all the rows, as with
    :func:`gather_views`.

    Args:
        rows: tensors of as many rows each.
    """
    if world_size() == 1:
        return list(rows)
    sizes = _sizes(len(rows[0]), rows[0].device)
    return [_differentiably(tensor, sizes) for tensor in rows]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of ``parameters`` by their means over processes, the same numbers in every one.

    For modules that DistributedDataParallel does not reduce. All processes must call it, with gradients of the same
    parameters.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() == 1 or not gradients:
        return
    total = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(total)
    for gradient, mean in zip(gradients, torch.split(total / world_size(), [g.numel() for g in gradients])):
        gradient.copy_(mean.view_as(gradient))


def _differentiably(rows: Tensor, sizes: list[int]) -> Tensor:
    every: Tensor = _GatherRows.apply(rows, sizes)  # type: ignore[no-untyped-call]
    return every


def _sizes(n: int, device: torch.device) -> list[int]:
    mine = torch.tensor([n], device=device)
    every = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(every, mine)
    return [int(s) for s in torch.cat(every).tolist()]


def _gather(rows: Tensor, sizes: list[int]) -> Tensor:
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    every = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(every, padded)
    return torch.cat([block[:size] for block, size in zip(every, sizes)])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        first = sum(sizes[: dist.get_rank()])
        ctx.mine = slice(first, first + len(rows))
        ctx.processes = len(sizes)
        return _gather(rows.detach(), sizes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.mine] * ctx.processes, None
