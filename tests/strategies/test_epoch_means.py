import torch

from crossrec.strategies.epoch_means import EpochMeans


def test_a_mean_is_over_the_steps_that_had_the_value_and_goes_on_from_a_checkpoint() -> None:
    means = EpochMeans()
    for step in ({"loss": 1.0, "gap": 4.0}, {"loss": 3.0}):
        means.add({key: torch.tensor(value) for key, value in step.items()})
    resumed = EpochMeans()
    resumed.load_state_dict(means.state_dict())
    resumed.add({"loss": torch.tensor(5.0)})
    assert {key: value.item() for key, value in resumed.take().items()} == {"loss": 3.0, "gap": 4.0}
    resumed.add({"loss": torch.tensor(7.0)})
    assert {key: value.item() for key, value in resumed.take().items()} == {"loss": 7.0}
