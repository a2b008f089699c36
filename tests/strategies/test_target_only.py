import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble, load_run
from crossrec.runs.corpus import prepare_corpus


@pytest.mark.parametrize("target", ["a", "b"])
def test_trains_on_rows_of_the_target_alone(small: list[str], target: str) -> None:
    words = [*small, "strategy=target_only", f"target={target}"]
    config = composed(words)
    start = assemble(config, prepare_corpus(config)).model
    _, parts = load_run(run(words).path)
    own, other = parts.corpus.domain(target), parts.corpus.domain("b" if target == "a" else "a")
    with torch.no_grad():
        before, after = (m.item_encoder(torch.arange(parts.corpus.n_items)) for m in (start, parts.model))
        moved = (before != after).any(1)
        assert not moved[other.start : other.stop].any()
        assert moved[own.start : own.stop].all()
        everyone = torch.arange(parts.corpus.n_users)
        moved = (start.user_encoder(everyone) != parts.model.user_encoder(everyone)).any(1)
    assert torch.equal(moved, torch.from_numpy(parts.corpus.membership[:, own.index]))


def test_every_batch_and_history_is_of_the_target(small: list[str]) -> None:
    config = composed([*small, "strategy=target_only", "user_encoder=mean"])
    parts = assemble(config, prepare_corpus(config))
    batches = list(parts.datamodule.train_dataloader())
    assert batches
    for batch in batches:
        assert set(batch.domains.unique().tolist()) <= {-1, 1}
        for ids in (batch.history, batch.targets, batch.negatives):
            assert (ids[ids >= 0] >= parts.corpus.domains[1].start).all()


def test_refuses_to_have_every_domain_as_target(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match="strategy=target_only needs one target domain: set target to one of a, b"):
        run([*small, "strategy=target_only", "target=all"])
