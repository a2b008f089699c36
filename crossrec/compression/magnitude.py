"""Weights of small magnitude become zero."""

from __future__ import annotations

import torch
from torch import nn

from crossrec.compression.base import Facts, NetworkCompression, Original, linear_layers
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError
from crossrec.ranges import rate


class Magnitude(NetworkCompression):
    """The weights of smallest magnitude among all linear layers become zero.

    The file has the places of the others as bits and their values (see
    :func:`~crossrec.encoders.compressed.write_network`), so it is smaller. In memory and in time nothing is gained: the
    weights are dense there.

    Source: Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS 2015, section
    3.1. Deviations: one threshold for all layers, and no training afterwards.

    Args:
        sparsity: share of these weights that become zero.

    Raises:
        CrossrecError: it is not above 0 and below 1.
    """

    name = "magnitude"

    def __init__(self, sparsity: float = 0.3) -> None:
        rate("sparsity", sparsity)
        if sparsity == 0:
            raise CrossrecError("sparsity=0.0 makes no weight zero: give a share above 0")
        self.sparsity = sparsity

    @torch.no_grad()
    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Zero weights; see the base."""
        weights = [layer.weight for _, layer in linear_layers(network, self.name)]
        sizes = torch.cat([weight.abs().flatten() for weight in weights])
        smallest = sizes.topk(round(self.sparsity * len(sizes)), largest=False).indices
        keep = torch.ones(len(sizes), dtype=torch.bool, device=sizes.device)
        keep[smallest] = False
        for weight, mask in zip(weights, torch.split(keep, [weight.numel() for weight in weights])):
            weight.mul_(mask.reshape(weight.shape))
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        return {"linear layers": len(weights), "zeros": round(zeros / len(sizes), 4)}
