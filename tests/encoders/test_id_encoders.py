import pytest
import torch

from crossrec.encoders.history_mean import HistoryMeanEncoder
from crossrec.encoders.id import IdEncoder
from crossrec.encoders.user_id import UserIdEncoder
from crossrec.errors import CrossrecError


def test_every_item_has_its_own_vector_of_the_asked_deviation(make_corpus):
    torch.manual_seed(0)
    encoder = IdEncoder(make_corpus(2000), dim=16, std=0.1)
    vectors = encoder(torch.arange(2000).reshape(4, 500))
    assert vectors.shape == (4, 500, 16) and len(vectors.reshape(-1, 16).unique(dim=0)) == 2000
    assert vectors.std().item() == pytest.approx(0.1, rel=0.02)


def test_xavier_has_glorots_deviation(make_corpus):
    torch.manual_seed(0)
    vectors = IdEncoder(make_corpus(1000), dim=24, init="xavier")(torch.arange(1000))
    assert vectors.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.03)


def test_items_of_an_entity_share_their_vector_and_its_gradient(make_corpus):
    corpus = make_corpus(6, entity=[0, 1, 2, 1, 5, 2])
    encoder = IdEncoder(corpus, dim=4, share_entities=True)
    vectors = encoder(torch.arange(6))
    assert torch.equal(vectors[1], vectors[3]) and torch.equal(vectors[2], vectors[5])
    assert not torch.equal(vectors[0], vectors[4]) and len(encoder.weight) == 4 + 1
    encoder(torch.tensor([1, 3])).sum().backward()
    assert (encoder.weight.grad == 2).all(1).sum() == 1
    assert not torch.equal(*IdEncoder(corpus, dim=4)(torch.tensor([1, 3])))


def test_untrained_items_stay_the_zero_vector(make_corpus):
    flags = torch.tensor([True, False, True, True, False, True])
    encoder = IdEncoder(make_corpus(6), dim=4, train_items=flags, untrained="zero")
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (encoder(torch.arange(6)) - 1).square().sum().backward()
        optimizer.step()
    vectors = encoder(torch.arange(6))
    assert (vectors[~flags] == 0).all() and (vectors[flags] > 0.1).all()
    learned = IdEncoder(make_corpus(6), dim=4, train_items=flags)
    assert (learned(torch.arange(6)) != 0).all()


def test_entity_is_trained_if_one_of_its_items_is(make_corpus):
    corpus = make_corpus(4, entity=[0, 1, 0, 3])
    flags = torch.tensor([True, False, False, True])
    vectors = IdEncoder(corpus, dim=4, train_items=flags, share_entities=True, untrained="zero")(torch.arange(4))
    assert torch.equal(vectors[0], vectors[2]) and (vectors[0] != 0).all() and (vectors[1] == 0).all()


def test_wrong_options_are_told(make_corpus):
    corpus = make_corpus(6)
    with pytest.raises(CrossrecError, match="6 items"):
        IdEncoder(corpus, train_items=torch.ones(5, dtype=torch.bool), untrained="zero")
    with pytest.raises(CrossrecError, match="learned or zero"):
        IdEncoder(corpus, untrained="mean")
    with pytest.raises(CrossrecError, match="normal or xavier"):
        UserIdEncoder(corpus, init="uniform")
    with pytest.raises(CrossrecError, match="negative"):
        UserIdEncoder(corpus, std=-1.0)


def test_user_vectors(make_corpus):
    encoder = UserIdEncoder(make_corpus(n_users=5), dim=3)
    assert not encoder.uses_history and encoder.table.weight.shape == (5, 3)
    assert torch.equal(encoder(torch.tensor([4, 0])), encoder.table.weight[[4, 0]])


def test_mean_of_history_by_hand_ignores_padding(make_corpus):
    vectors = torch.tensor([[[2.0], [4.0], [99.0]], [[7.0], [7.0], [7.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    states = HistoryMeanEncoder(make_corpus(), dim=1).states(vectors, torch.zeros(2, 3, dtype=torch.long), mask)
    assert states.squeeze(-1).tolist() == [[2.0, 3.0, 3.0], [0.0, 0.0, 0.0]]


def test_domain_weights_start_equal_and_are_learnt(make_corpus):
    encoder = HistoryMeanEncoder(make_corpus(), dim=1, domain_weights=True)
    vectors, mask = torch.tensor([[[1.0], [3.0]]]), torch.ones(1, 2, dtype=torch.bool)
    domains = torch.tensor([[0, 1]])
    assert encoder.states(vectors, domains, mask)[0, 1].item() == pytest.approx(2.0)
    encoder.log_weight.data[1] = torch.log(torch.tensor(3.0))
    state = encoder.states(vectors, domains, mask)
    assert state[0, :, 0].tolist() == pytest.approx([1.0, 2.5])
    state.sum().backward()
    assert encoder.log_weight.grad.abs().min() > 0
