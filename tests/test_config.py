from pathlib import Path

import pytest

from crossrec.config import GROUPS, build, compose, options, plain, quoted, search_path_word
from crossrec.errors import CrossrecError


def everything() -> list[tuple[str, str]]:
    return [(group, name) for group in GROUPS for name in options(group)]


@pytest.mark.parametrize(("group", "name"), everything())
def test_every_option_composes_and_has_a_description(group: str, name: str) -> None:
    value = f"[{name}]" if group == "adaptation" else name
    config = compose([f"{group}={value}"])
    assert set(GROUPS) - {"experiment"} <= set(config)
    assert options(group)[name], f"conf/{group}/{name}.yaml has no comment line that says what it is"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("strategy=mmmd", "no option 'mmmd' for strategy; did you mean mmd"),
        ("item_encoder=texts", "no option 'texts' for item_encoder; did you mean text"),
        ("adaptation=[mdm]", "no option 'mdm' for adaptation; did you mean mmd"),
        ("stratgy=mmd", "no config key 'stratgy'; did you mean strategy"),
        (
            "trainer.limit_train_batches=2",
            "no config key 'trainer.limit_train_batches', but pytorch_lightning.Trainer takes it: add it with "
            "+trainer.limit_train_batches=2",
        ),
        ("trainer.max_epoch=3", "no config key 'trainer.max_epoch'; did you mean trainer.max_epochs?"),
        ("objective.n_negative=3", "no config key 'objective.n_negative'; did you mean objective.n_negatives"),
        ("mmd", "'mmd' is not an override: write key=value"),
    ],
)
def test_misspelt_words_are_refused_with_the_nearest_names(word: str, expected: str) -> None:
    with pytest.raises(CrossrecError) as caught:
        compose([word])
    assert expected in str(caught.value)


def test_a_strategy_brings_its_adaptation_and_the_command_line_wins() -> None:
    assert list(compose(["strategy=mmd"]).adaptation) == ["mmd"]
    assert compose(["strategy=mmd", "adaptation.mmd.weight=0.25"]).adaptation.mmd.weight == 0.25
    assert compose(["strategy=cmf"]).item_encoder.share_entities is True
    assert compose(["strategy=cmf", "item_encoder.share_entities=false"]).item_encoder.share_entities is False


def test_a_missing_value_is_named() -> None:
    with pytest.raises(CrossrecError, match=r"sampler\.ratios"):
        plain(compose(["sampler=fixed_ratio"]))


def test_build_says_which_argument_is_wrong() -> None:
    with pytest.raises(CrossrecError, match="BPR"):
        build({"_target_": "crossrec.objectives.bpr.BPR", "negatives": 3})
    with pytest.raises(CrossrecError, match="n_negatives=0"):
        build({"_target_": "crossrec.objectives.bpr.BPR", "n_negatives": 0})


STRANGE = ["with=eq", "with,comma", "with[br]", "it's", "with space", 'a"b', "a\\b", "a\\'b", "a\\", "{a: b}"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_config_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\ndim: 5\n")
    assert compose(["experiment=mine"], config_dirs=[folder, tmp_path]).dim == 5
    assert compose([search_path_word([tmp_path, folder]), "experiment=mine"]).dim == 5


@pytest.mark.parametrize("text", [*STRANGE, "a${seed}b"])
def test_a_quoted_value_is_its_text(text: str) -> None:
    assert compose([f"target={quoted(text)}"]).target == text
