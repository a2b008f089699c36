import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from running import run

from crossrec.cli import main
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, load_run
from crossrec.runs.recommend import recommend_history, recommend_users


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("recommend")
    return [
        f"paths.runs={folder / 'runs'}", f"paths.prepared={folder / 'prepared'}", "data.source.n_users=60",
        "data.source.n_items=30", "data.source.interactions_per_user=6", "trainer.max_epochs=2", "batch_size=64",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "dim=8", "logger=none", "history_length=5",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def by_history(words: list[str]) -> Path:
    return run([*words, "user_encoder=mean", "objective=softmax", "target=all"]).path


@pytest.fixture(scope="module")
def by_id(words: list[str]) -> Path:
    return run(words).path


def done_by(parts: Assembly, name: str) -> list[int]:
    """Items of a user in order of time, over all domains."""
    user = parts.corpus.users.filter(pl.col("name") == name)["user"][0]
    return parts.corpus.interactions.filter(pl.col("user") == user)["item"].to_list()


def by_hand(parts: Assembly, history: list[int], domain: str, leave_out: list[int]) -> tuple[list[str], np.ndarray]:
    """Item names of the whole catalogue, best first, and their scores: the mean of the last five events' vectors."""
    d = parts.corpus.domain(domain)
    with torch.no_grad():
        vectors = parts.model.item_encoder(torch.arange(parts.corpus.n_items)).double().numpy()
    scores = vectors[d.start : d.stop] @ vectors[history[-5:]].mean(0)
    order = [i for i in np.argsort(-scores, kind="stable") if i + d.start not in leave_out]
    return parts.corpus.items["name"].gather([i + d.start for i in order]).to_list(), scores[order]


def test_one_users_list_is_the_argsort_of_the_scores(by_history: Path) -> None:
    _, parts = load_run(by_history)
    name = parts.corpus.users["name"][3]
    history = done_by(parts, name)
    for exclude, leave_out in ((True, history), (False, [])):
        expected, scores = by_hand(parts, history, "b", leave_out)
        frame = recommend_users(by_history, [name], 7, "b", exclude_seen=exclude)
        assert frame["item"].to_list() == expected[:7]
        np.testing.assert_allclose(frame["score"].to_numpy(), scores[:7], rtol=1e-4)
        assert frame["rank"].to_list() == list(range(1, 8))
        assert set(frame["user"]) == {name} and set(frame["domain"]) == {"b"}


def test_titles_are_those_of_the_items(by_history: Path) -> None:
    _, parts = load_run(by_history)
    frame = recommend_users(by_history, None, 3, "a")
    joined = frame.join(parts.corpus.items.select(item="name", right="title"), on="item", how="left")
    assert (joined["title"] == joined["right"]).all()


def test_everybody_gets_k_unseen_items_of_every_target(by_history: Path) -> None:
    _, parts = load_run(by_history)
    frame = recommend_users(by_history, None, 4, None)
    assert frame.height == parts.corpus.n_users * 2 * 4
    assert frame["user"].unique(maintain_order=True).to_list() == parts.corpus.users["name"].to_list()
    rows = parts.corpus.interactions.join(parts.corpus.users, on="user").join(
        parts.corpus.items.select("item", thing="name"), on="item"
    )
    seen = frame.join(rows, left_on=["user", "item"], right_on=["name", "thing"], how="semi")
    assert seen.height == 0
    assert (frame.group_by("user", "domain").agg(pl.col("score").is_sorted(descending=True))["score"]).all()


def test_a_list_is_as_long_as_there_are_items_left(by_history: Path) -> None:
    _, parts = load_run(by_history)
    name = parts.corpus.users["name"][0]
    b = parts.corpus.domain("b")
    seen = {i for i in done_by(parts, name) if b.start <= i < b.stop}
    assert recommend_users(by_history, [name], 1000, "b").height == b.n_items - len(seen)
    assert recommend_users(by_history, [name], 1000, "b", exclude_seen=False).height == b.n_items


def test_a_typed_history_is_ranked_like_a_user_who_has_it(by_history: Path) -> None:
    _, parts = load_run(by_history)
    name = parts.corpus.users["name"][5]
    history = done_by(parts, name)
    names = parts.corpus.items["name"].gather(history).to_list()
    titles = [t.upper() for t in parts.corpus.items["title"].gather(history)]
    expected = recommend_users(by_history, [name], 5, "b").drop("user")
    for typed in (names, titles):
        frame = recommend_history(by_history, typed, 5, "b")
        assert set(frame["user"]) == {"(history)"}
        assert frame.drop("user").equals(expected)
    seen = recommend_history(by_history, names, 1000, "b", exclude_seen=False)
    assert set(names) & set(seen["item"]) == {n for n in names if n.startswith("b")}


def test_a_title_means_the_item_of_the_domain_asked_for(words: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("old", "new"):
        items = np.concatenate([rng.permutation(12)[:6] for _ in range(30)])
        users = [f"{name}{u}" for u in np.repeat(np.arange(30), 6)]
        pl.DataFrame({"user": users, "item": [f"{name}-{i}" for i in items], "time": np.arange(180)}).write_csv(
            tmp_path / f"{name}.csv"
        )
        titles = [f"Film {i} (19{80 + i})" for i in range(10)] + ["Heat (1986)", "Heat (1995)"]
        pl.DataFrame({"item": [f"{name}-{i}" for i in range(12)], "title": titles}).write_csv(
            tmp_path / f"{name}_i.csv"
        )
    domains = ", ".join(
        f"{n}: {{interactions: {tmp_path}/{n}.csv, items: {tmp_path}/{n}_i.csv}}" for n in ("old", "new")
    )
    own = [w for w in words if not w.startswith("data.source")]
    made = run([*own, "data=tabular", f"data.source.domains={{{domains}}}", "target=new", "user_encoder=mean"])
    _, parts = load_run(made.path)
    frame = recommend_history(made.path, ["film 3", "Film 4 (1984)"], 20, None)
    assert set(frame["domain"]) == {"new"}
    assert set(frame["item"]) == {f"new-{i}" for i in range(12)} - {"new-3", "new-4"}
    names = parts.corpus.items["name"].to_list()
    expected, _ = by_hand(parts, [names.index("new-3"), names.index("new-4")], "new", [])
    assert frame["item"].to_list() == [n for n in expected if n not in ("new-3", "new-4")]
    with pytest.raises(CrossrecError, match=r"'Heat' may be Heat \(1986\), Heat \(1995\): write one of these in full"):
        recommend_history(made.path, ["Heat"], 3, None)
    # Under target_only the items of the other domain are not trained, so they cannot be a history.
    alone = run([*own, "data=tabular", f"data.source.domains={{{domains}}}", "target=new", "user_encoder=mean",
                 "strategy=target_only"])  # fmt: skip
    with pytest.raises(CrossrecError, match="no item 'old-3' in the domains of this run"):
        recommend_history(alone.path, ["old-3"], 3, None)
    assert {u[:3] for u in recommend_users(alone.path, None, 1, None)["user"]} == {"new"}


@pytest.mark.parametrize(("names", "domain", "message"), [
    (["u00000"], "b", r"no user 'u00000' in this corpus; did you mean u0000\d0"),
    (None, "c", r"no domain 'c' in this corpus; it has a, b"),
])  # fmt: skip
def test_unknown_users_and_domains_are_told(
    by_history: Path, names: list[str] | None, domain: str, message: str
) -> None:
    with pytest.raises(CrossrecError, match=message):
        recommend_users(by_history, names, 3, domain)


def test_unknown_items_and_empty_histories_are_told(by_history: Path) -> None:
    with pytest.raises(CrossrecError, match="no item 'nothing like it'"):
        recommend_history(by_history, ["nothing like it"], 3, "b")
    with pytest.raises(CrossrecError, match="the history is empty"):
        recommend_history(by_history, [], 3, "b")


def test_a_run_that_knows_users_by_id_has_no_typed_history(by_id: Path) -> None:
    with pytest.raises(CrossrecError, match=r"knows users by id only.*user_encoder=mean, attention or transformer"):
        recommend_history(by_id, ["b00000"], 3, None)
    _, parts = load_run(by_id)
    assert recommend_users(by_id, None, 2, None).height == 2 * parts.corpus.n_users


def test_a_domain_that_was_not_trained_is_told(words: list[str]) -> None:
    made = run([*words, "strategy=target_only"])
    with pytest.raises(CrossrecError, match="this run did not train on 'a'; it knows b"):
        recommend_users(made.path, None, 3, "a")


def test_a_domain_that_trains_and_is_not_tested_is_recommended_in(words: list[str]) -> None:
    made = run([*words, "target=b", "split=ratio", "split.evaluated=[b]"])
    _, parts = load_run(made.path)
    assert [parts.corpus.domains[i].name for i in parts.datamodule.eval_indices] == ["b"]
    frame = recommend_users(made.path, None, 3, "a")
    assert set(frame["domain"]) == {"a"} and frame.height == 3 * parts.corpus.n_users
    assert set(recommend_users(made.path, None, 3, None)["domain"]) == {"b"}


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_the_command_writes_files(by_history: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deeper" / f"lists.{ending}"
    main(["recommend", str(by_history), "-k", "3", "--domain", "b", "--user", "u000002", "--user", "u000001",
          "-o", str(path)])  # fmt: skip
    if ending == "json":
        frame = pl.DataFrame(json.loads(path.read_text()))
    else:
        frame = pl.read_csv(path) if ending == "csv" else pl.read_parquet(path)
    expected = recommend_users(by_history, ["u000002", "u000001"], 3, "b")
    assert frame.columns == expected.columns == ["user", "domain", "rank", "item", "title", "score"]
    assert frame.drop("score").equals(expected.drop("score"))
    np.testing.assert_allclose(frame["score"], expected["score"], rtol=1e-5)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_command_reads_users_from_a_file(
    by_history: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users.txt").write_text("u000004\n\nu000003\n")
    main(["recommend", str(by_history), "-k", "2", "--domain", "b", "--users-file", str(tmp_path / "users.txt"),
          "-o", str(tmp_path / "o.csv")])  # fmt: skip
    assert "4 rows for 2 users" in capsys.readouterr().out
    assert pl.read_csv(tmp_path / "o.csv")["user"].to_list() == ["u000004"] * 2 + ["u000003"] * 2


def test_the_command_prints_a_table_for_a_typed_history(by_history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["recommend", str(by_history), "-k", "2", "--domain", "b", "--history", "b00001; a00002"])
    printed = capsys.readouterr().out
    expected = recommend_history(by_history, ["b00001", "a00002"], 2, "b")["item"]
    assert all(item in printed for item in expected)


@pytest.mark.parametrize(("more", "message"), [
    (["-k", "0"], "-k is 0; it must be at least 1"),
    (["-o", "lists.xlsx"], "cannot tell the format of lists.xlsx: end its name in .csv, .parquet or .json"),
    (["--users-file", "nowhere.txt"], "no file nowhere.txt"),
    (["--users-file", "/dev/null"], "/dev/null names no user: give a name a line, or leave it out for all"),
])  # fmt: skip
def test_the_command_tells_mistakes(
    by_history: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["recommend", str(by_history), *more])
    assert end.value.code == 1
    assert capsys.readouterr().err.strip() == f"crossrec recommend: error: {message}"
