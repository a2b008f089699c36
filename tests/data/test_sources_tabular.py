import gzip
import lzma
import re
from datetime import datetime

import polars as pl
import pytest

from crossrec.data.prepare import prepare
from crossrec.data.sources.tabular import Tabular
from crossrec.errors import CrossrecError

ROWS = "user,item,stars,when\nann,i1,5,10\nbob,i2,3.5,11.9\nann,i2,1,1577836810\n"
COLUMNS = {"rating": "stars", "time": "when"}


@pytest.fixture
def write(tmp_path):
    def make(content, name="books.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def source(path, items=None, **options):
    options.setdefault("columns", COLUMNS)
    return Tabular({"books": {"interactions": path, "items": items}}, **options)


def fails(source, *parts):
    with pytest.raises(CrossrecError) as caught:
        source.read()
    for part in parts:
        assert str(part) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reads_ratings_and_mixed_times(write):
    table = source(write(ROWS))
    frame = table.read().domains[0].interactions
    assert [d.name for d in table.read().domains] == table.domain_names()
    assert frame.schema == {"user": pl.String, "item": pl.String, "rating": pl.Float32, "time": pl.Int64}
    assert frame["user"].to_list() == ["ann", "bob", "ann"]
    assert frame["rating"].to_list() == [5.0, 3.5, 1.0]
    assert frame["time"].to_list() == [10, 11, 1577836810]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-01-01", 1577836800),
        ("2020-01-01 00:01", 1577836860),
        ("2020-01-01 00:00:01.75", 1577836801),
        ("2020-01-01T02:00:00+02:00", 1577836800),
        ("-3", -3),
        ("1e3", 1000),
    ],
)
def test_time_formats(write, text, seconds):
    assert (
        source(write(f"user,item,stars,when\nu,i,1,{text}\n")).read().domains[0].interactions["time"].item() == seconds
    )


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|"])
def test_the_separator_is_found(write, separator):
    path = write(ROWS.replace(",", separator), "books.txt")
    assert source(path).read().domains[0].interactions.height == 3


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_files(write, ending, pack):
    assert source(write(pack(ROWS.encode()), "b.csv" + ending)).read().domains[0].interactions.height == 3


def test_parquet_keeps_integer_names_and_datetimes(tmp_path):
    path = tmp_path / "b.parquet"
    pl.DataFrame({"user": [7, 8], "item": [1, 2], "stars": [4, 5], "when": [datetime(2020, 1, 1)] * 2}).write_parquet(
        path
    )
    frame = source(path).read().domains[0].interactions
    assert frame.row(0) == ("7", "1", 4.0, 1577836800)


def test_without_rating_and_time(write):
    path = write("user,item\nu,i\nu,j\n")
    plain = source(path, columns={})
    assert (plain.timed, plain.ordered) == (False, False)
    assert plain.read().domains[0].interactions["rating"].to_list() == [1.0, 1.0]
    ordered = source(path, columns={}, file_order=True)
    assert (ordered.timed, ordered.ordered) == (False, True)
    assert ordered.read().domains[0].interactions["time"].to_list() == [0, 1]


def test_items_join_text_and_leave_missing_null(write):
    items = write('id,name,brand\ni1,"Tea, green",Acme\ni2,,\n', "items.csv")
    read = source(
        write(ROWS), items, item_columns={"item": "id", "title": "name", "text": ["name", "brand"], "entity": "name"}
    ).read()
    assert read.domains[0].items.to_dicts() == [
        {"item": "i1", "title": "Tea, green", "text": "Tea, green. Acme", "entity": "Tea, green"},
        {"item": "i2", "title": None, "text": None, "entity": None},
    ]


def test_brand_category_and_description_are_columns(write):
    items = write("item,name,maker,kind,more\ni1,Tea,Acme,Food,\ni2,Pan,,Kitchen,of steel\n", "items.csv")
    columns = {"title": "name", "brand": "maker", "category": ["kind", "maker"], "description": "more"}
    assert source(write(ROWS), items, item_columns=columns).read().domains[0].items.rows() == [
        ("i1", "Tea", "Acme", "Food. Acme", None, "Tea"),
        ("i2", "Pan", None, "Kitchen", "of steel", "Pan"),
    ]


def test_title_stands_in_for_text(write):
    items = write("item,title\ni1,Tea\n", "items.csv")
    assert source(write(ROWS), items, item_columns={"title": "title"}).read().domains[0].items["text"].to_list() == [
        "Tea"
    ]


def test_quoted_newlines_and_byte_order_mark(write):
    frame = source(write('\ufeffuser,item,stars,when\n"an\nn",i1,5,1\nb,i2,4,2\n')).read().domains[0].interactions
    assert frame["user"].to_list() == ["an\nn", "b"]


def test_quotes_can_be_plain_characters(write):
    path = write('user\titem\tstars\twhen\nu\t5" disc\t1\t1\n', "b.tsv")
    assert source(path, quote=None).read().domains[0].interactions["item"].item() == '5" disc'


def test_missing_column_names_those_that_exist(write):
    path = write(ROWS.replace("stars", "ratings"))
    fails(
        source(path, columns={"rating": "rating"}),
        path,
        "'rating'",
        "user, item, ratings, when",
        "did you mean 'ratings'",
    )


def test_non_numeric_rating_names_the_line(write):
    path = write(ROWS.replace("3.5", "good"))
    fails(source(path), f"{path}, line 3", "'good'", "not a number")


def test_line_numbers_count_blank_lines(write):
    path = write(ROWS.replace("bob,i2,3.5", "\n\nbob,i2,good"))
    fails(source(path), f"{path}, line 5", "'good'")


def test_unreadable_time_names_the_line(write):
    path = write(ROWS.replace("11.9", "yesterday"))
    fails(source(path), f"{path}, line 3", "'yesterday'", "ISO 8601")


def test_missing_user(write):
    path = write(ROWS.replace("bob", " "))
    fails(source(path), f"{path}, line 3", "no user")


@pytest.mark.parametrize("row", ["bob,i2,3.5,11,extra", "bob,i2"])
def test_wrong_number_of_fields(write, row):
    path = write(ROWS.replace("bob,i2,3.5,11.9", row))
    fails(source(path), f"{path}, line 3", "4 fields")


def test_duplicate_header(write):
    path = write(ROWS.replace("when", "item"))
    fails(source(path), f"{path}, line 1", "'item' occurs twice")


@pytest.mark.parametrize("content", ["", "\n", "user,item,stars,when\n"])
def test_empty_file(write, content):
    path = write(content)
    fails(source(path), path, "is empty")


def test_wrong_encoding_names_line_and_byte(write):
    path = write(ROWS.replace("bob", "zoë").encode("latin-1"))
    fails(source(path), f"{path}, line 3", "0xeb", "UTF-8")


def test_truncated_gzip(write):
    path = write(gzip.compress(ROWS.encode() * 50)[:-20], "b.csv.gz")
    fails(source(path), path, "truncated or damaged")


def test_damaged_parquet(write):
    path = write(b"PAR1 nothing", "b.parquet")
    fails(source(path), path, "not a Parquet file")


def test_missing_file(tmp_path):
    with pytest.raises(CrossrecError, match=r"none\.csv does not exist"):
        source(tmp_path / "none.csv").files()


def test_bad_rows_are_dropped_and_counted(write):
    path = write(ROWS + "x,i1,good,1\nx,i1,1,never\n,i1,1,1\na,b\n")
    read = source(path, bad_rows="drop").read()
    assert read.domains[0].interactions.height == 3
    assert read.dropped == {
        "rating is not a number": 1,
        "time is not readable": 1,
        "no user": 1,
        "wrong number of fields": 1,
    }


def test_a_table_of_users(write):
    users = write("id,years,job,city\nu1,24,cook,Rome\nu2,,,\n", "users.csv")
    columns = {"user": "id", "age": "years", "text": ["job", "city"]}
    plain, told = (
        source(write(ROWS)),
        Tabular({"books": {"interactions": write(ROWS), "users": users}}, user_columns=columns),
    )
    assert told.files()[1:] == [users] and told.options() != plain.options()
    assert "user_columns" not in plain.options()  # names of data prepared without users stay
    assert told.read().domains[0].users.rows() == [("u1", "24", "cook. Rome"), ("u2", None, None)]
    assert plain.read().domains[0].users is None


def test_unknown_items(write):
    path, items = write(ROWS), write("item\ni1\n", "items.csv")
    assert source(path, items).read().domains[0].interactions.height == 3
    fails(source(path, items, unknown_items="error"), f"{path}, line 3", "'i2'", items)
    read = source(path, items, unknown_items="drop").read()
    assert read.domains[0].interactions["item"].to_list() == ["i1"]
    assert read.dropped == {"unknown item": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"users": "u"}}, "valid keys are user, item, rating, time"),
        ({"bad_rows": "ignore"}, "'ignore'"),
        ({"unknown_items": "ignore"}, "'ignore'"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(CrossrecError, match=message):
        source(tmp_path / "x.csv", **options)


def test_wrong_domains():
    with pytest.raises(CrossrecError, match="'books' needs a path `interactions`"):
        Tabular({"books": {"ratings": "x.csv"}})
    with pytest.raises(CrossrecError, match="no domain"):
        Tabular({})


@pytest.mark.parametrize(
    ("times", "line", "message"),
    [
        (["10", "2020-01-01", "11"], 3, "time '2020-01-01' in column 'time' is a date among numbers"),
        (["2020", "2020-01-02", "2020-01-03"], 2, "time '2020' in column 'time' is a number among dates"),
    ],
)
def test_times_of_two_kinds_are_refused_or_dropped(write, times, line, message):
    path = write("user,item,stars,when\n" + "".join(f"u{i},i,1,{t}\n" for i, t in enumerate(times)))
    with pytest.raises(CrossrecError, match=re.escape(f"{path}, line {line}: {message}: write all times as one")):
        source(path).read()
    read = source(path, bad_rows="drop").read()
    assert read.counts() == {"time of another kind": 1} and read.domains[0].interactions.height == 2


def test_later_rows_of_an_item_that_say_something_else_are_counted(write):
    items = write("item,title\ni1,Tea\ni1, Tea \ni1,Coffee\ni2,\ni2,Milk\ni1,Jam\n", "items.csv")
    told = source(write(ROWS), items, item_columns={"title": "title"}, bad_rows="drop")
    read = told.read()
    assert read.domains[0].items.select("item", "title").rows() == [("i1", "Tea"), ("i2", None)]
    assert read.counts() == {"another row of the same item": 3}
    fails(
        source(write(ROWS), items, item_columns={"title": "title"}),
        f"{items}, line 4: a second row of item 'i1' says something else than its first; leave one, or set bad_rows=",
    )
    corpus = prepare(told, cache_dir=items.parent / "cache")
    assert corpus.provenance["dropped"] == {"another row of the same item": 3}


def test_other_kinds_of_files_are_told_by_their_names(write):
    fails(
        source(write('{"user": "u"}', "rows.json")), "rows.json is no table of columns, by its name a .json file", "CSV"
    )
    fails(source(write(gzip.compress(b"{}"), "rows.jsonl.gz")), "a .jsonl file: write it as CSV, TSV or Parquet")
