import json
import lzma
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from crossrec.data.prepare import prepare
from crossrec.data.sources import pgpr
from crossrec.data.sources.abxi import ABXI
from crossrec.data.sources.food_kitchen import FoodKitchen
from crossrec.data.sources.p5 import P5
from crossrec.errors import CrossrecError

SHARED = Path(os.environ.get("CROSSREC_SHARED", Path(__file__).parents[3] / "shared")) / "data"
real = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}: set CROSSREC_SHARED"),
]


def shared(test):
    for mark in real:
        test = mark(test)
    return test


def rows(corpus, name):
    d = corpus.domain(name)
    return int(((corpus.interactions["item"] >= d.start) & (corpus.interactions["item"] < d.stop)).sum())


@pytest.fixture
def kitchen(tmp_path):
    items = 'item_index\tasin\tdomain\ttitle\n0\tB0\tA\tTea "5\n1\tB1\tA\tJam\n2\tB2\tB\tPan\n'
    (tmp_path / "items.tsv.xz").write_bytes(lzma.compress(items.encode()))
    texts = {
        "train_A": "1\t0,1\n",
        "train_B": "1\t2\n",
        "train_overlap": "1\t2,0,2\n2\t1,2\n",
        "valid": "7\t0,2,1\n",
        "test": "1\t1,2\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_food_kitchen_pools_all_lines(kitchen):
    food, pans = FoodKitchen(kitchen).read().domains
    assert [food.name, pans.name] == FoodKitchen(kitchen).domain_names() == ["food", "kitchen"]
    assert food.interactions.select("user", "item", "time").rows() == [
        ("train_A-1", "B0", 0),
        ("train_A-1", "B1", 1),
        ("train_overlap-1", "B0", 1),
        ("train_overlap-2", "B1", 0),
        ("valid-7", "B0", 0),
        ("valid-7", "B1", 2),
        ("test-1", "B1", 0),
    ]
    assert pans.interactions.height == 6
    assert food.items.row(0, named=True) == {"item": "B0", "title": 'Tea "5', "text": 'Tea "5', "entity": "B0"}


@pytest.mark.parametrize("bad", ["1 0,1\n", "1\t0,,1\n", "1\t\n", "x\t1\n"])
def test_food_kitchen_names_a_bad_line(kitchen, bad):
    path = kitchen / "valid.txt"
    path.write_text("1\t0\n" + bad)
    with pytest.raises(CrossrecError, match=r"valid\.txt, line 2: found"):
        FoodKitchen(kitchen).read()


def test_food_kitchen_missing_and_unknown(kitchen):
    (kitchen / "test.txt").write_text("1\t99\n")
    with pytest.raises(CrossrecError, match="no item_index 99, which user test-1 has"):
        FoodKitchen(kitchen).read()
    (kitchen / "test.txt").unlink()
    with pytest.raises(CrossrecError, match=r"has no file test\.txt"):
        FoodKitchen(kitchen).files()
    with pytest.raises(CrossrecError, match="is not a folder"):
        FoodKitchen(kitchen / "none").files()


@pytest.fixture
def afk(tmp_path):
    (tmp_path / "afk_50_preprocessed.txt").write_text("0 1|5 3|5 2|5 4|9\n1 3|7 1|8 2|9\n")
    (tmp_path / "map_item_50.txt").write_text(json.dumps({"P": [1, 0], "Q": [2, 0], "R": [3, 1], "S": [4, 1]}))
    (tmp_path / "map_user_50.txt").write_text(json.dumps({"ann": 0, "bob": 1}))
    (tmp_path / "items.tsv").write_text("item_index\tasin\tdomain\ttitle\n0\tQ\tA\tJam\n")
    return tmp_path


def test_abxi_keeps_the_mixed_order_and_the_papers_split(afk):
    source = ABXI(afk, titles=afk / "items.tsv")
    corpus = prepare(source, cache_dir=afk / "cache")
    names = corpus.items["name"].to_list()
    events = corpus.interactions.with_columns(name=corpus.items["name"].gather(corpus.interactions["item"]))
    # Events of one instant in two domains keep their order in the file.
    assert events["name"].to_list() == ["P", "R", "Q", "S", "R", "P", "Q"]
    assert corpus.fixed.tolist() == [0, 0, 1, 2, 0, 1, 2]
    assert corpus.users["name"].to_list() == ["ann", "bob"]
    assert corpus.items["title"].to_list() == [None, "Jam", None, None]
    assert names == ["P", "Q", "R", "S"]
    assert corpus.timed and corpus.ordered
    assert tuple(d.name for d in corpus.domains) == source.domain_names()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("afk_50_preprocessed.txt", "0 1|5\n1 3-7\n", r"line 2: found '1 3-7'"),
        ("afk_50_preprocessed.txt", "0 9|5\n", "no item 9"),
        ("afk_50_preprocessed.txt", "5 1|5\n", "no user 5"),
        ("map_item_50.txt", "{", "is not JSON"),
        ("map_item_50.txt", '{"P": "x"}', "must map every item"),
        ("map_user_50.txt", "[1]", "no JSON object"),
    ],
)
def test_abxi_errors(afk, name, content, message):
    (afk / name).write_text(content)
    with pytest.raises(CrossrecError, match=message):
        ABXI(afk).read()


def test_p5_shares_users_and_counts_positions_per_domain(tmp_path):
    for domain, text in (("Beauty", "ann X Y\nbob Y\n"), ("Toys", "ann Z X\n")):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "user_sequence.txt").write_text(text)
        (tmp_path / domain / "item_phrases.txt").write_text("X soft soap\nY\n")
    source = P5(tmp_path, ["Beauty", "Toys"])
    assert (source.timed, source.ordered) == (False, True)
    corpus = prepare(source, cache_dir=tmp_path / "cache")
    assert len(corpus.overlap("Beauty", "Toys")) == 1
    assert [d.name for d in corpus.domains] == source.domain_names()
    assert corpus.interactions.filter(user=0)["time"].to_list() == [0, 0, 1, 1]
    assert corpus.items.select("name", "title").rows() == [
        ("X", "soft soap"),
        ("Y", None),
        ("X", "soft soap"),
        ("Z", None),
    ]
    assert corpus.items["entity"].to_list() == [0, 1, 0, 2]
    (tmp_path / "Toys" / "user_sequence.txt").write_text("ann Z\nbob\n")
    with pytest.raises(CrossrecError, match=r"user_sequence\.txt, line 2: found 'bob'"):
        source.read()


def graph(folder, **files):
    folder.mkdir(parents=True)
    content = {
        "product": "Y\nX\nW\n",
        "brand": "Acme\nBolt\n",
        "brand_p_b": "1\n\n0 1\n",
        "category": "Beauty\nHair\n",
        "category_p_c": "0 1\n0\n\n",
        **files,
    }
    for name, text in content.items():
        (folder / f"{name}.txt").write_text(text)


def test_p5_takes_brand_and_category_from_the_graph(tmp_path):
    for domain in ("Beauty", "Toys"):
        (tmp_path / domain).mkdir()
        (tmp_path / domain / "user_sequence.txt").write_text("ann X Y\n")
        (tmp_path / domain / "item_phrases.txt").write_text("X soap\nY comb\n")
    source = P5(tmp_path, ["Beauty", "Toys"])
    without = prepare(source, cache_dir=tmp_path / "cache")
    graph(tmp_path / "Beauty" / "pgpr")
    corpus = prepare(source, cache_dir=tmp_path / "cache")
    assert without.fingerprint != corpus.fingerprint and without.modalities == ("title", "text")
    assert corpus.items.select("title", "brand", "category").rows() == [
        ("soap", None, "Beauty"),
        ("comb", "Bolt", "Beauty, Hair"),
        ("soap", None, None),
        ("comb", None, None),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"brand_p_b": "1\n\n"}, r"brand_p_b\.txt has 2 lines, but there are 3 products"),
        ({"category_p_c": "0\n5\n\n"}, r"category_p_c\.txt, line 2: there is no entity 5"),
        ({"category_p_c": "0\n0 x\n\n"}, r"category_p_c\.txt, line 2: there is no entity x"),
    ],
)
def test_wrong_graphs_are_refused(tmp_path, files, message):
    graph(tmp_path / "pgpr", **files)
    with pytest.raises(CrossrecError, match=message):
        pgpr.read(tmp_path / "pgpr")


@shared
def test_real_food_kitchen(tmp_path):
    corpus = prepare(FoodKitchen(SHARED / "food_kitchen"), cache_dir=tmp_path)
    assert [d.n_items for d in corpus.domains] == [8661, 27637]
    assert corpus.n_users == 5472 + 38191 + 7501 + 960 + 937
    assert corpus.interactions.height == 37281 + 265817 + 99170 + 18133 + 15726
    assert corpus.items["title"].null_count() == 0
    assert len(corpus.overlap("food", "kitchen")) == 7501 + 960 + 937


@shared
def test_real_abxi(tmp_path):
    corpus = prepare(ABXI(SHARED / "abxi" / "afk", titles=SHARED / "food_kitchen" / "items.tsv.xz"), cache_dir=tmp_path)
    assert corpus.n_users == len(corpus.overlap("food", "kitchen")) == 7144
    assert [d.n_items for d in corpus.domains] == [11837, 16258]
    assert [rows(corpus, d) for d in ("food", "kitchen")] == [83663, 89885]
    tested = corpus.item_domain[corpus.interactions["item"].to_numpy()[corpus.fixed == 2]]
    assert np.bincount(tested).tolist() == [2419, 4725]
    titled = corpus.items.group_by("domain").agg(title="title").sort("domain")["title"].list.drop_nulls().list.len()
    assert titled.to_list() == [7601, 15756]


@shared
def test_real_p5(tmp_path):
    corpus = prepare(P5(SHARED / "amazon2014"), cache_dir=tmp_path)
    assert [d.n_items for d in corpus.domains] == [12101, 18357, 11924]
    assert corpus.membership.sum(0).tolist() == [22363, 35598, 19412]
    assert [rows(corpus, d.name) for d in corpus.domains] == [198502, 296337, 167597]
    assert [len(corpus.overlap(*p)) for p in (("Beauty", "Sports"), ("Beauty", "Toys"), ("Sports", "Toys"))] == [
        1625,
        2073,
        1734,
    ]
    assert int(corpus.membership.all(1).sum()) == 741
    furterer = corpus.items.row(by_predicate=pl.col("name") == "B000P24EI2", named=True)
    assert (furterer["brand"], furterer["category"]) == ("Rene Furterer", "Beauty, Hair Care, Hair & Scalp Treatments")
    assert corpus.items["brand"].is_not_null().sum() == 12101 - 2098
