import shutil
from pathlib import Path

import pytest

from crossrec.config import compose, plain
from crossrec.errors import CrossrecError
from crossrec.runs.identity import NEUTRAL, TEXT_ENCODER, here_or, run_id


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
        "positive_rating=4",
    )  # fmt: skip
    ids = [name(change) for change in changes]
    assert len({base, *ids}) == len(ids) + 1
    assert name(fingerprint="other") != base


def test_what_does_not_change_numbers_does_not() -> None:
    for change in ("paths.runs=elsewhere", "logger=none", "trainer.devices=2", "trainer.enable_progress_bar=false"):
        assert name(change) == name()


def test_options_of_the_trainer_count_unless_they_are_the_machines() -> None:
    base = name("trainer.gradient_clip_val=0.1")
    assert name("trainer.gradient_clip_val=0.1", "+trainer.gradient_clip_algorithm=value") != base
    assert name("+trainer.val_check_interval=0.5") != name()
    assert name("evaluation.query_batch_size=7") == name()
    assert name("target=null") == name("target=all")


def test_code_of_ones_own_counts_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = tmp_path / "a_loss_of_mine.py"
    words = ("strategy=mmd", "adaptation=[function]", "adaptation.function.function=a_loss_of_mine.gap")
    source.write_text("def gap(a, b):\n    return (a.mean(0) - b.mean(0)).square().sum()\n")
    first = name(*words)
    assert name(*words) == first
    source.write_text("def gap(a, b):\n    return (a.mean(0) - b.mean(0)).abs().sum()\n")
    assert name(*words) != first


def test_a_text_model_counts_by_its_weights_and_what_it_reads(tiny_model: Path, tmp_path: Path) -> None:
    def text(*words: str, model: Path = tiny_model) -> str:
        return name("item_encoder=text", f"item_encoder.model={model}", *words)

    changes = ("pooling=last", "prefix=q", "max_length=32", "fields=[text]", 'template="{title}[ by {brand}]"')
    ids = [text(f"item_encoder.{change}") for change in changes]
    assert len({text(), *ids}) == len(changes) + 1
    assert text("item_encoder.batch_size=7", "item_encoder.cache_dir=elsewhere") == text()
    shutil.copytree(tiny_model, tmp_path / "copy")
    assert text(model=tmp_path / "copy") == text()
    (tmp_path / "copy" / "vocab.txt").write_text("[PAD]")
    assert text(model=tmp_path / "copy") != text()


def test_options_that_came_later_count_where_they_change_something(tiny_model: Path) -> None:
    words = ["item_encoder=id_text", f"item_encoder.encoders.text.model={tiny_model}"]
    config = plain(compose(words))
    for option, value in NEUTRAL[TEXT_ENCODER].items():
        assert config["item_encoder"]["encoders"]["text"].pop(option) == value  # as the configs of old records
    assert run_id(config, "abc") == name(*words)
    text = "item_encoder.encoders.text"
    changes = ('template="x {title}"', "per_domain=true", "experts=2", "gate_noise=true")
    ids = [name(*words, f"{text}.{change}") for change in changes] + [name(*words, "tuning=full")]
    assert len({name(*words), *ids}) == 6


def test_a_terms_name_is_its_key() -> None:
    config = plain(compose(["strategy=shared_private"]))
    for key, term in config["adaptation"].items():
        term["name"] = key  # as in the configs of older records
    assert run_id(config, "abc") == name("strategy=shared_private")


def test_without_labels_a_run_is_what_it_was_before_there_were_any() -> None:
    config = plain(compose([]))
    assert config.pop("positive_rating") is None
    assert run_id(config, "abc") == name()


def test_code_and_weights_that_are_not_here_count_by_a_known_hash(tmp_path: Path) -> None:
    words = ("strategy=mmd", "adaptation=[function]", "adaptation.function.function=gone_from_here.gap")
    config = plain(compose([*words, "item_encoder=text", f"item_encoder.model={tmp_path / 'gone'}"]))
    with pytest.raises(CrossrecError, match="is not a folder"):
        run_id(config, "abc", here_or({}))
    model = f"model {tmp_path / 'gone'} mean  64"
    names = [{model: "1"}, {model: "2"}, {model: "1", "source gone_from_here.gap": "3"}]
    assert len({run_id(config, "abc", here_or(known)) for known in names}) == 3
    assert run_id(plain(compose([])), "abc", here_or(names[2])) == name()


@pytest.mark.parametrize(("users", "at"), [("transformer", []), ("mixed_and_own", ["encoders", "own"])])
def test_positions_count_where_they_are_left_out(users: str, at: list[str]) -> None:
    words = [f"user_encoder={users}"]
    config = plain(compose(words))
    nodes = config["user_encoder"].get("encoders", {"": config["user_encoder"]}).values()
    assert [node.pop("position_embedding") for node in nodes] == [True] * len(nodes)  # as the configs of old records
    assert run_id(config, "abc") == name(*words)
    assert name(*words, f"{'.'.join(['user_encoder', *at])}.position_embedding=false") != name(*words)
