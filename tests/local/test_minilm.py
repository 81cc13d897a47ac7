"""The embeddings are real: MiniLM's own weights, checked by meaning and by arithmetic."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_router.semantic.question import estimate_pieces
from scripts.local.minilm import Embedder, MiniLM, model_folder


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM(model_folder())


def test_paraphrases_are_near_and_unrelated_texts_far(model: MiniLM) -> None:
    first, paraphrase, unrelated = model.embed(
        ["How do I reset my password?", "What is the way to reset my password?", "Volcanoes form at plate boundaries."]
    )

    assert first @ paraphrase > 0.7
    assert first @ unrelated < 0.3


def test_vectors_are_unit_rows_of_384(model: MiniLM) -> None:
    vectors = model.embed(["a", "a much longer sentence than the one before it", ""])

    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_batch_equals_its_texts_one_by_one(model: MiniLM) -> None:
    """Padding of the shorter texts changes nothing."""
    texts = ["short", "a somewhat longer text about the weather in Lisbon", "x " * 50]

    np.testing.assert_allclose(model.embed(texts), np.vstack([model.embed([text]) for text in texts]), atol=1e-5)


def test_text_beyond_256_tokens_is_ignored(model: MiniLM) -> None:
    long = "word " * 300

    assert len(model.token_ids([long])[0]) == 256
    np.testing.assert_array_equal(model.embed([long]), model.embed([long + "volcano"]))


async def test_embedder_keeps_order_and_remembers() -> None:
    """Repeated texts, inside a call or across calls, give the same row."""
    embedder = Embedder()

    first = await embedder.embed(["one", "two", "one"])
    again = await embedder.embed(["two"])
    none = await embedder.embed([])
    embedder.close()

    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], again[0])
    assert none.shape == (0, 384)


ROOT = Path(__file__).parents[2]


def texts_of_many_kinds() -> list[str]:
    """Too long to fit surely: prose, code, data and Markdown."""
    files = ["README.md", "edge_router/gateway.py", "docs/architecture.md", "package-lock.json", "pyproject.toml"]
    texts = [(ROOT / name).read_text() for name in files]
    return [text[start : start + size] for text in texts for start in (0, 1500, 3000) for size in (800, 1500)]


def test_estimate_of_pieces() -> None:
    """The Worker has no vocabulary. bge-small's is MiniLM's, so its estimate is held against the real count: never much
    too low, or a text would be cut; seldom much too high, or a look-up would be lost.
    """
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ratios = [estimate_pieces(text) / (len(tokenizer.encode(text).ids) - 2) for text in texts_of_many_kinds()]

    assert min(ratios) > 0.8
    assert 1.0 < float(np.median(ratios)) < 1.4
