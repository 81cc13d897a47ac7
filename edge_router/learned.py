"""The learned scorer: how likely a strong model answers a prompt better than a weak one, from the text alone.

Words and pairs of words with a weight each, plus small regression trees over `text_features`; one set for each shape of
prompt. Trained by scripts/train_router, described and measured in docs/router.md.
"""

import base64
import binascii
import hashlib
import json
import struct
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import exp, isfinite, sqrt
from types import ModuleType
from typing import Final

from edge_router import text_features
from edge_router.complexity import KeywordRules, Thresholds
from edge_router.forest import Forest, Node
from edge_router.text_features import SHAPES, TextFeatures

FORMAT: Final = 2  # of the weights file; raise it when this module or text_features changes what a weight means
WEIGHT_STEPS: Final = 127  # weights are signed bytes times their shape's scale
LEAF: Final = 255
LARGEST_LOGIT: Final = 30.0  # keeps scores below 1.0, so that no threshold of 1 lets one through

# Only what leaves the edge is calibrated. Within the two sides nothing was measured, so these are shares by decree.
SMALL_SHARE: Final = 0.5  # of what stays at the edge: the easier half for edge-small
FAST_SHARE: Final = 0.75  # of what leaves: all but the hardest quarter for cloud-fast


class WeightsRejected(Exception):
    """The weights file is broken or of another version. The message is one line; use the keyword rules instead."""


@dataclass(frozen=True, slots=True)
class ShapeModel:
    """term_scale: what one step of a term's weight is worth. trees: added to the level and the words' part."""

    level: float
    term_scale: float
    term_steps: dict[str, int]
    trees: tuple[Node, ...]
    _forest: list[Forest] = field(default_factory=list, init=False, repr=False, compare=False)

    def gain(self, features: TextFeatures) -> float:
        """Expected strong - weak score, without the level of the traffic."""
        known = self.term_steps
        steps = [known[term] for term in features.terms() if term in known]
        total = self.level
        if steps:
            total += self.term_scale * sum(steps) / sqrt(len(steps))
        if not self._forest:  # at the first question of this shape: making it takes milliseconds
            self._forest.append(Forest(self.trees))
        return total + self._forest[0].sum(features.numbers)


@dataclass(frozen=True, slots=True)
class Weights:
    """slope > 0 and intercept: gain to score. quantiles: of the score on prompts not trained on, from 0 to 100 %.

    recovered: share of the models' quality gap that is recovered when prompts up to that quantile stay at the edge.
    """

    models: tuple[ShapeModel, ...]
    slope: float
    intercept: float
    quantiles: tuple[float, ...]
    recovered: tuple[float, ...]


class LearnedRouter:
    """`ComplexityScorer` on trained weights. The score is calibrated: docs/router.md, "Calibration"."""

    name = "learned"

    def __init__(self, weights: Weights) -> None:
        self._models = dict(zip(SHAPES, weights.models, strict=True))
        self._slope, self._intercept = weights.slope, weights.intercept
        self._quantiles = weights.quantiles
        self._recovered = weights.recovered

    def score(self, text: str) -> float:
        """In [0, 1]; higher when the strong model is the likelier to do better. Any text, never raises."""
        features = text_features.read(text)
        gain = self._models[features.shape].gain(features)
        return logistic(self._slope * gain + self._intercept)

    def threshold_for_edge_share(self, share: float) -> float:
        """The score from which prompts leave the edge, so that `share` of traffic like the training's stays.

        Raises ValueError when share is not in [0, 1].
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"edge_share must be in [0, 1], got {share}")
        if share in (0.0, 1.0):
            return share
        position = share * (len(self._quantiles) - 1)
        below = int(position)
        low, high = self._quantiles[below], self._quantiles[below + 1]
        return low + (position - below) * (high - low)

    def threshold_for_quality_floor(self, floor: float) -> float:
        """The highest threshold that recovers `floor` of the quality gap, on traffic like the training's: 1 - CPT.

        Raises ValueError when floor is not in [0, 1].
        """
        if not 0.0 <= floor <= 1.0:
            raise ValueError(f"quality_floor must be in [0, 1], got {floor}")
        steps = len(self._quantiles) - 1
        place = max(place for place in range(steps + 1) if self._recovered[place] >= floor or place == 0)
        return self.threshold_for_edge_share(place / steps)

    def thresholds(self, *, edge_share: float | None, quality_floor: float | None) -> Thresholds:
        """Raises ValueError when what is asked for is not in [0, 1], or nothing is."""
        if quality_floor is not None:
            cloud_fast = self.threshold_for_quality_floor(quality_floor)
        elif edge_share is not None:
            cloud_fast = self.threshold_for_edge_share(edge_share)
        else:
            raise ValueError("edge_share or quality_floor is needed")
        share = self.edge_share_at(cloud_fast)
        return Thresholds(
            edge_large=min(cloud_fast, self.threshold_for_edge_share(share * SMALL_SHARE)),
            cloud_fast=cloud_fast,
            cloud_quality=max(cloud_fast, self.threshold_for_edge_share(share + (1.0 - share) * FAST_SHARE)),
        )

    def edge_share_at(self, threshold: float) -> float:
        """The share of traffic like the training's whose score is at most the threshold."""
        return max(0, bisect_right(self._quantiles, threshold) - 1) / (len(self._quantiles) - 1)


def shipped() -> LearnedRouter:
    """The router with the weights of this release. About 20 ms: call it once, at start. Raises WeightsRejected."""
    return LearnedRouter(shipped_weights())


def shipped_weights() -> Weights:
    """Raises WeightsRejected when they cannot be used."""
    try:  # not at the top: what is missing or broken is to be refused
        module = import_module("edge_router.router_weights")
    except (ImportError, SyntaxError) as exc:
        raise WeightsRejected(f"router weights cannot be imported ({exc}); run scripts/train_router") from exc
    return weights_of(module)


def best_scorer() -> "tuple[LearnedRouter | KeywordRules, str | None]":
    """The shipped router; or the keyword rules, and why."""
    try:
        return shipped(), None
    except WeightsRejected as exc:
        return KeywordRules(), str(exc)


def weights_of(module: ModuleType) -> Weights:
    """The weights in a module as scripts/train_router writes it: FORMAT, SHA256 and DATA.

    Raises WeightsRejected.
    """
    try:
        found_format, checksum, data = module.FORMAT, module.SHA256, module.DATA
    except AttributeError as exc:
        raise WeightsRejected(f"router weights lack {exc.name}; run scripts/train_router") from exc
    if found_format != FORMAT:
        raise WeightsRejected(f"router weights have format {found_format}, not {FORMAT}; run scripts/train_router")
    try:
        packed = base64.b64decode(data, validate=False)
        if hashlib.sha256(packed).hexdigest() != checksum:
            raise WeightsRejected("router weights do not match their checksum; run scripts/train_router")
        return unpack(zlib.decompress(packed))
    except (binascii.Error, zlib.error, struct.error, ValueError, TypeError, KeyError, IndexError) as exc:
        raise WeightsRejected(f"router weights are broken ({type(exc).__name__}); run scripts/train_router") from exc


def pack(weights: Weights) -> bytes:
    """A line of JSON with all that is not bulk, the terms one a line, their steps shape by shape, then the trees."""
    terms = list(weights.models[0].term_steps)
    head = {
        "names": list(text_features.NAMES),
        "shapes": list(SHAPES),
        "terms": len(terms),
        "levels": [model.level for model in weights.models],
        "term_scales": [model.term_scale for model in weights.models],
        "trees": [len(model.trees) for model in weights.models],
        "slope": weights.slope,
        "intercept": weights.intercept,
        "quantiles": weights.quantiles,
        "recovered": weights.recovered,
    }
    parts = [json.dumps(head).encode(), b"\n", "".join(f"{term}\n" for term in terms).encode()]
    parts += [struct.pack(f"{len(terms)}b", *(model.term_steps[term] for term in terms)) for model in weights.models]
    parts += [_pack_node(node) for model in weights.models for node in model.trees]
    return b"".join(parts)


def unpack(raw: bytes) -> Weights:
    """The reverse of `pack`. Raises ValueError, KeyError, IndexError or struct.error when it is not of that form."""
    line, _, rest = raw.partition(b"\n")
    head = json.loads(line)
    if head["names"] != list(text_features.NAMES) or head["shapes"] != list(SHAPES):
        raise ValueError("made for other features")
    count = head["terms"]
    *terms, rest = rest.split(b"\n", count)
    words = [term.decode() for term in terms]
    quantiles, recovered = tuple(head["quantiles"]), tuple(head["recovered"])
    figures = [head["slope"], head["intercept"], *quantiles, *recovered, *head["levels"], *head["term_scales"]]
    if len(words) != count or not all(map(isfinite, figures)) or head["slope"] <= 0:
        raise ValueError("made wrongly")
    if len(quantiles) < 2 or len(recovered) != len(quantiles) or list(quantiles) != sorted(quantiles):
        raise ValueError("made wrongly")
    offset, models = 0, []
    columns: list[Sequence[int]] = []
    for _ in SHAPES:
        columns.append(struct.unpack_from(f"{count}b", rest, offset))
        offset += count
    for shape, column in enumerate(columns):
        trees = []
        for _ in range(head["trees"][shape]):
            node, offset = _unpack_node(rest, offset)
            trees.append(node)
        models.append(
            ShapeModel(
                head["levels"][shape], head["term_scales"][shape], dict(zip(words, column, strict=True)), tuple(trees)
            )
        )
    return Weights(tuple(models), head["slope"], head["intercept"], quantiles, recovered)


def logistic(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + exp(-min(value, LARGEST_LOGIT)))
    grown = exp(max(value, -LARGEST_LOGIT))
    return grown / (1.0 + grown)


def _pack_node(node: Node) -> bytes:
    if isinstance(node, float):
        return struct.pack("<Bf", LEAF, node)
    index, threshold, low, high = node
    return struct.pack("<Bf", index, threshold) + _pack_node(low) + _pack_node(high)


def _unpack_node(raw: bytes, offset: int) -> tuple[Node, int]:
    index, value = struct.unpack_from("<Bf", raw, offset)
    offset += 5
    if index == LEAF:
        return value, offset
    if index >= len(text_features.NAMES):
        raise ValueError(f"no number {index}")
    low, offset = _unpack_node(raw, offset)
    high, offset = _unpack_node(raw, offset)
    return (index, value, low, high), offset
