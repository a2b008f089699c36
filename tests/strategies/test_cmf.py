from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from running import run

from crossrec.runs.assemble import load_run


@pytest.fixture
def shelves(tmp_path: Path, small: list[str]) -> list[str]:
    """Overrides of two domains in which items 0..14 of each are the same things."""
    rng = np.random.default_rng(0)
    for name in ("books", "films"):
        users = np.repeat(np.arange(40), 6)
        items = np.concatenate([rng.permutation(20)[:6] for _ in range(40)])
        rows = {"user": users, "item": [f"{name}{i}" for i in items], "time": np.arange(len(users))}
        pl.DataFrame(rows).write_csv(tmp_path / f"{name}.csv")
        entity = [f"thing{i}" if i < 15 else None for i in range(20)]
        pl.DataFrame({"item": [f"{name}{i}" for i in range(20)], "entity": entity}).write_csv(
            tmp_path / f"{name}_items.csv"
        )
    domains = ", ".join(
        f"{n}: {{interactions: {tmp_path}/{n}.csv, items: {tmp_path}/{n}_items.csv}}" for n in ("books", "films")
    )
    own = [w for w in small if not w.startswith("data.source")]
    columns = "data.source.item_columns={item: item, title: null, entity: entity}"
    return [*own, "data=tabular", f"data.source.domains={{{domains}}}", columns, "target=films"]


@pytest.mark.parametrize("shared", [True, False])
def test_items_of_one_entity_have_one_vector(shelves: list[str], shared: bool) -> None:
    words = [*shelves, "strategy=cmf", *([] if shared else ["item_encoder.share_entities=false"])]
    _, parts = load_run(run(words).path)
    corpus = parts.corpus
    ids = {name: i for i, name in enumerate(corpus.items["name"])}
    with torch.no_grad():
        vectors = parts.model.item_encoder(torch.arange(corpus.n_items))
    equal = [torch.equal(vectors[ids[f"books{i}"]], vectors[ids[f"films{i}"]]) for i in range(20)]
    assert equal == [shared] * 15 + [False] * 5
