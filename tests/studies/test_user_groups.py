from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from running import run

from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import bootstrap_interval
from crossrec.runs.corpus import recorded_corpus
from crossrec.runs.store import RunFolder
from crossrec.studies.user_groups import buckets, groups, here_and_elsewhere, training_rows


@pytest.mark.parametrize(
    ("values", "parts", "sizes"),
    [
        (range(8), 4, [2, 2, 2, 2]),
        (range(10), 4, [3, 2, 3, 2]),
        ([5, 1, 1, 9], 2, [2, 2]),
        ([1, 1, 1, 1, 1, 2], 4, [5, 1]),  # ties stay together: fewer buckets
        ([3, 3, 3], 4, [3]),
        ([7], 2, [1]),
        ([1, 9, 9, 9, 9], 2, [5]),
        ([], 4, []),
    ],
)
def test_buckets_are_cut_at_quantiles_and_keep_equal_values_together(
    values: list[int], parts: int, sizes: list[int]
) -> None:
    array = np.array(list(values), dtype=np.float64)
    made = buckets(array, parts)
    assert [int(members.sum()) for members in made] == sizes
    assert not made or (np.stack(made).sum(0) == 1).all()  # everybody in one
    assert all(array[a].max() < array[b].min() for a, b in pairwise(made))


def test_groups_of_users_have_their_own_means() -> None:
    users = pl.DataFrame(
        {
            "a": [1.0, 0.5, 0.0, 0.25], "b": [0.0, 0.5, 1.0, 0.0], "difference": [1.0, 0.0, -1.0, 0.25],
            "here": [1, 1, 4, 9], "elsewhere": [0, 7, 3, 0],
        }
    )  # fmt: skip
    whole, *parts = groups(users)
    assert (whole.by, whole.least, whole.most, whole.users) == ("all", None, None, 4)
    assert (whole.twin, whole.run, whole.gain) == (0.375, 0.4375, 0.0625)
    assert whole.relative == pytest.approx(0.0625 / 0.375)
    assert (whole.low, whole.high) == bootstrap_interval([1.0, 0.0, -1.0, 0.25])
    told = [(g.by, g.least, g.most, g.users, g.twin, g.run, g.gain) for g in parts]
    assert told == [
        ("activity", 1, 1, 2, 0.25, 0.75, 0.5),  # two of four quantiles are 1
        ("activity", 4, 4, 1, 1.0, 0.0, -1.0),
        ("activity", 9, 9, 1, 0.0, 0.25, 0.25),
        ("overlap", 0, 0, 2, 0.0, 0.625, 0.625),
        ("overlap", 3, 3, 1, 1.0, 0.0, -1.0),
        ("overlap", 7, 7, 1, 0.5, 0.5, 0.0),
    ]
    assert parts[1].low is None and parts[1].high is None  # one user has no interval
    assert parts[2].relative is None  # the twin's mean is zero


def test_without_users_elsewhere_there_is_one_group_of_overlap_and_with_all_no_group_of_none() -> None:
    columns = {"a": [1.0, 0.0], "b": [0.0, 0.0], "difference": [1.0, 0.0], "here": [1, 1]}
    for elsewhere, told in (([0, 0], [(0, 2)]), ([2, 5], [(2, 1), (5, 1)])):
        made = groups(pl.DataFrame({**columns, "elsewhere": elsewhere}))
        assert [(g.least, g.users) for g in made if g.by == "overlap"] == told


def test_rows_are_counted_here_and_in_all_other_domains() -> None:
    rows = pl.DataFrame(
        {"name": ["u", "u", "u", "v"], "domain": ["x", "y", "z", "y"], "rows": [2, 3, 4, 5]},
    )
    made = here_and_elsewhere(pl.DataFrame({"name": ["v", "w", "u"]}), rows, "x")
    assert made.rows() == [("v", 0, 5), ("w", 0, 0), ("u", 2, 7)]


def test_training_rows_are_those_of_the_split(small: list[str]) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    counted = training_rows(made)
    corpus = recorded_corpus(made)
    domains = pl.Series("domain", ["ab"[d] for d in corpus.item_domain[corpus.interactions["item"].to_numpy()]])
    whole = corpus.interactions.with_columns(domains).join(corpus.users, on="user").group_by("name", "domain").len()
    both = whole.join(counted, on=["name", "domain"], how="left")
    assert both.height == counted.height > 120
    assert (both["len"] - both["rows"] == 2).all()  # leave-one-out: one for validation, one for the test
    seen = pl.read_parquet(made.path / "per_user" / "b.parquet").join(
        counted.filter(pl.col("domain") == "b"), on="name"
    )
    assert (seen["n_seen"] == seen["rows"] + 1).all()  # n_seen counts the row of validation too


def test_a_run_of_one_domain_and_a_lost_strategy_are_told(small: list[str]) -> None:
    made = run([*small, "trainer.max_epochs=1", "strategy=target_only"])
    with pytest.raises(CrossrecError, match="trains on 'b' alone, so nothing is transferred"):
        training_rows(made)
    config = made.config_path.read_text()
    made.config_path.write_text(config.replace("crossrec.strategies.target_only", "no_such_module"))
    with pytest.raises(CrossrecError, match=r"the strategy no_such_module\.TargetOnly cannot be imported .*PYTHONPATH"):
        training_rows(RunFolder(made.path))
