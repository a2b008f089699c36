"""The command line: ``crossrec <command> ...``. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import os
import sys
from importlib import import_module

COMMANDS = {
    "train": "train one run, or a grid with -m; a finished run is returned, a broken one resumed",
    "sweep": "train every run of a study that is not finished, on any launcher",
    "table": "print a study's table, beside what was published; write it with plots",
    "evaluate": "evaluate a run's best checkpoint again, under another protocol",
    "tune": "search hyper-parameters of a study's rows, and write the best as experiments",
    "recommend": "write the top k items per user of a run, with titles",
    "compare": "put finished runs side by side: configs, test metrics, users, learning curves",
    "transfer": "tell which domains and users a run helped or hurt, against target_only runs",
    "gap": "measure how far apart a run's domains are, before and after training",
    "prepare": "turn raw files into a prepared corpus, once",
    "encoders": "compare text models on a data set before training, and recommend one",
    "encode": "encode the items' texts with a pretrained model, ahead of runs",
    "compress": "make a run's text model or vectors smaller or faster, and say what that costs",
    "new": "write a loss of your own: class, config and test",
    "ls": "list config groups, the options of a group, or runs",
}


def usage() -> str:
    """Text of ``crossrec --help``."""
    lines = [
        "usage: crossrec COMMAND ...",
        "",
        "Cross-domain recommendation with large pretrained models.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    lines += [
        "",
        "examples:",
        "  crossrec train                                          # synthetic data, under a minute",
        "  crossrec train data=movielens strategy=mmd adaptation.mmd.weight=0.5",
        "  crossrec train -m strategy=target_only,merged,mmd seed=0,1,2",
        "  crossrec sweep experiments/quickstart.yaml -j 2",
        "  crossrec table experiments/quickstart.yaml",
        "  crossrec ls strategy",
        "",
        "`crossrec COMMAND --help` tells more of a command.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    It exits with 0, 1 (a failed command), 75 (another process runs that run) or 2 (a command line that cannot be read).
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if words else 2)
    if words[0] in ("-V", "--version"):
        from crossrec import __version__

        print(f"crossrec {__version__}")
        return
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; commands are {', '.join(COMMANDS)}"
        print(f"crossrec: error: no command {command!r}{hint}", file=sys.stderr)
        sys.exit(2)
    from crossrec.errors import CrossrecError

    try:
        import_module(f"crossrec.commands.{command}").main(rest)
    except CrossrecError as error:
        print(f"crossrec {command}: error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except (PermissionError, NotADirectoryError) as error:
        mend = "choose another folder (those of paths.runs, paths.prepared and paths.features are written to)"
        print(f"crossrec {command}: error: {error.filename} cannot be used ({error.strerror}): {mend}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe (head, less) has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(f"crossrec {command}: interrupted; the same line again resumes", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
