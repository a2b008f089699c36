"""A plain function as a loss."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Distance = Callable[..., Tensor]


class FunctionAdaptation(PairwiseAdaptation):
    """Use ``f(a, b) -> scalar`` on the vectors a (n, f) and b (m, f) of two domains.

    Args:
        function: the function, or where it is: ``package.module.function``.
        arguments: more keyword arguments of the function.
        options: see :class:`PairwiseAdaptation`; ``name`` is the function's own by default.

    Raises:
        CrossrecError: there is no such function.

    Example:
        >>> import torch
        >>> gap = FunctionAdaptation(lambda a, b: (a.mean(0) - b.mean(0)).square().sum(), name="mean_gap")
        >>> gap.distance(torch.zeros(3, 2), torch.ones(2, 2)).item()
        2.0
    """

    def __init__(
        self,
        function: Distance | str,
        *,
        arguments: Mapping[str, Any] | None = None,
        **options: Unpack[PairwiseOptions],
    ) -> None:
        found = _import(function) if isinstance(function, str) else function
        if not options.get("name"):
            options["name"] = getattr(found, "__name__", "function")
        super().__init__(**options)
        self._function = found
        self._arguments = dict(arguments or {})

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Call the function."""
        return self._function(a, b, **self._arguments)


def _import(path: str) -> Distance:
    module, _, name = path.rpartition(".")
    if not module:
        raise CrossrecError(f"adaptation function={path!r} must be written package.module.function")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise CrossrecError(
            f"adaptation function={path!r}: there is no module {error.name!r}; install it or add its "
            "folder to PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise CrossrecError(f"adaptation function={path!r}: module {module} has no {name!r}") from error
    if not callable(found):
        raise CrossrecError(f"adaptation function={path!r} is a {type(found).__name__}, not a function")
    return cast(Distance, found)
