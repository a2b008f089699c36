"""Brand and category of Amazon items, from the knowledge graph of PGPR."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from crossrec.data.sources.reading import find, read_bytes
from crossrec.errors import CrossrecError

RELATIONS = {"brand": "brand_p_b.txt", "category": "category_p_c.txt"}
"""Entity -> its relation with products: line n holds the numbers of product n's entities."""


def files(folder: Path) -> list[Path]:
    """Files of a graph; none where ``folder`` does not exist.

    Raises:
        CrossrecError: one of them is missing.
    """
    if not folder.is_dir():
        return []
    names = ("product.txt", *(name for entity, relation in RELATIONS.items() for name in (f"{entity}.txt", relation)))
    return [find(folder, name) for name in names]


def read(folder: Path) -> pl.DataFrame:
    """Read a graph.

    Source: Xian et al., "Reinforcement knowledge graph reasoning for explainable recommendation", SIGIR 2019.

    Args:
        folder: with ``product.txt``, ``brand.txt``, ``brand_p_b.txt``, ``category.txt`` and ``category_p_c.txt``, plain
            or compressed.

    Returns:
        Columns ``item, brand, category``; several names of a kind are joined by commas, null where there is none.

    Raises:
        CrossrecError: a relation has not a line for each product, or names an entity that is not there.
    """
    products = _lines(find(folder, "product.txt"))
    columns = {"item": products}
    for entity, relation in RELATIONS.items():
        path = find(folder, relation)
        numbers = _lines(path)
        if len(numbers) != len(products):
            raise CrossrecError(
                f"{path} has {len(numbers)} lines, but there are {len(products)} products: fetch it again"
            )
        columns[entity] = _named(numbers, _lines(find(folder, f"{entity}.txt")), path)
    return pl.DataFrame(columns).unique("item", keep="first", maintain_order=True)


def _lines(path: Path) -> pl.Series:
    text = read_bytes(path).decode().replace("\r\n", "\n").removesuffix("\n")  # an empty line counts
    return pl.Series(text.split("\n"))


def _named(numbers: pl.Series, names: pl.Series, path: Path) -> pl.Series:
    """Names (n,) of the entities whose numbers the lines hold."""
    lines = pl.DataFrame({"line": range(1, len(numbers) + 1), "number": numbers.str.extract_all(r"\S+")})
    pairs = lines.explode("number").drop_nulls("number")
    entity = pl.col("number").cast(pl.Int64, strict=False)
    bad = pairs.filter(~entity.is_between(0, len(names) - 1).fill_null(False))
    if bad.height:
        raise CrossrecError(f"{path}, line {bad['line'][0]}: there is no entity {bad['number'][0]}, fetch it again")
    named = pairs.select("line", name=names.gather(pairs.select(entity)["number"]))
    joined = named.group_by("line", maintain_order=True).agg(pl.col("name").str.join(", "))
    return lines.join(joined, on="line", how="left", maintain_order="left")["name"]
