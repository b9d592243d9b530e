from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator_async._describe import describe_error
from orchestrator_async._text import clean, quote_name

SECRET = "Hunter2xyzzy"
ANYTHING = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)
# What surrounds a credential: ordinary text, and the pieces that patterns are made of.
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *"\"'`\\/@:=&?;,.()[]{}<> \t\n*-_",
                "\x1b[",
                "\x1b[31m",
                "\x1b]0;",
                "\x9d",
                "\x07",
                "\u202e",
                "\u200b",
                "\ud800",
                "://",
                "//",
                "https://",
                "password",
                "password=",
                "token: ",
                "secret='",
                '{"api_key": "',
                "Bearer ",
                "Basic ",
                "Authorization: ",
                "Cookie: ",
                "sk-",
                "eyJ",
                "-----BEGIN PRIVATE KEY-----",
                "None",
                "***",
                "%20",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)
LETTERS = st.text(string.ascii_letters + string.digits, max_size=40)

BEARERS = [
    f"https://bob:{SECRET}@example.com/path",
    f"https://{SECRET}@example.com/path",
    f"postgresql+asyncpg://bob:{SECRET}@db:5432/app",
    f"redis://:{SECRET}@cache:6379/0",
    f"https:\\/\\/bob:{SECRET}@example.com",
    f"https://bob:p@{SECRET}@example.com",
    f"https://bob:a/{SECRET}@example.com",
    f"https://bob:a//{SECRET}@example.com",
    f"https://bob:a?{SECRET}#b@example.com",
    f"Bearer {SECRET}",
    f"bearer {SECRET}.{SECRET}",
    f"Authorization: {SECRET}",
    f"invalid bearer token {SECRET}",
    f"Bearer token '{SECRET}' has expired",
    f"Bearer token is {SECRET}",
    f"Bearer auth {SECRET}",
    f"Bearer bearer {SECRET}",
    f"Bearer\n{SECRET}",
    f"Bearer\u00a0{SECRET}",
    f'"bearer": "{SECRET}"',
    f"https://bob:a\n{SECRET}@example.com",
    f"Authorization: Basic {SECRET}==",
    f"authorization: Digest username=x, response={SECRET}",
    f"Proxy-Authorization: Custom a {SECRET}",
    f"Cookie: a=b; session={SECRET}; c=d",
    f"Set-Cookie: session={SECRET}; Path=/",
    f"X-Api-Key: {SECRET}",
    f"https://example.com/?key={SECRET}&page=2",
    f"https://example.com/?a=1&access_token={SECRET}",
    f"https://example.com/?sig={SECRET}",
    f"password={SECRET}",
    f"password = {SECRET}",
    f"passwd: {SECRET}",
    f"DB_PASSWORD={SECRET}",
    f"password=a,b;{SECRET}",
    f"password=a)){SECRET}",
    f"password=a&{SECRET}",
    f'"password": "{SECRET}"',
    f"'password': '{SECRET}'",
    f'\\"password\\": \\"{SECRET}\\"',
    f'"password":"two words {SECRET}"',
    f'"password": "a\\"{SECRET}"',
    f"client_secret='{SECRET}'",
    f"apiKey={SECRET}",
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"accessToken: {SECRET}",
    f"token => {SECRET}",
    f"token%3D{SECRET}",
    f"(b'authorization', b'Bearer {SECRET}')",
    f"cookies={{'session': '{SECRET}'}}",
    f"secret=['{SECRET}', '{SECRET}']",
    f"<password>{SECRET}</password>",
    f"pwd={SECRET}",
    f"passwordpassword={SECRET}",
]
TOUCHED = [
    *BEARERS[:4],
    f"password={SECRET}",
    f'"password": "{SECRET}"',
    f"'password': '{SECRET}'",
]
SHAPES = [
    "sk-proj-abcDEF0123456789",
    "sk_live_abcDEF0123456789",
    "ghp_abcDEF0123456789abcDEF0123456789abcd",
    "github_pat_abcDEF0123456789abcDEF0123456789",
    "glpat-abcDEF0123456789abcd",
    "xoxb-123456789012-abcDEF012345",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaabcDEF0123456789abcDEF0123456789abc",
    "hf_abcDEF0123456789abcDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF0123456789-_x",
    "eyJhbGciOiJIUzI1NiJ9abcdef",
]


@given(ANYTHING | PIECES, st.integers(-1, 400))
@example("\x1b[password=x", 2000)
@example("a password=" + "x" * 3000, 50)
def test_any_text_comes_out_visible_short_and_settled(text: str, limit: int) -> None:
    once = clean(text, limit=limit)

    assert len(once) <= max(limit, 0)
    assert not any(
        (ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160
        for letter in once
    )
    assert not any(0xD800 <= ord(letter) < 0xE000 for letter in once)
    assert not set(once) & set("\u200b\u200e\u202a\u202e\u2066\u2069\ufeff\u2028")
    assert clean(once, limit=limit) == once


@pytest.mark.parametrize("bearer", BEARERS)
def test_a_credential_is_masked(bearer: str) -> None:
    shown = clean(f"it failed: {bearer}")

    assert SECRET not in shown
    assert "***" in shown
    assert shown.startswith("it failed: ")


@given(PIECES, st.sampled_from(BEARERS), PIECES)
@example("\x1b[", f"password={SECRET}", "")
@example("token=", f'"password": "{SECRET}"', "")
@example('//x:password="a@', f"password={SECRET}", "")
@example("https://a:1/", f"https://bob:{SECRET}@example.com", "")
def test_a_credential_is_masked_whatever_stands_around_it(
    before: str, bearer: str, after: str
) -> None:
    assert SECRET not in clean(f"{before} {bearer} {after}")


@given(PIECES, st.sampled_from(TOUCHED), PIECES)
def test_a_credential_is_masked_when_other_text_touches_it(
    before: str, bearer: str, after: str
) -> None:
    # The name itself may be made another by a letter before it; nothing is promised then.
    assert SECRET not in clean(f"{before.rstrip(string.ascii_letters)}{bearer}{after}")


@pytest.mark.parametrize("bearer", BEARERS)
@pytest.mark.parametrize("limit", [60, 200])
def test_no_part_of_a_credential_is_left_wherever_the_cut_falls(
    bearer: str, limit: int
) -> None:
    for padding in [*range(limit - 40, limit + 10), *range(limit + 960, limit + 1030)]:
        text = "x" * padding + " " + bearer + " y" * 1500
        shown = clean(text, limit=limit)
        assert SECRET[:4] not in shown, (padding, shown)
        assert SECRET[-4:] not in shown, (padding, shown)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_well_known_shapes_are_masked_and_no_beginning_is_left(shape: str) -> None:
    assert clean(f"key {shape} is wrong") == "key *** is wrong"
    assert clean(f"'{shape}'") == "'***'"
    # Masks before it make room, so that the end of what was read is shown.
    for padding in range(1050, 1120):
        before = f"password={'p' * padding} "
        shown = clean(before + shape + "z" * 2000, limit=100)
        assert not any(part in shown for part in ("abcD", "ABCD", "1234", "hbGc")), shown


def test_the_end_of_what_was_read_leaks_nothing_when_masks_make_room() -> None:
    for bearer in BEARERS:
        for padding in range(1060, 1120):
            before = f"password={'p' * padding} "
            shown = clean(before + bearer + " z" * 2000, limit=100)
            assert SECRET[:4] not in shown, (bearer, padding, shown)


def test_a_long_password_that_is_cut_off_is_masked() -> None:
    text = "see https://bob:" + SECRET * 1000 + "@host"

    assert clean(text) == f"see https://***\n[{len(text) - 2000 - 1024} characters cut]"


def test_text_made_to_show_ever_more_credentials_is_not_shown() -> None:
    # Each mask takes away the word that made the name after it a harmless one.
    hiding = "unexpected token="

    assert clean(f"password={hiding * 2}{SECRET}") == "password=*** token=*** token=***"
    assert clean(f"password={hiding * 20}{SECRET}") == "[text withheld]"
    assert clean(f"password={hiding * 20}{SECRET}", limit=5) == "[text"


def test_a_private_key_is_masked_whole_also_without_its_end() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----"

    assert clean(f"a\n{key}\nb") == "a\n***\nb"
    assert clean(f"a\n{key[:45]}") == "a\n***"


@pytest.mark.parametrize(
    "text",
    [
        "HTTP 503: upstream connect error or disconnect/reset before headers",
        "Unexpected token: } in JSON at position 4",
        "Unexpected token < in JSON",
        "max_tokens: 4096 is too large, total_tokens=5000",
        "password: must be at least 8 characters",
        "token: Field required",
        "api_key=None",
        '{"token":null,"page":2}',
        "KeyError: 'api_key'",
        "Bearer token required",
        "bearer token has expired",
        "the bearer of this letter is expected at 10:30",
        "The Bearer token was rejected by api2",
        "bearer token is missing (401)",
        "the bearer token or the header is missing",
        "no such host: http://host:port\nretry",
        "Unsupported scheme: Bearer\nContent-Type: text/plain",
        "see https://example.com:8080\nor ask bob@example.com",
        "Basic authentication required",
        "mail bob@example.com, see https://example.com/users/bob@example.com",
        "http://localhost:4873/@scope/pkg",
        "http://host:port is expected",
        '{"url":"https://example.com","mail":"bob@example.com"}',
        "git@github.com:bob/repo.git",
        "f() got an unexpected keyword argument 'key'",
        "signature: (a, b) -> int",
        "line one\n\tline two",
        "naïve café 東京 🎉",
    ],
)
def test_what_is_no_credential_is_left_alone(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://bob:pw@db:5432/x failed", "postgres://***@db:5432/x failed"),
        ("https://h/?token=abc&page=2", "https://h/?token=***&page=2"),
        ("Authorization: Bearer abc was refused", "Authorization: Bearer *** was refused"),
        ("-H 'Authorization: abc d' https://h", "-H 'Authorization: ***' https://h"),
        ("f(user='b', password='x\\'y', n=1)", "f(user='b', password='***', n=1)"),
        ('{"password":"x","user":"b"}', '{"password":"***","user":"b"}'),
        ("X-Api-Key: abc\nAccept: */*", "X-Api-Key: ***\nAccept: */*"),
        ("password=a, user=b", "password=***, user=b"),
    ],
)
def test_what_stands_beside_a_credential_can_still_be_read(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Btext\x1bc", "text"),
        ("a\x1b[2Kb\x00c\x7fd\x85e", "abcde"),
        ("one\r\ntwo", "one\ntwo"),
        ("\x1b\x1b[[31m", "31m"),
        ("a\u202eb\u200bc\ufeffd\u2066e", "abcde"),
        ("a\ud800b", "ab"),
        ("tags\U000e0041\U000e0042", "tags"),
    ],
)
def test_what_a_terminal_would_obey_is_gone(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_control_characters_hide_no_credential() -> None:
    assert clean(f"pass\x1b[0mword=\u200b{SECRET}") == "password=***"
    assert SECRET not in clean(f"https://bob:{SECRET[:3]}\x00{SECRET[3:]}@host")


def test_a_cut_says_how_much_is_missing() -> None:
    shown = clean("x" * 5000)

    head, _, notice = shown.rpartition("\n")
    assert len(shown) == 2000
    assert notice == f"[{5000 - len(head)} characters cut]"
    assert clean("x" * 2000) == "x" * 2000
    assert clean("x" * 50, limit=5) == "xxxxx"
    assert clean("x", limit=0) == ""


SLOW_PIECES = [
    *("x", "/", "a://", "a://b:c@", "password=", 'password="', "secret={", "cookie:"),
    *("eyJ", "sk-", '"', "password=,a", "\x1b[", "\x1b]", "\x9d", "bearer ", "Basic "),
    *("bearer token ", "bearer auth 'a-", "//a:b\n", "a ", "\\", "password:\t", "/a "),
    *("-----BEGIN PRIVATE KEY", "token\t", "password1", "\u200d"),
]


# What is quadratic in the text takes minutes; tests/stalls.py measures them.
@pytest.mark.parametrize("piece", SLOW_PIECES)
def test_a_megabyte_made_to_be_slow_is_cut(piece: str) -> None:
    assert len(clean(piece * (1_000_000 // len(piece)))) <= 2_000


def test_an_error_is_its_type_and_its_message() -> None:
    assert describe_error(ValueError("no such city")) == "ValueError: no such city"
    assert describe_error(KeyError("city")) == "KeyError: 'city'"
    assert describe_error(TimeoutError()) == "TimeoutError"
    assert describe_error(OSError(2, "No such file", "a")) == (
        "FileNotFoundError: [Errno 2] No such file: 'a'"
    )
    assert SECRET not in describe_error(OSError(f"https://bob:{SECRET}@host"))


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Odd(Exception):
    def __str__(self) -> Any:
        return 5


def test_an_error_that_cannot_say_what_it_is_has_its_type_named() -> None:
    assert describe_error(Silent()) == "Silent: (its message cannot be had)"
    assert describe_error(Odd()) == "Odd: (its message cannot be had)"


class Stopping(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupt_while_an_error_is_described_goes_up() -> None:
    with pytest.raises(KeyboardInterrupt):
        describe_error(Stopping())


def test_a_type_with_an_outrageous_name_is_cut() -> None:
    error = type("E\x1b[31m" + "x" * 10_000, (Exception,), {})("m")

    assert len(describe_error(error)) < 200
    assert "\x1b" not in describe_error(error)


def test_a_group_names_what_is_inside_it_however_deep() -> None:
    inner = ExceptionGroup("deep", [KeyError("a"), TimeoutError("late")])
    group = ExceptionGroup(
        "unhandled errors in a TaskGroup", [ConnectionError("gone"), inner]
    )

    assert describe_error(group) == (
        "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions): "
        "ConnectionError: gone; KeyError: 'a'; TimeoutError: late"
    )


def test_a_group_is_bounded_in_number_length_and_depth() -> None:
    group: BaseException = ExceptionGroup("g", [ValueError("x" * 10_000)] * 100)
    shown = describe_error(group)
    assert shown.count("ValueError") == 5
    assert shown.endswith("; and more")
    assert len(shown) < 2000

    for _ in range(3000):
        group = BaseExceptionGroup("g", [group])
    assert describe_error(group).startswith("ExceptionGroup: g")


def test_errors_go_through_the_cleaner_that_was_given() -> None:
    group = ExceptionGroup("a bee", [ValueError("a sea")])

    assert describe_error(ValueError("a bee"), lambda _: "said") == "ValueError: said"
    assert describe_error(group, lambda text: text.replace("a ", "")) == (
        "ExceptionGroup: bee (1 sub-exception): ValueError: sea"
    )


def test_a_cleaner_that_fails_shows_nothing() -> None:
    def failing(text: str) -> str:
        raise LookupError(text)

    assert describe_error(ValueError(SECRET), failing) == "ValueError: [text withheld]"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("get_weather", "get_weather"),
        ("mcp:files.read-all", "mcp:files.read-all"),
        ("", '""'),
        ("a b", '"a b"'),
        ('a"b', '"a\'b"'),
        ("a\nb\x1b[31m", '"a b"'),
        (None, "<NoneType>"),
        ({"a": 1}, "<dict>"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 63 + "…"),
        (f"https://bob:{SECRET}@host", "https://***@host"),
    ],
)
def test_a_made_up_name_is_made_fit_to_show(name: object, shown: str) -> None:
    if shown == "https://***@host":
        shown = f'"{shown}"'
    assert quote_name(name) == shown


@given(st.one_of(ANYTHING, PIECES, st.none(), st.integers()), st.integers(0, 80))
def test_a_shown_name_is_one_short_line(name: object, limit: int) -> None:
    shown = quote_name(name, limit)

    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1


def test_ten_megabytes_of_a_name_are_cut_at_once() -> None:
    assert len(quote_name("x y" * 3_000_000)) == 64
    assert len(quote_name("\0" * 10_000_000)) <= 64
