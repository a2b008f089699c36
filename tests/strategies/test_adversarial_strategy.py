import csv
from pathlib import Path

import pytest
import torch
from running import crossrec, run
from test_adaptation_behaviour import base, trained

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs

__all__ = ["base"]  # a fixture: the corpus of planted.py

CRITIC = "adaptation.wasserstein_critic"
TERMS = {
    "dann": [],
    "dann_alternating": ["adaptation.dann.mode=alternating", "adaptation.dann.critic_steps=2"],
    "cdan": ["adaptation=[cdan]"],
    "wasserstein_critic": ["adaptation=[wasserstein_critic]"],
}
TRANSFORMER = ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8"]


def logged(made: RunFolder) -> list[dict[str, str]]:
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["train/loss"]]


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("more", [[], TRANSFORMER], ids=["id", "transformer"])
@pytest.mark.parametrize("term", TERMS)
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], term: str, more: list[str]) -> None:
    name = term.removesuffix("_alternating")
    merged = run([*small, *more])
    fooled = run([*small, *more, "strategy=adversarial", *TERMS[term], f"adaptation.{name}.weight=0"])
    assert merged.id != fooled.id and merged.metrics == fooled.metrics
    ours, theirs = state(merged.best), state(fooled.best)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_critic_on_users_one_on_items_and_a_statistic_beside_them(small: list[str]) -> None:
    words = [
        "strategy=adversarial",
        "adaptation=[dann,coral]",
        "adaptation.dann.space=both",
        "adaptation.dann.weight=0.5",
    ]
    made = run([*small, *words, "callbacks=none"])
    adaptation = load_run(made.path)[1].model.adaptation
    assert [(n, t.space) for n, t in adaptation.items()] == [
        ("dann/users", "users"), ("dann/items", "items"), ("coral", "users"),
    ]  # fmt: skip
    assert all(isinstance(adaptation[f"dann/{n}"], AdversarialAdaptation) for n in ("users", "items"))
    keys = (*(f"dann/{space}/{key}" for space in ("users", "items") for key in ("critic", "accuracy")), "coral/0-1")
    assert all(float(row[f"train/adaptation/{key}"]) > 0 for row in logged(made) for key in keys)
    alone = run([*small, "callbacks=none"])
    for tower in ("user_encoder", "item_encoder"):
        ours, theirs = (
            next(v for k, v in state(r.last).items() if k.startswith(tower) and v.ndim == 2) for r in (alone, made)
        )
        assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("term", ["dann", "wasserstein_critic"])
def test_broken_off_in_mid_epoch_and_resumed_is_the_whole_run(
    small: list[str], tmp_path: Path, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        *small, "strategy=adversarial", *TERMS[term], "checkpoint_every_n_steps=3", "trainer.max_epochs=3",
        f"adaptation.{term}.space=items",
    ]  # fmt: skip
    whole = run([*words, f"paths.runs={tmp_path / 'whole'}"])
    assert torch.load(whole.last, weights_only=True)["global_step"] > 20
    forward = AdversarialAdaptation.forward
    calls = []

    def break_off(self: AdversarialAdaptation, *arguments: object, **more: object) -> object:
        calls.append(0)
        if len(calls) == 14:
            raise RuntimeError("killed")
        return forward(self, *arguments, **more)

    monkeypatch.setattr(AdversarialAdaptation, "forward", break_off)
    with pytest.raises(RuntimeError, match="killed"):
        run(words)
    resumed = run(words)  # from the twelfth step
    monkeypatch.undo()
    assert (resumed.path / "metrics.json").read_bytes() == (whole.path / "metrics.json").read_bytes()
    assert [row["train/loss"] for row in logged(resumed)] == [row["train/loss"] for row in logged(whole)]
    for ours, theirs in ((state(whole.best), state(resumed.best)), (state(whole.last), state(resumed.last))):
        extra = f"adaptation.{term}._extra_state"
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items() if key != extra)
        moments = [s[extra].get("state", {}) for s in (ours, theirs)]
        assert all(torch.equal(moments[0][i][k], moments[1][i][k]) for i in moments[0] for k in moments[0][i])
        assert bool(moments[0]) == (term == "wasserstein_critic")


@pytest.mark.slow
def test_two_processes_train_what_one_trains(small: list[str], tmp_path: Path) -> None:
    words = [
        *small, "strategy=adversarial", "adaptation=[wasserstein_critic,dann]", "adaptation.dann.weight=1",
        "adaptation.dann.space=items", f"{CRITIC}.space=both", f"{CRITIC}.critic_steps=2",
    ]  # fmt: skip
    one = run([*words, f"paths.runs={tmp_path / 'one'}"])
    done = crossrec("train", *words, "trainer=ddp", "trainer.accelerator=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (two,) = find_runs(tmp_path / "runs")
    for theirs, ours in zip(logged(two), logged(one), strict=True):
        keys = [k for k in ours if k.startswith("train/") and not k.endswith("accuracy")]  # it jumps by rounding
        assert len(keys) == 9
        assert {k: float(theirs[k]) for k in keys} == {k: pytest.approx(float(ours[k]), abs=1e-4) for k in keys}


@pytest.mark.parametrize(
    "words",
    [
        ["adaptation.dann.mode=alternating", "adaptation.dann.critic_steps=3"],
        ["adaptation=[wasserstein_critic]"],
    ],
    ids=["dann alternating", "wasserstein"],
)  # dann by reversal: test_adaptation_behaviour.py
def test_the_nuisance_that_tells_the_domains_apart_is_dropped(base: list[str], words: list[str]) -> None:
    name = "wasserstein_critic" if "adaptation=[wasserstein_critic]" in words else "dann"
    merged, uses, _ = trained(base, ["strategy=merged"])
    term = [f"adaptation.{name}.space=items", f"adaptation.{name}.weight=1"]
    fooled, uses_less, _ = trained(base, ["strategy=adversarial", *words, *term])
    assert uses_less < 0.4 * uses
    ndcg = [made.metrics["test"]["test/b/ndcg@10"] for made in (merged, fooled)]
    assert ndcg[1] > 1.8 * ndcg[0]


@pytest.mark.parametrize("terms", ["[]", "[coral]"])
def test_needs_a_critic(small: list[str], terms: str) -> None:
    with pytest.raises(CrossrecError, match=r"needs at least one term with a critic, for instance adaptation=\[dann\]"):
        run([*small, "strategy=adversarial", f"adaptation={terms}"])
