import math
import re
from typing import Any

import pytest

from crossrec.errors import CrossrecError
from crossrec.studies.search_space import Dimension, examples, read_space


def test_every_kind_is_read_and_written_as_an_override() -> None:
    lr, weight, dropout, dim, layers, adapt = read_space(
        {
            "optimizer.lr": {"log": ["1e-4", "1e-2"]},  # as YAML reads 1e-4
            "adaptation.mmd.weight": {"float": [0, 1], "step": 0.1},
            "dropout": {"float": [0.0, 0.5]},
            "dim": {"choice": [32, 64, 128]},
            "user_encoder.n_layers": {"int": [1, 4]},
            "adaptation": {"choice": [["mmd"], None, True, "a", {"x": 1}]},
        },
        "s.yaml: rows.mmd",
    )
    assert (lr.low, lr.high, lr.step) == (1e-4, 1e-2, None)
    assert lr.word(0.1 + 0.2) == "optimizer.lr=0.30000000000000004"  # exact, for the run id
    assert weight.word(3 * 0.1) == "adaptation.mmd.weight=0.3"
    assert dropout.step is None and layers.step == 1
    assert layers.word(3) == "user_encoder.n_layers=3"
    assert dim.choices == ("32", "64", "128")
    assert adapt.choices == ("[mmd]", "null", "true", "a", "{x:1}")


def test_distributions_are_optunas_own() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    assert Dimension("a", "log", 1e-4, 1e-2).distribution() == FloatDistribution(1e-4, 1e-2, log=True)
    assert Dimension("a", "float", 0, 1, 0.1).distribution() == FloatDistribution(0, 1, step=0.1)
    assert Dimension("a", "int", 2, 8, 2).distribution() == IntDistribution(2, 8, step=2)
    assert Dimension("a", "choice", choices=("x", "y")).distribution() == CategoricalDistribution(("x", "y"))


def test_examples_try_every_choice() -> None:
    space = read_space({"a": {"choice": [1, 2, 3]}, "b": {"choice": ["x", "y"]}, "c": {"int": [5, 6]}}, "s")
    assert examples(space) == [["a=1", "b=x", "c=5"], ["a=2", "b=y", "c=5"], ["a=3", "b=x", "c=5"]]
    assert examples(read_space({"c": {"int": [5, 6]}}, "s")) == [["c=5"]]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (0.1, "must be one of {log: [low, high]}"),
        ({}, "must be one of {log: [low, high]}"),
        ({"log": [1, 2], "float": [1, 2]}, "must be one of"),
        ({"lgo": [1, 2]}, "no kind 'lgo'; did you mean log?"),
        ({"log": [0, 1]}, "log begins at 0; a log range must be above 0"),
        ({"log": [-1, 1]}, "must be above 0"),
        ({"float": [1, 1]}, "float is [1, 1]; low must be below high"),
        ({"float": [2, 1]}, "float is [2, 1]; low must be below high"),
        ({"float": [1]}, "float must be [low, high], not [1]"),
        ({"float": "12"}, "float must be [low, high]"),
        ({"float": ["a", 1]}, "'a' is not a number"),
        ({"float": [0, math.inf]}, "inf is not a number"),
        ({"float": [False, 1]}, "False is not a number"),
        ({"int": [1, 2.5]}, "2.5 is not a whole number"),
        ({"float": [0, 1], "step": 0}, "step=0 must be above 0"),
        ({"float": [0, 1], "step": 0.3}, "step=0.3 does not divide the range [0, 1]"),
        ({"int": [1, 4], "step": 0.5}, "0.5 is not a whole number"),
        ({"log": [1, 2], "step": 1}, "step is of float and int, not of log"),
        ({"choice": []}, "choice must be a list of values, not []"),
        ({"choice": "ab"}, "choice must be a list of values"),
        ({"choice": [1, 1]}, "choice has 1 twice"),
    ],
)
def test_a_wrong_space_is_told_with_its_place(node: Any, message: str) -> None:
    with pytest.raises(CrossrecError, match=re.escape("s.yaml: rows.mmd.search.dim")) as caught:
        read_space({"dim": node}, "s.yaml: rows.mmd")
    assert message in str(caught.value)
