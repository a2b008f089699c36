from dataclasses import replace

import pytest
import torch

from crossrec.adaptation.pairs import DomainViews, choose_rows, distinct, domain_pairs, known_in, matched
from crossrec.errors import CrossrecError


def view(ids, domains=None, mask=None, membership=None, vectors=None):
    n = len(ids)
    return DomainViews(
        vectors=torch.arange(n, dtype=torch.float32).unsqueeze(1) if vectors is None else vectors,
        domains=torch.tensor(domains if domains is not None else [0] * n),
        ids=torch.tensor(ids),
        mask=mask,
        membership=membership,
    )


def test_one_row_for_each_id_in_each_domain_the_last_in_order():
    kept = distinct(view([7, 3, 7, 7, 3, 1], [0, 0, 1, 0, 0, 0]))
    assert kept.vectors.squeeze(1).tolist() == [2.0, 3.0, 4.0, 5.0]
    assert kept.ids.tolist() == [7, 7, 3, 1] and kept.domains.tolist() == [1, 0, 0, 0]


def test_masked_rows_are_no_rows():
    kept = distinct(view([7, 7, 3], mask=torch.tensor([True, False, True])))
    assert kept.vectors.squeeze(1).tolist() == [0.0, 2.0] and kept.mask is None
    assert len(distinct(view([7], mask=torch.tensor([False])))) == 0


def test_gradient_reaches_the_kept_rows_only():
    vectors = torch.zeros(3, 2, requires_grad=True)
    distinct(view([5, 5, 6], vectors=vectors)).vectors.sum().backward()
    assert vectors.grad[:, 0].tolist() == [0.0, 1.0, 1.0]


def test_pairs_of_domains():
    assert domain_pairs([0, 1, 3], None, "all") == [(0, 1), (0, 3), (1, 3)]
    assert domain_pairs([0, 1, 3], None, "chain") == [(0, 1), (1, 3)]
    assert domain_pairs([0, 1, 3], 1, "target") == [(0, 1), (3, 1)]
    assert domain_pairs([0, 3], 1, "target") == [] and domain_pairs([2], None, "all") == []
    with pytest.raises(CrossrecError, match="pairs=all"):
        domain_pairs([0, 1], None, "target")


def test_overlap_as_this_batch_shows_it():
    a, b = view([1, 2, 3]), view([3, 4, 1, 9])
    x, y = choose_rows(a, b, (0, 1), "overlap")
    assert x.ids.tolist() == [1, 3] and y.ids.tolist() == [3, 1]
    x, y = choose_rows(a, b, (0, 1), "non_overlap")
    assert x.ids.tolist() == [2] and y.ids.tolist() == [4, 9]
    assert choose_rows(a, b, (0, 1), "all") == (a, b)


def test_overlap_as_the_corpus_knows_it():
    a = view([1, 2], membership=torch.tensor([[True, False, True], [True, False, False]]))
    b = view([5, 6], membership=torch.tensor([[True, True, True], [False, True, True]]))
    x, y = choose_rows(a, b, (0, 2), "overlap")
    assert x.ids.tolist() == [1] and y.ids.tolist() == [5]
    x, y = choose_rows(a, b, (0, 2), "non_overlap")
    assert x.ids.tolist() == [2] and y.ids.tolist() == [6]


def test_rows_of_all_domains_at_once():
    ids, domains = torch.tensor([1, 2, 3, 3, 4, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1, 2])
    whole = DomainViews(torch.zeros(7, 1), domains, ids)
    assert known_in(whole, "all") is whole
    assert known_in(whole, "overlap").ids.tolist() == [1, 3, 3, 1, 1]
    assert known_in(whole, "non_overlap").ids.tolist() == [2, 4]
    known = torch.stack([domains == 0, domains == 1, (domains == 2) | (ids == 2)], 1)  # as the corpus knows them
    assert known_in(replace(whole, membership=known), "overlap").ids.tolist() == [2]
    assert not len(known_in(whole.take(ids == 9), "overlap"))


def test_rows_are_matched_by_id():
    a, b = view([4, 9, 2, 5]), view([5, 7, 4])
    x, y = (side.vectors for side in matched(a, b))
    assert x.squeeze(1).tolist() == [0.0, 3.0] and y.squeeze(1).tolist() == [2.0, 0.0]
    x, y = (side.vectors for side in matched(view([1]), view([2])))
    assert len(x) == len(y) == 0
