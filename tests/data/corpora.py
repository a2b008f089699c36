"""Small corpora built in memory."""

import numpy as np
import polars as pl

from crossrec.data.schema import Corpus, Domain


def make(rows, sizes, *, n_users=None, timed=True, ordered=True, fixed=None):
    """Corpus of ``(user, item, time)`` rows, already in order, over domains d0, d1, ... of ``sizes`` items."""
    users, items, times = (np.array(column, dtype=np.int64) for column in zip(*rows))
    n_items = sum(sizes)
    n_users = int(users.max()) + 1 if n_users is None else n_users
    stops = np.cumsum(sizes)
    domains = tuple(Domain(f"d{k}", k, int(stop - size), int(stop)) for k, (size, stop) in enumerate(zip(sizes, stops)))
    return Corpus(
        domains,
        pl.DataFrame({"user": users, "item": items, "rating": np.ones(len(users), dtype=np.float32), "time": times}),
        pl.DataFrame(
            {
                "item": np.arange(n_items),
                "domain": np.repeat(np.arange(len(sizes)), sizes),
                "name": [f"i{i}" for i in range(n_items)],
                "entity": np.arange(n_items),
            }
        ),
        pl.DataFrame({"user": np.arange(n_users), "name": [f"u{u}" for u in range(n_users)]}),
        timed=timed,
        ordered=ordered,
        fixed=fixed,
    )


def random_corpus(n_users=40, sizes=(15, 25), n=600, seed=0, repeats=False, **options):
    """Random corpus; without ``repeats`` every (user, item) occurs at most once."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(n_users, size=n), rng.integers(sum(sizes), size=n)
    if not repeats:
        keys = np.unique(users * sum(sizes) + items)
        users, items = np.divmod(keys, sum(sizes))
    times = rng.integers(10_000, size=len(users))
    order = np.lexsort((times, users))
    return make(list(zip(users[order], items[order], times[order])), sizes, n_users=n_users, **options)


def columns(corpus):
    """Users, items, times and domains of the interactions as arrays."""
    rows = corpus.interactions
    items = rows["item"].to_numpy()
    return rows["user"].to_numpy(), items, rows["time"].to_numpy(), corpus.item_domain[items]
