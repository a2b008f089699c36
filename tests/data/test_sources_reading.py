import gzip
import inspect
import lzma

import pytest
from hydra.utils import get_class

from crossrec.config import conf_dir
from crossrec.data.prepare import prepare
from crossrec.data.sources.reading import chunks, find, read_bytes, read_lines
from crossrec.errors import CrossrecError


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", ["a\nbb\n\nccc", "a\n", "é\nü\n", "no newline"])
def test_chunks_are_whole_lines_and_lose_nothing(tmp_path, size, text):
    path = tmp_path / "x"
    path.write_bytes(text.encode())
    pieces = list(chunks(path, size))
    assert b"".join(p for _, p in pieces) == text.encode()
    assert [first for first, _ in pieces] == [
        1 + b"".join(p for _, p in pieces[:i]).count(b"\n") for i in range(len(pieces))
    ]
    assert all(p.endswith(b"\n") for _, p in pieces[:-1])


@pytest.mark.parametrize("cut", [5, 30, 60])
@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_truncated_archives(tmp_path, ending, pack, cut):
    path = tmp_path / f"x{ending}"
    path.write_bytes(pack(bytes(range(32, 120)) * 3)[:cut])
    with pytest.raises(CrossrecError, match="truncated or damaged"):
        read_bytes(path)


def test_the_line_of_a_bad_byte_in_a_later_piece(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one\ntwo\nthree\xff\n")
    with pytest.raises(CrossrecError, match="line 3: byte 0xff"):
        list(chunks(path, 4))


def test_lines_are_numbered_as_in_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a\r\n\r\nb\n\n")
    assert read_lines(path).rows() == [(1, "a"), (3, "b")]


def test_find_takes_compressed_files_and_lists_what_was_tried(tmp_path):
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"1"))
    assert find(tmp_path, "x.txt").name == "x.txt.gz"
    with pytest.raises(CrossrecError, match=r"no file y\.txt \(nor y\.txt\.xz, y\.txt\.gz\)"):
        find(tmp_path, "y.txt")


DATA = sorted((conf_dir() / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", DATA, ids=lambda p: p.stem)
def test_configs_name_every_argument_and_no_other(path):
    from omegaconf import OmegaConf

    text = path.read_text()
    assert text.startswith("# ") and "\n# @package" not in text
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert list(config) == ["source", "filter", "default_target"]
    target = get_class(config["source"].pop("_target_"))
    assert set(config["source"]) == set(inspect.signature(target).parameters)
    assert set(config["filter"]) == set(inspect.signature(prepare).parameters) - {"source", "cache_dir"}
    assert target.name == path.stem and target.licence
