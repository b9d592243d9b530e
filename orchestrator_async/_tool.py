"""
A tool, and how arguments are made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ._callable import check_callable, is_stream, name_of, unwrapped
from ._calls import ToolContext
from ._checks import is_async
from ._errors import InvalidArgumentsError
from ._log import log_with_traceback
from ._measure import holds_more_values
from ._names import check_name
from ._policy import INHERITED, ToolPolicy, ToolSettings, as_tool_policy
from ._text import clean

if TYPE_CHECKING:
    from ._policy import BreakerPolicy
    from ._schema import Schema

KeyFunction = Callable[[Mapping[str, Any], ToolContext], str | None]
"""From a call's arguments and context to the key of its circuit."""

Format = Literal["openai", "openai-responses", "anthropic", "gemini", "mcp"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """
    One tool.

    Args:
        fn: What is run: a coroutine function, an async generator function (whose chunks
            can be had one by one), a plain function (which runs in a worker thread), a
            bound method or an object that can be called.
        name: What the model calls it by. Default: the function's name.
        description: What the model reads of it. Default: from the docstring.
        parameters: JSON schema of the arguments, written by hand. They are then passed
            as they come, without validation. Default: derived from the signature.
        policy: How it is run and judged, or how its circuit opens and closes.
        circuit: Name of the circuit. Tools that name the same share it, as one dead
            service takes all its tools with it. Default: a circuit of its own. Or a
            function of the validated arguments and the ``ToolContext`` that returns a
            key: the tool has a circuit for each key (one a host, one a tenant), at most
            ``max_keys`` of them; ``None`` for the circuit of calls without one.
        idempotent: Whether running it twice does what running it once does.
        read_only: Whether it changes nothing. Calls of tools that are marked ``False`` and
            share a circuit keep their order in a turn, one after another; ``None``, the
            default, says nothing.
        polling: Whether it may be asked the same again and again, for it says how far
            something else has come: a conversation does not hold that against it.
        validate: Whether the arguments are validated against the type hints.
        alternatives: At most three names of tools that a refusal points to, those whose
            circuits are closed then.
        render: What a model reads of a value that is no text: a plain function of it that
            returns text. Default: JSON.

    Raises:
        TypeError: ``fn`` cannot be run, or a field has the wrong type.
        ValueError: The name cannot be, or there are too many alternatives.
    """

    fn: Callable[..., Any] = field(repr=False)
    name: str = ""
    description: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] | None = field(default=None, repr=False)
    policy: ToolPolicy = field(default=INHERITED, repr=False)
    circuit: str | KeyFunction | None = None
    idempotent: bool = False
    read_only: bool | None = None
    polling: bool = False
    validate: bool = True
    alternatives: tuple[str, ...] = ()
    render: Callable[[Any], str] | None = field(default=None, repr=False)
    _locals: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    _schema: Schema | None = field(
        default=None, init=False, repr=False, compare=False, hash=False
    )

    if TYPE_CHECKING:
        # What is taken is more than what is kept, which a dataclass cannot say.
        def __init__(
            self,
            *,
            fn: Callable[..., Any],
            name: str = "",
            description: str | None = None,
            parameters: Mapping[str, Any] | None = None,
            policy: ToolPolicy | BreakerPolicy = INHERITED,
            circuit: str | KeyFunction | None = None,
            idempotent: bool = False,
            read_only: bool | None = None,
            polling: bool = False,
            validate: bool = True,
            alternatives: Iterable[str] = (),
            render: Callable[[Any], str] | None = None,
            _locals: Mapping[str, Any] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"a tool must be callable, not {self.fn!r}")
        if not self.name:
            object.__setattr__(self, "name", name_of(self.fn))
        check_name("name", self.name)
        self._check_types()
        object.__setattr__(self, "policy", as_tool_policy(self.policy))
        if callable(self.circuit):
            if is_async(self.circuit):
                raise self._wrong_type("circuit", "a plain function", self.circuit)
        elif self.circuit is not None:
            check_name("circuit", self.circuit)
        if len(self.alternatives) > 3:
            raise ValueError(f"{self.name}: at most 3 alternatives can be named")
        check_callable(self.fn, self.name)

    def _check_types(self) -> None:
        for field_name in ("idempotent", "polling", "validate"):
            if not isinstance(value := getattr(self, field_name), bool):
                raise self._wrong_type(field_name, "true or false", value)
        read_only: object = self.read_only
        if not isinstance(read_only, bool | None):
            raise self._wrong_type("read_only", "true, false or None", read_only)
        description: object = self.description
        if not isinstance(description, str | None):
            raise self._wrong_type("description", "text or None", description)
        if not isinstance(self.parameters, Mapping | None):
            raise self._wrong_type("parameters", "a JSON schema", self.parameters)
        render: object = self.render
        if render is not None and (not callable(render) or is_async(render)):
            raise self._wrong_type("render", "a plain function, or None", render)
        names: object = self.alternatives
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise self._wrong_type("alternatives", "a list of names of tools", names)
        object.__setattr__(self, "alternatives", tuple(names))
        for each in self.alternatives:
            if not isinstance(each, str):
                raise self._wrong_type("alternatives", "names of tools", each)

    def _wrong_type(self, field_name: str, expected: str, value: object) -> TypeError:
        return TypeError(
            f"{self.name}: {field_name} must be {expected}, not {value!r:.200}"
        )

    def __hash__(self) -> int:
        # Equal tools have equal names; a schema written by hand cannot be hashed.
        return hash(self.name)

    def __reduce__(self) -> tuple[Callable[..., Tool], tuple[dict[str, Any]]]:
        # Made anew: the validators of a schema do not pickle, and it can be derived again.
        # (Python 3.11.3 does not heed the `__getstate__` of a frozen class with slots.)
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return _again, (given,)

    @property
    def is_async(self) -> bool:
        """
        Whether it runs in the event loop. Otherwise it runs in a worker thread.
        """
        return self.streams or is_async(unwrapped(self.fn))

    @property
    def streams(self) -> bool:
        """
        Whether it is an async generator, whose chunks ``ToolOrchestrator.stream`` gives
        one by one.
        """
        return is_stream(self.fn)

    @property
    def circuit_name(self) -> str:
        """
        Name of its circuit, shared or its own. Its circuits by key have the tool's name.
        """
        return self.circuit if isinstance(self.circuit, str) else self.name

    @property
    def circuit_key(self) -> KeyFunction | None:
        """
        What gives a call's key, where there is a circuit for each.
        """
        return self.circuit if callable(self.circuit) else None

    @property
    def validates(self) -> bool:
        """
        Whether its arguments are validated: not with a schema written by hand.
        """
        return self.validate and self.parameters is None

    @property
    def context_parameter(self) -> str | None:
        """
        The parameter that is filled with the ``ToolContext``, or ``None``.
        """
        from . import _schema

        return _schema.context_parameter(self.fn, ToolContext, self._locals)

    def schema(self) -> Schema:
        """
        The derived schema, made once. The first one imports pydantic.

        Raises:
            TypeError: The signature does not lend itself to one; says which part.
        """
        if self._schema is None:
            from . import _schema

            schema = _schema.derive(
                self.fn,
                tool_name=self.name,
                context_parameter=self.context_parameter,
                namespace=self._locals,
            )
            object.__setattr__(self, "_schema", schema)
        assert self._schema is not None
        return self._schema

    def definition(self, format: Format = "openai") -> dict[str, Any]:
        """
        How a model's API wants to be told of the tool.

        Raises:
            ValueError: There is no such format.
        """
        import copy

        check_format(format)
        if self.parameters is None:
            schema = self.schema()
            # A copy, as what is handed out gets changed by those who send it on.
            parameters = copy.deepcopy(schema.parameters)
            description = schema.description
        else:
            from . import _schema

            parameters = copy.deepcopy(dict(self.parameters))
            description = _schema.describe(self.fn)
        if self.description is not None:
            description = self.description
        told = {"name": self.name, "description": description}
        match format:
            case "openai":
                return {"type": "function", "function": {**told, "parameters": parameters}}
            case "openai-responses":
                # Strict unless it is said, and strict schemas have no optional arguments.
                return {
                    "type": "function",
                    **told,
                    "parameters": parameters,
                    "strict": False,
                }
            case "anthropic":
                return {**told, "input_schema": parameters}
            case "gemini":
                return {**told, "parameters_json_schema": parameters}
            case _:  # "mcp"
                return {**told, "inputSchema": parameters}


def _again(given: dict[str, Any]) -> Tool:
    return Tool(**given)


def check_format(format: object) -> None:
    """
    Raise ``ValueError`` for a format of definitions that there is not.
    """
    if format not in FORMATS:
        *others, last = map(repr, FORMATS)
        raise ValueError(f"format={format!r}: expected {', '.join(others)} or {last}")


class Binder:
    """
    Makes keyword arguments of what a caller gave, for one tool. Made once a tool.

    Attributes:
        context_parameter: The parameter that the caller's arguments can never fill.
        check: Validates a mapping and returns keyword arguments; ``None`` where
            nothing has to be checked.
    """

    __slots__ = (
        "_check_json",
        "_max_size",
        "_max_values",
        "_name",
        "check",
        "context_parameter",
    )

    def __init__(self, tool: Tool, settings: ToolSettings) -> None:
        self._name = tool.name
        self._max_size = settings.max_args_size
        self._max_values = settings.max_args_values
        self._check_json: Callable[[str | bytes], dict[str, Any]] | None = None
        self.check: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
        self.context_parameter = tool.context_parameter
        if tool.validates:
            schema = tool.schema()
            self.check, self._check_json = schema.validate, schema.validate_json

    def bind(self, args: object) -> Mapping[str, Any]:
        """
        The keyword arguments.

        Raises:
            InvalidArgumentsError: They do not fit; says which and why.
        """
        if type(args) is dict:
            return self._as_given(args) if self.check is None else self.check(args)
        if args is None:
            return self.bind({})
        if isinstance(args, (str, bytes, bytearray)):
            return self._from_text(args)
        if not isinstance(args, Mapping):
            raise self._wrong("(all)", f"an object, not a {type(args).__name__}")
        try:
            return self._as_given(args) if self.check is None else self.check(args)
        except InvalidArgumentsError:
            raise
        except Exception as error:
            unread = f"an object, not a {type(args).__name__} that cannot be read"
            log_with_traceback(f"{self._name}: expected {unread}", error, clean)
            raise self._wrong("(all)", unread) from None

    def _from_text(self, text: str | bytes | bytearray) -> Mapping[str, Any]:
        if len(text) > self._max_size:
            raise self._wrong("(all)", f"at most {self._max_size} characters of JSON")
        if isinstance(text, bytearray):
            text = bytes(text)
        if holds_more_values(text, self._max_values):
            raise self._wrong("(all)", f"at most {self._max_values} values; send fewer")
        if not text.strip():
            text = "{}"  # what some models send for a tool without arguments
        if self._check_json is not None:
            return self._check_json(text)
        from . import _schema

        return self._as_given(_schema.parse_arguments(text, tool_name=self._name))

    def _as_given(self, args: Mapping[Any, Any]) -> Mapping[str, Any]:
        args = dict(args)
        if self.context_parameter is not None and self.context_parameter in args:
            raise self._wrong(self.context_parameter, "not to be given")
        for key in args:
            if not isinstance(key, str):
                raise self._wrong("(all)", "names that are text")
        return args

    def _wrong(self, argument: str, expected: str) -> InvalidArgumentsError:
        return InvalidArgumentsError(
            tool_name=self._name, errors=[{"argument": argument, "expected": expected}]
        )


def with_note(definition: dict[str, Any], note: str) -> dict[str, Any]:
    """
    A definition whose description ends in a note.
    """
    if "function" in definition:
        return {**definition, "function": with_note(definition["function"], note)}
    described = definition["description"]
    return {**definition, "description": f"{described} {note}" if described else note}
