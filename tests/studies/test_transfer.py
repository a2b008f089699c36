import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from running import run

from crossrec.cli import main
from crossrec.commands.transfer import sentence, shares
from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import bootstrap_interval, holm, permutation_test
from crossrec.runs.store import RunFolder
from crossrec.studies.pairing import paired_users
from crossrec.studies.transfer import DomainTransfer, Transfer, transfer
from crossrec.studies.user_groups import Group, training_rows

Runs = dict[tuple[str, int], Path]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("transfer")
    return [
        f"paths.runs={folder / 'runs'}", f"paths.prepared={folder / 'prepared'}", "data.source.n_users=80",
        "data.source.n_items=40", "data.source.interactions_per_user=6", "trainer.max_epochs=2", "batch_size=64",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "dim=8", "optimizer.lr=0.05", "split=ratio",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(words: list[str]) -> Runs:
    """Merged runs of two seeds with their twins in b; in a the twin of seed 1 is missing."""
    made = {("merged", seed): run([*words, f"seed={seed}", "target=all"]).path for seed in (0, 1)}
    made |= {("b", seed): run([*words, f"seed={seed}", "target=b", "strategy=target_only"]).path for seed in (0, 1)}
    made["a", 0] = run([*words, "target=a", "strategy=target_only"]).path
    made["popular", 0] = run([*words, "strategy=popularity"]).path
    return made


@pytest.fixture
def merged(trained: Runs) -> list[Path]:
    return [trained["merged", 0], trained["merged", 1]]


@pytest.fixture
def copy(trained: Runs, tmp_path: Path) -> Callable[[str, int], Path]:
    """Copy a run elsewhere, to break it."""
    leave = shutil.ignore_patterns("transfer.json")
    return lambda name, seed: Path(shutil.copytree(trained[name, seed], tmp_path / f"{name}-{seed}", ignore=leave))


def domain(low: float | None, high: float | None, p: float, twin: float = 0.5) -> DomainTransfer:
    gain = 0.0 if low is None or high is None else (low + high) / 2
    group = Group("all", None, None, 10, twin, twin + gain, gain, low, high)
    return DomainTransfer("food", {0: "t"}, (group,), {0: gain}, p / 2, p, 5, 3, 2, {}, {})


def test_seeds_are_averaged_and_each_domain_is_tested_once(trained: Runs, merged: list[Path]) -> None:
    made = transfer(merged)
    assert (made.metric, list(made.runs), made.selected) == ("ndcg@10", [0, 1], ("a", "b"))
    a, b = made.domains
    for got, seeds in ((a, [0]), (b, [0, 1])):
        twins = {s: trained[got.domain, s] for s in seeds}
        users = paired_users({s: trained["merged", s] for s in seeds}, twins, got.domain, "ndcg@10")
        values, whole = users["difference"].to_numpy(), got.groups[0]
        assert got.twins == {s: path.name for s, path in twins.items()}
        assert list(got.by_seed) == seeds and (whole.by, whole.users) == ("all", len(values))
        assert (whole.twin, whole.run) == pytest.approx((users["b"].mean(), users["a"].mean()))
        assert whole.gain == pytest.approx(values.mean()) == pytest.approx(whole.run - whole.twin)
        assert (whole.low, whole.high) == bootstrap_interval(values)
        assert got.p == permutation_test(values)
        assert (got.helped, got.hurt) == ((values > 1e-12).sum(), (values < -1e-12).sum())
        assert got.helped + got.hurt + got.unchanged == whole.users
        for by in ("activity", "overlap"):
            parts = [g for g in got.groups if g.by == by]
            assert sum(g.users for g in parts) == whole.users
            assert sum(g.users * g.gain for g in parts) == pytest.approx(whole.users * whole.gain)
    assert [a.p_holm, b.p_holm] == holm([a.p, b.p])
    (missing,) = made.missing
    assert (missing.domain, missing.run.path) == ("a", merged[1])
    assert f"{trained['a', 0].name} is not the twin: seed is 0 in it, 1 in the run" in missing.near


def test_a_user_is_in_the_bucket_of_the_rows_of_the_seeds_that_tested_it(merged: list[Path]) -> None:
    got = transfer(merged).domains[1]
    counts: dict[str, list[tuple[int, int]]] = {}
    for folder in merged:  # the seed makes the split, so a user's rows differ
        rows = {(n, d): r for n, d, r in training_rows(RunFolder(folder)).iter_rows()}
        for name in pl.read_parquet(folder / "per_user" / "b.parquet")["name"]:
            counts.setdefault(name, []).append((rows.get((name, "b"), 0), rows.get((name, "a"), 0)))
    means = np.array([np.mean(both, axis=0) for both in counts.values()])
    for group in got.groups[1:]:
        column = means[:, 0 if group.by == "activity" else 1]
        assert group.least is not None and group.most is not None
        inside = column[(column >= group.least) & (column <= group.most)]
        assert len(inside) == group.users and (inside.min(), inside.max()) == (group.least, group.most)


@pytest.mark.parametrize(
    ("low", "high", "p", "says"),
    [
        (0.01, 0.03, 0.001, "helped food: +0.0200 recall@5 (+4.0%, 95% interval +0.0100 to +0.0300, p 0.0010)."),
        (-0.03, -0.01, 1e-5, "hurt food: -0.0200 recall@5 (-4.0%, 95% interval -0.0300 to -0.0100, p 1.0e-05)."),
        (0.01, 0.03, 0.05, "made no difference in food that users show: +0.0200 recall@5"),
        (-0.01, 0.03, 0.01, "made no difference in food that users show: +0.0100 recall@5"),
        (None, None, 0.01, "made no difference in food that users show: +0.0000 recall@5 (+0.0%, p 0.0100)."),
    ],
)
def test_a_sentence_says_what_users_show(low: float | None, high: float | None, p: float, says: str) -> None:
    assert sentence(domain(low, high, p), "recall@5").startswith(f"Transfer {says}")


def test_shares_and_a_twin_at_zero() -> None:
    made = domain(0.01, 0.03, 0.001, twin=0.0)
    assert sentence(made, "auc") == "Transfer helped food: +0.0200 auc (95% interval +0.0100 to +0.0300, p 0.0010)."
    expected = "Users of food: 50.0% helped, 20.0% hurt, 30.0% unchanged. Gain by seed: seed 0 +0.0200."
    assert shares(made) == expected
    assert shares(replace(made, by_seed={0: 0.05, 3: -0.01})).endswith("seed 3 -0.0100. Seeds differ in sign.")


@pytest.mark.parametrize(("shared", "verdict"), [(0, "hurt"), (1, "helped")])
def test_merging_opposite_tastes_hurts_and_merging_one_taste_helps(small: list[str], shared: int, verdict: str) -> None:
    planted = [
        *small, "data.source.n_users=[300,150]", "data.source.interactions_per_user=10", "data.source.overlap=1",
        f"data.source.shared={shared}", "data.source.n_factors=4", "data.source.signal=6", "dim=4", "optimizer.lr=0.05",
        "trainer.max_epochs=12", "callbacks=none", "batch_size=512", "logger=none",
    ]  # fmt: skip
    folder = run(planted).path
    run([*planted, "strategy=target_only"])
    made: Transfer = transfer([folder])
    (b,) = made.domains  # a has no twin
    assert (b.domain, b.verdict, made.selected) == ("b", verdict, ("b",))
    assert sentence(b, made.metric).startswith(f"Transfer {verdict} b: {'-' if shared == 0 else '+'}0.")
    assert [m.domain for m in made.missing] == ["a"]


def test_the_command_prints_and_writes(
    trained: Runs, merged: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(merged[0].parents[1])  # ids are found below runs/
    table, text = tmp_path / "new" / "t.csv", tmp_path / "t.md"
    main(["transfer", merged[0].name, str(merged[1]), "-m", "recall@10", "-o", str(table), "-o", str(text)])
    printed = capsys.readouterr().out
    made = transfer(merged, metric="recall@10")
    written = text.read_text()
    for words in (
        *(sentence(d, "recall@10") for d in made.domains), *(shares(d) for d in made.domains), made.missing[0].line,
        f"{trained['b', 0].name} (seed 0), {trained['b', 1].name} (seed 1)", "averaged over seeds first",
        "Holm-corrected over 2 domains", "by rows in other domains",
    ):  # fmt: skip
        assert words in printed and words in written
    frame = pl.read_csv(table)
    assert frame.height == sum(len(d.groups) for d in made.domains)
    assert frame.filter(pl.col("by") == "all")["p_holm"].to_list() == [d.p_holm for d in made.domains]
    assert frame["gain"].to_list() == pytest.approx([g.gain for d in made.domains for g in d.groups])
    record = json.loads((merged[0] / "transfer.json").read_text())
    assert record["runs"] == {"0": merged[0].name, "1": merged[1].name}
    assert record["domains"]["b"]["verdict"] == made.domains[1].verdict
    assert record["domains"]["b"]["groups"][0]["gain"] == made.domains[1].groups[0].gain
    assert record["missing"] == [{"domain": "a", "seed": 1, "line": made.missing[0].line}]
    assert not (merged[1] / "transfer.json").exists()


def test_twins_may_be_named_and_one_seed_says_so(
    trained: Runs, copy: Callable[[str, int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = copy("merged", 0)  # no run lies beside it
    main(["transfer", str(alone), "--against", str(trained["b", 0])])
    printed = capsys.readouterr().out
    assert "One seed: intervals and p are over users" in printed and "a: no finished target_only twin" in printed
    assert list(json.loads((alone / "transfer.json").read_text())["domains"]) == ["b"]


def test_a_twin_of_another_budget_is_taken_where_it_is_named(
    copy: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged, twin, other = (copy(*which) for which in (("merged", 0), ("b", 0), ("a", 0)))
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("max_epochs: 2", "max_epochs: 9").replace("lr: 0.05", "lr: 0.1"))
    main(["transfer", str(merged)])
    printed = capsys.readouterr().out
    said = "optimizer.lr is 0.1 in it, 0.05 in the run; trainer.max_epochs is 9 in it, 2 in the run"
    assert f"a: no finished target_only twin of {merged.name} (a-0 differs in its budget alone: {said})" in printed
    line = f"crossrec transfer {merged} --against {twin} {other}"
    assert f"  {line}" in printed.splitlines() and "a:" not in printed.partition("gain:")[2]
    main(shlex.split(line)[1:])
    printed = capsys.readouterr().out
    assert "a: trainer.max_epochs is 2 in the run and 9 in the twin: part of the gain in a may be of that." in printed
    domains = json.loads((merged / "transfer.json").read_text())["domains"]
    assert list(domains) == ["a", "b"] and not domains["b"]["budget"]
    assert domains["a"]["budget"]["optimizer.lr"] == ["0.05", "0.1"]


def test_an_epoch_selected_in_another_domain_is_noted(
    words: list[str], trained: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["transfer", str(run([*words, "target=b", "logger=none"]).path), "--against", str(trained["a", 0])])
    assert "The run's epoch was selected in b, the twin's in a: part of the gain in a" in capsys.readouterr().out


def test_without_any_twin_the_lines_are_told_and_nothing_is_written(
    copy: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = copy("merged", 0)
    with pytest.raises(SystemExit) as end:
        main(["transfer", str(alone), "-o", str(tmp_path / "t.csv")])
    told = capsys.readouterr()
    assert end.value.code == 1 and f"no domain of {alone.name} has a finished target_only twin in" in told.err
    lines = [line for line in told.out.splitlines() if line.startswith("  crossrec train ")]
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["target=a", "target=b"]
    assert not (alone / "transfer.json").exists() and not (tmp_path / "t.csv").exists()


def test_runs_that_cannot_be_reported_are_told(
    words: list[str], trained: Runs, copy: Callable[[str, int], Path], tmp_path: Path
) -> None:
    first, twin = trained["merged", 0], trained["b", 0]
    open_ = copy("merged", 1)
    (open_ / "status.json").write_text(json.dumps({"state": "failed"}))
    wide = run([*words, "target=all", "seed=2", "dim=16", "logger=none"]).path
    second = copy("b", 0)
    for runs, against, metric, message in (
        ([tmp_path], [], None, "is not a run folder"),
        ([open_], [], None, "merged-1 is failed, not finished"),
        ([first, first], [], None, "have the same seed 0: give a run for each seed"),
        ([first, wide], [], None, "with another seed (dim is 16, not 8)"),
        ([trained["popular", 0]], [], None, "has nothing to transfer (Popularity does not train)"),
        ([twin], [], None, "trains on 'b' alone"),
        ([first], [first], None, "is a run of crossrec.strategies.merged.Merged: name runs of strategy=target_only"),
        ([first], [trained["b", 1]], None, "is not the twin: seed is 1 in it, 0 in the run; split.seed is 1"),
        ([first], [twin, second], None, "is a second twin of"),
        ([first], [], "ndgc@10", "no metric 'ndgc@10' of single users; did you mean ndcg@10"),
        ([first], [], "coverage@10", "coverage@10 is of all lists together"),
    ):
        with pytest.raises(CrossrecError) as error:
            transfer(runs, against, metric)
        assert message in str(error.value)


def test_the_lost_corpus_of_changed_files_and_another_ending_are_told(
    copy: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = copy("merged", 0)
    (lost / "corpus.json").write_text(json.dumps({"fingerprint": "0" * 64, "path": str(tmp_path / "gone")}))
    for words, message in (
        ([str(lost)], "have changed and its prepared corpus"),
        ([str(lost), "-o", "t.txt"], "-o is t.txt: end its name in .csv or .md"),
    ):
        with pytest.raises(SystemExit):
            main(["transfer", *words])
        assert message in capsys.readouterr().err
