"""Prompt tools on a request's way: asked for by the request or by its tenant's record, else nothing is touched."""

import json
from typing import Any

import pytest

from edge_router.complexity import Thresholds
from edge_router.key_records import BrokenRecord, read_record
from edge_router.prompts.rules import OutputRule, constraint_of, level_of
from tests.edge_router.harness import (
    CLOUD_FAST,
    EDGE_SMALL,
    SIMPLE_PROMPT,
    FixedScore,
    World,
    bearer,
    chat_body,
    key_records,
    read_json,
)

WORDY = "Could you please explain, in order to help me, what the capital of France is?"
SHORT = "Explain, to help me, what the capital of France is?"


async def sent(world: World, body: dict[str, Any], **record: Any) -> tuple[Any, dict[str, Any]]:
    """The messages that the cloud was sent, with the other fields, and the report."""
    world.keys, world.auth = key_records(k001={"tenant": "acme", **record}), "keys"
    reply = await world.ask({"model": CLOUD_FAST.id, **body}, headers=bearer())
    return world.cloud.calls[-1].body, read_json(reply)["nearside"]


async def test_nothing_is_asked_for() -> None:
    """The prompt goes out as it came in, and the report says nothing of it."""
    body, report = await sent(World(), chat_body(WORDY))

    assert body["messages"] == chat_body(WORDY)["messages"]
    assert "prompt" not in report


async def test_request_asks_for_optimizing() -> None:
    """The shorter text is sent; the report has both sizes and the share that was saved."""
    body, report = await sent(World(), chat_body(WORDY, optimize_prompt=True))

    assert body["messages"][0]["content"] == SHORT
    facts = report["prompt"]
    assert facts["optimized_tokens"] < facts["original_tokens"]
    assert facts["saved_percent"] > 0


async def test_tenant_asks_and_request_declines() -> None:
    """What is most specific decides."""
    on, _ = await sent(World(), chat_body(WORDY), prompts={"optimize": True})
    off, _ = await sent(World(), chat_body(WORDY, optimize_prompt=False), prompts={"optimize": True})

    assert on["messages"][0]["content"] == SHORT
    assert off["messages"][0]["content"] == WORDY


async def test_parts_and_earlier_answers() -> None:
    """Text parts of users are shortened; images, answers and results of tools stay as they are."""
    image = {"type": "image_url", "image_url": {"url": "https://a.test/b.png"}}
    messages = [
        {"role": "user", "content": WORDY},
        {"role": "assistant", "content": WORDY},
        {"role": "user", "content": [{"type": "text", "text": WORDY}, image]},
    ]

    body, _ = await sent(World(), {"messages": messages, "optimize_prompt": True})

    assert [message["content"] for message in body["messages"]] == [
        SHORT,
        WORDY,
        [{"type": "text", "text": SHORT}, image],
    ]


@pytest.mark.parametrize(("score", "expected"), [(0.0, "Be brief."), (0.4, "Be exact."), (1.0, "Think.")])
async def test_system_prompt_by_complexity(score: float, expected: str) -> None:
    """For requests that bring none; one of its own stays alone."""
    rules = {"system_prompts": {"simple": "Be brief.", "medium": "Be exact.", "complex": "Think."}}
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": SIMPLE_PROMPT}]

    body, _ = await sent(World(scorer=FixedScore(score)), chat_body(), prompts=rules)
    kept, report = await sent(World(scorer=FixedScore(score)), {"messages": own}, prompts=rules)

    assert body["messages"][0] == {"role": "system", "content": expected}
    assert kept["messages"] == own
    assert "prompt" not in report


async def test_output_rule() -> None:
    """Limits what the request does not limit itself, and says so to the model."""
    rules = {"output": {"max_words": 50}}

    body, report = await sent(World(), chat_body(), prompts=rules)
    own, _ = await sent(World(), chat_body(max_tokens=7), prompts=rules)

    assert body["messages"][0]["content"] == "Answer in at most 50 words."
    assert body["max_tokens"] == 88
    assert own["max_tokens"] == 7
    assert report["prompt"] == {"output": "max_words"}


async def test_output_rule_and_requests_with_a_form_of_their_own() -> None:
    """A response_format is the caller's business."""
    format_ = {"type": "json_object"}

    body, report = await sent(World(), chat_body(response_format=format_), prompts={"output": {"max_words": 5}})

    assert body["messages"] == chat_body()["messages"]
    assert "prompt" not in report


async def test_conversation_that_does_not_fit() -> None:
    """Is cut when that was asked for, and refused when not."""
    messages = [{"role": "user", "content": f"{number}. " + "word " * 3000} for number in range(5)]
    messages.append({"role": "user", "content": SIMPLE_PROMPT})
    world = World()

    refused = await world.ask({"messages": messages, "model": EDGE_SMALL.id, "max_tokens": 100})
    fitted = await world.ask({"messages": messages, "model": EDGE_SMALL.id, "max_tokens": 100, "fit_context": True})

    assert read_json(refused)["error"]["code"] == "context_length_exceeded"
    assert fitted.status == 200
    assert world.edge.calls[-1].inputs["messages"][-1]["content"] == SIMPLE_PROMPT
    assert read_json(fitted)["nearside"]["prompt"]["dropped_messages"] >= 3


async def test_explain_tells_of_the_shaped_request() -> None:
    """`/v1/route` decides on what would be sent."""
    messages = [{"role": "user", "content": "word " * 9000}, {"role": "user", "content": SIMPLE_PROMPT}]

    reply = await World().ask({"messages": messages, "model": EDGE_SMALL.id, "fit_context": True}, path="/v1/route")

    assert read_json(reply)["model"] == EDGE_SMALL.id


@pytest.mark.parametrize(
    ("rule", "fields", "instruction"),
    [
        pytest.param(
            {"labels": ["spam", "ham"]},
            {"max_tokens": 12},
            "Answer with exactly one of these labels and nothing else: spam, ham",
            id="labels",
        ),
        pytest.param(
            {"max_bullets": 3},
            {"max_tokens": 188, "stop": ["\n4."]},
            "Answer as a numbered list of at most 3 short points, nothing else.",
            id="bullets",
        ),
        pytest.param({"max_words": 10}, {"max_tokens": 24}, "Answer in at most 10 words.", id="words"),
    ],
)
def test_constraints(rule: dict[str, Any], fields: dict[str, Any], instruction: str) -> None:
    """Each as fields of a request and a line of instruction."""
    constraint = constraint_of(OutputRule(**rule))

    assert (constraint.fields, constraint.instruction) == (fields, instruction)


def test_labels_as_json() -> None:
    """By a schema, so that nothing else can be answered."""
    fields = constraint_of(OutputRule(labels=("spam", "ham"), as_json=True)).fields

    assert fields["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == ["spam", "ham"]


@pytest.mark.parametrize(("complexity", "level"), [(0.1, "simple"), (0.3, "medium"), (0.7, "medium"), (0.8, "complex")])
def test_levels(complexity: float, level: str) -> None:
    """As the router would send it."""
    assert level_of(complexity, Thresholds(0.2, 0.5, 0.8)) == level


@pytest.mark.parametrize(
    "prompts",
    [
        pytest.param({"optimise": True}, id="misspelt"),
        pytest.param({"output": {"labels": ["a"]}}, id="one label"),
        pytest.param({"output": {"max_words": 5, "max_bullets": 5}}, id="two rules"),
        pytest.param({"output": {"max_words": 5, "as_json": True}}, id="JSON without labels"),
        pytest.param({"max_input_tokens": 3}, id="no room"),
        pytest.param({"system_prompts": {"hard": "Think."}}, id="a level that does not exist"),
    ],
)
def test_rules_that_make_no_sense(prompts: dict[str, Any]) -> None:
    """Break the record, as every other field does."""
    with pytest.raises(BrokenRecord, match="prompts"):
        read_record(json.dumps({"tenant": "acme", "hashes": ["0" * 64], "prompts": prompts}))


async def test_rules_with_instructions_of_the_request() -> None:
    """What the record demands of answers is added to the instructions that are there."""
    body = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": SIMPLE_PROMPT}]}

    sent_body, _ = await sent(World(), body, prompts={"output": {"max_words": 20}})

    (system, _) = sent_body["messages"]
    assert system["content"].startswith("Be kind.\n\n")


async def test_tenant_with_a_bound_on_its_input() -> None:
    """The oldest turns go although the model's window has room."""
    turns = [
        {"role": role, "content": f"{role} {number} " + "word " * 50}
        for number in range(4)
        for role in ("user", "assistant")
    ]
    body = {"messages": [*turns, {"role": "user", "content": SIMPLE_PROMPT}]}

    sent_body, report = await sent(World(), body, prompts={"fit_context": True, "max_input_tokens": 200})

    assert sent_body["messages"][-1]["content"] == SIMPLE_PROMPT
    assert len(sent_body["messages"]) < len(body["messages"])
    assert report["prompt"]["dropped_messages"] > 0


@pytest.mark.parametrize("content", [SIMPLE_PROMPT, [{"type": "text", "text": WORDY}]], ids=["short", "parts"])
async def test_optimizing_what_is_short_or_in_parts(content: Any) -> None:
    body, _ = await sent(World(), {"messages": [{"role": "user", "content": content}], "optimize_prompt": True})

    expected = content if isinstance(content, str) else [{"type": "text", "text": SHORT}]
    assert body["messages"][0]["content"] == expected


async def test_complexity_without_a_system_prompt() -> None:
    """The record names one for others: nothing is added."""
    body, report = await sent(
        World(scorer=FixedScore(0.0)), chat_body(), prompts={"system_prompts": {"complex": "Think."}}
    )

    assert body["messages"] == chat_body()["messages"]
    assert "prompt" not in report


async def test_conversation_that_fits_as_it_is() -> None:
    """Asking for fitting changes nothing then."""
    body, report = await sent(World(), chat_body(fit_context=True))

    assert body["messages"] == chat_body()["messages"]
    assert "prompt" not in report
