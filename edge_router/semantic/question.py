"""What of a chat request can be looked up by its meaning: the last user message, when it is plain text and not long."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import embeddings
from ..chat_call import ChatCall
from ..report import SemanticOutcome
from ..requests import Message

NAME_DIGITS = 40  # Vectorize takes names, and indexes metadata, of at most 64 bytes
WINDOW_TOKENS = 512 - 2  # of bge-small, without the two that it adds itself
_MARGIN = 0.9  # of code and JSON, the estimate has been up to a sixth too low


@dataclass(frozen=True, slots=True)
class Question:
    """text: the last user message without outer white space. context: hash of all else in the request that its answer
    depends on, the tenant included. namespace: of the tenant's vectors.
    """

    text: str
    context: str
    namespace: str


def read_question(call: ChatCall, key_of: Callable[[Mapping[str, Any]], str]) -> Question | SemanticOutcome:
    """Or why there is none. key_of: the exact cache's key of a body."""
    request = call.request
    if request.residency:
        return "residency"  # vectors have no place that could be promised
    if request.uses_tools:
        return "tools"
    if (request.n or 1) > 1:
        return "choices"
    text = _text_of(request.messages[-1])
    if not text:
        return "no_text"
    if not fits_window(text):
        return "too_long"
    *before, last = call.body["messages"]
    context = key_of({**call.body, "messages": [*before, {**last, "content": None}]})
    return Question(text, context[:NAME_DIGITS], _namespace(call.tenant.id))


def fits_window(text: str) -> bool:
    """Whether the embedder reads the whole text. A token has at least one byte; beyond that an estimate is made."""
    return len(text.encode()) <= WINDOW_TOKENS or estimate_pieces(text) <= WINDOW_TOKENS * _MARGIN


def estimate_pieces(text: str) -> int:
    """Word pieces of BERT's vocabulary, rather too many than too few: measured in tests/local/test_minilm.py."""
    pieces = 0
    for chunk in text.split():
        word = chunk.strip(".,?!;:()\"'")
        pieces += len(chunk) - len(word)
        if not word.isascii():
            pieces += len(word.encode())
        elif word.isalpha():
            pieces += -(-len(word) // (5 if len(word) <= 12 else 3))
        else:
            pieces += -(-len(word) // 2)
    return pieces


def _namespace(tenant: str) -> str:
    """Of any tenant id, however long; another one for another embedder, whose vectors are not comparable."""
    named = f"{embeddings.MODEL} {embeddings.POOLING}\0{tenant}"
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:NAME_DIGITS]


def _text_of(message: Message) -> str:
    """Empty when the message is not the user's, or not plain text."""
    content: Any = message.content
    if isinstance(content, list):
        content = content[0].text if len(content) == 1 and content[0].type == "text" else None
    if message.role != "user" or not isinstance(content, str):
        return ""
    try:
        content.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return ""
    return content.strip()
