from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from corpora import columns, random_corpus

from crossrec.data.batches import PAD
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.labels import Labelled
from crossrec.data.splits import LeaveOneOut, Ratio
from crossrec.errors import CrossrecError


def rated(**options):
    """A random corpus with ratings from 1 to 5."""
    corpus = random_corpus(**options)
    ratings = np.random.default_rng(1).integers(1, 6, corpus.interactions.height).astype(np.float32)
    return replace(corpus, interactions=corpus.interactions.with_columns(rating=pl.Series(ratings)))


def data(corpus, threshold=4, **options):
    split = Labelled(Ratio(0.7, 0.1, 0.2), threshold)
    return MultiDomainDataModule(corpus, split, **{"batch_size": 64, "batch": "pointwise", **options})


def labelled_rows(corpus, split, stage):
    users, items, _, domains = columns(corpus)
    positive = corpus.interactions["rating"].to_numpy() >= 4
    kept = split.label == stage
    return list(zip(users[kept].tolist(), items[kept].tolist(), domains[kept].tolist(), positive[kept].tolist()))


def test_an_epoch_is_every_training_row_with_its_label():
    corpus = rated()
    module = data(corpus, n_negatives=0)
    found = [
        row
        for batch in module.train_dataloader()
        for row in zip(batch.users.tolist(), batch.items.tolist(), batch.domains.tolist(), batch.labels.bool().tolist())
    ]
    assert sorted(found) == sorted(labelled_rows(corpus, module.split, 0))
    assert 0 < sum(row[3] for row in found) < len(found)


def test_negatives_are_drawn_for_positives_alone_and_are_no_row_of_the_user():
    corpus = rated()
    module = data(corpus, n_negatives=2)
    rows = labelled_rows(corpus, module.split, 0)
    seen, n_drawn = {row[:2] for row in rows}, 0
    for batch in module.train_dataloader():
        drawn = [(u, i) not in seen for u, i in zip(batch.users.tolist(), batch.items.tolist())]
        assert not batch.labels[torch.tensor(drawn)].any()
        assert sum(drawn) == 2 * int(batch.labels.sum())
        n_drawn += sum(drawn)
    assert n_drawn == 2 * sum(row[3] for row in rows)


def test_processes_share_a_labelled_batch():
    corpus = rated()
    module = data(corpus, n_negatives=2)
    module.setup("fit")
    index = torch.arange(30)

    def gather(part):
        return module._source.gather(index, torch.Generator().manual_seed(3), part)

    def rows(batch):
        return list(zip(batch.users.tolist(), batch.items.tolist(), batch.labels.tolist(), batch.domains.tolist()))

    shares = [gather(slice(rank, None, 2)) for rank in range(2)]
    assert sorted(rows(gather(slice(0, None, 1)))) == sorted(rows(shares[0]) + rows(shares[1]))


def test_queries_look_for_positives_and_know_the_disliked():
    corpus = rated()
    module = data(corpus)
    for domain in range(2):
        held = [row for row in labelled_rows(corpus, module.split, 2) if row[2] == domain]
        batch = module.queries("test", domain).batch()
        for name, label in (("relevant", True), ("disliked", False)):
            ids = getattr(batch, name)
            found = [(u, i) for u, row in zip(batch.users.tolist(), ids.tolist()) for i in row if i != PAD]
            assert sorted(found) == sorted(row[:2] for row in held if row[3] is label)
        assert (batch.relevant == PAD).all(1).any()  # who disliked all that is held out has a query too
        taken = module.queries("test", domain).take(torch.tensor([3, 1])).batch()
        assert [sorted(row) for row in taken.disliked.tolist()] == [
            sorted(row[: taken.disliked.shape[1]]) for row in batch.disliked[[3, 1]].tolist()
        ]


def test_seen_items_are_left_out_whatever_their_label():
    corpus = rated()
    module = data(corpus)
    earlier = {row[:2] for stage in (0, 1) for row in labelled_rows(corpus, module.split, stage) if row[2] == 1}
    batch = module.queries("test", 1).batch()
    seen = {(u, i) for u, row in zip(batch.users.tolist(), batch.seen.tolist()) for i in row if i != PAD}
    users = set(batch.users.tolist())
    assert seen == {(u, i) for u, i in earlier if u in users}


def test_popularity_counts_positives_and_the_mask_all_rows():
    corpus = rated()
    module = data(corpus)
    rows = labelled_rows(corpus, module.split, 0)
    liked = np.bincount([row[1] for row in rows if row[3]], minlength=corpus.n_items)
    every = np.bincount([row[1] for row in rows], minlength=corpus.n_items)
    assert module.train_item_counts().tolist() == liked.tolist() and (liked != every).any()
    assert module.train_item_mask().tolist() == (every > 0).tolist()
    assert module.split_report()["domains"]["d0"]["positives"] == sum(
        row[3] for stage in (0, 1, 2) for row in labelled_rows(corpus, module.split, stage) if row[2] == 0
    )


@pytest.mark.parametrize(("threshold", "why"), [(6, "is above all ratings"), (1, "labels no row a negative")])
def test_one_label_for_all_is_refused(threshold, why):
    with pytest.raises(CrossrecError, match=f"positive_rating={threshold} {why}"):
        data(rated(), threshold).setup("fit")


def test_labels_that_nothing_reads_are_refused():
    with pytest.raises(CrossrecError, match="choose objective=bce"):
        data(rated(), batch="pairwise").setup("fit")
    with pytest.raises(CrossrecError, match="choose user_encoder=id"):
        data(rated(), batch="sequence", uses_history=True).setup("fit")


def test_without_labels_nothing_is_disliked():
    module = MultiDomainDataModule(rated(), LeaveOneOut(), batch_size=64)
    assert module.queries("test", 0).batch().disliked is None
    assert "positives" not in module.split_report()["domains"]["d0"]
