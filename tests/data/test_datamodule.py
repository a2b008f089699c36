from dataclasses import fields

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from corpora import columns, make, random_corpus
from pytorch_lightning.callbacks import ModelCheckpoint

from crossrec.data.batches import PAD, PairwiseBatch, PointwiseBatch, SequenceBatch
from crossrec.data.cold import ColdUser
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.sampling import Cycle, FixedRatio
from crossrec.data.splits import Fixed, LeaveOneOut, Ratio, Temporal
from crossrec.errors import CrossrecError


def data(corpus=None, split=None, **options):
    return MultiDomainDataModule(corpus or random_corpus(), split or LeaveOneOut(), **{"batch_size": 64, **options})


def same(a, b):
    assert type(a) is type(b)
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, f.name


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


def test_loss_domains_are_learnt_and_the_others_only_read():
    corpus = random_corpus()
    module = data(corpus, batch="sequence", n_negatives=0, loss_domains=["d1"], sampler=Cycle())
    batches = list(module.train_dataloader())
    assert all(set(b.domains.unique().tolist()) <= {PAD, 1} for b in batches)
    assert any((corpus.item_domain[b.history[b.history != PAD]] == 0).any() for b in batches)
    pairs = data(corpus, loss_domains=["d1"])
    assert all((b.domains == 1).all() for b in pairs.train_dataloader())


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
    assert [d.name for d in module.eval_domains] == ["d1", "d2"] and module.eval_indices == [1, 2]
    assert [d.name for d in module.valid_domains] == ["d2"]
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


def test_validation_may_be_a_sample():
    module = data(valid_queries=5)
    assert [len(module.queries("valid", d)) for d in (0, 1)] == [5, 5]
    assert len(module.queries("test", 0)) > 5
    assert torch.equal(module.queries("valid", 0).users, data(valid_queries=5).queries("valid", 0).users)


def test_behaviour_until_now():
    corpus = make([(0, 0, 1), (0, 4, 2), (0, 1, 3), (0, 1, 4), (0, 2, 5), (1, 3, 1)], [3, 3])
    module = data(corpus, LeaveOneOut(), uses_history=True, history_length=3)
    assert module.history_of(torch.tensor([1, 0])).tolist() == [[3, PAD, PAD], [1, 1, 2]]
    assert module.history_of(torch.tensor([0]), labels=[0]).tolist() == [[0, 4, 1]]
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
        ({"train_domains": ["d0"], "loss_domains": ["d1"]}, "loss_domains"),
        ({"batch": "pointwise", "shared_negatives": True}, "shared"),
    ]:
        with pytest.raises(CrossrecError, match=message):
            data(**options)
    with pytest.raises(CrossrecError, match="no validation row"):
        data(split=Ratio(valid=0.0)).val_dataloader()
    with pytest.raises(CrossrecError, match="no test row"):
        data(split=LeaveOneOut(evaluated=["d0"]), eval_domains=["d1"]).test_dataloader()


# ---- resuming -------------------------------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """Trains nothing and remembers every batch with the epoch it came in."""

    def __init__(self, die_after=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.die_after, self.seen = die_after, []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch_idx, batch))
        return self.weight.sum()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.die_after is not None and len(self.seen) == self.die_after:
            raise KeyboardInterrupt

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, model, module, resume=None, epochs=3, every=2, **options):
    last = ModelCheckpoint(folder, filename="last", every_n_train_steps=every, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[last],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )
    try:
        trainer.fit(model, datamodule=module, ckpt_path=resume, weights_only=True if resume else None)
    except (KeyboardInterrupt, SystemExit):
        assert model.die_after is not None
    return trainer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["pairwise", "sequence"])
@pytest.mark.parametrize("sampler", [Cycle(), FixedRatio({"d0": 1, "d1": 2}), None], ids=["cycle", "ratio", "all"])
def test_a_killed_epoch_goes_on_with_its_next_batch(tmp_path, kind, sampler):
    def module():
        size = 64 if kind == "pairwise" else 8
        return data(batch=kind, n_negatives=2, batch_size=size, sampler=sampler, valid_queries=3, seed=5)

    whole = Recorder()
    fit(tmp_path / "whole", whole, module())
    length = len(module().train_dataloader())
    assert len(whole.seen) == 3 * length and length >= 5
    for dies in (3, length - 1, length, length + 1, 2 * length + 3):
        broken, resumed, folder = Recorder(dies), Recorder(), tmp_path / str(dies)
        fit(folder, broken, module(), every=1)
        trainer = fit(folder / "again", resumed, module(), resume=str(folder / "last.ckpt"))
        assert trainer.current_epoch == 3
        saved = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
        sequence = broken.seen[:saved] + resumed.seen
        assert [s[:2] for s in sequence] == [s[:2] for s in whole.seen], dies
        for a, b in zip(sequence, whole.seen):
            same(a[2], b[2])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_saved_at_the_end_of_an_epoch_begins_the_next(tmp_path):
    whole, first, second = Recorder(), Recorder(), Recorder()
    fit(tmp_path / "whole", whole, data(), epochs=4)
    end = ModelCheckpoint(tmp_path, filename="end", every_n_epochs=1, save_on_train_epoch_end=True)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(max_epochs=2, callbacks=[end], **quiet).fit(first, datamodule=data())
    fit(tmp_path / "again", second, data(), resume=str(tmp_path / "end.ckpt"), epochs=4)
    for a, b in zip([*first.seen, *second.seen], whole.seen, strict=True):
        assert a[:2] == b[:2]
        same(a[2], b[2])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_epochs_differ_and_short_epochs_restart(tmp_path):
    model = Recorder()
    fit(tmp_path, model, data(), epochs=2, limit_train_batches=2)
    loader = data().train_dataloader()
    for epoch in range(2):
        loader.set_epoch(epoch)
        for (_, _, a), b in zip(model.seen[2 * epoch : 2 * epoch + 2], loader):
            same(a, b)
    assert not torch.equal(model.seen[0][2].users, model.seen[2][2].users)


def test_a_checkpoint_of_other_data_is_refused():
    module, other = data(), data(split=Ratio())
    with pytest.raises(CrossrecError, match="split=leave_one_out"):
        other.load_state_dict(module.state_dict())
    module.load_state_dict(module.state_dict())
    with pytest.raises(CrossrecError, match="batch_size"):
        data(batch_size=32).train_dataloader().load_state_dict(module.train_dataloader().state_dict())


def test_a_source_with_its_own_split_is_used():
    corpus = random_corpus(
        ordered=False, fixed=(np.arange(600) % 4 - 1).astype(np.int8)[: random_corpus().interactions.height]
    )
    module = data(corpus, Fixed())
    assert not module.split.ordered and module.split_report()["domains"]["d0"]["unused"] > 0
