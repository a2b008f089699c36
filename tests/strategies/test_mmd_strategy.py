from pathlib import Path

import pytest
import torch
from running import run

from crossrec.adaptation.mmd import MMD
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder


def weights(made: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(made.best, weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8"],
        ["user_encoder=mean", "objective=softmax", "item_encoder=text", "item_encoder.dropout=0.3"],
    ],
    ids=["id", "transformer", "dropout"],
)
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], tiny_model: Path, more: list[str]) -> None:
    if "item_encoder=text" in more:
        more = [*more, f"item_encoder.model={tiny_model}", "item_encoder.whitening_dim=4", "item_encoder.max_length=16"]
    merged = run([*small, *more])
    matched = run([*small, *more, "strategy=mmd", "adaptation.mmd.weight=0"])
    assert merged.id != matched.id
    assert merged.metrics == matched.metrics
    assert all(torch.equal(value, weights(matched)[key]) for key, value in weights(merged).items())


def test_a_weight_brings_the_domains_users_together(small: list[str]) -> None:
    words = [*small, "strategy=mmd", "trainer.max_epochs=30", "callbacks=none"]
    values, gaps = [], []
    for weight in (0, 10):
        _, parts = load_run(run([*words, f"adaptation.mmd.weight={weight}"]).path)
        member = torch.from_numpy(parts.corpus.membership)
        with torch.no_grad():
            a, b = (parts.model.user_encoder(torch.nonzero(member[:, d]).squeeze(1)) for d in (0, 1))
        values.append(float(MMD(bandwidth="median").distance(a, b)))
        gaps.append(float((a.mean(0) - b.mean(0)).norm() / torch.cat([a, b]).std()))
    assert values[1] < 0.6 * values[0]
    assert gaps[1] < 0.6 * gaps[0]


def test_needs_a_term(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match=r"strategy=mmd needs at least one adaptation term: adaptation=\[mmd\]"):
        run([*small, "strategy=mmd", "adaptation=[]"])
