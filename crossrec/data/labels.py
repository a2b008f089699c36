"""Ratings as labels: from a threshold on a row is a positive, below it a negative that its user has seen."""

from __future__ import annotations

from dataclasses import replace

from crossrec.data.schema import Corpus
from crossrec.data.splits import Split, Splitter
from crossrec.errors import CrossrecError


class Labelled:
    """A split whose rows, of all stages, are labelled by their ratings.

    Positives are what ranking looks for. Negatives train as such, are left out of rankings where they were seen in an
    earlier stage, and in a held-out stage are classified beside the positives.

    Args:
        splitter: makes the split.
        positive_rating: lowest rating of a positive.

    Raises:
        CrossrecError: all rows would have one label.
    """

    def __init__(self, splitter: Splitter, positive_rating: float) -> None:
        self.splitter, self.positive_rating = splitter, positive_rating

    def __call__(self, corpus: Corpus) -> Split:
        """Return the labelled split of ``corpus``."""
        positive = corpus.interactions["rating"].to_numpy() >= self.positive_rating
        if not positive.any():
            raise CrossrecError(f"positive_rating={self.positive_rating:g} is above all ratings: lower it")
        if positive.all():
            raise CrossrecError(
                f"positive_rating={self.positive_rating:g} labels no row a negative: lower data.filter.min_rating, or "
                "set positive_rating=null, with which negatives are sampled (objective.n_negatives)"
            )
        return replace(self.splitter(corpus), positive=positive)


def check_labels(split: Split, batch: str, uses_history: bool) -> None:
    """Check that labels are read where there are some.

    Args:
        split: may be labelled.
        batch: kind of the training batches.
        uses_history: whether users are made of what they did.

    Raises:
        CrossrecError: they are not.
    """
    if split.positive is None:
        return
    if uses_history:
        raise CrossrecError(
            "positive_rating labels rows, but a history takes all that users did as what they like: choose "
            "user_encoder=id, or set positive_rating=null and data.filter.min_rating"
        )
    if batch != "pointwise":
        raise CrossrecError(
            "positive_rating labels rows, which only a loss of labelled pairs reads: choose objective=bce, or set "
            "positive_rating=null and data.filter.min_rating"
        )
