import polars as pl
import pytest

from crossrec.data.schema import INTERACTIONS, Corpus, Domain


@pytest.fixture
def make_corpus():
    """Corpus of two domains of n // 2 items with chosen columns of the item table."""

    def make(n_items=6, n_users=5, ordered=True, entity=None, **columns):
        half = n_items // 2
        items = pl.DataFrame(
            {
                "item": list(range(n_items)),
                "domain": [0] * half + [1] * (n_items - half),
                "name": [str(i) for i in range(n_items)],
                "entity": entity or list(range(n_items)),
                **columns,
            }
        )
        return Corpus(
            domains=(Domain("a", 0, 0, half), Domain("b", 1, half, n_items)),
            interactions=pl.DataFrame(schema=INTERACTIONS),
            items=items,
            users=pl.DataFrame({"user": list(range(n_users)), "name": [str(u) for u in range(n_users)]}),
            ordered=ordered,
        )

    return make
