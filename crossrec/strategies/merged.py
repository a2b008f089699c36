"""All domains trained as one."""

from __future__ import annotations

from crossrec.strategies.base import Strategy


class Merged(Strategy):
    """Pool every domain's rows and train one model on them: transfer by sharing parameters, with no adaptation term."""
