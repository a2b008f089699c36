import pytest

from crossrec.data.prepare import prepare
from crossrec.data.sources.recbole import RecBole
from crossrec.errors import CrossrecError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti1\t4\t10\nu2\ti2\t3\t11\n"
ITEM = 'item_id:token\tmovie_title:token\tyear:float\tgenre:token_seq\ni1\t5" "Heat\t1995\tAction Crime\ni2\tMask\t\t\n'


@pytest.fixture
def root(tmp_path):
    for name, inter in (("a", INTER), ("b", INTER.replace("u2", "v2").replace("i2", "j2"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.inter").write_text(inter)
    (tmp_path / "a" / "a.item").write_text(ITEM)
    return tmp_path


def fails(source, *parts):
    with pytest.raises(CrossrecError) as caught:
        source.read()
    for part in parts:
        assert str(part) in str(caught.value)


def test_reads_typed_headers_titles_and_text(root):
    a, b = RecBole(root, ["a", "b"]).read().domains
    assert [a.name, b.name] == RecBole(root, ["a", "b"]).domain_names()
    assert a.interactions.rows() == [("u1", "i1", 4.0, 10), ("u2", "i2", 3.0, 11)]
    assert a.items.to_dicts() == [
        {
            "item": "i1",
            "title": '5" "Heat',
            "category": "Action Crime",
            "text": '5" "Heat. Action Crime',
            "entity": "i1",
        },
        {"item": "i2", "title": "Mask", "category": None, "text": "Mask", "entity": "i2"},
    ]
    assert b.items.columns == ["item", "entity"]


def test_chosen_text_fields(root):
    items = RecBole(root, ["a"], title="movie_title", text=["year"]).read().domains[0].items
    assert items["text"].to_list() == ['5" "Heat. 1995', "Mask"]


def test_chosen_fields_of_an_item(root, tmp_path):
    source = RecBole(root, ["a", "b"], brand="year", category="movie_title")
    items = source.read().domains[0].items
    assert items.select("brand", "category").rows() == [("1995", '5" "Heat'), (None, "Mask")]
    found = prepare(RecBole(root, ["a", "b"]), cache_dir=tmp_path / "cache")
    chosen = prepare(source, cache_dir=tmp_path / "cache")
    assert found.fingerprint != chosen.fingerprint and found.modalities == ("title", "category", "text")
    assert chosen.items["brand"].to_list() == ["1995", None, None, None]
    fails(RecBole(root, ["a"], description="plot"), "plot")


def test_equal_tokens_are_one_person_and_one_thing(root, tmp_path):
    corpus = prepare(RecBole(root, ["a", "b"]), cache_dir=tmp_path / "cache")
    assert (corpus.n_users, corpus.n_items, corpus.items["entity"].n_unique()) == (3, 4, 3)
    assert len(corpus.overlap("a", "b")) == 1


def test_links_map_users_and_items(root, tmp_path):
    users, items = tmp_path / "u.link", tmp_path / "i.link"
    users.write_text("source_user_id:token\ttarget_user_id:token\nu2\tv2\n")
    items.write_text("b_item_id:token\ta_item_id:token\nj2\ti2\n")
    corpus = prepare(RecBole(root, ["a", "b"], user_link=users, item_link=items), cache_dir=tmp_path / "cache")
    assert len(corpus.overlap("a", "b")) == 2
    entity = dict(zip(corpus.items["name"], corpus.items["entity"]))
    assert entity["i2"] == entity["j2"] != entity["i1"]


def test_link_without_the_field(root, tmp_path):
    link = tmp_path / "u.link"
    link.write_text("x:token\ttarget_user_id:token\nu2\tv2\n")
    fails(RecBole(root, ["a", "b"], user_link=link), link, "'source_user_id'", "x, target_user_id")


def test_without_rating_and_time(root):
    source = RecBole(root, ["a"], rating=None, time=None)
    assert (source.timed, source.ordered) == (False, False)
    assert source.read().domains[0].interactions["rating"].to_list() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("rating:float", "rating", ("line 1", "'rating'", "token_seq")),
        ("rating:float", "rating:flaot", ("line 1", "did you mean 'float'")),
        ("rating:float", "user_id:float", ("line 1", "'user_id' occurs twice")),
        ("rating:float", "score:float", ("no column 'rating'", "user_id, item_id, score, timestamp")),
        ("\t3\t", "\tx\t", ("line 3", "'x'", "not a number")),
        ("\t3\t", "\t3\t4\t", ("line 3", "4 fields")),
    ],
)
def test_errors(root, old, new, parts):
    path = root / "a" / "a.inter"
    path.write_text(INTER.replace(old, new))
    fails(RecBole(root, ["a"]), path, *parts)


def test_bad_rows_are_counted(root):
    (root / "a" / "a.inter").write_text(INTER + "u3\ti1\tx\t1\n")
    read = RecBole(root, ["a"], bad_rows="drop").read()
    assert read.dropped == {"rating is not a number": 1}
    assert read.domains[0].interactions.height == 2


def test_missing_folder_and_file(root):
    with pytest.raises(CrossrecError, match="is not a folder"):
        RecBole(root, ["none"]).files()
    (root / "a" / "a.inter").unlink()
    with pytest.raises(CrossrecError, match=r"has no file a\.inter"):
        RecBole(root, ["a"]).files()
    with pytest.raises(CrossrecError, match="no domain"):
        RecBole(root, [])
