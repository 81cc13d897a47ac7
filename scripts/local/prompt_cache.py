"""The provider's own reuse of prompt prefixes, seen from outside: how many input tokens were cached."""

import hashlib
from collections import OrderedDict

from scripts.local.simulated_text import tokens_of

MIN_TOKENS = 1024  # OpenAI, "Prompt caching": from 1,024 tokens on, in steps of 128
STEP_TOKENS = 128
MAX_PREFIXES = 10_000


class PromptCache:
    """Prefixes seen so far, least recently seen forgotten first. Scope: one emulator process."""

    def __init__(self) -> None:
        self._prefixes: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def seen(self, model: str, prompt: str) -> int:
        """Tokens of the longest prefix seen before with this model; the prompt counts as seen from now on."""
        tokens = tokens_of(prompt)
        digest = hashlib.blake2b(digest_size=16)
        start, cached = 0, 0
        for end in range(MIN_TOKENS, len(tokens) + 1, STEP_TOKENS):
            digest.update("".join(tokens[start:end]).encode(errors="replace"))
            start = end
            key = (model, digest.digest())
            if key in self._prefixes:
                cached = end
            self._prefixes[key] = None
            self._prefixes.move_to_end(key)
        while len(self._prefixes) > MAX_PREFIXES:
            self._prefixes.popitem(last=False)
        return cached
