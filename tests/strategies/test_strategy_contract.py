"""What every registered strategy with adaptation terms must hold: a yaml in ``conf/strategy/`` is enough to be tested.

The runs are a design that has every value of every factor beside every value of every other, not all combinations.
"""

import math
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from running import run

from crossrec.config import compose, options, plain
from crossrec.data.batches import PAD, SequenceBatch
from crossrec.encoders.id import IdEncoder
from crossrec.encoders.user_id import UserIdEncoder
from crossrec.runs.assemble import Assembly, assemble
from crossrec.runs.corpus import recorded_corpus
from crossrec.runs.store import RunFolder

FACTORS: dict[str, list[str]] = {
    "strategy": [s for s in sorted(options("strategy")) if plain(compose([f"strategy={s}"]).adaptation)],
    # that of bert_concat is as wide as its ids and texts together
    "user_encoder": [*sorted(set(options("user_encoder")) - {"id_and_text"}), "transformer user_encoder.history=own"],
    "item_encoder": ["id", "id_text", "text"],
    "data.source.overlap": ["0", "0.5", "1"],
    "data.source.n_domains": ["2", "3", "5"],
    "objective": sorted(options("objective")),
}


def covering(factors: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Rows that have every two values of two factors together: always the one that adds most, the first of equals."""
    two = list(combinations(range(len(factors)), 2))
    rows = list(product(*factors.values()))
    left = {(i, j, row[i], row[j]) for row in rows for i, j in two}
    made = []
    while left:
        best = max(rows, key=lambda row: sum((i, j, row[i], row[j]) in left for i, j in two))
        made.append(best)
        left -= {(i, j, best[i], best[j]) for i, j in two}
    return made


DESIGN = covering(FACTORS)


@pytest.fixture
def tiny(small: list[str], tiny_model: Path) -> list[str]:
    """One epoch of a corpus that is smaller still, and the words that make an encoder of text small."""
    return [
        *small, "data.source.n_users=40", "data.source.n_items=30", "data.source.interactions_per_user=6",
        "trainer.max_epochs=1", "batch_size=64", "logger=none", "callbacks=none", "history_length=6", "optimizer=adam",
        f"item_encoder.encoders.text.model={tiny_model}", "item_encoder.encoders.text.whitening_dim=4",
        "item_encoder.encoders.text.max_length=16",
    ]  # fmt: skip


def used_rows(parts: Assembly) -> tuple[torch.Tensor, torch.Tensor]:
    """Users and items (ids) that the first epoch's batches hold, negatives aside."""
    users, items = [], []
    for batch in parts.datamodule.train_dataloader():
        rows = batch.observations()
        users.append(rows.users)
        items.append(rows.items)
        if isinstance(batch, SequenceBatch):
            items.append(batch.history[batch.history != PAD])
    return torch.cat(users).unique(), torch.cat(items).unique()


def still(made: RunFolder) -> list[str]:
    """Parameters, and rows of tables that the epoch used, that are as they were before training."""
    parts = assemble(made.config, recorded_corpus(made))
    model, after = parts.model, torch.load(made.last, weights_only=True)["state_dict"]
    found = [n for n, p in model.named_parameters() if p.requires_grad and torch.equal(p, after[n])]
    if not parts.corpus.items["text"].null_count():
        found = [n for n in found if not n.endswith(".missing")]  # what an item without a text has for it
    if made.config["objective"]["_target_"].endswith("BPR"):  # a constant added to every item cancels in differences
        found = [n for n in found if not (n.startswith("item_encoder.") and n.endswith("adapter.1.bias"))]
    users, items = used_rows(parts)
    for name, module in model.named_modules():
        if isinstance(module, UserIdEncoder):
            table, rows = "table.weight", users
        elif isinstance(module, IdEncoder):
            table, rows = "weight", module.rows[items]
        else:
            continue
        moved = (module.get_parameter(table) != after[f"{name}.{table}"]).any(1)[rows]
        found += [f"{name}.{table}[{row}]" for row in rows[~moved].tolist()]
    return found


def test_the_design_has_every_two_values_together() -> None:
    for (i, a), (j, b) in combinations(enumerate(FACTORS.values()), 2):
        assert {(row[i], row[j]) for row in DESIGN} == set(product(a, b))
    assert {"mmd", "adversarial", "shared_private", "contrastive"} <= set(FACTORS["strategy"])


@pytest.mark.filterwarnings("ignore:adaptation.* compare")  # where no user is in two domains
@pytest.mark.parametrize("row", DESIGN, ids="-".join)
def test_it_trains_moves_every_parameter_and_repeats(tiny: list[str], tmp_path: Path, row: tuple[str, ...]) -> None:
    part = {"id": None, "id_text": "item_encoder.encoders.text.", "text": "item_encoder."}[row[2]]
    words = [w.replace("item_encoder.encoders.text.", part or "") for w in tiny if part or "item_encoder." not in w]
    words += [w for key, value in zip(FACTORS, row) for w in f"{key}={value}".split()]
    if row[-1].endswith("softmax"):
        words.append("objective.temperature=1.0")
    made, again = (run([*words, f"paths.runs={tmp_path / name}"]) for name in ("first", "second"))
    test = made.metrics["test"]
    assert made.finished and math.isfinite(made.metrics["best_score"]) and all(map(math.isfinite, test.values()))
    domains = {key.split("/")[1] for key in test if key.count("/") == 2}
    assert domains == {*"abcde"[: int(row[4])], "macro"}
    assert (made.path / "metrics.json").read_bytes() == (again.path / "metrics.json").read_bytes()
    ours, theirs = (torch.load(r.last, weights_only=True)["state_dict"] for r in (made, again))
    assert all(torch.equal(v, theirs[k]) for k, v in ours.items() if isinstance(v, torch.Tensor))
    assert still(made) == []
