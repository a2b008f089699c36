"""``crossrec encoders``: compare text models on a corpus before anything is trained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from crossrec.encoders.whitening import Kind

DESCRIPTION = """Compare text models on the items of a data set before anything is trained: size and speed, how narrow
a cone their vectors lie in, how far apart the domains are in their space, training-free NDCG@10 on validation, and
LogME of the items' co-consumption; one table, with a recommendation and its reason. Test rows are not read. The words
are those of `crossrec train`; only data, split, paths, target, seed, history_length, evaluation.valid_queries and, of
item_encoder, fields, template, pooling, prefix, max_length, batch_size, whitening_dim, per_domain and cache_dir
count."""

EXAMPLES = """examples:
  crossrec encoders data=movielens
  crossrec encoders data=food_kitchen -c minilm -c use -c intfloat/e5-small-v2,prefix='query: ' -o encoders
  crossrec encoders data=amazon -c my_model,pooling=last --whitening pca,zca --texts all"""


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="crossrec encoders", description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides for all candidates")
    parser.add_argument(
        "-c", "--candidate", action="append", default=[], metavar="MODEL[,KEY=VALUE]",
        help="minilm, use, smollm2, an option of the group item_encoder, or a model as item_encoder.model takes it; "
        "with pooling, prefix or max_length of its own; again for each (default: all models on this machine)",
    )  # fmt: skip
    parser.add_argument(
        "--whitening", default="none,centre,pca", metavar="KIND,...",
        help="of none, centre, zca and pca (default: none,centre,pca)",
    )  # fmt: skip
    parser.add_argument(
        "--texts", default="2000", metavar="N | all",
        help="items to read, drawn by their training rows (default: 2000)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write encoders.md and encoders.csv there")
    parser.add_argument("--config-dir", type=Path, action="append", default=[], help="folder of configs of your own")
    options = parser.parse_intermixed_args(arguments)

    from crossrec.runs.candidates import available, candidate, check_common

    check_common(options.words)
    whitenings, texts = _whitenings(options.whitening), _texts(options.texts)
    missing: list[str] = []
    candidates = [candidate(word, options.config_dir) for word in options.candidate]
    if not candidates:
        candidates, missing = available()

    from crossrec.errors import CrossrecError
    from crossrec.runs.encoders import compare_encoders
    from crossrec.runs.store import write_frame, write_text
    from crossrec.studies.encoder_choice import choose
    from crossrec.studies.encoder_table import frame, markdown, print_comparison

    if not candidates:
        raise CrossrecError("there is no text model on this machine: " + "; ".join(missing))
    comparison = compare_encoders(
        candidates, options.words, options.config_dir, whitenings=whitenings, texts=texts,
        tell=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )  # fmt: skip
    choice = choose(comparison, options.words, options.config_dir) if comparison.measured else None
    print_comparison(comparison, choice, missing)
    if options.output is not None:
        write_text(options.output / "encoders.md", markdown(comparison, choice, missing))
        write_frame(frame(comparison, choice), options.output / "encoders.csv")
        print(f"written: {options.output / 'encoders.md'}, {options.output / 'encoders.csv'}")
    if choice is None:
        raise CrossrecError("no candidate could be read; the table says why")


def _whitenings(text: str) -> list[Kind]:
    from typing import get_args

    from crossrec.encoders.whitening import Kind
    from crossrec.errors import CrossrecError
    from crossrec.suggestions import nearest

    found = list(dict.fromkeys(text.split(",")))
    for kind in found:
        if kind not in get_args(Kind):
            raise CrossrecError(f"--whitening has no kind {kind!r}{nearest(kind, get_args(Kind))}")
    return cast("list[Kind]", found)


def _texts(text: str) -> int | None:
    from crossrec.errors import CrossrecError

    if text == "all":
        return None
    if not text.isdigit():
        raise CrossrecError(f"--texts is {text!r}: give a whole number, or all")
    return int(text)
