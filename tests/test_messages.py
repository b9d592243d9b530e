"""
What models' APIs hand over and are handed: calls, results and definitions, held against the
types of their own clients.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from anthropic.types import Message, ToolParam, ToolResultBlockParam
from google.genai import types as gemini
from mcp.types import CallToolResult
from openai.types.chat import (
    ChatCompletionMessage,
    ChatCompletionToolMessageParam,
    ChatCompletionToolParam,
)
from openai.types.responses import FunctionToolParam, Response
from openai.types.responses.response_input_item_param import FunctionCallOutput
from pydantic import TypeAdapter

from orchestrator_async import Media, Registry, ToolOrchestrator
from orchestrator_async._tool import FORMATS

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
IMAGE = Media(data=PNG, mime_type="image/png")
PDF = Media(data=b"%PDF-1.7", mime_type="application/pdf", name="a.pdf")
SOUND = Media(data=b"RIFF", mime_type="audio/wav")


def an_orchestrator(value: Any = None) -> ToolOrchestrator:
    registry = Registry()

    @registry.tool
    async def look(what: str = "", bad: bool = False) -> Any:
        """Look at something."""
        if bad:
            raise ConnectionError("no light")
        return value if value is not None else f"seen {what}"

    return ToolOrchestrator(registry)


def blocks(*media: Media, is_error: bool = False) -> dict[str, Any]:
    """
    An MCP result, as JSON has it.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": "a picture"}]
    for each in media:
        if each.mime_type == "application/pdf":
            held = {"uri": f"file:///srv/{each.name}", "blob": each.base64}
            held["mimeType"] = each.mime_type
            content.append({"type": "resource", "resource": held})
        else:
            kind = each.mime_type.partition("/")[0]
            content.append({"type": kind, "data": each.base64, "mimeType": each.mime_type})
    return {"content": content, "isError": is_error}


# Calls

CHAT = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "look", "arguments": '{"what": "sun"}'},
        }
    ],
}
RESPONSES = {
    "id": "r1",
    "created_at": 1,
    "model": "m",
    "object": "response",
    "output": [
        {"type": "reasoning", "id": "t", "summary": []},
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "look",
            "arguments": '{"what": "sun"}',
        },
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
ANTHROPIC = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"what": "sun"}},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
GEMINI = {
    "role": "model",
    "parts": [
        {"text": "I look."},
        {"functionCall": {"id": "c1", "name": "look", "args": {"what": "sun"}}},
    ],
}


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(CHAT, id="openai"),
        pytest.param(ChatCompletionMessage.model_validate(CHAT), id="openai's client"),
        pytest.param(RESPONSES, id="openai-responses"),
        pytest.param(Response.model_validate(RESPONSES), id="openai-responses' client"),
        pytest.param(ANTHROPIC, id="anthropic"),
        pytest.param(Message.model_validate(ANTHROPIC), id="anthropic's client"),
        pytest.param(GEMINI, id="gemini"),
        pytest.param(gemini.Content.model_validate(GEMINI), id="gemini's client"),
        pytest.param([gemini.FunctionCall(id="c1", name="look", args={"what": "sun"})]),
        pytest.param([{"function_call": {"id": "c1", "name": "look", "args": None}}]),
        pytest.param(
            [{"name": "look", "args": {"what": "sun"}, "id": "c1"}], id="langchain"
        ),
    ],
)
async def test_the_calls_of_a_message_are_run(message: Any) -> None:
    (result,) = await an_orchestrator().dispatch_all(message)
    assert result.content.startswith("seen")
    assert result.call_id == "c1"


async def test_calls_without_an_id_keep_their_order() -> None:
    calls = [gemini.FunctionCall(name="look", args={"what": each}) for each in "abc"]
    results = await an_orchestrator().dispatch_all(calls)
    assert [each.content for each in results] == ["seen a", "seen b", "seen c"]
    assert "id" not in results[0].message("gemini")["function_response"]


async def test_a_message_that_only_speaks_has_no_calls() -> None:
    said = gemini.Content(role="model", parts=[gemini.Part(text="No.")])
    assert await an_orchestrator().dispatch_all(said) == []


async def test_one_call_is_no_list_of_them() -> None:
    call: Any = gemini.FunctionCall(name="look", args={})
    with pytest.raises(TypeError, match="a list of tool calls"):
        await an_orchestrator().dispatch_all(call)


# Definitions


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("openai", ChatCompletionToolParam),
        ("openai-responses", FunctionToolParam),
        ("anthropic", ToolParam),
        ("gemini", gemini.FunctionDeclaration),
    ],
)
def test_definitions_are_what_the_client_takes(format: Any, kind: Any) -> None:
    (definition,) = an_orchestrator().registry.definitions(format)
    TypeAdapter(kind).validate_python(definition)
    assert "Look at something." in json.dumps(definition)
    assert "what" in json.dumps(definition)


def test_a_note_is_added_in_every_format() -> None:
    orch = an_orchestrator()
    orch.circuit("look").trip()
    for each in FORMATS:
        (definition,) = orch.offered_tools(each)
        assert "Out of service" in json.dumps(definition)


# Results

KINDS = {
    "openai": ChatCompletionToolMessageParam,
    "openai-responses": FunctionCallOutput,
    "anthropic": ToolResultBlockParam,
    "gemini": gemini.Part,
    "mcp": CallToolResult,
}


@pytest.mark.parametrize("format", KINDS)
@pytest.mark.parametrize(
    "value",
    [
        "words",
        IMAGE,
        ["a picture", IMAGE, PDF, SOUND],
        blocks(IMAGE, PDF, SOUND),
        CallToolResult.model_validate(blocks(IMAGE, PDF, SOUND)),
    ],
    ids=["words", "an image", "a list", "an MCP result", "the SDK's"],
)
async def test_results_are_what_the_client_takes(format: str, value: Any) -> None:
    result = await an_orchestrator(value).run("look", call_id="c1")
    message = result.message(format)
    TypeAdapter(KINDS[format]).validate_python(message)
    failed = await an_orchestrator().run("look", {"bad": True}, call_id="c1")
    TypeAdapter(KINDS[format]).validate_python(failed.message(format))


async def messages_of(value: Any) -> dict[str, Any]:
    result = await an_orchestrator(value).run("look", call_id="c1")
    return {each: result.message(each) for each in KINDS}


@pytest.mark.parametrize(
    "value",
    [
        ["a picture", IMAGE, PDF],
        ("a picture", IMAGE, PDF),
        blocks(IMAGE, PDF),
        CallToolResult.model_validate(blocks(IMAGE, PDF)),
    ],
    ids=["a list", "a tuple", "an MCP result", "the SDK's"],
)
async def test_images_and_documents_reach_those_who_take_them(value: Any) -> None:
    made = await messages_of(value)
    assert isinstance(made["openai"]["content"], str)
    text, image, document = made["openai-responses"]["output"]
    assert "a picture" in text["text"]
    assert image["image_url"] == f"data:image/png;base64,{IMAGE.base64}"
    assert (document["filename"], document["file_data"]) == ("a.pdf", PDF.url)
    text, image, document = made["anthropic"]["content"]
    assert base64.b64decode(image["source"]["data"]) == PNG
    assert (document["type"], document["source"]["data"]) == ("document", PDF.base64)
    part = gemini.Part.model_validate(made["gemini"])
    assert part.function_response is not None
    assert "a picture" in str(part.function_response.response)
    blobs = [each.inline_data for each in part.function_response.parts or ()]
    assert [each.data for each in blobs if each is not None] == [PNG, b"%PDF-1.7"]
    read = CallToolResult.model_validate(made["mcp"])
    assert [each.type for each in read.content] == ["text", "image", "resource"]


async def test_what_an_api_has_no_place_for_stays_a_word() -> None:
    picture = Media(data=b"II*", mime_type="image/tiff", name="scan.tiff")
    made = await messages_of([picture, SOUND])
    words = "[scan.tiff: image/tiff, 3 bytes]\n[audio/wav, 4 bytes]"
    assert made["openai"]["content"] == words
    assert made["openai-responses"]["output"] == words
    assert made["anthropic"]["content"] == words
    assert made["gemini"]["function_response"]["response"] == {"output": words}
    assert "parts" not in made["gemini"]["function_response"]
    kinds = [each["type"] for each in made["mcp"]["content"]]
    assert kinds == ["text", "image", "audio"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "data": "no base64!", "mimeType": "image/png"},
        {"type": "image", "data": "AAAA"},
        {"type": "image", "data": "AAAA", "mimeType": "nonsense"},
        {"type": "image", "data": "", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "x:y", "text": "words"}},
        {"type": "resource"},
        "words",
        None,
    ],
)
async def test_blocks_that_cannot_be_shown_are_left_out(block: Any) -> None:
    made = await messages_of({"content": [block], "isError": False})
    assert isinstance(made["anthropic"]["content"], str)


async def test_failures_are_text_alone() -> None:
    result = await an_orchestrator(blocks(IMAGE, is_error=True)).run("look", call_id="c1")
    assert result.ok
    failed = await an_orchestrator({"error": "no light", **blocks(IMAGE)}).run("look")
    assert not failed.ok
    assert isinstance(failed.message("anthropic")["content"], str)
    assert "error" in failed.message("gemini")["function_response"]["response"]


async def test_a_value_that_raises_when_it_is_looked_at_is_text() -> None:
    class Sly:
        @property
        def content(self) -> Any:
            raise ZeroDivisionError

    registry = Registry()

    @registry.tool(render=lambda value: "sly")
    async def look() -> Any:
        return Sly()

    result = await ToolOrchestrator(registry).run("look")
    assert result.message("anthropic")["content"] == "sly"


async def test_a_list_of_other_things_is_json() -> None:
    result = await an_orchestrator(["words", 1]).run("look")
    assert result.content == '["words",1]'


@pytest.mark.parametrize(
    ("fields", "expected", "words"),
    [
        ({"data": "text", "mime_type": "image/png"}, TypeError, "data must be bytes"),
        ({"data": b"", "mime_type": None}, TypeError, "mime_type must be str"),
        ({"data": b"", "mime_type": "png"}, ValueError, "such as 'image/png'"),
        ({"data": b"", "mime_type": "a/b", "name": 1}, TypeError, "name must be str"),
    ],
)
def test_what_is_no_media_is_refused(fields: Any, expected: Any, words: str) -> None:
    with pytest.raises(expected, match=words):
        Media(**fields)


def test_media_say_what_they_are_and_show_no_bytes() -> None:
    large = Media(data=bytes(12_345_678), mime_type="image/png")
    assert str(large) == "[image/png, 12,345 kB]"
    assert repr(IMAGE) == "Media(mime_type='image/png', name='')"
