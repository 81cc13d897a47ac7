"""What OpenAI's API refuses with 400, worded as it words it."""

from typing import Any

from scripts.local.faulty_response import PlainAnswer
from scripts.local.openai_shape import error_answer
from scripts.local.simulated_chat import content_text

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
MAX_CHOICES = 128
MAX_STOP = 4
MAX_EMBEDDING_INPUTS = 2048


class InvalidRequest(Exception):
    """The caller must change the request; carries the answer that says so."""

    def __init__(self, answer: PlainAnswer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def check_chat(body: dict[str, Any]) -> None:
    """Raises InvalidRequest for what /v1/chat/completions refuses."""
    _check_model(body)
    messages = _required(body, "messages")
    if not isinstance(messages, list):
        raise _invalid("messages", "expected an array of objects", code="invalid_type")
    if not messages:
        raise _invalid("messages", "empty array. Expected an array with minimum length 1", code="empty_array")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _invalid(f"messages[{i}]", "expected an object", code="invalid_type")
        if message.get("role") not in ROLES:
            raise _invalid(f"messages[{i}].role", f"supported values are {', '.join(ROLES)}", code="invalid_value")
        if message.get("content") is None and message["role"] not in ("assistant", "function"):
            raise _invalid(f"messages[{i}].content", "expected a string or an array", code="invalid_type")
        if not isinstance(message.get("content"), str | list | None):
            raise _invalid(f"messages[{i}].content", "expected a string or an array", code="invalid_type")
    check_sampling(body)
    _check_response_format(body, messages)
    _check_tools(body)


def check_completion(body: dict[str, Any]) -> None:
    """Raises InvalidRequest for what /v1/completions refuses."""
    _check_model(body)
    prompt = _required(body, "prompt")
    if not isinstance(prompt, str | list):
        raise _invalid("prompt", "expected a string or an array", code="invalid_type")
    check_sampling(body)


def check_embeddings(body: dict[str, Any], *, max_dimensions: int) -> None:
    """Raises InvalidRequest for what /v1/embeddings refuses."""
    _check_model(body)
    texts = _required(body, "input")
    if not isinstance(texts, str | list) or not texts:
        raise _invalid("input", "expected a non-empty string or array", code="invalid_value")
    if isinstance(texts, list) and len(texts) > MAX_EMBEDDING_INPUTS:
        raise _invalid("input", f"array too long, at most {MAX_EMBEDDING_INPUTS}", code="array_above_max_length")
    if isinstance(texts, list) and not all(isinstance(each, str | list | int) and each != "" for each in texts):
        raise _invalid("input", "each item must be a non-empty string or an array of tokens", code="invalid_type")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise _invalid("encoding_format", "supported values are float, base64", code="invalid_value")
    dimensions = body.get("dimensions")
    if dimensions is not None and not (_is_integer(dimensions) and 1 <= dimensions <= max_dimensions):
        raise _invalid("dimensions", f"expected an integer from 1 to {max_dimensions}", code="invalid_value")


def _check_model(body: dict[str, Any]) -> None:
    model = body.get("model")
    if model is None or model == "":
        raise InvalidRequest(error_answer(400, "you must provide a model parameter"))
    if not isinstance(model, str):
        raise _invalid("model", "expected a string", code="invalid_type")


def check_sampling(body: dict[str, Any]) -> None:
    """Raises InvalidRequest for numbers out of range, `stop`, `stream` and `stream_options`."""
    for name, (low, high) in RANGES.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _invalid(name, "expected a decimal", code="invalid_type")
        if value < low:
            raise _invalid(name, f"expected a value >= {low}, got {value}", code="decimal_below_min_value")
        if value > high:
            raise _invalid(name, f"expected a value <= {high}, got {value}", code="decimal_above_max_value")
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(name)
        if value is None:
            continue
        if not _is_integer(value):
            raise _invalid(name, "expected an integer", code="invalid_type")
        if value < 1:
            raise _invalid(name, f"expected a value >= 1, got {value}", code="integer_below_min_value")
    if (body.get("n") or 1) > MAX_CHOICES:
        raise _invalid("n", f"expected a value <= {MAX_CHOICES}", code="integer_above_max_value")
    stop = body.get("stop")
    if not isinstance(stop, str | list | None):
        raise _invalid("stop", "expected a string or an array of strings", code="invalid_type")
    if isinstance(stop, list) and (len(stop) > MAX_STOP or not all(isinstance(each, str) for each in stop)):
        raise _invalid("stop", f"expected at most {MAX_STOP} strings", code="invalid_value")
    if not isinstance(body.get("stream"), bool | None):
        raise _invalid("stream", "expected a boolean", code="invalid_type")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _invalid("stream_options", "only allowed when 'stream' is enabled", code=None)


def _check_response_format(body: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    wanted = body.get("response_format")
    if wanted is None:
        return
    if not isinstance(wanted, dict) or wanted.get("type") not in ("text", "json_object", "json_schema"):
        raise _invalid(
            "response_format.type", "supported values are text, json_object, json_schema", code="invalid_value"
        )
    if wanted["type"] == "json_object" and not any("json" in content_text(each).lower() for each in messages):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise InvalidRequest(error_answer(400, message, param="messages"))
    if wanted["type"] == "json_schema":
        described = wanted.get("json_schema")
        if not isinstance(described, dict) or not described.get("name"):
            raise _missing("response_format.json_schema.name")


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if not isinstance(tools, list | None):
        raise _invalid("tools", "expected an array of objects", code="invalid_type")
    names = []
    for i, tool in enumerate(tools or []):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            raise _missing(f"tools[{i}].function.name")
        names.append(function["name"])
    choice = body.get("tool_choice")
    if choice not in (None, "none") and not names:
        raise _invalid("tool_choice", "only allowed when 'tools' are specified", code=None)
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise _invalid("tool_choice", "supported values are none, auto, required", code="invalid_value")
    if isinstance(choice, dict) and (choice.get("function") or {}).get("name") not in names:
        raise _invalid("tool_choice", "the named function is not among 'tools'", code=None)


def _required(body: dict[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise _missing(name)
    return body[name]


def _missing(param: str) -> InvalidRequest:
    message = f"Missing required parameter: '{param}'."
    return InvalidRequest(error_answer(400, message, param=param, code="missing_required_parameter"))


def _invalid(param: str, reason: str, *, code: str | None) -> InvalidRequest:
    return InvalidRequest(error_answer(400, f"Invalid '{param}': {reason}.", param=param, code=code))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
