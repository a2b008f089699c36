import gzip
import hashlib
import json

import pytest

from crossrec.data.sources import amazon
from crossrec.data.sources.amazon import Amazon
from crossrec.errors import CrossrecError

OLD = [
    {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1000, "reviewText": "é", "helpful": [0, 1]},
    {"reviewerID": "A2", "asin": "B2", "overall": 3, "unixReviewTime": 2000, "vote": "2"},
]
NEW = [{"user_id": "A1", "parent_asin": "B1", "rating": 4.0, "timestamp": 1588687728923, "title": "good"}]


def lines(records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "reviews_Beauty.json").write_text(lines(OLD))
    meta = {"asin": "B1", "title": "Soap's", "brand": "Acme", "categories": [["Beauty", "Bath"], ["Beauty"]]}
    literal = repr({**meta, "description": "very   clean " * 40}) + "\n"
    (tmp_path / "meta_Beauty.json.gz").write_bytes(gzip.compress((literal + lines([{"asin": "unseen"}])).encode()))
    return tmp_path


def fails(source, *parts):
    with pytest.raises(CrossrecError) as caught:
        source.read()
    for part in parts:
        assert str(part) in str(caught.value)


def test_2014_reviews_and_python_literal_metadata(root):
    source = Amazon("2014", ["Beauty"], root, text_length=60)
    domain = source.read().domains[0]
    assert [domain.name] == source.domain_names() == ["Beauty"]
    assert domain.interactions.rows() == [("A1", "B1", 5.0, 1000), ("A2", "B2", 3.0, 2000)]
    assert domain.items.to_dicts() == [
        {
            "item": "B1",
            "title": "Soap's",
            "brand": "Acme",
            "category": "Beauty, Bath, Beauty",
            "description": ("very clean " * 6)[:60].strip(),
            "text": "Soap's. Acme. Beauty, Bath, Beauty. very clean very clean ve",
            "entity": "B1",
        }
    ]


def test_2018_names_and_lists(root):
    (root / "All_Beauty_5.json.gz").write_bytes(gzip.compress(lines(OLD).encode()))
    meta = {
        "asin": "B2",
        "title": "Comb",
        "brand": "",
        "category": ["Hair"],
        "description": ["a", "a", "b"],
        "price": 3,
    }
    (root / "meta_All_Beauty.json.gz").write_bytes(gzip.compress(lines([meta]).encode()))
    domain = Amazon(2018, ["All_Beauty"], root, five_core=True).read().domains[0]
    assert domain.items["text"].to_list() == ["Comb. Hair. a, b"]
    assert domain.items.select("brand", "category", "description").rows() == [(None, "Hair", "a, b")]
    assert domain.interactions.height == 2


def test_2023_milliseconds_store_and_parent(root):
    (root / "All_Beauty.jsonl").write_text(lines(NEW))
    meta = {
        "parent_asin": "B1",
        "title": "Soap",
        "store": "Shop",
        "categories": ["x"],
        "description": [],
        "main_category": "y",
    }
    (root / "meta_All_Beauty.jsonl").write_text(lines([meta]))
    domain = Amazon("2023", ["All_Beauty"], root).read().domains[0]
    assert domain.interactions.rows() == [("A1", "B1", 4.0, 1588687728)]
    assert domain.items["text"].to_list() == ["Soap. Shop. x"]
    assert domain.items.select("brand", "category", "description").rows() == [("Shop", "x", None)]


def test_pieces_of_a_file_are_put_together(root, monkeypatch):
    (root / "reviews_Beauty.json").write_text(lines(OLD * 500))
    small = lambda path, size=100: original(path, size)  # noqa: E731
    original = amazon.chunks
    whole = Amazon("2014", ["Beauty"], root).read().domains[0].interactions
    monkeypatch.setattr(amazon, "chunks", small)
    assert Amazon("2014", ["Beauty"], root).read().domains[0].interactions.equals(whole)
    assert whole.height == 1000


@pytest.mark.parametrize(
    ("bad", "reason", "part"),
    [
        ("{broken\n", "not a JSON review", "'{broken'"),
        (json.dumps({**OLD[0], "overall": "many"}) + "\n", "not a JSON review", "numeric rating"),
        (json.dumps({**OLD[0], "overall": None}) + "\n", "no rating", "has no rating"),
        (json.dumps({"asin": "B1", "overall": 1, "unixReviewTime": 1}) + "\n", "no user", "has no user"),
        ("[1]\n", "not a JSON review", "'[1]'"),
    ],
)
def test_bad_reviews_name_the_line_or_are_counted(root, bad, reason, part):
    path = root / "reviews_Beauty.json"
    path.write_text(lines(OLD) + "\n" + bad)
    fails(Amazon("2014", ["Beauty"], root), f"{path}, line 4", part)
    read = Amazon("2014", ["Beauty"], root, bad_rows="drop").read()
    assert read.domains[0].interactions.height == 2
    assert read.dropped == {reason: 1}


def test_bad_metadata(root):
    path = root / "meta_Beauty.json.gz"
    path.write_bytes(gzip.compress(b"{'asin': 'B1'}\n__import__('os')\n"))
    fails(Amazon("2014", ["Beauty"], root), f"{path}, line 2", "neither JSON nor a Python literal")
    assert Amazon("2014", ["Beauty"], root, bad_rows="drop").read().dropped == {"unreadable metadata": 1}


def test_truncated_empty_and_wrongly_encoded_files(root):
    path = root / "reviews_Beauty.json"
    path.write_text("")
    fails(Amazon("2014", ["Beauty"], root), path, "is empty")
    path.write_bytes(lines(OLD).encode("latin-1"))
    fails(Amazon("2014", ["Beauty"], root), f"{path}, line 1", "0xe9")
    path.unlink()
    packed = root / "reviews_Beauty.json.gz"
    packed.write_bytes(gzip.compress(lines(OLD * 99).encode())[:-9])
    fails(Amazon("2014", ["Beauty"], root), packed, "truncated")


def test_missing_file_says_where_from_and_where_to(root):
    source = Amazon("2014", ["Books"], root, download=False)
    fails(source, "reviews_Books.json.gz", "switched off", "https://snap.stanford.edu", root.resolve())


def test_demanded_hash(root):
    path = root / "reviews_Beauty.json"
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    assert Amazon("2014", ["Beauty"], root, sha256={path.name: good}).files()[0] == path
    fails(Amazon("2014", ["Beauty"], root, sha256={path.name: "0" * 64}), path, "sha256 is not 000")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "2015"}, "valid versions are 2014, 2018, 2023"),
        ({"version": "2023", "five_core": True}, "no 5-core"),
        ({"categories": []}, "no category"),
        ({"text_length": 0}, "text_length=0"),
        ({"bad_rows": "x"}, "'x'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(CrossrecError, match=message):
        Amazon(**options)
