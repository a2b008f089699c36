import hashlib
import json
import multiprocessing
import os
import signal
import stat
import time
import types
import warnings

import numpy as np
import pytest
import torch

from crossrec.encoders.feature_cache import FeatureCache, digests
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.shards import ENTRY
from crossrec.errors import CrossrecError


class Counting:
    """Stands in for a model: a vector made from the text's hash; counts, and can fail or be slow."""

    model, facts = "counting", {"model": "counting"}

    def __init__(self, key="k" * 64, fail_after=None, max_length=None, seconds=0.0):
        self.key, self.fail_after, self.max_length, self.seconds = key, fail_after, max_length, seconds
        self.seen, self.batches = [], []

    def lengths(self, texts):
        return np.array([len(t) for t in texts])

    def encode(self, texts):
        if self.fail_after is not None and len(self.seen) >= self.fail_after:
            raise KeyboardInterrupt
        time.sleep(self.seconds)
        self.seen += texts
        self.batches.append([len(t) for t in texts])
        return torch.stack([torch.from_numpy(vector(t)) for t in texts])


def vector(text):
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint8).astype(np.float32) / 255 + 0.1


def expected(texts):
    return np.stack([vector(t) for t in texts]).astype(np.float16).astype(np.float32)


TEXTS = [f"text {i} " + "x" * (i * 7 % 30) for i in range(50)]


def test_each_distinct_text_is_encoded_once_in_batches_of_like_length(tmp_path):
    model = Counting()
    found = FeatureCache(tmp_path, batch_size=8).encode([*TEXTS, *TEXTS[::-1]], model, show_progress=False)
    assert found.dtype == np.float32 and np.array_equal(found, expected([*TEXTS, *TEXTS[::-1]]))
    assert sorted(model.seen) == sorted(TEXTS)
    lengths = [n for batch in model.batches for n in batch]
    assert lengths == sorted(lengths, reverse=True) and len(model.batches) == 7


def test_second_call_reads_and_new_texts_alone_are_encoded(tmp_path):
    cache = FeatureCache(tmp_path, batch_size=8, shard_batches=2)
    first = cache.features(TEXTS, Counting(), show_progress=False)
    assert first.encoded == 50 and first.seconds > 0
    model = Counting()
    again = cache.features(TEXTS[5:15], model, show_progress=False)
    assert np.array_equal(again.vectors, expected(TEXTS[5:15])) and model.seen == []
    assert again.encoded == 0 and again.seconds == 0
    more = [f"{i} more" for i in range(2000)]
    cache.encode(more, Counting(), show_progress=False)
    new = [f"{i} new" for i in range(20)]  # 1 %
    assert np.array_equal(cache.encode([*more, *new], model, show_progress=False), expected([*more, *new]))
    assert sorted(model.seen) == sorted(new)


def test_layout_is_fp16_shards_with_an_index_of_digests_and_checksums(tmp_path):
    cache, model = FeatureCache(tmp_path, batch_size=8, shard_batches=2), Counting()
    cache.encode(TEXTS, model, show_progress=False)
    folder = tmp_path / ("k" * 32 + "-2")
    indices = sorted(folder.glob("index-*.npy"))
    assert len(indices) == 4 and cache.folder(model) == folder
    for path in indices:
        index, vectors = np.load(path), np.load(folder / path.name.replace("index", "vectors"), mmap_mode="r")
        assert index.dtype == ENTRY and vectors.dtype == np.float16 and vectors.shape == (len(index), 32)
        assert path.stem == "index-" + hashlib.sha256(index.tobytes()).hexdigest()[:16]
    assert json.loads((folder / "meta.json").read_text()) == {"format": 2, "key": "k" * 64, "model": "counting"}
    assert not list(folder.glob(".tmp-*"))


def test_files_have_the_modes_of_the_umask(tmp_path):
    cache, model = FeatureCache(tmp_path / "cache"), Counting()
    before = os.umask(0o027)
    try:
        cache.encode(TEXTS, model, show_progress=False)
    finally:
        os.umask(before)
    files = list(cache.folder(model).iterdir())
    assert {path.name.split("-")[0] for path in files} == {"index", "vectors", "meta.json", "lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_an_interrupted_run_keeps_its_finished_shards(tmp_path):
    cache = FeatureCache(tmp_path, batch_size=5, shard_batches=2)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, Counting(fail_after=25), show_progress=False)
    model = Counting()
    assert np.array_equal(cache.encode(TEXTS, model, show_progress=False), expected(TEXTS))
    assert len(model.seen) == 30  # 20 of the 25 were saved


def test_a_slow_model_is_saved_by_the_clock(tmp_path):
    cache, model = FeatureCache(tmp_path, batch_size=10, shard_seconds=0.0), Counting()
    cache.encode(TEXTS, model, show_progress=False)
    assert len(list(cache.folder(model).glob("index-*.npy"))) == 5


def test_a_killed_process_leaves_its_finished_shards_and_nothing_else(tmp_path):
    cache, model = FeatureCache(tmp_path, batch_size=5, shard_batches=2), Counting()
    slowly = (TEXTS, Counting(seconds=0.2), False)
    process = multiprocessing.get_context("fork").Process(target=cache.encode, args=slowly)
    process.start()
    folder = cache.folder(model)
    deadline = time.monotonic() + 60
    while not list(folder.glob("index-*.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    done = sum(len(np.load(path)) for path in folder.glob("index-*.npy"))
    assert 0 < done < 50
    (folder / ".tmp-dead").write_bytes(b"half")
    (folder / "vectors-dead.npy").write_bytes(b"without an index")
    assert np.array_equal(cache.encode(TEXTS, model, show_progress=False), expected(TEXTS))
    assert len(model.seen) == 50 - done
    assert not list(folder.glob("*dead*")) and not list(folder.glob(".tmp-*"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("kind", ["index", "vectors"])
def test_a_damaged_shard_is_named_and_mended(tmp_path, kind, damage):
    cache, model = FeatureCache(tmp_path, batch_size=10, shard_batches=1), Counting()
    cache.encode(TEXTS, model, show_progress=False)
    path = sorted(cache.folder(model).glob(f"{kind}-*.npy"))[2]
    damage(path)
    model = Counting()
    with pytest.warns(UserWarning, match=f"{path.name} is damaged: its texts are encoded anew"):
        assert np.array_equal(cache.encode(TEXTS, model, show_progress=False), expected(TEXTS))
    assert len(model.seen) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.encode(TEXTS, model, show_progress=False)
    assert len(model.seen) == 10


def test_vectors_without_an_index_do_not_exist_and_an_index_without_vectors_is_damaged(tmp_path):
    cache, model = FeatureCache(tmp_path), Counting()
    for kind in ("index", "vectors"):
        cache.encode(TEXTS[:3], model, show_progress=False)
        next(cache.folder(model).glob(f"{kind}-*.npy")).unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert np.array_equal(cache.encode(TEXTS[:3], model, show_progress=False), expected(TEXTS[:3]))
    assert len(model.seen) == 9


def test_models_do_not_share_vectors(tmp_path):
    cache, other = FeatureCache(tmp_path), Counting(key="o" * 64)
    cache.encode(TEXTS, Counting(), show_progress=False)
    cache.encode(TEXTS, other, show_progress=False)
    assert len(other.seen) == 50


def test_cut_texts_are_counted_always_and_told_when_they_are_encoded(tmp_path):
    cache, model = FeatureCache(tmp_path), Counting(max_length=4)
    texts = ["abcd", "abcde", "abcdef", "abcde"]
    with pytest.warns(UserWarning, match="3 of 4 texts were cut at 4 tokens"):
        assert cache.features(texts, model, show_progress=False).cut == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.features(texts, model, show_progress=False).cut == 3
        assert cache.features(texts[:1], model, show_progress=False).cut == 0
        assert cache.features(texts, Counting(key="o" * 64), show_progress=False).cut == 0  # it reads texts whole


def test_digests_with_zero_bytes_are_found(tmp_path):
    ending = [t for t in (f"t{i}" for i in range(3000)) if b"\0" in hashlib.sha256(t.encode()).digest()[-2:]]
    assert len(ending) > 10 and digests(np.asarray(ending, dtype=object)).nbytes == 32 * len(ending)
    cache = FeatureCache(tmp_path)
    cache.encode(ending, Counting(), show_progress=False)
    model = Counting()
    assert np.array_equal(cache.encode(ending, model, show_progress=False), expected(ending)) and not model.seen


def encode_and_count(root, queue):
    model = Counting(seconds=0.02)
    found = FeatureCache(root, batch_size=4, shard_batches=1).encode(TEXTS, model, show_progress=False)
    queue.put((len(model.seen), bool(np.array_equal(found, expected(TEXTS)))))


def test_processes_share_the_work_and_say_that_they_wait(tmp_path, capfd):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=encode_and_count, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)
    assert sum(n for n, _ in results) == 50 and all(right for _, right in results)
    assert "another process encodes with counting: waiting" in capfd.readouterr().err


def test_what_cannot_be_cached_is_told(tmp_path):
    cache = FeatureCache(tmp_path)
    with pytest.raises(CrossrecError, match="no texts"):
        cache.encode([], Counting())
    huge = Counting()
    huge.encode = types.MethodType(lambda self, texts: torch.full((len(texts), 2), 1e6), huge)
    with pytest.raises(CrossrecError, match="fp16"):
        cache.encode(["a"], huge, show_progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(CrossrecError, match="cache_dir"):
        FeatureCache(tmp_path / "file").encode(["a"], Counting(), show_progress=False)
    with pytest.raises(CrossrecError, match="at least 1"):
        FeatureCache(tmp_path, batch_size=0)


def test_with_a_real_model(tmp_path, tiny_model, capfd):
    encoder = PretrainedText(str(tiny_model))
    texts = ["a b", "abcdefgh", "z", "a b"]
    found = FeatureCache(tmp_path, batch_size=2).encode(texts, encoder)
    assert np.allclose(found, encoder.encode(texts).numpy(), atol=5e-3) and np.array_equal(found[0], found[3])
    capfd.readouterr()
