"""
Images and files that tools return, and how they are found in what a tool has returned.

A tool returns ``Media`` by itself, in a list among texts, or in the shape of an MCP result,
whoever made it. Above it stands ``_messages``, which puts them into what models' APIs take.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from ._foreign import is_a


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """
    An image, a document or a sound that a tool returns for the model to look at.

    A tool returns one, or a list of texts and these. A model reads a word for each
    (``[image/png, 3 kB]``), and ``ToolResult.message`` has the thing itself, for APIs that
    take such in the answer of a tool.

    Args:
        data: The bytes, as they are in a file.
        mime_type: What they are, such as ``"image/png"`` or ``"application/pdf"``.
        name: What a file with them is called, for APIs that want to know. Default: none.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: ``mime_type`` is none.
    """

    data: bytes = field(repr=False)
    mime_type: str
    name: str = ""

    def __post_init__(self) -> None:
        for said, kind in (("data", bytes), ("mime_type", str), ("name", str)):
            if not isinstance(value := getattr(self, said), kind):
                raise TypeError(
                    f"{said} must be {kind.__name__}, not {type(value).__name__}"
                )
        kind_of_it, _, subtype = self.mime_type.partition("/")
        if not kind_of_it or not subtype:
            raise ValueError(
                f"mime_type={self.mime_type!r}: expected one such as 'image/png'"
            )

    def __str__(self) -> str:
        size = len(self.data)
        told = f"{size} bytes" if size < 10_000 else f"{size // 1000:,} kB"
        return (
            f"[{self.name}: {self.mime_type}, {told}]"
            if self.name
            else (f"[{self.mime_type}, {told}]")
        )

    @property
    def base64(self) -> str:
        """
        The bytes as JSON can hold them.
        """
        return base64.b64encode(self.data).decode("ascii")

    @property
    def url(self) -> str:
        """
        The same as a ``data:`` address.
        """
        return f"data:{self.mime_type};base64,{self.base64}"


_MOST: Final = 100
"""Blocks of a result that are looked at."""


def is_media(value: object) -> TypeGuard[Media | list[Media | str] | tuple[Media | str]]:
    """
    Whether a value is one of ours, or a list that has one among nothing but texts.
    """
    kind = type(value)
    if kind is Media:
        return True
    if kind is not list and kind is not tuple:
        return False
    kinds = set(map(type, value))  # type: ignore[call-overload]
    return Media in kinds and kinds <= {Media, str}


def text_of(value: Media | list[Media | str] | tuple[Media | str]) -> str:
    """
    What a model reads of it.
    """
    return str(value) if isinstance(value, Media) else "\n".join(map(str, value))


def media_of(value: object) -> list[Media]:
    """
    What there is to look at in a value: in our own words, or in an MCP result's blocks, as
    data or as the objects of its SDK. What cannot be read is not there.
    """
    if is_media(value):
        return (
            [value]
            if isinstance(value, Media)
            else [each for each in value if isinstance(each, Media)]
        )
    return [found for block in _blocks_of(value) for found in _in_block(block)]


def _blocks_of(value: object) -> Iterator[object]:
    """
    The blocks of an MCP result, known by its shape: a list of content, and a flag.
    """
    content, flag = _look(value, "content"), _look(value, "is_error", "isError")
    if is_a(content, (list, tuple)) and (flag is True or flag is False):
        yield from content[:_MOST]


def _in_block(block: object) -> Iterator[Media]:
    kind = _look(block, "type")
    if kind == "image" or kind == "audio":
        yield from _made(_look(block, "data"), _look(block, "mime_type", "mimeType"))
    elif kind == "resource":
        held = _look(block, "resource")
        said = _look(held, "mime_type", "mimeType")
        name = _look(held, "uri")
        yield from _made(_look(held, "blob"), said, "" if name is None else str(name))


def _made(data: object, mime_type: object, uri: str = "") -> Iterator[Media]:
    if not is_a(data, str) or not is_a(mime_type, str):
        return
    name = uri.rstrip("/").rpartition("/")[2]
    try:
        decoded = base64.b64decode(data, validate=True)
        yield Media(data=decoded, mime_type=mime_type, name=name)
    except (binascii.Error, ValueError):
        return


def _look(thing: object, *names: str) -> Any:
    """
    The first of these that it has, as a key or as an attribute.
    """
    for name in names:
        found = thing.get(name) if is_a(thing, Mapping) else getattr(thing, name, None)
        if found is not None:
            return found
    return None
