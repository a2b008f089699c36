import pytest

from crossrec.config import compose, plain
from crossrec.errors import CrossrecError
from crossrec.runs.matching import Part, check


def test_an_option_that_came_later_had_its_neutral_value_before() -> None:
    node = plain(compose(["user_encoder=transformer"]))["user_encoder"]
    older = {k: v for k, v in node.items() if k != "position_embedding"}
    check(Part("user_encoder", node), Part("user_encoder", older), "a-run")
    check(Part("user_encoder", {**node, "position_embedding": False}), Part("user_encoder", older), "a-run")
    with pytest.raises(CrossrecError, match=r"user_encoder\.n_layers is 3 here and was 2 in a-run"):
        check(Part("user_encoder", {**node, "n_layers": 3}), Part("user_encoder", older), "a-run")
