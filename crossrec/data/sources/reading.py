"""Open plain, gzip and xz files and decode them, with errors that name file and line."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import polars as pl

from crossrec.errors import CrossrecError

COMPRESSIONS = ("", ".xz", ".gz")
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def find(folder: Path, name: str) -> Path:
    """Return ``folder/name``, plain or with ``.xz`` or ``.gz``.

    Raises:
        CrossrecError: the folder or the file does not exist.
    """
    if not folder.is_dir():
        raise CrossrecError(
            f"{folder} is not a folder: set data.source.root to the one that holds {name}, or paths.data, which is "
            "$CROSSREC_SHARED/data, to the one above it"
        )
    for ending in COMPRESSIONS:
        if (path := folder / f"{name}{ending}").is_file():
            return path
    raise CrossrecError(
        f"{folder} has no file {name} (nor {name}.xz, {name}.gz): place it there or correct the source's root"
    )


def existing(path: str | Path) -> Path:
    """Return ``path`` as a Path, or raise a CrossrecError where no such file exists."""
    path = Path(path)
    if not path.is_file():
        raise CrossrecError(f"{path} does not exist: correct the path")
    return path


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".xz":
        return cast(IO[bytes], lzma.open(path, "rb"))
    return path.open("rb")


def check_utf8(data: bytes, path: Path, first_line: int = 1) -> None:
    """Raise a CrossrecError that names line and byte where ``data`` is not UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise CrossrecError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; convert the file (iconv -t UTF-8)"
        ) from None


def chunks(path: Path, size: int = 1 << 26) -> Iterator[tuple[int, bytes]]:
    """Yield a file in pieces of whole lines, decompressed and checked to be UTF-8.

    Args:
        path: plain, ``.gz`` or ``.xz`` file.
        size: about how many bytes a piece has.

    Yields:
        number of the piece's first line (from 1), the piece.

    Raises:
        CrossrecError: the file is missing, empty, truncated, or not UTF-8.
    """
    line, rest, seen = 1, b"", False
    with _open(existing(path)) as stream:
        while True:
            try:
                block = stream.read(size)
            except _DAMAGE:
                raise CrossrecError(f"{path} is truncated or damaged: fetch it again") from None
            cut = block.rfind(b"\n") + 1 if block else 0
            piece = rest + block[:cut] if block else rest
            rest = (block[cut:] if cut else rest + block) if block else b""
            if block and not cut:
                continue
            if piece:
                seen = seen or bool(piece.strip())
                check_utf8(piece, path, line)
                yield line, piece
                line += piece.count(b"\n")
            if not block:
                break
    if not seen:
        raise CrossrecError(f"{path} is empty: it must hold at least one row")


def read_bytes(path: str | Path) -> bytes:
    """Return a whole file, decompressed, checked to be UTF-8, without byte order mark (errors as :func:`chunks`)."""
    return b"".join(piece for _, piece in chunks(Path(path))).removeprefix(b"\xef\xbb\xbf")


def read_lines(path: str | Path) -> pl.DataFrame:
    """Return a file's non-empty lines: columns ``number`` (u32, from 1) and ``line`` (str)."""
    text = read_bytes(path).decode("utf-8").replace("\r\n", "\n").rstrip("\n")
    return pl.DataFrame({"line": text.split("\n")}).with_row_index("number", offset=1).filter(pl.col("line") != "")


def first_failure(lines: pl.DataFrame, good: pl.Expr, path: Path, expected: str) -> None:
    """Raise a CrossrecError for the first row of :func:`read_lines` that is not ``good``."""
    bad = lines.filter(~good.fill_null(False)).head(1)
    if bad.height:
        raise CrossrecError(f"{path}, line {bad['number'][0]}: found {bad['line'][0][:60]!r}, expected {expected}")
