from crossrec.config import compose, plain
from crossrec.runs.identity import run_id


def name(*overrides: str, fingerprint: str = "abc") -> str:
    return run_id(plain(compose(list(overrides))), fingerprint)


def test_what_changes_numbers_changes_the_id() -> None:
    base = name()
    assert base.startswith("synthetic-merged-")
    changes = (
        "seed=1", "dim=32", "split=ratio", "objective=bce", "optimizer.lr=0.01", "trainer.max_epochs=7", "target=a",
        "trainer.gradient_clip_val=1.0", "item_encoder.share_entities=true", "evaluation.monitor=recall@10",
        "sampler=cycle", "history_length=9", "negatives=popularity", "scheduler=cosine", "callbacks=none",
        "+trainer.limit_train_batches=3",
    )  # fmt: skip
    ids = [name(change) for change in changes]
    assert len({base, *ids}) == len(ids) + 1
    assert name(fingerprint="other") != base


def test_what_does_not_change_numbers_does_not() -> None:
    for change in ("paths.runs=elsewhere", "logger=none", "trainer.devices=2", "trainer.enable_progress_bar=false"):
        assert name(change) == name()
