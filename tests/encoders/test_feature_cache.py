import hashlib
import json
import multiprocessing
import types

import numpy as np
import pytest
import torch

from crossrec.encoders.feature_cache import FeatureCache, digests
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError


class Counting:
    """Stands in for a model: a vector made from the text's hash; counts and can fail."""

    model, pooling, prefix, max_length = "counting", "mean", "", 64

    def __init__(self, key="k" * 64, fail_after=None):
        self.key, self.fail_after, self.seen, self.batches = key, fail_after, [], []

    def encode(self, texts):
        if self.fail_after is not None and len(self.seen) >= self.fail_after:
            raise KeyboardInterrupt
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
    cache.encode(TEXTS[:30], Counting(), show_progress=False)
    model = Counting()
    assert np.array_equal(cache.encode(TEXTS[5:15], model, show_progress=False), expected(TEXTS[5:15]))
    assert model.seen == []
    assert np.array_equal(cache.encode(TEXTS[::-1], model, show_progress=False), expected(TEXTS[::-1]))
    assert sorted(model.seen) == sorted(TEXTS[30:])


def test_layout_is_fp16_shards_with_an_index_of_digests(tmp_path):
    cache, model = FeatureCache(tmp_path, batch_size=8, shard_batches=2), Counting()
    cache.encode(TEXTS, model, show_progress=False)
    folder = tmp_path / ("k" * 32)
    indices = sorted(folder.glob("texts-*.npy"))
    assert len(indices) == 4 and cache.folder(model) == folder
    for path in indices:
        index, vectors = np.load(path), np.load(folder / path.name.replace("texts", "vectors"), mmap_mode="r")
        assert index.dtype == "S32" and vectors.dtype == np.float16 and vectors.shape == (len(index), 32)
        assert path.stem == "texts-" + hashlib.sha256(index.tobytes()).hexdigest()[:16]
    assert json.loads((folder / "meta.json").read_text())["model"] == "counting"
    assert not list(folder.glob(".tmp-*"))


def test_an_interrupted_run_keeps_its_finished_shards(tmp_path):
    cache = FeatureCache(tmp_path, batch_size=5, shard_batches=2)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, Counting(fail_after=25), show_progress=False)
    model = Counting()
    assert np.array_equal(cache.encode(TEXTS, model, show_progress=False), expected(TEXTS))
    assert len(model.seen) == 30  # 20 of the 25 were saved


def test_vectors_without_an_index_do_not_exist(tmp_path):
    cache, model = FeatureCache(tmp_path), Counting()
    cache.encode(TEXTS[:3], model, show_progress=False)
    next(cache.folder(model).glob("texts-*.npy")).unlink()
    assert np.array_equal(cache.encode(TEXTS[:3], model, show_progress=False), expected(TEXTS[:3]))
    assert len(model.seen) == 6


def test_models_do_not_share_vectors(tmp_path):
    cache, other = FeatureCache(tmp_path), Counting(key="o" * 64)
    cache.encode(TEXTS, Counting(), show_progress=False)
    cache.encode(TEXTS, other, show_progress=False)
    assert len(other.seen) == 50


def test_digests_with_zero_bytes_are_found(tmp_path):
    ending = [t for t in (f"t{i}" for i in range(3000)) if b"\0" in hashlib.sha256(t.encode()).digest()[-2:]]
    assert len(ending) > 10 and digests(np.asarray(ending, dtype=object)).nbytes == 32 * len(ending)
    cache = FeatureCache(tmp_path)
    cache.encode(ending, Counting(), show_progress=False)
    model = Counting()
    assert np.array_equal(cache.encode(ending, model, show_progress=False), expected(ending)) and not model.seen


def encode_and_count(root, queue):
    model = Counting()
    found = FeatureCache(root, batch_size=4, shard_batches=1).encode(TEXTS, model, show_progress=False)
    queue.put((len(model.seen), bool(np.array_equal(found, expected(TEXTS)))))


def test_processes_share_the_work(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=encode_and_count, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(10)
    assert sum(n for n, _ in results) == 50 and all(right for _, right in results)


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
