"""What several processes hold, put together in one."""

import torch

from crossrec.adaptation.pairs import DomainViews


def gathered(one: DomainViews, two: DomainViews) -> DomainViews:
    """The rows of two processes as ``gather_views`` shows them to both."""
    assert one.order is not None and two.order is not None
    return DomainViews(
        vectors=torch.cat([one.vectors, two.vectors]),
        domains=torch.cat([one.domains, two.domains]),
        ids=torch.cat([one.ids, two.ids]),
        layers={name: torch.cat([layer, two.layers[name]]) for name, layer in one.layers.items()},
    ).take(torch.cat([one.order, two.order]).argsort(stable=True))
