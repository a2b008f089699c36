import numpy as np
import pytest
import torch

from crossrec.errors import CrossrecError
from crossrec.strategies import pair_network
from crossrec.strategies.pair_network import PairNetwork


def made(users=3, items=4, hidden=(), dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return PairNetwork(users, items, hidden, dropout).double().eval()


def vectors(network, q=5, n=7, seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(k, w, generator=g, dtype=torch.float64) for k, w in zip((q, n), network.widths)]


def by_hand(network, user, item):
    """The network on [x_u; x_i], by numpy."""
    hidden = np.concatenate([user.numpy(), item.numpy()])
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in network.layers]
    for weight, bias in layers[:-1]:
        hidden = np.maximum(weight @ hidden + bias, 0.0)
    return (layers[-1][0] @ hidden + layers[-1][1]).item()


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
@pytest.mark.parametrize("widths", [(3, 4), (0, 4), (3, 0), (1, 1)])
def test_scores_are_those_of_the_layers_on_the_concatenation(hidden, widths):
    network = made(*widths, hidden)
    users, items = vectors(network)
    assert [tuple(layer.weight.shape) for layer in network.layers] == list(zip((*hidden, 1), (sum(widths), *hidden)))
    with torch.no_grad():
        grid, pairs = network.grid(users, items), network(users, items[: len(users)])
    expected = [[by_hand(network, u, i) for i in items] for u in users]
    np.testing.assert_allclose(grid.numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(pairs.numpy(), np.diag(expected), atol=1e-12)


@pytest.mark.parametrize("hidden", [(), (6, 5)])
def test_gradients(hidden):
    network = made(hidden=hidden)
    users, items = vectors(network)
    users.requires_grad_(), items.requires_grad_()
    assert torch.autograd.gradcheck(network.grid, (users, items))
    network.grid(users, items).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_without_hidden_layers_a_score_is_a_sum_and_every_user_ranks_alike():
    network = made()
    with torch.no_grad():
        scores = network.grid(*vectors(network, q=20, n=30))
        curved = made(hidden=(8,)).grid(*vectors(network, q=20, n=30))
    assert torch.allclose(scores, scores[:, :1] + scores[:1] - scores[:1, :1], atol=1e-12)
    assert len(torch.unique(scores.argsort(1), dim=0)) == 1
    assert len(torch.unique(curved.argsort(1), dim=0)) > 10


def test_a_catalogue_is_scored_in_chunks_of_users(monkeypatch):
    network = made(hidden=(6, 9))
    users, items = vectors(network)
    whole = network.grid(users, items)
    seen = []
    rest = network._rest
    monkeypatch.setattr(network, "_rest", lambda first: seen.append(tuple(first.shape)) or rest(first))
    monkeypatch.setattr(pair_network, "CELLS", 2 * len(items) * 9)
    assert torch.equal(network.grid(users, items), whole) and seen == [(2, 7, 6), (2, 7, 6), (1, 7, 6)]
    monkeypatch.setattr(pair_network, "CELLS", 1)
    assert torch.equal(network.grid(users, items), whole)


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_dropout_is_of_training(hidden):
    network = made(hidden=hidden, dropout=0.5)
    users, items = vectors(network)
    assert torch.equal(network.grid(users, items), network.grid(users, items))
    network.train()
    assert not torch.equal(network.grid(users, items), network.grid(users, items))


def test_wrong_options_are_refused():
    for hidden in ([0], [8, -1], [2.5]):
        with pytest.raises(CrossrecError, match=r"strategy\.hidden="):
            PairNetwork(2, 2, hidden)
    with pytest.raises(CrossrecError, match=r"strategy\.dropout=1"):
        PairNetwork(2, 2, dropout=1)
