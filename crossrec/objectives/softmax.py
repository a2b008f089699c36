"""Softmax cross-entropy over a domain's whole catalogue."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossrec.objectives.base import Objective, at_least

# scores held at a time: about the last-level cache of a CPU (0.3 GiB of them on an accelerator, to keep it busy)
CPU_SCORES = 2**21
ACCELERATOR_SCORES = 2**26


class FullSoftmax(Objective):
    """Predict the positive among all items of its domain.

    L_row = -s_pos / t + log sum over the domain's items j of exp(s_j / t), with s_j = <U_row, V_j>.

    The (rows, items) scores are never held whole: a few rows at a time are scored and turned into gradients at once,
    which takes about half the time of ``F.cross_entropy`` on a CPU (``scripts/bench_training.py softmax``).

    Source: Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016 (cross-entropy
    variant); Klenitskiy and Vasilev, "Turning dross into gold loss: is BERT4Rec really better than SASRec?", RecSys
    2023. Deviation: Hidasi et al. take the softmax over the items sampled in a batch.

    Args:
        temperature: t, in units of the score.

    Raises:
        CrossrecError: ``temperature`` is not positive.

    Example:
        >>> import torch
        >>> users, items = torch.zeros(1, 2), torch.zeros(4, 2)
        >>> round(FullSoftmax().catalogue(users, items, torch.tensor([2])).item(), 4)
        1.3863
    """

    batch = "pairwise"
    full = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        at_least("temperature", temperature, 0, strictly=True)
        self.temperature = temperature

    def catalogue(self, users: Tensor, items: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss; arguments as in :meth:`Objective.catalogue`."""
        if not len(users):
            return users.sum() * 0.0
        share = users.new_ones(len(users), dtype=_wide(users)) if weight is None else weight.to(_wide(users))
        mass = share.sum()
        share = share / mass.where(mass > 0, 1.0)
        device = users.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        dtype = low or torch.promote_types(users.dtype, items.dtype)
        users = (users / (self.temperature * math.log(2))).to(dtype)
        with torch.autocast(device, enabled=False):
            return cast(Tensor, _SoftmaxLoss.apply(users, items.to(dtype), target, share))  # type: ignore[no-untyped-call]


def _wide(vectors: Tensor) -> torch.dtype:
    """Return the precision of sums and exponentials: float32 at least."""
    return torch.promote_types(vectors.dtype, torch.float32)


class _SoftmaxLoss(torch.autograd.Function):
    """ln 2 * sum_i share_i * (log2 sum_j 2^<u_i, v_j> - <u_i, v_target_i>), with gradients computed on the way forward.

    In powers of two, because torch's exp takes up to four times exp2's time on CPUs that are not Intel's.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, target: Tensor, share: Tensor) -> Tensor:
        wide = _wide(users)
        share = share.to(wide).unsqueeze(1) * math.log(2)
        positives = items[target].to(wide)
        total = -(users * positives * share).sum()
        from_users = -positives * share
        from_items = items.new_zeros(items.shape, dtype=wide).index_add_(0, target, users * share, alpha=-1)
        rows = max((CPU_SCORES if users.device.type == "cpu" else ACCELERATOR_SCORES) // len(items), 1)
        for start in range(0, len(users), rows):
            here = slice(start, start + rows)
            scores = (users[here] @ items.T).to(wide)
            top = scores.amax(1, keepdim=True)
            scores.sub_(top).exp2_()
            sums = scores.sum(1, keepdim=True)
            total += ((sums.log2() + top) * share[here]).sum()
            scale = share[here] / sums
            scores = scores.to(items.dtype)
            from_users[here] += (scores @ items) * scale
            pulled = (users[here] * scale).to(items.dtype)
            if items.dtype == wide:
                from_items.addmm_(scores.T, pulled)  # a pass over the catalogue less
            else:
                from_items += scores.T @ pulled
        ctx.save_for_backward(from_users.to(users.dtype), from_items.to(items.dtype))
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from_users, from_items = ctx.saved_tensors
        return from_users * gradient, from_items * gradient, None, None
