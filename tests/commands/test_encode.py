import inspect
import re
from pathlib import Path

import pytest

from crossrec.cli import main
from crossrec.commands.encode import OPTIONS, text_encoders
from crossrec.commands.train import composed
from crossrec.encoders.item_features import item_features
from crossrec.encoders.pretrained import PretrainedText
from crossrec.runs.corpus import prepare_corpus

TEXT = ["item_encoder.max_length=16", "item_encoder.whitening_dim=4"]


@pytest.fixture
def words(small: list[str], tiny_model: Path, tmp_path: Path) -> list[str]:
    model = f"item_encoder.model={tiny_model}"
    return [*small, *TEXT, model, "item_encoder=text", f"paths.features={tmp_path / 'features'}"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"[\s│]+", " ", capsys.readouterr().out)


def test_the_cache_is_filled_once_and_runs_read_it(
    words: list[str], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = prepare_corpus(composed(words)).items["title"].to_list()
    main(["encode", *words])
    out = said(capsys)
    cut = int((PretrainedText(str(tiny_model)).lengths(titles) > 16).sum())
    assert 0 < cut < 120
    for part in ("width 8", "items with text 120 of 120", f"cut {cut} of 120 at 16 tokens", "encoded now 120 distinct"):
        assert part in out
    (folder,) = (tmp_path / "features").iterdir()
    assert f"cache: {folder} " in out and "texts/s" in out
    files = sorted(folder.iterdir())
    main(["encode", *words])
    assert "encoded now 0 distinct texts (nothing to encode)" in said(capsys)
    main(["train", *words])
    assert sorted(folder.iterdir()) == files


def test_states_of_layers_are_encoded_for_a_side_network(words: list[str], tmp_path: Path) -> None:
    main(["encode", *words, "tuning=lora"])
    assert len(list((tmp_path / "features").iterdir())) == 1
    main(["encode", *words, "tuning=side_network"])
    files = sorted((tmp_path / "features").rglob("*"))
    assert len(list((tmp_path / "features").iterdir())) == 2
    main(["train", *words, "tuning=side_network", "trainer.max_epochs=1"])
    assert sorted((tmp_path / "features").rglob("*")) == files


def test_a_template_is_other_texts(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["encode", *words])
    capsys.readouterr()
    main(["encode", *words, 'item_encoder.template="{title}[ by {brand}]"'])
    assert "encoded now 0 distinct" in said(capsys)  # no item has a brand
    main(["encode", *words, 'item_encoder.template="new: {title}"'])
    assert "encoded now 120 distinct" in said(capsys)


def test_parts_of_a_fusion_are_found_and_encoders_without_text_are_refused(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fused = composed([*small, "item_encoder=id_text", "item_encoder.encoders.text.prefix=q"])
    assert [node["prefix"] for node in text_encoders(fused["item_encoder"])] == ["q"]
    with pytest.raises(SystemExit):
        main(["encode", *small, "item_encoder=id"])
    assert "choose item_encoder=text" in capsys.readouterr().err


def test_every_option_that_features_depend_on_is_read() -> None:
    assert set(OPTIONS) == set(inspect.signature(item_features).parameters) - {"corpus"}


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    main(["encode", "--help"])
    assert "crossrec encode data=food_kitchen" in capsys.readouterr().out
