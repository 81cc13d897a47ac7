"""What the gateway answers, as models for the document alone: nothing is parsed with them.

Fields that clients may rely on are required here; whatever else an answer carries is allowed.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ResidencyArea = Field(default=None, description="The area that the answer had to be made in, and was.")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")


class ErrorObject(_Answer):
    """What went wrong: docs/errors.md lists every `code`."""

    message: str
    type: str
    param: str | None
    code: str | None


class EdgeReport(_Answer):
    """Where the answer was made, by what, why, and how long each part took. What is unknown is absent."""

    request_id: str | None = None
    colo: str | None = None
    client_rtt_ms: float | None = None
    served_by: Literal["exact-cache", "semantic-cache", "edge-model", "cloud"] | None = None
    model: str | None = None
    tier: str | None = None
    complexity: float | None = Field(default=None, ge=0, le=1)
    route_reason: str | None = None
    cascade: dict[str, Any] | None = None
    residency: str | None = ResidencyArea
    max_latency_ms: float | None = None
    is_late: bool | None = None
    cloud_region: str | None = None
    cloud_rtt_ms: float | None = None
    hedged: bool | None = None
    retry_after_s: int | None = Field(default=None, ge=1)
    cost_usd: float | None = None
    cost_avoided_usd: float | None = None
    budget: dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    usage_estimated: bool | None = None
    prompt_cache: dict[str, float] | None = None
    fallbacks: list[str] | None = None
    cache: dict[str, Any] | None = None
    timings_ms: dict[str, float] | None = None


class _Reported(_Answer):
    nearside: EdgeReport


class ErrorBody(_Answer):
    """OpenAI's error object; the gateway adds its report, cloud_fallback does not."""

    error: ErrorObject
    nearside: EdgeReport | None = None


class Usage(_Answer):
    """Token counts."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class AnsweredMessage(_Answer):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None = None


class ChatChoice(_Answer):
    """One of the answers asked for by `n`."""

    index: int = Field(ge=0)
    message: AnsweredMessage
    finish_reason: str


class ChatCompletion(_Reported):
    """OpenAI's chat completion with our report."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(_Answer):
    """One completed text."""

    index: int = Field(ge=0)
    text: str
    finish_reason: str


class TextCompletion(_Reported):
    """OpenAI's text completion with our report."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class FailedPrompt(_Answer):
    """Why one prompt of a batch has no answer."""

    index: int = Field(ge=0)
    error: ErrorObject


class Batch(_Reported):
    """The answers to many prompts, in their order; null for one that failed."""

    responses: list[str | None]
    count: int = Field(ge=1)
    latency_ms: float = Field(ge=0)
    sequential_ms: float = Field(ge=0)
    errors: list[FailedPrompt]


class PromptAnswer(_Reported):
    """The answer to one prompt."""

    response: str
    location: str
    latency_ms: float = Field(ge=0)


class ResponseObject(_Reported):
    """An answer of OpenAI's Responses API with our report."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None


class Embedding(_Answer):
    """Numbers, or base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int = Field(ge=0)
    embedding: list[float] | str


class EmbeddingUsage(_Answer):
    """An estimate: the embedder does not count."""

    prompt_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class Embeddings(_Reported):
    """OpenAI's list of embeddings with our report."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ListedModel(_Answer):
    """One model; what is known of it besides stands under `nearside`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(_Answer):
    """All models that can be asked for by their id."""

    object: Literal["list"]
    data: list[ListedModel]


class Decision(_Reported):
    """What would be done with a request, and why."""

    model: str
    tier: str
    side: Literal["edge", "cloud"]
    reason: str
    reasons: list[str]
    complexity: float = Field(ge=0, le=1)
    scorer: str
    thresholds: dict[str, float]
    candidates: list[dict[str, Any]]
    refused: list[dict[str, Any]]


class CacheStats(_Reported):
    """What the caches did for the tenant: docs/caches.md."""

    object: Literal["cache.stats"]
    entries: int = Field(ge=0)
    bytes: int = Field(ge=0)
    hits: dict[str, int]
    misses: int
    hit_rate: float | None
    tokens_avoided: int
    cost_avoided_usd: float


class Purged(_Reported):
    """What was purged, and when every location knows."""

    object: Literal["cache.purge"]
    purged: dict[str, Any]
    visible_everywhere_after_s: float


class Spent(_Reported):
    """What the tenant has spent, and may still spend: docs/budgets.md."""

    object: Literal["usage"]
    is_counted: bool
    on_failure: Literal["fail_open", "fail_closed"] | None
    day: dict[str, float | None]
    month: dict[str, float | None]
    models: list[dict[str, Any]]


class Metrics(_Reported):
    """What all locations saw lately: docs/metrics.md."""

    object: Literal["metrics"]
    window: str
    by: str
    total: dict[str, Any]


class Alerts(_Reported):
    """What is wrong now, and what was: docs/alerts.md."""

    object: Literal["alerts"]
    active: list[dict[str, Any]]
    resolved: list[dict[str, Any]]
    rules: list[dict[str, Any]]


class Rated(_Reported):
    """The rating that was noted."""

    object: Literal["feedback"]
    request_id: str
    rating: Literal["good", "bad"]


class Upload(_Answer):
    """The form of an upload."""

    purpose: Literal["batch"]
    file: bytes


class File(_Answer):
    """One file: of requests, or of results."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str


class FileList(_Answer):
    """The tenant's files."""

    object: Literal["list"]
    data: list[File]


class DeletedFile(_Answer):
    """The file that is no more."""

    id: str
    object: Literal["file"]
    deleted: bool


class BatchJob(_Answer):
    """A file of requests on its way: docs/batches.md."""

    id: str
    object: Literal["batch"]
    endpoint: str
    input_file_id: str
    completion_window: str
    status: str
    created_at: int


class BatchJobs(_Answer):
    """The tenant's batches, newest first."""

    object: Literal["list"]
    data: list[BatchJob]
    has_more: bool


class Health(_Answer):
    """That the process answers; nothing else was asked."""

    status: Literal["ok"]
    service: str
    version: str


class Ready(_Answer):
    """What answers need, and whether it is there."""

    status: Literal["ready", "not ready"]
    checks: dict[str, bool]


class CloudReady(_Answer):
    """Whether to send calls here, and what is sick behind it."""

    status: Literal["ready", "draining"]
    service: str
    region: str
    version: str
    open_breakers: dict[str, list[str]]
    store: Literal["none", "ok", "down"]


class ProviderAnswer(_Answer):
    """The provider's answer, byte for byte."""

    object: str


class Event(_Answer):
    """One server-sent event of a stream. Its data is the JSON text of a chunk; of the last event, `[DONE]`."""

    data: str


class Document(_Answer):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]


class StreamOptions(_Answer):
    """`include_usage`: one more chunk before `[DONE]` that carries the token counts."""

    include_usage: bool | None = None


class ForwardedCall(_Answer):
    """What is read of a call before its bytes go to the provider as they are."""

    model: str = Field(min_length=1, max_length=256)


class ForwardedChat(ForwardedCall):
    """What is read of a call before its bytes go to the provider as they are."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
