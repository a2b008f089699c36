import pytest
import torch
from torch import nn

from crossrec.compression.magnitude import Magnitude
from crossrec.encoders.compressed import WEIGHTS, memory, write_network
from crossrec.errors import CrossrecError


def linear(network):
    return [p.weight for n, p in network.named_modules() if isinstance(p, nn.Linear) and not n.startswith("pooler")]


@pytest.mark.parametrize("sparsity", [0.1, 0.6])
def test_the_smallest_weights_of_all_layers_are_zero(apply, sparsity):
    made = apply(Magnitude(sparsity))
    before, after = linear(made.original.model.network), linear(made.network)
    old = torch.cat([w.flatten() for w in before])
    new = torch.cat([w.flatten() for w in after])
    assert int((new == 0).sum()) == round(sparsity * len(new)) and made.facts["zeros"] == pytest.approx(
        sparsity, abs=1e-3
    )
    assert old[new == 0].abs().max() <= old[new != 0].abs().min()
    assert torch.equal(new[new != 0], old[new != 0])
    shares = [float((w == 0).float().mean()) for w in after]
    assert max(shares) > min(shares)  # one threshold for all, no share for each


def test_the_file_shrinks_and_memory_does_not(apply, tmp_path):
    sizes = {}
    for sparsity in (0.01, 0.5, 0.9):
        made = apply(Magnitude(sparsity))
        assert memory(made.network) == memory(made.original.model.network)
        write_network(made.network, made.encoder.tokenizer, tmp_path / str(sparsity))
        sizes[sparsity] = (tmp_path / str(sparsity) / WEIGHTS).stat().st_size
    assert sizes[0.9] < sizes[0.5] < sizes[0.01]


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.1, 2])
def test_shares_that_make_no_sense_are_refused(sparsity):
    with pytest.raises(CrossrecError, match=f"sparsity={sparsity}"):
        Magnitude(sparsity)
