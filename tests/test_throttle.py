"""
Whether a failure says "come back later", and when.
"""

from __future__ import annotations

import asyncio
import dataclasses
import email.message
import io
import itertools
import json
import types
import urllib.error
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import httpx
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator_async import CircuitOpenError, CircuitState, LimitExceededError
from orchestrator_async._throttle import Throttle, throttle_of_error, throttle_of_value

NO_TIME = Throttle(None)
NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
LATER = "Sun, 06 Nov 1994 12:01:30 GMT"


class ToolError(Exception):
    """
    An error with the attributes that it is given.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__("the tool failed")
        self.__dict__.update(attributes)


class Lying:
    """
    Raises when it is asked what it is.
    """

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class NoNumber(int):
    def __float__(self) -> float:
        raise RuntimeError("no number")


def numbered(cases: Iterable[Any]) -> list[str]:
    return [f"{n}-{str(case)[:40]}" for n, case in enumerate(cases)]


# Times

TIMES: list[tuple[Any, Throttle]] = [
    (7, Throttle(7.0)),
    (0.25, Throttle(0.25)),
    (1e308, Throttle(1e308)),
    (5e-324, Throttle(5e-324)),
    (Decimal("2.5"), Throttle(2.5)),
    (timedelta(minutes=2), Throttle(120.0)),
    ("7", Throttle(7.0)),
    (" 7.5\r\n", Throttle(7.5)),
    ("9" * 100, Throttle(1e100)),
    (0, NO_TIME),
    (-0.0, NO_TIME),
    ("0", NO_TIME),
    (timedelta(0), NO_TIME),
    (NOON, NO_TIME),
    ("Sunday, 06-Nov-94 08:49:37 GMT", NO_TIME),
    ("Sun Nov  6 08:49:37 1994", NO_TIME),
    ("Sun, 06 Nov 1994 08:49:37 -0000", NO_TIME),
]
NO_TIMES: list[Any] = [
    None,
    True,
    False,
    -1,
    -1e-9,
    "-1",
    timedelta(seconds=-1),
    float("nan"),
    float("inf"),
    float("-inf"),
    "nan",
    "inf",
    "1e999",
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("1e999999"),
    10**5000,
    "9" * 101,
    "7" + " " * 1_000_000,
    "",
    "soon",
    "5 s",
    "Sun, 06 Nov 99999 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 +9999999999999999999",
    b"7",
    [7],
    {"seconds": 7},
    7j,
    object(),
    NoNumber(7),
]


@pytest.mark.parametrize(("said", "throttle"), TIMES, ids=numbered(TIMES))
def test_a_time_is_read_in_any_form(said: Any, throttle: Throttle) -> None:
    assert throttle_of_error(ToolError(retry_after=said)) == throttle
    assert throttle_of_error(ToolError(headers={"Retry-After": said})) == throttle
    assert throttle_of_error(ToolError(retry_after=said, status=429)) == throttle
    assert throttle_of_value({"retry_after": said}) == throttle
    assert throttle_of_value({"error": {"retry_after": said}}) == throttle


@pytest.mark.parametrize(
    "said", NO_TIMES, ids=[f"{n}-{type(said).__name__}" for n, said in enumerate(NO_TIMES)]
)
def test_what_is_no_time_makes_no_throttle_by_itself(said: Any) -> None:
    assert throttle_of_error(ToolError(retry_after=said)) is None
    assert throttle_of_error(ToolError(headers={"Retry-After": said}, code=503)) is None
    assert throttle_of_error(ToolError(retry_after=said, status_code=429)) == NO_TIME
    assert throttle_of_error(ToolError(retry_after=said, retry_after_ms=500)) == (0.5,)
    assert throttle_of_error(ToolError(retry_after=2, retry_after_ms=said)) == (2.0,)
    assert throttle_of_value({"retry_after": said}) is None
    assert throttle_of_value({"error": {"retry_after": said}, "code": 429}) == NO_TIME
    assert throttle_of_value({"retry_after": said, "error": {"retry_after": 3}}) == (3.0,)


def test_an_object_that_lies_is_no_time() -> None:
    assert throttle_of_error(ToolError(retry_after=Lying())) is None
    assert throttle_of_error(ToolError(retry_after=Lying(), status=429)) == NO_TIME
    assert throttle_of_value({"retry_after": Lying(), "retry_after_ms": 5}) == (0.005,)


def test_milliseconds_are_a_number_and_nothing_else() -> None:
    assert throttle_of_error(ToolError(retry_after_ms="1500")) == Throttle(1.5)
    assert throttle_of_error(ToolError(retry_after_ms=Decimal(20))) == Throttle(0.02)
    assert throttle_of_error(ToolError(retry_after_ms=5e-324)) == NO_TIME
    assert throttle_of_error(ToolError(retry_after_ms=timedelta(1))) is None
    assert throttle_of_error(ToolError(retry_after_ms=NOON)) is None


def test_a_date_is_held_against_the_clock_here_where_there_is_no_other() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for headers in ({}, {"Date": "today"}, {"Date": None}):
        error = ToolError(headers={"Retry-After": date, **headers})
        throttle = throttle_of_error(error)
        assert throttle is not None
        assert throttle.seconds == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    "place", [{"retry_after": LATER}, {}], ids=["an attribute", "a header"]
)
def test_a_date_is_held_against_the_date_of_the_response(place: dict[str, Any]) -> None:
    headers = {"date": NOON, "retry-after": LATER}
    assert throttle_of_error(ToolError(headers=headers, **place)) == Throttle(90.0)


# Statuses and headers


def from_httpx(status: int, headers: dict[str, str]) -> BaseException:
    request = httpx.Request("GET", "https://example.org")
    response = httpx.Response(status, headers=headers, request=request)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


def from_urllib(status: int, headers: dict[str, str]) -> BaseException:
    message = email.message.Message()
    for name, value in headers.items():
        message[name] = value
    url = "https://example.org"
    return urllib.error.HTTPError(url, status, "", message, io.BytesIO())


class FalseResponse:
    """
    As of requests: false where its status is an error.
    """

    def __init__(self, status_code: int, headers: Any) -> None:
        self.status_code = status_code
        self.headers = headers

    def __bool__(self) -> bool:
        return False


def from_requests(status: int, headers: dict[str, str]) -> BaseException:
    return ToolError(response=FalseResponse(status, types.MappingProxyType(headers)))


class DeprecatedCode(ToolError):
    """
    As of aiohttp.
    """

    @property
    def code(self) -> int:
        raise DeprecationWarning("use status")


def from_aiohttp(status: int, headers: dict[str, str]) -> BaseException:
    return DeprecatedCode(status=status, headers=headers)


def from_openai(status: int, headers: dict[str, str]) -> BaseException:
    """
    Its ``code`` is a word.
    """
    response = FalseResponse(status, headers)
    return ToolError(code="rate_limit_exceeded", status_code=status, response=response)


def from_botocore(status: int, headers: dict[str, str]) -> BaseException:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    error = {"Code": "ThrottlingException"}
    return ToolError(response={"Error": error, "ResponseMetadata": metadata})


def from_google(status: int, headers: dict[str, str]) -> BaseException:
    return ToolError(code=HTTPStatus(status), response=FalseResponse(status, headers))


CLIENTS = [
    from_httpx,
    from_urllib,
    from_requests,
    from_aiohttp,
    from_openai,
    from_botocore,
    from_google,
]
ANSWERS: list[tuple[int, dict[str, str], Throttle | None]] = [
    (429, {}, NO_TIME),
    (429, {"Retry-After": "7"}, Throttle(7.0)),
    (429, {"RETRY-AFTER": "7"}, Throttle(7.0)),
    (429, {"retry-after": "7", "retry-after-ms": "6500"}, Throttle(6.5)),
    (429, {"retry-after": "7", "retry-after-ms": "x"}, Throttle(7.0)),
    (429, {"Retry-After": "soon"}, NO_TIME),
    (429, {"Retry-After": "-1"}, NO_TIME),
    (429, {"Retry-After": "0"}, NO_TIME),
    (429, {"Date": NOON, "Retry-After": LATER}, Throttle(90.0)),
    (429, {"Date": LATER, "Retry-After": NOON}, NO_TIME),
    (503, {}, None),
    (503, {"Retry-After": "soon"}, None),
    (503, {"Retry-After": "7"}, Throttle(7.0)),
    (503, {"Retry-After-Ms": "250"}, Throttle(0.25)),
    (503, {"Retry-After": "0"}, NO_TIME),
    (400, {"Retry-After": "7"}, None),
    (404, {"Retry-After": "7"}, None),
    (500, {"Retry-After": "7"}, None),
    (500, {"Retry-After-Ms": "7"}, None),
]


def test_an_overloaded_service_says_when_by_a_status_that_http_has_not() -> None:
    response = FalseResponse(529, {"Retry-After": "7"})
    assert throttle_of_error(ToolError(response=response)) == Throttle(7.0)
    response = FalseResponse(529, {})
    assert throttle_of_error(ToolError(response=response)) is None


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("status", "headers", "throttle"), ANSWERS, ids=numbered(ANSWERS))
def test_the_error_of_an_http_client_says_what_its_response_says(
    client: Any, status: int, headers: dict[str, str], throttle: Throttle | None
) -> None:
    error = client(status, headers)
    assert throttle_of_error(error) == throttle
    if isinstance(error, urllib.error.HTTPError):
        error.close()


RETRY_AFTER = {"Retry-After": "7"}
SHAPES: list[tuple[dict[str, Any], Throttle | None]] = [
    ({}, None),
    ({"headers": RETRY_AFTER}, Throttle(7.0)),
    ({"response": types.SimpleNamespace(headers=RETRY_AFTER)}, Throttle(7.0)),
    ({"status": 301, "headers": RETRY_AFTER}, None),
    ({"status": 500, "retry_after": 3, "headers": RETRY_AFTER}, Throttle(3.0)),
    ({"status": 429, "retry_after": 3, "headers": RETRY_AFTER}, Throttle(3.0)),
    ({"retry_after": 3, "headers": {"retry-after-ms": "1"}}, Throttle(3.0)),
    # What may be a status of HTTP, and what may not.
    ({"status": 599, "headers": RETRY_AFTER}, None),
    ({"status": 600, "headers": RETRY_AFTER}, Throttle(7.0)),
    ({"status": 100, "headers": RETRY_AFTER}, None),
    ({"status": 99, "headers": RETRY_AFTER}, Throttle(7.0)),
    ({"status": True, "headers": RETRY_AFTER}, Throttle(7.0)),
    ({"status": "500", "headers": RETRY_AFTER}, Throttle(7.0)),
    ({"status_code": None, "status": "429", "code": 429}, NO_TIME),
    ({"status": "429"}, None),
    ({"status": 429.0}, None),
    # The error itself comes before its response, and a name before the next one.
    ({"status_code": 429, "status": 500}, NO_TIME),
    ({"status": 500, "code": 429}, None),
    ({"code": 500, "response": types.SimpleNamespace(status_code=429)}, None),
    ({"code": 14, "response": types.SimpleNamespace(status_code=429)}, NO_TIME),
    (
        {
            "headers": {"X-Request-Id": "1", "retry-after": "3"},
            "response": types.SimpleNamespace(status=503, headers=RETRY_AFTER),
        },
        Throttle(3.0),
    ),
    (
        {
            "headers": {"Date": NOON},
            "response": types.SimpleNamespace(headers={"Retry-After": LATER}),
        },
        Throttle(90.0),
    ),
    # Not quite botocore's.
    ({"response": {"ResponseMetadata": None}}, None),
    ({"response": {"ResponseMetadata": {"HTTPStatusCode": "429"}}}, None),
    ({"response": {"status": 429}}, None),
    # Headers that are no headers.
    ({"status": 429, "headers": "Retry-After"}, NO_TIME),
    ({"status": 429, "headers": [("Retry-After", "7")]}, NO_TIME),
    ({"headers": {None: 1, b"retry-after": "9", 7: 7, "Retry-After": "7"}}, Throttle(7.0)),
    ({"headers": {"Retry-After": "7", "retry-after": "9"}}, Throttle(7.0)),
]


@pytest.mark.parametrize(("attributes", "throttle"), SHAPES, ids=numbered(SHAPES))
def test_an_error_is_known_by_its_shape(
    attributes: dict[str, Any], throttle: Throttle | None
) -> None:
    assert throttle_of_error(ToolError(**attributes)) == throttle


class EndlessHeaders(Mapping[str, str]):
    """
    Counts how many of its names were taken.
    """

    def __init__(self, before: int) -> None:
        self._before = before
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for n in itertools.count():
            self.taken = n + 1
            yield "retry-after" if n == self._before else f"x-{n}"

    def __getitem__(self, name: str) -> str:
        return "7"

    def __len__(self) -> int:
        return 1


def test_of_headers_without_end_some_hundred_are_looked_at() -> None:
    headers = EndlessHeaders(before=299)
    assert throttle_of_error(ToolError(headers=headers)) == Throttle(7.0)
    headers = EndlessHeaders(before=300)
    assert throttle_of_error(ToolError(headers=headers, status=429)) == NO_TIME
    assert headers.taken == 300


def test_a_refusal_says_when_another_tool_may_be_called_and_not_this_one() -> None:
    def refusal(retry_after: float | None) -> CircuitOpenError:
        return CircuitOpenError(
            tool_name="t",
            circuit="c",
            state=CircuitState.OPEN,
            retry_after=retry_after,
            failures=3,
        )

    assert throttle_of_error(refusal(12.5)) is None
    assert throttle_of_error(refusal(None)) is None
    assert throttle_of_error(chain(ToolError(), refusal(12.5))) is None
    assert throttle_of_error(LIMITED) is None
    throttled = ToolError(retry_after=2)
    assert throttle_of_error(ExceptionGroup("", [refusal(300), throttled])) == Throttle(2.0)
    assert throttle_of_error(ExceptionGroup("", [throttled, LIMITED])) == Throttle(2.0)
    assert throttle_of_error(ExceptionGroup("", [refusal(300), ToolError()])) is None
    assert throttle_of_error(ExceptionGroup("", [refusal(300), LIMITED])) is None


@pytest.mark.parametrize(
    "refused",
    [
        {"error": "down", "tool_name": "t", "circuit_breaker": True, "retry_after": 300},
        {"error": "busy", "tool_name": "t", "limit": "threads", "retry_after": 300},
    ],
)
def test_a_refusal_that_is_returned_says_nothing_of_who_returns_it(refused: Any) -> None:
    assert throttle_of_value(refused) is None
    assert throttle_of_value({"error": refused}) is None
    assert throttle_of_value(json.dumps({"error": refused})) is None
    assert throttle_of_value({"error": refused, "retry_after": 2}) == Throttle(2.0)


LIMITED = LimitExceededError(tool_name="t", limit="threads", size=1, retry_after=300)


# Causes


def chain(*errors: BaseException) -> BaseException:
    """
    The first, raised from the second, and so on.
    """
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def plain(number: int) -> list[BaseException]:
    return [ToolError() for _ in range(number)]


def test_the_outermost_error_that_says_something_decides() -> None:
    throttled, limited = ToolError(retry_after=7), ToolError(status=429)
    assert throttle_of_error(chain(ToolError(), throttled)) == Throttle(7.0)
    assert throttle_of_error(chain(limited, throttled)) == NO_TIME
    assert throttle_of_error(chain(ToolError(status=502), limited)) == NO_TIME
    assert throttle_of_error(chain(ToolError(retry_after=3), limited)) == Throttle(3.0)


def test_five_causes_are_looked_at() -> None:
    throttled = ToolError(retry_after=7)
    assert throttle_of_error(chain(*plain(5), throttled)) == Throttle(7.0)
    assert throttle_of_error(chain(*plain(6), throttled)) is None


def test_an_error_may_be_its_own_cause() -> None:
    error, other = plain(2)
    assert throttle_of_error(chain(error, error)) is None
    assert throttle_of_error(chain(error, other, error)) is None


def test_what_was_merely_being_handled_is_no_cause() -> None:
    error = ToolError()
    error.__context__ = ToolError(retry_after=7)
    assert throttle_of_error(error) is None


def test_a_cause_is_read_past_a_property() -> None:
    class NoCause(ToolError):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no cause")

    error = NoCause()
    BaseException.__dict__["__cause__"].__set__(error, ToolError(retry_after=7))
    assert throttle_of_error(error) == Throttle(7.0)


# Groups


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("some", errors)


def asks(seconds: float) -> BaseException:
    return ToolError(retry_after=seconds)


def limited() -> BaseException:
    return ToolError(status=429)


def ordinary() -> BaseException:
    return ValueError("no")


GROUPS: list[tuple[BaseException, Throttle | None]] = [
    (group(asks(3)), Throttle(3.0)),
    (group(asks(3), asks(9), asks(4)), Throttle(9.0)),
    (group(asks(3), limited()), Throttle(3.0)),
    (group(limited(), asks(0)), NO_TIME),
    (group(ordinary()), None),
    (group(ordinary(), asks(3)), None),
    (group(asks(3), ordinary()), None),
    (group(asks(3), KeyboardInterrupt()), None),
    (group(group(asks(3), limited()), group(group(asks(9)))), Throttle(9.0)),
    (group(group(asks(3), ordinary()), asks(9)), None),
    (group(chain(ToolError(), asks(3)), asks(2)), Throttle(3.0)),
    (chain(ToolError(), group(asks(3), asks(4))), Throttle(4.0)),
    (chain(ToolError(), group(asks(3), ordinary())), None),
    # Causes are counted along the way, also through groups.
    (group(*[chain(*plain(5), asks(n)) for n in (1, 2)]), Throttle(2.0)),
    (chain(*plain(3), group(chain(*plain(2), asks(3)))), Throttle(3.0)),
    (chain(*plain(3), group(chain(*plain(3), asks(3)))), None),
    # What a group was raised from does not speak for its members.
    (chain(group(ordinary()), asks(3)), None),
]


@pytest.mark.parametrize(
    ("error", "throttle"), GROUPS, ids=[str(n) for n in range(len(GROUPS))]
)
def test_a_group_is_what_all_of_its_members_are(
    error: BaseException, throttle: Throttle | None
) -> None:
    assert throttle_of_error(error) == throttle


def test_a_group_can_speak_for_itself() -> None:
    class RateLimits(ExceptionGroup[Exception]):
        retry_after = 5

    assert throttle_of_error(RateLimits("some", [ValueError()])) == Throttle(5.0)


class Watched(Exception):
    looks = 0

    @property
    def retry_after(self) -> float:
        Watched.looks += 1
        return 1.0


def test_a_hundred_errors_are_looked_at() -> None:
    Watched.looks = 0
    assert throttle_of_error(group(*[Watched()] * 99)) == Throttle(1.0)
    assert Watched.looks == 99
    assert throttle_of_error(group(*[Watched()] * 100)) is None
    assert throttle_of_error(group(*[Watched()] * 100_000)) is None
    assert Watched.looks < 300


def test_groups_may_be_nested_without_end() -> None:
    error = asks(3)
    for _ in range(50):
        error = group(error, asks(2))
    assert throttle_of_error(error) is None
    error = asks(3)
    for _ in range(20_000):
        error = group(error)
    assert throttle_of_error(error) is None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # to free it whole would nest as deep


# Values


class Model(pydantic.BaseModel):
    error: Any = None
    retry_after: Any = None


class Aliased(pydantic.BaseModel):
    wait: float = pydantic.Field(default=4.0, serialization_alias="retry_after")


class Computed(pydantic.BaseModel):
    @pydantic.computed_field
    def retry_after(self) -> int:
        return 6


class ComputedAlias(pydantic.BaseModel):
    @pydantic.computed_field(alias="retry_after_ms")
    def wait(self) -> int:
        return 6


class Extra(pydantic.BaseModel, extra="allow"):
    pass


class Root(pydantic.RootModel[dict[str, Any]]):
    pass


@dataclasses.dataclass
class Data:
    error: Any = None
    status_code: Any = None
    retry_after: Any = None


class Text(str):
    __slots__ = ()

    def __contains__(self, part: object) -> bool:
        raise RuntimeError("no parts")


VALUES: list[tuple[Any, Throttle | None]] = [
    ({}, None),
    ({"error": "down"}, None),
    ({"error": "retry_after 7, status 429"}, None),
    ({"error": "slow down", "retry_after": 7}, Throttle(7.0)),
    ({"error": {"retry_after": 7}}, Throttle(7.0)),
    ({"error": {"message": "x"}, "retry_after": 0, "status": 429}, NO_TIME),
    ({"retry_after": 3, "error": {"retry_after": 7}}, Throttle(3.0)),
    ({"retry_after": 3, "retry_after_ms": 2500}, Throttle(2.5)),
    ({"retry_after": 3, "status": 500}, Throttle(3.0)),
    ({"details": {"retry_after": 7}}, None),
    # Statuses.
    ({"status": 429}, NO_TIME),
    ({"status_code": 429}, NO_TIME),
    ({"code": HTTPStatus.TOO_MANY_REQUESTS}, NO_TIME),
    ({"code": 429.0}, NO_TIME),
    ({"error": {"code": "429"}}, NO_TIME),
    ({"status": "failed", "error": {"status": 429}}, NO_TIME),
    ({"status": 503}, None),
    ({"status": "429 Too Many Requests"}, None),
    ({"status": [429]}, None),
    ({"code": True}, None),
    # Objects.
    (types.MappingProxyType({"retry_after": 7}), Throttle(7.0)),
    (Model(error="x", retry_after="7"), Throttle(7.0)),
    (Model(error={"retry_after": 7}), Throttle(7.0)),
    ({"error": Model(retry_after=timedelta(seconds=7))}, Throttle(7.0)),
    (Model(error="x"), None),
    (Aliased(), Throttle(4.0)),
    (Computed(), Throttle(6.0)),
    (ComputedAlias(), Throttle(0.006)),
    (Extra.model_validate({"retry_after": 7}), Throttle(7.0)),
    (Root({"error": {"retry_after": 7}}), Throttle(7.0)),
    (Data(error="x", retry_after=7), Throttle(7.0)),
    (Data(error=Data(status_code=429)), NO_TIME),
    (Data(), None),
    (types.SimpleNamespace(retry_after=7), None),
    # Text.
    ('{"error": "x", "retry_after": 7}', Throttle(7.0)),
    (' \n{"retry_after": 7}', Throttle(7.0)),
    (Text('{"retry_after": 7}'), Throttle(7.0)),
    ('{"retry\\u005fafter": 7}', Throttle(7.0)),
    ('{"status": 429}', NO_TIME),
    ('{"error": "\ud800", "status": 429}', NO_TIME),
    ('{"retry_after_ms": 70}', Throttle(0.07)),
    ('{"retry_after": NaN}', None),
    ('{"retry_after": 1e999}', None),
    ('{"retry_after": ' + "9" * 5000 + "}", None),
    ('{"error": "x"}', None),
    ('{"retry_after": 7', None),
    ('{"retry_after":' * 100_000, None),
    ('[{"retry_after": 7}]', None),
    ("Rate limited (429), retry_after: 7", None),
    # Anything else.
    (None, None),
    (429, None),
    ("", None),
    (b'{"retry_after": 7}', None),
    ([{"retry_after": 7}], None),
]


@pytest.mark.parametrize(("value", "throttle"), VALUES, ids=numbered(VALUES))
def test_a_value_says_it_at_its_top_or_in_its_error(
    value: Any, throttle: Throttle | None
) -> None:
    assert throttle_of_value(value) == throttle


# Odd ones


def raising(error: BaseException) -> Any:
    """
    A property that raises.
    """

    def read(_: object) -> Any:
        raise error

    return property(read)


NAMES = ["retry_after_ms", "status_code", "status", "code", "headers", "response"]
FOREIGN = [RuntimeError("no"), SystemExit(1), asyncio.CancelledError(), RecursionError()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("raised", FOREIGN, ids=numbered(FOREIGN))
def test_an_attribute_that_raises_hides_no_other(name: str, raised: BaseException) -> None:
    odd = type("Odd", (ToolError,), {name: raising(raised)})
    assert throttle_of_error(odd(retry_after=7)) == Throttle(7.0)
    assert throttle_of_error(odd()) is None
    limiting = odd()
    limiting.__dict__["code" if name == "status" else "status"] = 429
    assert throttle_of_error(limiting) == NO_TIME


def test_an_error_that_knows_every_attribute_says_nothing() -> None:
    class Anything(Exception):
        def __getattr__(self, name: str) -> Any:
            return Lying()

    assert throttle_of_error(Anything()) is None


class Headers(Mapping[str, Any]):
    """
    Does with a name what it is told.
    """

    def __init__(self, *names: Any, error: Exception | None = None) -> None:
        self._names = names
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        yield from self._names
        if self._error is not None:
            raise self._error

    def __getitem__(self, name: Any) -> Any:
        if name == "Date":
            raise KeyError(name)
        return "7"

    def __len__(self) -> int:
        return -1


def test_headers_may_lie() -> None:
    def said(headers: Any) -> Throttle | None:
        return throttle_of_error(ToolError(headers=headers))

    assert said(Headers("Date", "Retry-After")) == Throttle(7.0)
    assert said(Headers("Retry-After", error=RuntimeError("no more"))) == Throttle(7.0)
    assert said(Headers(error=RuntimeError("none"))) is None
    assert said(Headers(Lying(), Lying)) is None
    assert said(Lying()) is None
    assert said(Headers) is None


def test_a_response_may_lie() -> None:
    class NoGet(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise RuntimeError("no get")

    assert throttle_of_error(ToolError(response=NoGet(), retry_after=7)) == Throttle(7.0)
    assert throttle_of_error(ToolError(response=Lying(), status=429)) == NO_TIME
    metadata = {"ResponseMetadata": NoGet(HTTPStatusCode=429)}
    assert throttle_of_error(ToolError(response=metadata)) is None


def test_a_class_may_lie() -> None:
    class Group(ToolError):
        __class__ = BaseExceptionGroup  # type: ignore[assignment]

    class NoClass(ToolError, Lying):
        pass

    assert throttle_of_error(Group()) is None
    assert throttle_of_error(NoClass(retry_after=7)) == Throttle(7.0)
    assert throttle_of_error(NoClass()) is None


class NoHash(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")


class Unhashable(metaclass=NoHash):
    pass


def test_a_type_that_cannot_be_looked_up_says_nothing() -> None:
    assert throttle_of_error(ToolError(response=Unhashable(), status=429)) == NO_TIME
    assert throttle_of_value(Unhashable()) is None
    assert throttle_of_value({"error": Unhashable(), "status": 429}) == NO_TIME


class Equal(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not equal")

    __hash__ = str.__hash__


def test_a_value_may_lie() -> None:
    class NoGet(dict[str, Any]):
        def get(self, name: str, *args: Any) -> Any:
            if name in ("error", "status"):
                raise RuntimeError("no get")
            return super().get(name)

    class NoError(Model):
        def __getattribute__(self, name: str) -> Any:
            if name == "error":
                raise RuntimeError("no error")
            return super().__getattribute__(name)

    assert throttle_of_value(NoGet(retry_after=7)) == Throttle(7.0)
    assert throttle_of_value(NoGet(code=429)) == NO_TIME
    assert throttle_of_value(NoError(retry_after=7)) == Throttle(7.0)
    assert throttle_of_value({"status": Equal("x"), "code": 429}) == NO_TIME
    assert throttle_of_value(Lying()) is None
    assert throttle_of_value({"error": Lying(), "retry_after": 7}) == Throttle(7.0)


class Interrupting(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_an_interrupt_goes_up() -> None:
    interrupted = type("Odd", (ToolError,), {"response": raising(KeyboardInterrupt())})
    with pytest.raises(KeyboardInterrupt):
        throttle_of_error(interrupted())
    with pytest.raises(KeyboardInterrupt):
        throttle_of_value(Interrupting())


# Anything at all


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**400),
    st.floats(),
    st.decimals(),
    st.timedeltas(),
    st.datetimes(),
    st.text(),
    st.from_regex(r"[-+ ]?[0-9_]{1,5}(\.[0-9]*)?(e[-+]?[0-9]{1,4})?"),
    st.from_regex(
        r"(Mon, )?[0-9]{1,3} (Jan|Feb|May|Dec) [0-9]{1,5} "
        r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2})? (GMT|[-+][0-9]{1,9})"
    ),
    st.binary(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)


def is_sound(throttle: Throttle | None) -> bool:
    if throttle is None or throttle.seconds is None:
        return True
    return type(throttle.seconds) is float and 0 < throttle.seconds < float("inf")


@given(said=ANYTHING, date=ANYTHING)
def test_whatever_is_said_is_a_time_or_none(said: Any, date: Any) -> None:
    for name in ("retry_after", "retry_after_ms"):
        attribute = throttle_of_error(ToolError(**{name: said}))
        assert is_sound(attribute)
        assert is_sound(
            throttle_of_error(ToolError(**{name: said}, headers={"Date": date}))
        )
        for value in ({name: said}, {"error": {name: said}}, {"error": said, name: date}):
            assert is_sound(throttle_of_value(value))
        header = name.replace("_", "-")
        limited = ToolError(status=429, headers={header: said, "date": date})
        throttle = throttle_of_error(limited)
        assert throttle is not None
        assert is_sound(throttle)


@given(status=ANYTHING, headers=ANYTHING, response=ANYTHING)
def test_whatever_an_error_holds_it_is_a_throttle_or_none(
    status: Any, headers: Any, response: Any
) -> None:
    error = ToolError(status=status, headers=headers, response=response)
    assert is_sound(throttle_of_error(error))
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    error = ToolError(response={"ResponseMetadata": metadata})
    assert is_sound(throttle_of_error(error))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from("error retry_after retry_after_ms status code".split()), inner
        ),
    )
)
def test_an_object_and_its_text_say_the_same(value: Any) -> None:
    throttle = throttle_of_value(value)
    assert is_sound(throttle)
    if isinstance(value, dict):
        assert throttle_of_value(json.dumps(value)) == throttle
