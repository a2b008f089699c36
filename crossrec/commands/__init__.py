"""The commands of ``crossrec``, one a file."""
