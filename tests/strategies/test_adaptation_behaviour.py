"""Adaptation stops a model from using what tells the domains apart, and the target gains: see planted.py."""

from pathlib import Path

import planted
import pytest
import torch
from running import run

from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder

MMD = ["adaptation.mmd.weight={}", "adaptation.mmd.space=items"]
TERMS = {
    "mmd": ["strategy=mmd", *MMD],
    "coral": [
        "strategy=mmd", "adaptation=[coral]", "adaptation.coral.weight={}", "adaptation.coral.space=items",
        "adaptation.coral.mean=true",  # the domains' nuisance differs in its mean too
    ],
    "sinkhorn": [
        "strategy=mmd", "adaptation=[sinkhorn]", "adaptation.sinkhorn.weight={}", "adaptation.sinkhorn.space=items",
    ],
    "dann": ["strategy=adversarial", "adaptation.dann.weight={}", "adaptation.dann.space=items"],
    "shared_private": [
        "strategy=shared_private", "strategy.space=items", "strategy.fusion=shared", *MMD,
        "adaptation.difference.weight={}", "adaptation.difference.space=items", "adaptation.simse.weight={}",
        "adaptation.simse.space=items",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("planted")
    return [
        *planted.write(folder), f"paths.runs={folder / 'runs'}", f"paths.prepared={folder / 'prepared'}",
        "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "logger=none", "callbacks=none",
        "user_encoder=mean", "objective=softmax", "sampler=cycle", "batch_size=128", "optimizer.lr=1e-2",
        # a direction for each taste and none for the nuisance: using it costs the source something
        f"dim={planted.TASTES}",
        # the last epoch is taken: among all, merged's best for the target is one that has hardly learnt
        "trainer.max_epochs=30", "trainer.check_val_every_n_epoch=30",
        # rows of the target are compared, and not learnt
        "strategy.domain_weights={a: 1, b: 0}",
    ]  # fmt: skip


def trained(
    base: list[str], words: list[str], layer: str | None = None
) -> tuple[RunFolder, float, dict[str, torch.Tensor]]:
    """The run, how much of the nuisance its target items use, and its weights."""
    folder = Path(next(w for w in base if w.startswith("paths.runs=")).partition("=")[2]).parent
    made = run([*base, *words], [folder / "conf"])
    model = load_run(made.path)[1].model
    return made, planted.use_of_nuisance(model, 1, layer), model.state_dict()


@pytest.mark.parametrize("term", list(TERMS))
def test_the_nuisance_is_dropped_and_the_target_gains(base: list[str], term: str) -> None:
    merged, uses, weights = trained(base, ["strategy=merged"])
    off, still_uses, same = trained(base, [word.format(0) for word in TERMS[term]])
    on, uses_less, _ = trained(base, [word.format(1) for word in TERMS[term]])
    assert off.metrics == merged.metrics and still_uses == uses > 0.4
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    assert uses_less < 0.4 * uses
    ndcg = [made.metrics["test"]["test/b/ndcg@10"] for made in (merged, on)]
    assert ndcg[1] > 1.8 * ndcg[0]


@pytest.mark.parametrize(("fusion", "gains"), [("gate", 1.3), ("sum", 1.1), ("concat-linear", 1.1)])
def test_the_shared_part_drops_the_nuisance_and_the_target_gains_though_the_private_part_keeps_it(
    base: list[str], fusion: str, gains: float
) -> None:
    merged, uses, _ = trained(base, ["strategy=merged"])
    words = [*(word.format(1) for word in TERMS["shared_private"]), f"strategy.fusion={fusion}"]
    made, scored, _ = trained(base, words)
    _, shared, _ = trained(base, words, "shared")
    assert shared < 0.4 * uses and shared < 0.7 * scored
    before, after = (r.metrics["test"]["test/b/ndcg@10"] for r in (merged, made))
    assert after > gains * before  # half of what is scored is still private: with fusion=shared it is 1.8


def test_a_term_that_never_had_anything_to_compare_is_told(base: list[str]) -> None:
    base = [word for word in base if not word.startswith("trainer.check_val")]
    words = [word for word in base if not word.startswith(("sampler=", "trainer.max_epochs="))]
    folder = Path(next(w for w in base if w.startswith("paths.runs=")).partition("=")[2]).parent
    with pytest.warns(UserWarning, match=r"adaptation\.mmd has compared nothing in the first epoch"):
        run([*words, "trainer.max_epochs=1", "strategy=mmd"], [folder / "conf"])  # windows of a and b differ in length
    with pytest.warns(UserWarning, match=r"adaptation\.mapping compares users that are in two domains, but none is"):
        run([*base, "trainer.max_epochs=1", "strategy=mmd", "adaptation=[mapping]"], [folder / "conf"])
