"""States of users who are read one domain at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def own_states(
    states: Callable[[Tensor, Tensor, Tensor], Tensor], vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor
) -> Tensor:
    """State after every event, of what the user did in one domain: the one that is to be recommended in next.

    The events of each user are parted by domain, in their order, and every part is encoded as a history of its own, so
    nothing of one domain's events changes what is said of another's.

    Args:
        states: as :meth:`UserEncoder.states`.
        vectors: (b, l, f) item vectors of the events, left-aligned.
        domains: (b, l) domain index of each event.
        mask: (b, l) bool, True at real events.
        wanted: (b, l) domain index for which each state is wanted; negative where none is.

    Returns:
        (b, l, f); zero where the user has done nothing yet in the wanted domain.
    """
    b, length, f = vectors.shape
    n_domains = max(int(domains.max()), int(wanted.max())) + 1 if length and b else 1
    events = F.one_hot(domains, n_domains).bool() & mask.unsqueeze(2)
    done = events.cumsum(1)  # (b, l, d): events of domain d up to here
    parts = events.any(1)  # (b, d): whether that part of the history has an event
    if not bool(parts.any()):
        return vectors.new_zeros(b, length, f)
    part = parts.flatten().cumsum(0).view(b, n_domains) - 1
    rows, at = torch.nonzero(mask, as_tuple=True)
    which = domains[rows, at]
    place = done[rows, at, which] - 1
    own = vectors.new_zeros(int(part[-1, -1]) + 1, int(place.max()) + 1, f)
    own[part[rows, which], place] = vectors[rows, at]
    own_domains = domains.new_zeros(own.shape[:2])
    own_domains[part[rows, which], place] = which
    own_mask = mask.new_zeros(own.shape[:2])
    own_mask[part[rows, which], place] = True
    made = states(own, own_domains, own_mask)
    asked = wanted.clamp_min(0)
    count = done.gather(2, asked.unsqueeze(2)).squeeze(2) * (wanted >= 0)
    chosen = made[part.gather(1, asked).clamp_min(0), (count - 1).clamp_min(0)]
    return torch.where((count > 0).unsqueeze(2), chosen, 0.0)
