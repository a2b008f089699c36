"""Cached vectors in fewer dimensions."""

from __future__ import annotations

from crossrec.compression.base import Compression, Facts, Original
from crossrec.encoders.projection import Projection
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least


class PCA(Compression):
    """Vectors are cached as their ``width`` principal components, fitted on training items.

    See :class:`~crossrec.encoders.projection.Projection`. What reads the cache gets vectors of the old width, so that
    whatever was trained on them goes on; the text model itself stays as it is.

    Args:
        width: k.

    Raises:
        CrossrecError: it is below 1.
    """

    name = "pca"

    def __init__(self, width: int = 128) -> None:
        at_least("width", width, 1)
        self.width = width

    def fit(self, original: Original) -> tuple[Projection, Facts]:
        """Fit the map.

        Raises:
            CrossrecError: the vectors are no wider than that, or fewer than two.
        """
        n, full = original.vectors.shape
        if self.width >= full:
            raise CrossrecError(f"width={self.width} must be below the {full} of the text model's vectors")
        if n < 2:
            raise CrossrecError(f"method=pca needs two training items with text, there are {n}")
        projection = Projection.fit(original.vectors, self.width)
        return projection, {"width": f"{full} to {self.width}", "variance explained": round(projection.explained, 4)}
