"""`/v1/embeddings`: Workers AI's embedder behind OpenAI's shape. Source: OpenAI API reference, "Create embeddings"."""

import base64
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import Field

from .errors import NotFound, RequestRejected, UpstreamError
from .requests import Controls, validated
from .tokens import estimate_tokens

MODEL = "@cf/baai/bge-small-en-v1.5"
DIMENSIONS = 384
POOLING = "cls"  # the better choice for this model; vectors of the two kinds are not comparable
TEXTS_PER_CALL = 100  # Workers AI's limit
MAX_TEXTS = 2048  # OpenAI's limit
USD_PER_MILLION_TOKENS = 0.020

_NAMES = ("auto", "edge", MODEL)


class EmbeddingsRequest(Controls):
    """`input`: one text or several. `encoding_format`: numbers, or base64 of little-endian 32-bit floats."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    model: str = "auto"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


def parse_embeddings(body: dict[str, Any]) -> EmbeddingsRequest:
    """Raises RequestRejected that names the parameter; NotFound for a model that is no embedder of ours."""
    texts = body.get("input")
    if isinstance(texts, list) and texts and not all(isinstance(text, str) for text in texts):
        message = "Token arrays are not served: send 'input' as text or a list of texts."
        raise RequestRejected(message, param="input", code="invalid_type")
    request = validated(EmbeddingsRequest, body)
    for place, text in enumerate(request.texts):
        param = "input" if isinstance(request.input, str) else f"input[{place}]"
        if not text:
            raise RequestRejected("Empty text can't be embedded.", param=param, code="empty_string")
        try:
            text.encode()
        except UnicodeEncodeError:
            message = "Text with half of a surrogate pair can't be embedded."
            raise RequestRejected(message, param=param, code="invalid_value") from None
    if request.dimensions not in (None, DIMENSIONS):
        message = f"'dimensions' can't be chosen: this model has {DIMENSIONS}."
        raise RequestRejected(message, param="dimensions", code="unsupported_value")
    if request.model not in _NAMES:
        raise NotFound(f"No such embedding model; there is {MODEL}.", param="model", code="model_not_found")
    return request


def calls(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in parts of at most TEXTS_PER_CALL."""
    for start in range(0, len(texts), TEXTS_PER_CALL):
        yield texts[start : start + TEXTS_PER_CALL]


def inputs(texts: Sequence[str]) -> dict[str, Any]:
    """What Workers AI is asked."""
    return {"text": list(texts), "pooling": POOLING}


def parse_vectors(text: str, *, count: int) -> list[list[float]]:
    """The vectors of one call, `count` of DIMENSIONS floats each; raises UpstreamError."""
    try:
        vectors = json.loads(text)["data"]
        whole = len(vectors) == count and all(
            len(vector) == DIMENSIONS and all(isfinite(number) for number in vector) for vector in vectors
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise UpstreamError("The embedder's answer can't be read.") from exc
    if not whole:
        raise UpstreamError("The embedder's answer is not what was asked for.")
    return [[float(number) for number in vector] for vector in vectors]


def response(request: EmbeddingsRequest, vectors: Sequence[Sequence[float]]) -> dict[str, Any]:
    """OpenAI's list of embeddings. usage is an estimate: the embedder does not count."""
    encode = _base64 if request.encoding_format == "base64" else list
    tokens = tokens_of(request.texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": encode(v)} for i, v in enumerate(vectors)],
        "model": MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def tokens_of(texts: Iterable[str]) -> int:
    return sum(map(estimate_tokens, texts))


def cost_usd(tokens: int) -> float:
    return tokens * USD_PER_MILLION_TOKENS / 1e6


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(array("f", vector).tobytes()).decode()  # every platform we run on is little-endian
