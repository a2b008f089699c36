import time

import pytest
import torch

from crossrec.data.batches import PAD
from crossrec.data.cold import ColdItem, ColdUser
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.prepare import prepare
from crossrec.data.sampling import Cycle
from crossrec.data.sources.food_kitchen import FoodKitchen
from crossrec.data.splits import LeaveOneOut, Ratio

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def corpus(shared, tmp_path_factory):
    return prepare(FoodKitchen(root=shared / "data" / "food_kitchen"), cache_dir=tmp_path_factory.mktemp("prepared"))


@pytest.mark.parametrize(
    "split",
    [LeaveOneOut(), LeaveOneOut("sequence"), Ratio(), ColdUser(target="food"), ColdItem()],
    ids=["domain", "sequence", "ratio", "cold_user", "cold_item"],
)
def test_food_kitchen_is_split_without_leaks_and_read_fast(corpus, split):
    started = time.perf_counter()
    module = MultiDomainDataModule(
        corpus, split, batch="sequence", n_negatives=1, uses_history=True, sampler=Cycle(), batch_size=512
    )
    module.setup("fit")
    loaders = module.val_dataloader() + module.test_dataloader()
    assert time.perf_counter() - started < 10  # about half a second on a free core
    batch = next(iter(module.train_dataloader()))
    assert (batch.targets != PAD).any() and batch.history.shape[1] <= 50
    for loader in loaders:
        queries = next(iter(loader))
        d = corpus.domains[queries.domain]
        relevant = queries.relevant[queries.relevant != PAD]
        assert ((relevant >= d.start) & (relevant < d.stop)).all()
        same = queries.relevant.unsqueeze(2) == queries.seen.unsqueeze(1)
        assert not (same & (queries.relevant != PAD).unsqueeze(2)).any()
    if isinstance(split, ColdUser):
        cold = torch.cat([b.cold for b in module.test_dataloader()[0]])
        assert cold.all()
