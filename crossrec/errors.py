"""The one exception whose message is shown to the user without a traceback."""


class CrossrecError(Exception):
    """A mistake in input or configuration, told in one sentence: where it is, what was expected, how to mend it."""

    status = 1
    """Exit status of the command line."""
