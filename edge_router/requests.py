"""What a caller may send: OpenAI's request bodies plus our optional fields, validated once, here.

Unknown fields are ignored and passed on, as OpenAI does; known fields with a wrong type or range are a
400 that names the parameter. Source: OpenAI API reference, "Create chat completion".
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .caching.policy import MAX_TTL_S
from .errors import RequestRejected

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 200  # of nested JSON; the parsers themselves give up near 1,000

MAX_CACHE_TAGS = 8

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class ImageUrl(_Body):
    """An address, or the image itself as a data URL."""

    url: str
    detail: str | None = None


class ContentPart(_Body):
    """One part of a message. Only text is read here; other types route to a side that serves them.

    The field that has the type's name must be there, except in a refusal.
    """

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


class CalledFunction(_Body):
    """`arguments`: JSON as the model wrote it, which need not be valid."""

    name: str
    arguments: str


class ToolCall(_Body):
    """One call in an assistant's turn; of a function, or of a tool that is passed on as it is."""

    id: str
    type: str = "function"
    function: CalledFunction | None = None


class Message(_Body):
    """One turn. `content` may be absent only where an assistant calls tools or refuses."""

    role: Role
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: CalledFunction | None = None
    refusal: str | None = None
    tool_call_id: str | None = None

    @property
    def may_lack_content(self) -> bool:
        return self.role == "assistant" and bool(self.tool_calls or self.function_call or self.refusal)

    @property
    def text(self) -> str:
        """All text of the message, its parts joined by line breaks."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.text)


class Function(_Body):
    """A function that the model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Body):
    """A function, or a tool of the provider's own, which is passed on as it is."""

    type: str
    function: Function | None = None


class ChosenFunction(_Body):
    """The function that must be called."""

    name: Name


class ToolChoice(_Body):
    """The one tool to call, or the set to choose from."""

    type: str
    function: ChosenFunction | None = None


class StreamOptions(_Body):
    """`include_usage`: one more chunk before `[DONE]` that carries the token counts."""

    include_usage: bool | None = None


class NamedSchema(_Body):
    """A JSON schema as OpenAI wraps it."""

    name: Name
    description: str | None = None
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(_Body):
    """What the answer must parse as."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


Temperature = Annotated[float, Field(ge=0, le=2)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenLimit = Annotated[int, Field(ge=1, le=1_000_000)]
Choices = Annotated[int, Field(ge=1, le=128)]
StopList = Annotated[list[str], Field(max_length=4)]
Metadata = Annotated[dict[str, str], Field(max_length=16)]


CacheTag = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/@-]{1,64}$")]
CacheTags = Annotated[list[CacheTag], Field(max_length=MAX_CACHE_TAGS)]


class Controls(_Body):
    """Our own fields, on any request; each is also a header `nearside-<name>`, without the unit `_s`."""

    use_cache: bool | None = None
    cache_ttl_s: Annotated[int, Field(ge=1, le=MAX_TTL_S)] | None = None
    cache_tags: CacheTags | None = None
    semantic_cache: bool | None = None
    max_latency_ms: Annotated[float, Field(gt=0, le=600_000)] | None = None
    optimize_prompt: bool | None = None
    fit_context: bool | None = None
    cascade: bool | Literal["off", "on", "race"] | None = None
    residency: Annotated[str, Field(pattern=r"^[a-z]{2,16}$")] | None = None

    @property
    def cascade_mode(self) -> Literal["off", "on", "race"] | None:
        """true and false are `on` and `off`."""
        return ("on" if self.cascade else "off") if isinstance(self.cascade, bool) else self.cascade


class ChatRequest(Controls):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    model: Annotated[str, Field(min_length=1, max_length=256)] = "auto"
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Choices | None = None
    stop: str | StopList | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    functions: list[Function] | None = None
    function_call: str | dict[str, Any] | None = None
    tool_choice: Annotated[str, Field(pattern=r"^(none|auto|required)$")] | ToolChoice | None = None
    user: str | None = None
    metadata: Metadata | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    @property
    def output_limit_tokens(self) -> int | None:
        """The newer name wins when both are given, as at OpenAI."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def has_images(self) -> bool:
        """Whether any part is something other than text (an image, audio or a file)."""
        return any(
            part.type not in ("text", "refusal")
            for message in self.messages
            if isinstance(message.content, list)
            for part in message.content
        )

    @property
    def uses_tools(self) -> bool:
        """Whether tools are offered now or were called before in this conversation."""
        return bool(self.tools or self.functions) or any(
            m.tool_calls or m.function_call or m.role in ("tool", "function") for m in self.messages
        )

    @property
    def last_user_text(self) -> str:
        """The question itself: what complexity is judged by."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return self.messages[-1].text


class PromptRequest(Controls):
    """`POST /`: one prompt, one answer, for people and scripts without an OpenAI client."""

    prompt: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1, max_length=256)] = "auto"
    stream: Literal[False] | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None

    def to_chat_body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same request as a chat completion's JSON body."""
        chat = {key: value for key, value in body.items() if key not in ("prompt", "stream")}
        return {**chat, "messages": [{"role": "user", "content": self.prompt}]}


class FeedbackRequest(_Body):
    """`POST /v1/feedback`. A comment, or anything else, is not read: no text is kept."""

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    rating: Literal["good", "bad"]


_HEADER_OF_CONTROL = {name: "nearside-" + name.removesuffix("_s").replace("_", "-") for name in Controls.model_fields}
CONTROL_HEADERS = tuple(_HEADER_OF_CONTROL.values())
_T = TypeVar("_T", bound=BaseModel)
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # one that never closes is consumed once
_BRACKETS = re.compile(r"[\[\]{}]")
ERROR_CODES = {  # pydantic's name -> OpenAI's
    "too_short": "empty_array",
    "too_long": "array_above_max_length",
    "string_too_short": "empty_string",
    "greater_than_equal": "integer_below_min_value",
    "less_than_equal": "integer_above_max_value",
}
_HEADER_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class JsonBody(dict[str, Any]):
    """A request's JSON and what was found out about it. Never changed, so that requests with the same text share it.

    place: by which whoever parsed it keeps it. chat: it read as a chat, once it was. keys_by: its keys in the
    cache, by what they depend on besides.
    """

    __slots__ = ("chat", "keys_by", "place")

    def __init__(self, fields: dict[str, Any], place: str) -> None:
        super().__init__(fields)
        self.place = place
        self.chat: ChatRequest | None = None
        self.keys_by: dict[tuple[str, str], str] = {}


def parse_json_object(text: str, place: str = "") -> JsonBody:
    """The body as a JSON object; raises RequestRejected for anything else, NaN and deep nesting included."""
    if _depth(text) > MAX_DEPTH:
        raise RequestRejected(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")
    try:
        body = _decode(text)
    except RecursionError as exc:
        raise RequestRejected("The JSON is nested too deeply.", code="invalid_json") from exc
    except ValueError as exc:
        position = f" at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else ""
        raise RequestRejected(f"The body is not valid JSON{position}.", code="invalid_json") from exc
    if not isinstance(body, dict):
        raise RequestRejected("The body must be a JSON object.", code="invalid_type")
    return JsonBody(body, place)


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Raises RequestRejected that names the first wrong parameter."""
    if isinstance(body, JsonBody) and body.chat is not None:
        return body.chat
    request = validated(ChatRequest, body)
    for param in _missing(request):
        raise RequestRejected(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if isinstance(body, JsonBody):
        body.chat = request
    return request


def _missing(request: ChatRequest) -> Iterator[str]:
    """Parameters that another one requires."""
    for position, message in enumerate(request.messages):
        yield from (f"messages[{position}].{name}" for name in _missing_in_message(message))
    for place, tool in enumerate(request.tools or ()):
        if tool.type == "function" and tool.function is None:
            yield f"tools[{place}].function"
    choice, wanted = request.tool_choice, request.response_format
    if isinstance(choice, ToolChoice) and choice.type == "function" and choice.function is None:
        yield "tool_choice.function"
    if wanted is not None and wanted.type == "json_schema" and wanted.json_schema is None:
        yield "response_format.json_schema"


def _missing_in_message(message: Message) -> Iterator[str]:
    if message.content is None and not message.may_lack_content:
        yield "content"
    for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if getattr(part, part.type, True) is None:
            yield f"content[{place}].{part.type}"
    for place, call in enumerate(message.tool_calls or ()):
        if call.type == "function" and call.function is None:
            yield f"tool_calls[{place}].function"
    if message.role == "tool" and message.tool_call_id is None:
        yield "tool_call_id"
    if message.role == "function" and message.name is None:
        yield "name"


def parse_prompt(body: dict[str, Any]) -> PromptRequest:
    """Raises RequestRejected that names the first wrong parameter."""
    return validated(PromptRequest, body)


def with_header_controls(body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The body with our `nearside-<name>` headers filled in; a field in the body wins over its header."""
    controls = {
        name: value
        for name, header in _HEADER_OF_CONTROL.items()
        if (value := headers.get(header)) is not None and name not in body
    }
    if not controls:
        return body
    return {**body, **{name: _header_value(name, value) for name, value in controls.items()}}


def _header_value(name: str, value: str) -> object:
    if name == "residency":
        return value
    if name == "cache_ttl_s":
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 12 else value
    if name == "cache_tags":
        return [tag.strip() for tag in value.split(",") if tag.strip()]
    if name == "max_latency_ms":
        try:
            return float(value)
        except ValueError:
            return value
    return _HEADER_BOOLEANS.get(value.lower(), value)


def validated(model: type[_T], body: dict[str, Any]) -> _T:
    """The body as one of the request models; raises RequestRejected that names the first wrong parameter."""
    try:
        return model.model_validate(body)
    except ValidationError as exc:
        raise _rejection(exc, body) from None


def _rejection(exc: ValidationError, body: dict[str, Any]) -> RequestRejected:
    """The first wrong parameter; of a union's several complaints, the one that got furthest."""
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    paths = [_path(error["loc"], body, missing=error["type"] == "missing") for error in errors]
    inner = (paths[0] + ".", paths[0] + "[")
    same_parameter = [i for i, path in enumerate(paths) if path == paths[0] or path.startswith(inner)]
    chosen = max(same_parameter, key=lambda i: (len(paths[i]), not errors[i]["type"].endswith("_type")))
    kind, param = errors[chosen]["type"], paths[chosen]
    if kind == "missing":
        message = f"Missing required parameter: '{param}'."
        return RequestRejected(message, param=param, code="missing_required_parameter")
    code = ERROR_CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return RequestRejected(f"Invalid '{param}': {errors[chosen]['msg']}.", param=param, code=code)


def _path(location: Sequence[int | str], body: object, *, missing: bool) -> str:
    """pydantic's location as OpenAI writes it (`messages[0].content`), without the tags of unions."""
    path = ""
    value: Any = body
    for place, step in enumerate(location):
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            path += f"[{step}]"
            value = value[step]
        elif (
            isinstance(step, str)
            and isinstance(value, dict)
            and (step in value or _names_missing(location, place, missing))
        ):
            path += f".{step}" if path else step
            value = value.get(step)
    return path


def _names_missing(location: Sequence[int | str], place: int, missing: bool) -> bool:
    return missing and place == len(location) - 1


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{digits[:16]} is too large a number")
    return number


_decode = json.JSONDecoder(parse_constant=_reject_constant, parse_float=_finite).decode  # made once, not per request


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings; 0 when there are too few brackets to matter."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
