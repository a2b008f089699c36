"""Sliced Wasserstein distance against closed forms and POT."""

import pytest
import torch
from samples import samples

from crossrec.adaptation.sliced_wasserstein import SlicedWasserstein, merged_levels

ot = pytest.importorskip("ot")


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6), (6, 4), (2, 9)])
@pytest.mark.parametrize("p", [1, 2])
def test_sliced_is_that_of_pot(n, m, p):
    a, b = samples(n, m)
    loss = SlicedWasserstein(p=p, root=True, n_projections=20, resample=False)
    expected = ot.sliced_wasserstein_distance(a, b, p=p, projections=loss._lines(a))
    assert torch.allclose(loss.distance(a, b), expected)
    power = SlicedWasserstein(p=p, n_projections=20, resample=False).distance(a, b)
    assert torch.allclose(power, expected**p)


def test_on_the_line_by_hand():
    a, b = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [1.0], [4.0]])  # thirds: 0 to 1; sixth: 0 to 1; ...
    assert SlicedWasserstein(p=1).distance(a, b).item() == pytest.approx(1 / 2 + 2 / 6 + 1 / 3)
    assert SlicedWasserstein(p=2).distance(a, b).item() == pytest.approx(1 / 2 + 4 / 6 + 1 / 3)


def test_merged_levels():
    of_n, of_m, widths = merged_levels(4, 6, torch.zeros(()))
    assert of_n.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and of_m.tolist() == [0, 1, 1, 2, 3, 4, 4, 5]
    assert widths.tolist() == pytest.approx([1 / 6, 1 / 12, 1 / 12, 1 / 6] * 2)
    steps = merged_levels(997, 1024, torch.zeros((), dtype=torch.float64))[2]
    assert len(steps) == 997 + 1024 - 1 and steps.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6)])
@pytest.mark.parametrize("options", [{"p": 1}, {"p": 2}, {"p": 2, "root": True}])
def test_sliced_gradcheck(n, m, options):
    loss = SlicedWasserstein(n_projections=6, resample=False, **options)
    a, b = samples(n, m)
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize(("options", "power"), [({"p": 1}, 1), ({"p": 2}, 2), ({"p": 2, "root": True}, 1)])
def test_sliced_scales_with_its_power(options, power):
    a, b = samples()
    loss = SlicedWasserstein(resample=False, **options)
    assert torch.allclose(loss.distance(3 * a, 3 * b), 3**power * loss.distance(a, b))


def test_sliced_of_a_shift_is_its_squared_length_over_the_width():
    a, _ = samples(f=4)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    value = SlicedWasserstein(n_projections=20000).distance(a, a + shift).item()
    assert value == pytest.approx(shift.square().sum().item() / 4, rel=0.03)  # E (theta . t)^2 = |t|^2 / f


def test_lines_change_in_training_only_and_resume():
    a, b = samples()
    loss, fixed = SlicedWasserstein(n_projections=4), SlicedWasserstein(n_projections=4, resample=False)
    values = [loss.distance(a, b).item() for _ in range(3)]
    assert len(set(values)) == 3 and values[0] == fixed.distance(a, b).item() == fixed.distance(a, b).item()
    assert loss.eval().distance(a, b).item() == values[0] and loss.draws.item() == 3 and fixed.draws.item() == 0
    resumed = SlicedWasserstein(n_projections=4)
    resumed.load_state_dict(loss.state_dict())
    assert resumed.distance(a, b).item() == loss.train().distance(a, b).item() not in values
    assert SlicedWasserstein(n_projections=4, seed=1).distance(a, b).item() not in values
