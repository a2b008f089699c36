from pathlib import Path

from omegaconf import OmegaConf

from crossrec.config import compose, plain
from crossrec.runs.identity import run_id
from crossrec.runs.portable import hidden, portable_config, portable_line, portable_words


def test_folders_of_absolute_paths_are_taken_out_and_nothing_else() -> None:
    for text, shown in {
        "data.source.root=/home/me/books": "data.source.root=.../books",
        "x={a: '/home/me/a.csv', b: [/b/c, d/e]}": "x={a: '.../a.csv', b: [.../c, d/e]}",
        "/home/me/": ".../me",
        "package:a/model": "package:a/model",
        "https://example.org/a": "https://example.org/a",
        "../shared/data": "../shared/data",
        "data.source.separator=/": "data.source.separator=/",
    }.items():
        assert hidden(text) == shown
    assert portable_words(["paths.runs=/a", "+paths.x=b", "dim=8"]) == ["dim=8"]
    assert portable_line("crossrec train --config-dir /a/b 'x=[/c/d]' seed=1") == "crossrec train 'x=[.../d]' seed=1"


def test_a_config_means_the_same_on_another_machine(tmp_path: Path) -> None:
    words = ["data=movielens", "data.source.root=${paths.data}/movielens", "item_encoder=text"]
    here, there = (plain(compose([*words, f"paths.data={place}", "paths.features=/f"])) for place in ("/x/data", "/y"))
    shown, lost = portable_config(here)
    assert portable_config(there) == (shown, []) and lost == []
    read = OmegaConf.to_container(OmegaConf.create(shown), resolve=True)
    assert read["data"]["source"]["root"] == read["paths"]["data"] + "/movielens"
    assert read["item_encoder"]["cache_dir"] == read["paths"]["features"]
    assert "/x" not in str(shown) and run_id(read, "abc") == run_id(here, "abc")

    other = plain(
        compose(
            ["data=movielens", f"data.source.root={tmp_path}/mine", "+callbacks.a={_target_: mine.A, path: /log/a}"]
        )
    )
    shown, lost = portable_config(other)
    assert lost == ["data.source.root", "callbacks.a.path"]
    assert shown["data"]["source"]["root"] == ".../mine" and shown["callbacks"]["a"]["path"] == ".../a"
