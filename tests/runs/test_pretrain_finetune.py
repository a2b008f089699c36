"""Pretrain on two domains, fine-tune on the third: both settings, by two commands, and a case that is made for it."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from running import crossrec, here, run
from torch import Tensor
from written_vectors import CONFIG

from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs

TASTES, NUISANCES = 3, 21


def state(made: RunFolder) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(made.last, weights_only=True)["state_dict"]
    return found


def test_two_commands_inductive_and_transductive(small: list[str], tiny_model: Path, tmp_path: Path) -> None:
    words = [
        *small, "data.source.n_domains=3", "data.source.n_users=40", "data.source.n_items=30", "logger=none",
        "data.source.interactions_per_user=6", "batch_size=32", "history_length=5", "target=c",
    ]  # fmt: skip

    def text(part: str) -> list[str]:
        return [f"{part}.model={tiny_model}", f"{part}.whitening_dim=4", f"{part}.max_length=16"]

    done = crossrec("train", *words, "strategy=pretraining", *text("item_encoder"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (source,) = find_runs(tmp_path / "runs")
    assert {k.split("/")[1] for k in source.metrics["test"]} == {"a", "b", "macro"}
    begin = [*words, "strategy=target_only", "user_encoder=transformer", "objective=in_batch_softmax"]
    begin.append(f"init.from=runs/{source.id}")  # as a user writes it, seen from the working directory
    inductive = [*begin, "item_encoder=text", *text("item_encoder"), "init.freeze=[user_encoder]"]
    done = here("train", *inductive, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"begins with weights of {source.id}: user_encoder (" in done.stdout
    (tuned,) = (made for made in find_runs(tmp_path / "runs") if made.id != source.id)
    given = torch.load(source.best, weights_only=True)["state_dict"]
    frozen = [n for n in given if n.startswith("user_encoder.") and n != "user_encoder.domain.weight"]
    assert all(torch.equal(state(tuned)[n], given[n]) for n in frozen)
    assert not torch.equal(state(tuned)["item_encoder.adapter.1.weight"], given["item_encoder.adapter.1.weight"])
    assert {k.split("/")[1] for k in tuned.metrics["test"]} == {"c", "macro"}

    fused = [*begin[:-1], f"init.from={source.path}", "item_encoder=id_text", *text("item_encoder.encoders.text")]
    transductive = run(fused)
    moved = state(transductive)
    assert not torch.equal(moved["user_encoder.position"], given["user_encoder.position"])
    assert torch.equal(moved["item_encoder.encoders.text.whitening.matrix"], given["item_encoder.whitening.matrix"])
    assert transductive.metrics["init"]["left"]["item_encoder.encoders.id"] == "that run has no such encoder"


def planted(folder: Path) -> list[str]:
    """Two domains of 150 users and a target of 25, where the same three of 24 numbers decide what users choose."""
    rng, domains = np.random.default_rng(0), []
    for name, n_users, events in (("a", 150, 12), ("b", 150, 12), ("c", 25, 5)):
        x = rng.standard_normal((80, TASTES + NUISANCES))
        scores = 2.5 * rng.standard_normal((n_users, TASTES)) @ x[:, :TASTES].T
        chosen = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)[:, :events]
        items = [f"{name}{i}" for i in rng.permuted(chosen, axis=1).ravel()]
        users = np.repeat([f"{name}{u}" for u in range(n_users)], events)
        rows = pl.DataFrame({"user": users, "item": items, "time": np.tile(np.arange(events), n_users)})
        rows.write_csv(folder / f"{name}.csv")
        texts = [" ".join(f"{value:.5f}" for value in line) for line in x]
        pl.DataFrame({"item": [f"{name}{i}" for i in range(80)], "text": texts}).write_csv(folder / f"{name}_items.csv")
        domains.append(f"{name}: {{interactions: {folder / name}.csv, items: {folder / name}_items.csv}}")
    (folder / "conf" / "item_encoder").mkdir(parents=True)
    (folder / "conf" / "item_encoder" / "numbers.yaml").write_text(CONFIG)
    columns = "{item: item, text: text, title: null, image: null, audio: null, entity: null}"
    return ["data=tabular", f"data.source.domains={{{', '.join(domains)}}}", f"data.source.item_columns={columns}"]


def test_pretraining_helps_a_small_target_where_the_same_features_matter(tmp_path: Path, small: list[str]) -> None:
    own = [w for w in small if not w.startswith(("data.", "trainer.max_epochs", "batch_size"))]
    words = [
        *own, *planted(tmp_path), "target=c", "item_encoder=numbers", "user_encoder=mean", "trainer.max_epochs=15",
        "batch_size=32", "optimizer.lr=0.01", "objective=in_batch_softmax", "objective.temperature=0.2", "logger=none",
    ]  # fmt: skip
    folders = [tmp_path / "conf"]

    def made(*more: str) -> RunFolder:
        return run([*words, *more], folders)

    source = made("strategy=pretraining", "user_encoder=mean", "item_encoder=numbers")
    weight = state(source)["item_encoder.map.weight"].norm(dim=0)
    assert weight[:TASTES].mean() > 3 * weight[TASTES:].mean()
    gains = []
    for seed in range(3):
        line = ("strategy=target_only", f"seed={seed}")
        alone, begun = made(*line), made(*line, f"init.from={source.path}")
        scores = [m.metrics["test"]["test/c/ndcg@10"] for m in (alone, begun)]
        gains.append(scores[1] - scores[0])
    assert min(gains) > 0 and np.mean(gains) > 0.05, gains
