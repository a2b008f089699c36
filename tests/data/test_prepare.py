import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from crossrec.data.corpus_files import load_corpus, save_corpus
from crossrec.data.prepare import build_corpus, filter_domains, prepare
from crossrec.data.schema import INTERACTIONS
from crossrec.data.sources import hashing
from crossrec.data.sources.base import raw_domain
from crossrec.data.sources.synthetic import Synthetic
from crossrec.data.sources.tabular import Tabular
from crossrec.errors import CrossrecError

SMALL = {"n_users": 20, "n_items": 15, "interactions_per_user": 4}


def two_domains(**extra):
    a = raw_domain(
        "a",
        pl.DataFrame(
            {"user": ["z", "m", "z"], "item": ["i2", "i1", "i1"], "rating": [1, 2, 3], "time": [5, 5, 4], **extra}
        ),
        pl.DataFrame({"item": ["i1", "i2", "i9"], "title": ["One", "", "Nine"], "entity": ["x", None, "y"]}),
    )
    b = raw_domain(
        "b",
        pl.DataFrame({"user": ["m", "k"], "item": ["i1", "i5"], "time": [1, 2]}),
        pl.DataFrame({"item": ["i5", "i7"], "entity": ["x", "y"], "image": ["5.png", "7.png"]}),
    )
    return [a, b]


def same(a, b):
    return (
        a.domains == b.domains
        and a.interactions.equals(b.interactions)
        and a.items.equals(b.items)
        and a.users.equals(b.users)
        and (a.timed, a.ordered) == (b.timed, b.ordered)
        and ((a.fixed is None) == (b.fixed is None))
        and (a.fixed is None or np.array_equal(a.fixed, b.fixed))
    )


def test_users_keep_what_the_domains_tell_of_them(tmp_path):
    a, b = two_domains()
    a = raw_domain("a", a.interactions, a.items, pl.DataFrame({"user": ["z", "m", "z"], "age": [30, None, 31]}))
    b = raw_domain(
        "b", b.interactions, b.items, pl.DataFrame({"user": ["m", "new"], "age": [9, 1], "gender": ["", "x"]})
    )
    corpus = build_corpus([a, b])
    assert corpus.users.columns == ["user", "name", "age", "gender"]
    assert corpus.users.rows() == [(0, "k", None, None), (1, "m", "9", None), (2, "z", "30", None)]
    save_corpus(corpus, tmp_path / "corpus")
    assert load_corpus(tmp_path / "corpus").users.equals(corpus.users)
    kept, _ = filter_domains([a, b])
    assert build_corpus(kept).users.equals(corpus.users)


def test_ids_entities_and_order():
    corpus = build_corpus(two_domains())
    assert [(d.name, d.start, d.stop) for d in corpus.domains] == [("a", 0, 2), ("b", 2, 4)]
    assert corpus.users["name"].to_list() == ["k", "m", "z"]
    assert corpus.items["name"].to_list() == ["i1", "i2", "i1", "i5"]
    # a's i1 and b's i5 are one thing; b's i1 has no entity and is its own, whatever its name.
    assert corpus.items["entity"].to_list() == [0, 1, 2, 0]
    assert corpus.items["domain"].to_list() == [0, 0, 1, 1]
    assert corpus.items["title"].to_list() == ["One", None, None, None]
    assert corpus.items["image"].to_list() == [None, None, None, "5.png"]
    assert corpus.modalities == ("title", "text", "image")
    assert corpus.interactions.rows() == [
        (0, 3, 1.0, 2),
        (1, 2, 1.0, 1),
        (1, 0, 2.0, 5),
        (2, 0, 3.0, 4),
        (2, 1, 1.0, 5),
    ]
    assert corpus.interactions.schema == INTERACTIONS
    assert corpus.overlap("a", "b").tolist() == [1]


def test_unseen_items_are_kept_on_request():
    corpus = build_corpus(two_domains(), keep_unseen_items=True)
    assert corpus.items["name"].to_list() == ["i1", "i2", "i9", "i1", "i5", "i7"]
    assert corpus.items["entity"].to_list() == [0, 1, 2, 3, 0, 2]


def test_row_order_in_the_files_does_not_change_ids():
    first = build_corpus(two_domains())
    turned = [raw_domain(d.name, d.interactions.reverse(), d.items.reverse()) for d in two_domains()]
    assert same(first, build_corpus(turned))


def test_fixed_labels_follow_their_rows():
    corpus = build_corpus(two_domains(split=[2, 1, 0]))
    assert corpus.fixed.dtype == np.int8
    assert corpus.fixed.tolist() == [-1, -1, 1, 0, 2]


def test_domain_names_and_missing_users_are_checked():
    a, b = two_domains()
    with pytest.raises(CrossrecError, match="distinct names; found a, a"):
        build_corpus([a, a])
    broken = raw_domain("c", pl.DataFrame({"user": ["u", None], "item": ["i", "j"]}))
    with pytest.raises(CrossrecError, match="'c' has an interaction without user or item"):
        build_corpus([b, broken])


def test_a_domain_without_rows_names_the_filters():
    with pytest.raises(CrossrecError, match=r"'b' has no interaction left of 2 \(rating below min_rating: 2\)"):
        filter_domains(two_domains(), min_rating=2)


def test_core_over_all_domains_together():
    domains = two_domains()
    with pytest.raises(CrossrecError, match="'b' has no interaction left"):
        filter_domains(domains, user_core=2)
    kept, counts = filter_domains(domains, user_core=2, core_per_domain=False)
    assert [d.interactions["user"].to_list() for d in kept] == [["z", "m", "z"], ["m"]]
    assert counts["b"]["k-core"] == 1
    assert kept[0].interactions.columns == domains[0].interactions.columns


def test_save_and_load_give_the_corpus_back(tmp_path):
    corpus = build_corpus(two_domains(split=[2, 1, 0]), timed=False, provenance={"source": "x"})
    save_corpus(corpus, tmp_path / "c")
    loaded = load_corpus(tmp_path / "c")
    assert same(corpus, loaded)
    assert loaded.provenance == {"source": "x"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


def test_a_folder_finished_by_another_process_is_left_alone(tmp_path):
    first = build_corpus(two_domains(), provenance={"by": "first"})
    save_corpus(first, tmp_path / "c")
    save_corpus(build_corpus(two_domains(), provenance={"by": "second"}), tmp_path / "c")
    assert load_corpus(tmp_path / "c").provenance == {"by": "first"}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_prepare_reads_once(tmp_path, monkeypatch):
    first = prepare(Synthetic(**SMALL), cache_dir=tmp_path)
    monkeypatch.setattr(Synthetic, "read", lambda self: pytest.fail("read again"))
    again = prepare(Synthetic(**SMALL), cache_dir=tmp_path)
    assert same(first, again) and dict(first.provenance) == dict(again.provenance)
    assert first.provenance["folder"] == f"synthetic-{first.fingerprint[:12]}"
    assert (tmp_path / first.provenance["folder"]).is_dir()


def test_every_option_and_every_byte_has_its_own_folder(tmp_path):
    path = tmp_path / "x.csv"

    def fingerprint(content="user,item,r\nu,i,1\nv,i,2\n", columns=None, **filters):
        path.write_text(content)
        source = Tabular({"d": {"interactions": path}}, columns=columns or {"rating": "r"})
        return prepare(source, cache_dir=tmp_path / "c", **filters).fingerprint

    found = [
        fingerprint(),
        fingerprint(content="user,item,r\nu,i,1\nv,i,3\n"),
        fingerprint(columns={"rating": None}),
        fingerprint(min_rating=1),
        fingerprint(min_rating=2),
        fingerprint(user_core=1),
        fingerprint(item_core=1),
        fingerprint(duplicates="first"),
        fingerprint(core_per_domain=False),
        fingerprint(keep_unseen_items=True),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint() == found[0]
    assert fingerprint(min_rating=1.0) == found[3]


def test_provenance_tells_what_was_dropped(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item,r\nu,i,1\nv,i,5\nw,i,bad\n")
    source = Tabular({"d": {"interactions": path}}, columns={"rating": "r"}, bad_rows="drop")
    about = prepare(source, cache_dir=tmp_path / "c", min_rating=2).provenance
    assert about["dropped"] == {"rating is not a number": 1}
    assert about["filtered"]["d"]["rating below min_rating"] == 1
    assert about["files"] == [{"name": "x.csv", "sha256": hashing.sha256(path)}]
    assert about["licence"] == "your own files"
    assert json.dumps(dict(about))


def test_the_same_file_elsewhere_is_the_same_corpus(tmp_path):
    found = []
    for name in ("p", "q"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.csv").write_text("user,item\nu,i\n")
        found.append(prepare(Tabular({"d": {"interactions": tmp_path / name / "x.csv"}}), cache_dir=tmp_path / "c"))
    assert found[0].fingerprint == found[1].fingerprint


def test_big_files_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "_REMEMBERED", 1)
    path = tmp_path / "x"
    path.write_bytes(b"one")
    first = hashing.file_hashes([path], tmp_path / "c")
    monkeypatch.setattr(hashing, "sha256", lambda p: pytest.fail("hashed again"))
    assert hashing.file_hashes([path], tmp_path / "c") == first
    monkeypatch.undo()
    path.write_bytes(b"three")
    assert hashing.file_hashes([path], tmp_path / "c") != first


def test_damage_is_an_error_that_says_what_to_do(tmp_path):
    corpus = prepare(Synthetic(**SMALL), cache_dir=tmp_path)
    folder = tmp_path / corpus.provenance["folder"]
    about = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps({**about, "format": -1}))
    with pytest.raises(CrossrecError, match="another version of crossrec: delete it"):
        load_corpus(folder)
    (folder / "corpus.json").write_text("{")
    with pytest.raises(CrossrecError, match="is damaged: delete it"):
        load_corpus(folder)
    with pytest.raises(CrossrecError, match="is not a prepared corpus"):
        load_corpus(tmp_path / "none")


def test_a_failed_read_leaves_nothing(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item\n,i\n")
    with pytest.raises(CrossrecError, match="no user"):
        prepare(Tabular({"d": {"interactions": path}}), cache_dir=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_two_processes_prepare_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from crossrec.data.prepare import prepare; "
        "from crossrec.data.sources.synthetic import Synthetic; "
        "print(prepare(Synthetic(n_users=2000), cache_dir=Path(sys.argv[1])).interactions.hash_rows().sum())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert printed[0] == printed[1] != ""
    assert len(list(tmp_path.iterdir())) == 1
