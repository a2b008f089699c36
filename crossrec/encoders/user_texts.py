"""What a text model reads of a user."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from crossrec.data.schema import USER_FIELDS, Corpus
from crossrec.encoders.item_texts import ALWAYS
from crossrec.encoders.template import Template
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

PROFILE = "[{age} years old ][{gender} ][{occupation}]"
"""What is read of users where no other template is given: "24 years old male writer"."""


def user_texts(
    corpus: Corpus,
    trained: npt.NDArray[np.bool_],
    *,
    profile: bool = True,
    template: str | None = None,
    titles: int = 10,
) -> pl.Series:
    """Text of every user, (n_users,) str, null where there is none.

    A user is read by the template, or else by their own ``text``, or else by the titles of the latest training rows,
    joined by commas.

    Args:
        corpus: gives users and titles.
        trained: (n_interactions,) bool, rows whose titles may be read.
        profile: read what the data tell of users; else titles alone.
        template: a :class:`~crossrec.encoders.template.Template` of :data:`~crossrec.data.schema.USER_FIELDS`; None is
            :data:`PROFILE`, for those whom it fits.
        titles: at most this many titles; 0 reads none.

    Raises:
        CrossrecError: a template that fits no user or is not to be read, a negative number, or no user has a text.
    """
    at_least("user_encoder.titles", titles, 0)
    ways = []
    if profile:
        ways = _profiles(corpus, template)
    elif template is not None:
        raise CrossrecError("user_encoder.template has no use with user_encoder.profile=false: leave one of them out")
    told = corpus.users
    if titles:
        told = told.join(_titles(corpus, trained, titles), on="user", how="left", maintain_order="left")
        ways.append(pl.col("titles"))
    if ways:
        texts = told.select(pl.coalesce(ways).alias("text"))["text"]
        if texts.null_count() < len(texts):
            return texts
    raise CrossrecError("nothing is told of any user of this data set: choose user_encoder=id")


def _profiles(corpus: Corpus, template: str | None) -> list[pl.Expr]:
    there = {name: pl.col(name) for name in USER_FIELDS if name in corpus.users.columns}
    filled = Template(PROFILE if template is None else template, USER_FIELDS, "user_encoder").fill(there)
    if template is not None and corpus.users.select(filled.is_null().all()).item():
        raise CrossrecError(
            f"user_encoder.template={template!r} fits no user: this data set's users have "
            + (", ".join(name for name in there if not corpus.users[name].is_null().all()) or "nothing told of them")
            + "; put [brackets] around what may be missing"
        )
    return [filled, *([there["text"]] if "text" in there else [])]


def _titles(corpus: Corpus, trained: npt.NDArray[np.bool_], titles: int) -> pl.DataFrame:
    """Columns ``user, titles`` of those who have any; rows are in each user's order."""
    columns = [pl.col(name) for name in ALWAYS if name in corpus.items.columns]
    named = corpus.items.select("item", title=pl.coalesce([*columns, pl.lit(None, dtype=pl.String)]))
    rows = corpus.interactions.select("user", "item").filter(pl.Series(trained))
    rows = rows.join(named, on="item", how="left", maintain_order="left").drop_nulls("title")
    return rows.group_by("user").agg(titles=pl.col("title").tail(titles).str.join(", "))
