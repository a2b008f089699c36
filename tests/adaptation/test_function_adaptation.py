import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.function import FunctionAdaptation
from crossrec.errors import CrossrecError

VIEWS = {"users": DomainViews(torch.tensor([[0.0], [2.0], [3.0], [5.0]]), torch.tensor([0, 0, 1, 1]), torch.arange(4))}


def mean_gap(a, b, power=2):
    return (a.mean(0) - b.mean(0)).abs().pow(power).sum()


def test_a_function_is_a_loss():
    total, entries = FunctionAdaptation(mean_gap, weight=0.5)(VIEWS)
    assert total.item() == 4.5 and list(entries) == ["adaptation/mean_gap/0-1"]
    assert FunctionAdaptation(mean_gap, arguments={"power": 3})(VIEWS)[0].item() == 27.0


def test_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text("def gap(a, b):\n    return (a.mean() - b.mean()).abs()\n\nnumber = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    total, entries = FunctionAdaptation("my_losses.gap", name="mine")(VIEWS)
    assert total.item() == 3.0 and list(entries) == ["adaptation/mine/0-1"]
    with pytest.raises(CrossrecError, match="has no 'gaps'"):
        FunctionAdaptation("my_losses.gaps")
    with pytest.raises(CrossrecError, match="is a int"):
        FunctionAdaptation("my_losses.number")


def test_mistakes_are_told():
    with pytest.raises(CrossrecError, match="PYTHONPATH"):
        FunctionAdaptation("no_such_module_here.gap")
    with pytest.raises(CrossrecError, match=r"package\.module\.function"):
        FunctionAdaptation("gap")
