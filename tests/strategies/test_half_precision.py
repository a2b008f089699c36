"""Mixed precision trains in bfloat16, and ranks in float32."""

import pytest
import torch
from running import run

from crossrec.runs.assemble import load_run
from crossrec.strategies.base import Strategy


@pytest.mark.parametrize(
    "words",
    [[], *([f"user_encoder={u}", "objective=softmax", "history_length=8"] for u in ("transformer", "attention"))],
)
def test_scores_are_ranked_in_float32(small: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    score = Strategy.score

    def kept(self, batch):
        scores = score(self, batch)
        seen.append(scores)
        return scores

    monkeypatch.setattr(Strategy, "score", kept)
    made = run([*small, "strategy=merged", "trainer.precision=bf16-mixed", "trainer.max_epochs=1", *words])
    model = load_run(made.path)[1].model
    scores = seen[-1]
    assert scores.dtype == torch.float32
    # bfloat16 knows 256 numbers between two powers of two: not so the scores of a catalogue
    assert not torch.equal(scores, scores.bfloat16().float())
    assert all(p.dtype == torch.float32 for p in model.parameters())
