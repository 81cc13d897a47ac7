"""Every path of both programs: what it takes, who may ask it, what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from edge_router.auth import Scope
from edge_router.batches.api import MAX_BATCHES_LISTED, MAX_FILES_LISTED, CreateBatch
from edge_router.caching.purging import PurgeRequest
from edge_router.embeddings import EmbeddingsRequest
from edge_router.metrics.windows import DEFAULT_WINDOW, GROUPINGS, WINDOWS
from edge_router.requests import ChatRequest, FeedbackRequest, PromptRequest
from edge_router.responses_api import ResponsesRequest
from edge_router.text_completions import BatchRequest, TextRequest
from scripts.openapi import answers

Parameters = tuple[Mapping[str, Any], ...]
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
JSON_LINES: Final = "application/x-ndjson"
HTML: Final = "text/html"
PROMETHEUS: Final = "text/plain"
FORM: Final = "multipart/form-data"
BYTES: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    scope: of the key that is needed; None: anyone may ask. takes: the body; answers: the plain answer's model, or
    None for text of `media_type`. more_fields: names of a chat's fields that the body has besides.
    takes_as: media type of the body. unready: the body of a 503 that is no error.
    streams: "asked" when the body's `stream` decides, "always" when there is no plain answer.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    scope: Scope | None
    answers: type[BaseModel] | None
    takes: type[BaseModel] | None = None
    media_type: str = JSON
    parameters: Parameters = ()
    more_fields: tuple[str, ...] = ()
    streams: Literal["never", "asked", "always"] = "never"
    asks_models: bool = False
    takes_as: str = JSON
    unready: type[BaseModel] | None = None

    @property
    def needs_body(self) -> bool:
        """Whether there is anything that a body must say."""
        return self.method == "POST"  # a purge may stand in the query


SHARED_WITH_CHATS = (
    "model max_tokens max_completion_tokens temperature top_p stop seed presence_penalty frequency_penalty "
    "response_format user metadata logit_bias"
).split()
RESPONSES_SHARE = "model temperature top_p user metadata".split()


def _query(name: str, description: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _limit(most: int) -> Mapping[str, Any]:
    return _query("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": most})


_MODEL_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "A model's id, as `GET /v1/models` lists it.",
    "schema": {"type": "string", "minLength": 1},
}
_WINDOW = _query("window", "How far back.", {"enum": list(WINDOWS), "default": DEFAULT_WINDOW})
_GROUPING = _query("by", "What to group by.", {"enum": list(GROUPINGS), "default": "none"})

_FILE = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "As `POST /v1/files` and batches tell it.",
    "schema": {"type": "string", "minLength": 1},
}
_BATCH = {**_FILE, "description": "As `POST /v1/batches` tells it."}
_AFTER = _query("after", "The id behind which to go on.", {"type": "string"})

_BATCHES: Final = (
    Operation("POST", "/v1/files", "Upload a file of requests", "infer", answers.File, answers.Upload, takes_as=FORM),
    Operation(
        "GET", "/v1/files", "List files", "infer", answers.FileList, parameters=(_AFTER, _limit(MAX_FILES_LISTED))
    ),
    Operation("GET", "/v1/files/{id}", "Describe a file", "infer", answers.File, parameters=(_FILE,)),
    Operation("DELETE", "/v1/files/{id}", "Delete a file", "infer", answers.DeletedFile, parameters=(_FILE,)),
    Operation("GET", "/v1/files/{id}/content", "Read a file", "infer", None, media_type=BYTES, parameters=(_FILE,)),
    Operation("POST", "/v1/batches", "Have a file answered within 24 hours", "infer", answers.BatchJob, CreateBatch),
    Operation(
        "GET",
        "/v1/batches",
        "List batches",
        "infer",
        answers.BatchJobs,
        parameters=(_AFTER, _limit(MAX_BATCHES_LISTED)),
    ),
    Operation("GET", "/v1/batches/{id}", "Describe a batch", "infer", answers.BatchJob, parameters=(_BATCH,)),
    Operation("POST", "/v1/batches/{id}/cancel", "Cancel a batch", "infer", answers.BatchJob, parameters=(_BATCH,)),
)

EDGE: Final = (
    Operation(
        "POST",
        "/v1/chat/completions",
        "Answer a chat",
        "infer",
        answers.ChatCompletion,
        ChatRequest,
        streams="asked",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/completions",
        "Complete a text, or a list of texts",
        "infer",
        answers.TextCompletion,
        TextRequest,
        more_fields=tuple(SHARED_WITH_CHATS),
        streams="asked",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/completions/stream",
        "The same as `stream: true`",
        "infer",
        None,
        TextRequest,
        more_fields=tuple(SHARED_WITH_CHATS),
        streams="always",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/completions/batch",
        "Answer many prompts at once",
        "infer",
        answers.Batch,
        BatchRequest,
        more_fields=tuple(SHARED_WITH_CHATS),
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/responses",
        "OpenAI's Responses API: text in, text out, stateless",
        "infer",
        answers.ResponseObject,
        ResponsesRequest,
        more_fields=tuple(RESPONSES_SHARE),
        streams="asked",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/embeddings",
        "Embed texts",
        "infer",
        answers.Embeddings,
        EmbeddingsRequest,
        asks_models=True,
    ),
    Operation(
        "POST",
        "/",
        "One prompt, one answer, without an OpenAI client",
        "infer",
        answers.PromptAnswer,
        PromptRequest,
        asks_models=True,
    ),
    Operation("POST", "/v1/route", "Decide, run nothing, explain", "infer", answers.Decision, ChatRequest),
    *_BATCHES,
    Operation("GET", "/v1/models", "List the models", "infer", answers.ModelList),
    Operation("GET", "/v1/models/{id}", "Describe a model", "infer", answers.ListedModel, parameters=(_MODEL_ID,)),
    Operation("GET", "/v1/usage", "What was spent, and may be spent", "infer", answers.Spent),
    Operation("GET", "/v1/cache/stats", "What the caches did", "cache", answers.CacheStats),
    Operation("DELETE", "/v1/cache", "Purge by key, tag, tenant or all", "cache", answers.Purged, PurgeRequest),
    Operation("POST", "/v1/feedback", "Rate an earlier answer", "infer", answers.Rated, FeedbackRequest),
    Operation("GET", "/v1/feedback/export", "What the router can learn", "admin", None, media_type=JSON_LINES),
    Operation(
        "GET",
        "/v1/metrics",
        "What all locations saw lately",
        "metrics",
        answers.Metrics,
        parameters=(_WINDOW, _GROUPING),
    ),
    Operation("GET", "/metrics", "The same for Prometheus", "metrics", None, media_type=PROMETHEUS),
    Operation("GET", "/v1/alerts", "What is wrong, and what was", "metrics", answers.Alerts),
    Operation("GET", "/health", "Whether the Worker answers", None, answers.Health),
    Operation("GET", "/ready", "Whether all is there that answers need", None, answers.Ready, unready=answers.Ready),
    Operation("GET", "/", "The playground", None, None, media_type=HTML),
    Operation("GET", "/dashboard", "The dashboard", None, None, media_type=HTML),
    Operation("GET", "/openapi.json", "This document", None, answers.Document),
)

CLOUD: Final = (
    Operation(
        "POST",
        "/v1/chat/completions",
        "Forward a chat to its model's provider",
        "infer",
        answers.ProviderAnswer,
        answers.ForwardedChat,
        streams="asked",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/completions",
        "Forward a text completion",
        "infer",
        answers.ProviderAnswer,
        answers.ForwardedChat,
        streams="asked",
        asks_models=True,
    ),
    Operation(
        "POST",
        "/v1/embeddings",
        "Forward texts to be embedded",
        "infer",
        answers.ProviderAnswer,
        answers.ForwardedCall,
        asks_models=True,
    ),
    Operation("GET", "/v1/models", "List the models", "infer", answers.ModelList),
    Operation("GET", "/v1/models/{id}", "Describe a model", "infer", answers.ListedModel, parameters=(_MODEL_ID,)),
    Operation("GET", "/health", "Whether the process answers", None, answers.Health),
    Operation("GET", "/ready", "Whether to send calls here", None, answers.CloudReady, unready=answers.CloudReady),
    Operation("GET", "/metrics", "For Prometheus", None, None, media_type=PROMETHEUS),
    Operation("GET", "/openapi.json", "This document", None, answers.Document),
)
