"""``python -m crossrec`` is ``crossrec``."""

from crossrec.cli import main

main()
