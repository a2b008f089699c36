"""DataModules of small corpora."""

from dataclasses import fields

import torch
from corpora import random_corpus

from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.splits import LeaveOneOut


def data(corpus=None, split=None, **options):
    """A DataModule of a random corpus, leaving one out, unless told else."""
    return MultiDomainDataModule(corpus or random_corpus(), split or LeaveOneOut(), **{"batch_size": 64, **options})


def same(a, b):
    """Two batches hold the same."""
    assert type(a) is type(b)
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, f.name
