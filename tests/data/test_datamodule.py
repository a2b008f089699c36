import numpy as np
import pytest
import torch
from corpora import columns, make, random_corpus
from modules import data

from crossrec.data.batches import PAD, PairwiseBatch, PointwiseBatch, SequenceBatch
from crossrec.data.cold import ColdUser
from crossrec.data.splits import Fixed, LeaveOneOut, Ratio, Temporal
from crossrec.errors import CrossrecError


def train_pairs(module):
    users, items, _, _ = columns(module.corpus)
    train = module.split.label == 0
    return list(zip(users[train].tolist(), items[train].tolist()))


def test_pairwise_epoch_is_every_training_row_once_with_true_negatives():
    module = data(n_negatives=3)
    pairs, found = train_pairs(module), []
    loader = module.train_dataloader()
    for batch in loader:
        assert isinstance(batch, PairwiseBatch) and batch.negatives.shape == (len(batch.users), 3)
        found += list(zip(batch.users.tolist(), batch.positives.tolist()))
        for user, domain, row in zip(batch.users.tolist(), batch.domains.tolist(), batch.negatives.tolist()):
            for item in row:
                assert module.corpus.item_domain[item] == domain and (user, item) not in pairs
    assert sorted(found) == sorted(pairs)
    assert len(loader) == -(-len(pairs) // 64)


def test_pointwise_batches_count_negatives_as_rows():
    module = data(batch="pointwise", n_negatives=3)
    pairs = set(train_pairs(module))
    loader = module.train_dataloader()
    assert len(loader) == -(-len(pairs) // 16)
    total = 0
    for batch in loader:
        assert isinstance(batch, PointwiseBatch)
        assert len(batch.users) == len(batch.items) == len(batch.domains) == len(batch.labels) <= 64
        n = int(batch.labels.sum())
        assert len(batch.labels) == 4 * n and (batch.labels[:n] == 1).all()
        observed = [pair in pairs for pair in zip(batch.users.tolist(), batch.items.tolist())]
        assert observed == batch.labels.bool().tolist()
        np.testing.assert_array_equal(module.corpus.item_domain[batch.items], batch.domains)
        total += n
    assert total == len(pairs)


def test_sequences_hold_every_domain_in_order_with_negatives_where_targets_are():
    module = data(batch="sequence", n_negatives=2, history_length=6, batch_size=8)
    pairs = set(train_pairs(module))
    for batch in module.train_dataloader():
        assert isinstance(batch, SequenceBatch)
        assert batch.negatives.shape == (*batch.targets.shape, 2) and batch.history.shape[1] <= 6
        real = batch.targets != PAD
        assert (batch.negatives[~real] == PAD).all()
        owners = batch.users[:, None].expand_as(batch.targets)
        for user, domain, row in zip(owners[real], batch.domains[real], batch.negatives[real]):
            for item in row.tolist():
                assert (int(user), item) not in pairs and module.corpus.item_domain[item] == domain


def test_shared_negatives_come_once_for_each_domain():
    for kind in ("pairwise", "sequence"):
        for batch in data(batch=kind, n_negatives=5, shared_negatives=True, batch_size=32).train_dataloader():
            assert batch.negatives.shape == (2, 5)
            np.testing.assert_array_equal(random_corpus().item_domain[batch.negatives], [[0] * 5, [1] * 5])
    assert next(iter(data(n_negatives=0).train_dataloader())).negatives.shape[1] == 0


def reference_queries(module, stage):
    """The queries of a stage, user by user, as the contract words them; every domain is tested."""
    users, items, _, domains = columns(module.corpus)
    label, value = module.split.label, {"valid": 1, "test": 2}[stage]
    read = set(range(len(module.corpus.domains))) if stage == "test" else set(module.train_indices)
    for domain in range(len(module.corpus.domains)):
        for user in range(module.corpus.n_users):
            own = [r for r in range(len(users)) if users[r] == user]
            held = [r for r in own if label[r] == value and domains[r] == domain]
            if not held:
                continue
            earlier = [r for r in own if 0 <= label[r] < value]
            before = [r for r in earlier if domains[r] in read and (not module.split.ordered or r < held[0])]
            relevant = {int(items[r]) for r in held}
            yield (
                domain,
                user,
                {
                    "history": [int(items[r]) for r in before][-module.history_length :],
                    "relevant": relevant,
                    "seen": {int(items[r]) for r in earlier if domains[r] == domain} - relevant,
                    "cold": not any(label[r] == 0 and domains[r] == domain for r in own),
                },
            )


def real(row):
    return [i for i in row.tolist() if i != PAD]


@pytest.mark.parametrize("stage", ["valid", "test"])
@pytest.mark.parametrize(
    "split",
    [LeaveOneOut(), LeaveOneOut("sequence"), LeaveOneOut(repeats="keep"), Temporal(), Ratio(), ColdUser(target="d1")],
    ids=["domain", "sequence", "repeats", "temporal", "ratio", "cold_user"],
)
def test_queries_are_those_of_the_contract(split, stage):
    corpus = random_corpus(n_users=25, sizes=(10, 15, 5), n=400, repeats=True)
    module = data(corpus, split, uses_history=True, history_length=4, query_batch_size=7, train_domains=["d0", "d1"])
    expected = {(d, u): q for d, u, q in reference_queries(module, stage)}
    loaders = module.val_dataloader() if stage == "valid" else module.test_dataloader()
    found = 0
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader) and all(len(b.users) <= 7 for b in batches)
        for batch in batches:
            for i, user in enumerate(batch.users.tolist()):
                query = expected[batch.domain, user]
                assert real(batch.history[i]) == query["history"]
                assert sorted(real(batch.relevant[i])) == sorted(query["relevant"])
                assert sorted(real(batch.seen[i])) == sorted(query["seen"])
                assert bool(batch.cold[i]) == query["cold"]
                assert batch.candidates.shape == (len(batch.users), 0)
                found += 1
    assert found == len(expected) > 0


def test_queries_carry_no_history_where_it_is_not_used():
    batch = next(iter(data().test_dataloader()[0]))
    assert batch.history.shape == (len(batch.users), 0)
    assert data().history_of(torch.arange(3)).shape == (3, 0)


def test_domains_are_chosen_by_name_and_those_without_rows_left_out():
    corpus = random_corpus(sizes=(10, 15, 5))
    module = data(corpus, LeaveOneOut(evaluated=["d1", "d2"]), valid_domains=["d2"])
    assert [corpus.domains[i].name for i in module.eval_indices] == ["d1", "d2"] and module.eval_indices == [1, 2]
    assert [corpus.domains[i].name for i in module.valid_indices] == ["d2"]
    assert [next(iter(x)).domain for x in module.test_dataloader()] == [1, 2]
    assert [next(iter(x)).domain for x in module.val_dataloader()] == [2]
    only = data(corpus, train_domains=["d1"], eval_domains=["d1"])
    assert all((b.domains == 1).all() for b in only.train_dataloader())
    counts = only.train_item_counts()
    assert counts[:10].sum() == counts[25:].sum() == 0 and torch.equal(only.train_item_mask(), counts > 0)
    assert counts.sum() == ((only.split.label == 0) & (columns(corpus)[3] == 1)).sum()


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_candidates_are_drawn_once_and_handed_out(sampling):
    module = data(n_candidates=6, candidate_sampling=sampling, query_batch_size=9)
    saved = module.candidates("test")
    assert set(saved) == {"d0/users", "d0/candidates", "d1/users", "d1/candidates"}
    users, items, _, _ = columns(module.corpus)
    had = set(zip(users.tolist(), items.tolist()))
    for name, loader in zip(("d0", "d1"), module.test_dataloader()):
        batches = list(loader)
        assert torch.equal(torch.cat([b.users for b in batches]), saved[f"{name}/users"])
        assert torch.equal(torch.cat([b.candidates for b in batches]), saved[f"{name}/candidates"])
        for b in batches:
            for user, row in zip(b.users.tolist(), b.candidates):
                assert not {(user, i) for i in real(row)} & had
    again = data(n_candidates=6, candidate_sampling=sampling).candidates("test")
    assert all(torch.equal(saved[k], again[k]) for k in saved)
    assert not all(torch.equal(saved[k], v) for k, v in data(n_candidates=6, seed=1).candidates("test").items())
    assert data().candidates("test") == {}


@pytest.mark.filterwarnings("ignore:.* are ranked against fewer")
def test_users_without_enough_new_items_are_counted_and_a_domain_of_such_users_is_refused():
    corpus = random_corpus(sizes=(15, 25))  # users have up to 12 of the 15 items of d0, and as many of d1's 25
    users, items, _, domain = columns(corpus)
    asked = data(corpus).queries("test", 0).users.numpy()
    new = np.array([15 - len(set(items[(users == u) & (domain == 0)])) for u in asked])
    n = int(np.median(new)) + 1
    few = int((new < n).sum())
    assert 0 < few < len(asked)
    module = data(corpus, n_candidates=n)
    with pytest.warns(
        UserWarning, match=rf"{few} of {len(asked)} test queries of domain 'd0' .* as few as {new.min()}"
    ):
        module.check_candidates("valid", "test")
    assert module.short_of_candidates()["test/d0"] == few
    drawn = module.candidates("test")["d0/candidates"]
    assert torch.equal((drawn >= 0).sum(1), torch.from_numpy(new.clip(max=n)))
    with pytest.raises(
        CrossrecError, match=rf"n_candidates=15 cannot be drawn .*at most {new.max()} of its 15 items .*to at most"
    ):
        data(corpus, n_candidates=15, eval_domains=["d0"], valid_domains=["d1"]).check_candidates("valid", "test")
    with pytest.raises(
        CrossrecError, match=r"evaluation\.n_candidates=99 cannot be drawn for any valid query of domain 'd0'"
    ):
        data(corpus, n_candidates=99).check_candidates("valid")


def test_validation_may_be_a_sample():
    module = data(valid_queries=5)
    assert [len(module.queries("valid", d)) for d in (0, 1)] == [5, 5]
    assert len(module.queries("test", 0)) > 5
    assert torch.equal(module.queries("valid", 0).users, data(valid_queries=5).queries("valid", 0).users)


def test_behaviour_until_now():
    corpus = make([(0, 0, 1), (0, 4, 2), (0, 1, 3), (0, 1, 4), (0, 2, 5), (1, 3, 1)], [3, 3])
    module = data(corpus, LeaveOneOut(), uses_history=True, history_length=3)
    assert module.history_of(torch.tensor([1, 0])).tolist() == [[3, PAD, PAD], [1, 1, 2]]
    assert module.history_of(torch.tensor([0]), trained=True).tolist() == [[0, 4, 1]]
    assert module.items_of(torch.tensor([0, 1]), 0).tolist() == [[0, 1, 2], [PAD] * 3]
    assert module.items_of(torch.tensor([0, 1]), 1).tolist() == [[4], [3]]


def test_leaks_stop_the_set_up():
    class Leaky(LeaveOneOut):
        def __call__(self, corpus):
            split = super().__call__(corpus)
            split.label[split.label == 2] = 0
            split.label[0] = 2
            return split

    with pytest.raises(CrossrecError, match="not the last"):
        data(split=Leaky()).setup()


def test_mistakes_are_told():
    for options, message in [
        ({"batch": "listwise"}, "batch is 'listwise'"),
        ({"negatives": "hard"}, "negatives is 'hard'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"n_negatives": -1}, "n_negatives is -1"),
        ({"train_domains": ["books"]}, "no domain 'books'"),
        ({"eval_domains": []}, "at least one name"),
        ({"batch": "pointwise", "shared_negatives": True}, "shared"),
    ]:
        with pytest.raises(CrossrecError, match=message):
            data(**options)
    with pytest.raises(CrossrecError, match="no validation row"):
        data(split=Ratio(valid=0.0)).val_dataloader()
    with pytest.raises(CrossrecError, match="no test row"):
        data(split=LeaveOneOut(evaluated=["d0"]), eval_domains=["d1"]).test_dataloader()


def test_a_source_with_its_own_split_is_used():
    corpus = random_corpus(
        ordered=False, fixed=(np.arange(600) % 4 - 1).astype(np.int8)[: random_corpus().interactions.height]
    )
    module = data(corpus, Fixed())
    assert not module.split.ordered and module.split_report()["domains"]["d0"]["unused"] > 0
