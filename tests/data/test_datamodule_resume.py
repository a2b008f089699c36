import pytest
import pytorch_lightning as pl
import torch
from modules import data, same
from pytorch_lightning.callbacks import ModelCheckpoint

from crossrec.data.sampling import Cycle, FixedRatio
from crossrec.data.splits import Ratio
from crossrec.errors import CrossrecError


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
