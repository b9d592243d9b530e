"""
What the words of an error text say: the table behind ``service_errors``.

A text is read as words: in lower case, ``NOT_FOUND`` and ``NotFound`` as "not found". A row
matches whole words anywhere in it. Rows have a strength, and the strongest that matches
decides: what a program wrote for programs (``ECONNREFUSED``, ``status code 404``) counts more
than a phrase ("connection refused"), and a phrase more than a single word ("timeout"), which
may as well be the name of an argument or of a file. Where the strongest row is a word, or
one of two phrases of both kinds, or where there is none, all words are weighed together
(``_error_words``). Where codes of both kinds match, and where the words say nothing, it is
the service: an error that was wrongly held against a tool costs a pause, and one that was
wrongly overlooked keeps an agent at a dead tool.
"""

from __future__ import annotations

import enum
import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ._error_words import Weights
from ._outcome import Verdict

LOOK: Final = 1_000
"""Characters that are looked at, at either end of a text: an error says what it is at its
beginning, and a traceback at its end."""

SERVICE: Final = Verdict.FAILURE
"""The service cannot serve: whatever it is asked, it is likely to fail again."""

CALL: Final = Verdict.IGNORE
"""It blames the arguments or the state of the world: with other arguments it may work."""


class Strength(enum.IntEnum):
    """
    How much a row counts; the least number first.
    """

    LIMIT = 0
    """It counts even before a status of HTTP: some services say 400 or 403 of a quota."""
    CODE = 1
    PHRASE = 2
    WORD = 3


LIMIT, CODE, PHRASE, WORD = Strength


@dataclass(frozen=True, slots=True)
class Row:
    """
    Words, and what an error says with them. Made by position, as the rows of a table are.

    Attributes:
        strength: How much it counts.
        says: ``SERVICE`` or ``CALL``.
        words: A regular expression that takes time in proportion to the text.
        why: What it is taken from, and why it says so where that is not plain.
        prompted_by: "standard" if it follows from one and was written for no text that was
            judged wrong; else the ids of the texts in the corpus that it was written for.
    """

    strength: Strength
    says: Verdict
    words: str
    why: str
    prompted_by: str = "standard"


# A status in a text: after a word that announces it, or before its reason phrase.
_SAID: Final = r"(?:https?|status|code|error|returned|response|answered)"
_GAP: Final = r"(?:[ :=('\"\[]|code|status|error|with|of|is|was|an?|https?){0,6}"
_REASON: Final = r"[: -]{1,3}(?:client|server) error"
_BLAMED: Final = r"4(?:0[03-6]|09|1\d|2[0236-8]|31|51)"
_FAILED: Final = r"(?:40[1278]|42[1459]|5\d\d)"

# What somebody could not do, in the words of C, Go, Python and people.
_CANNOT: Final = (
    r"(?:could not|could n.t|couldn.t|cannot|can not|can.t|unable to|failed to|failure to|"
    r"not able to|did not)"
)

# Classes of words: what a service sends, what a tool works with, what it is let in by, and
# what its caller gives.
_ANSWER: Final = (
    r"(?:responses?|repl(?:y|ies)|answers?|data|bytes|acknowledge?ment|headers?)"
)
_LINK: Final = (
    r"(?:connections?|sessions?|channel|transport|sockets?|streams?|tunnel|pipe|pool|client|"
    r"database|cursor|event loop|executor|interpreter|transaction)"
)
_SECRET: Final = (
    r"(?:user ?names?|passwords?|passphrase|credentials?|(?:access |auth |bearer )?tokens?|"
    r"api.?keys?|secrets?)"
)
_GIVEN: Final = (
    r"(?:arguments?|parameters?|options?|flags?|operands?|values?|inputs?|expressions?|"
    r"statements?|commands?|fields?|keys?|names?|columns?|formats?|types?|characters?|"
    r"tokens?|symbols?|identifiers?|variables?|functions?|methods?|attributes?|properties|"
    r"property|data|quotes?|brackets?|parenthes[ie]s|references?|commas?|bytes?|indent\w*)"
)

ROWS: Final = (
    # --- limits: before a status
    Row(
        LIMIT,
        SERVICE,
        r"(?:rate|usage|request|token|spend(?:ing)?) ?limits?(?: \w+){0,2} "
        r"(?:exceeded|reached|hit)|rate.?limit(?:ed|ing| exceeded| error)?|"
        r"too many requests|throttl(?:ed|ing)(?: exception| error)?|slow ?down|"
        r"requests? limit exceeded|rate exceeded",
        "RFC 6585, and the words of the large APIs: the caller is to come back later",
    ),
    Row(
        LIMIT,
        SERVICE,
        r"quotas?(?: \w+){0,3} (?:exceeded|exhausted|reached)|(?:exceeded|over|out of|"
        r"insufficient)(?: \w+){0,3} quota|insufficient quota|quota exceeded|"
        r"credit balance|billing|payment required|insufficient (?:funds|credits?|balance)",
        "quotas and accounts: other arguments do not fill them",
    ),
    # --- codes: the service
    Row(
        CODE,
        SERVICE,
        r"econn(?:refused|reset|aborted)|e(?:net|host)(?:down|unreach)|enetreset|"
        r"e?timedout|etime|epipe|enotconn|esocket(?:timedout)?|eai again|enotfound|"
        r"eaddr(?:notavail|inuse)|eproto|eremoteio",
        "errno(3) and libuv: the network. ENOTFOUND is said of a name when the resolver is away",
    ),
    Row(
        CODE,
        SERVICE,
        r"enospc|edquot|emfile|enfile|enomem|enobufs|eio|erofs|enodev|enxio|estale|eagain",
        "errno(3): the machine has run out of something, or a disk fails",
    ),
    Row(
        CODE,
        SERVICE,
        r"spawn \S{1,200} (?:enoent|eacces)",
        "Node: the program behind the tool is not there; elsewhere ENOENT blames a path",
    ),
    Row(
        CODE,
        SERVICE,
        rf"{_SAID}{_GAP}{_FAILED}|{_FAILED}{_REASON}|http/[\d.]{{1,3}} {_FAILED}",
        "RFC 9110: 5xx, and those of 4xx that no other request mends: 401 and 407 (the "
        "credential is the tool's, and an operator has to act), 402, 408, 421, 425, 429",
    ),
    Row(
        CODE,
        SERVICE,
        r"(?:429 too many requests|500 internal server error|501 not implemented|"
        r"502 bad gateway|503 service (?:temporarily )?unavailable|504 gateway time-?out|"
        r"507 insufficient storage|401 unauthorized|408 request time-?out)",
        "RFC 9110: statuses with their reason phrases",
    ),
    Row(
        CODE,
        SERVICE,
        r"status ?code[. :=]{1,3}(?:unavailable|deadline exceeded|resource exhausted|"
        r"internal|unknown|data loss|aborted|unauthenticated)|"
        r"code = (?:unavailable|deadlineexceeded|deadline exceeded|resourceexhausted|"
        r"resource exhausted|internal|unauthenticated)|deadline exceeded|resource exhausted",
        "gRPC: status codes that tell of the server, as Python and Go write them",
    ),
    Row(
        CODE,
        SERVICE,
        r"sqlite (?:busy|locked|ioerr|corrupt|full|cantopen|nomem|notadb|readonly|protocol)"
        r"(?: \w+)?",
        "SQLite: result codes that tell of the file that the database is in",
    ),
    Row(
        CODE,
        SERVICE,
        r"sql ?state\W{0,4}(?:08|28|40|53|54|55|57|58|xx)\w{3}",
        "PostgreSQL, appendix A: connection, authorization, rollback, resources, operator, "
        "system and internal errors",
    ),
    Row(
        CODE,
        SERVICE,
        r"-3200[01]",
        "the MCP SDKs: connection closed, request timeout",
    ),
    # --- codes: the call
    Row(
        CODE,
        CALL,
        r"enoent|eexist|eacces|eperm|enotdir|eisdir|enotempty|enametoolong|einval|eloop|"
        r"efbig|exdev|esrch|e2big|etxtbsy|err (?:invalid|out of range|missing|unknown)\w*"
        r"(?: \w+){0,3}",
        "errno(3) and Node: a path or an argument. EACCES too: another path may be open",
    ),
    Row(
        CODE,
        CALL,
        rf"{_SAID}{_GAP}{_BLAMED}|{_BLAMED}{_REASON}|http/[\d.]{{1,3}} {_BLAMED}",
        "RFC 9110: the other 4xx; 403 too, as most things that are forbidden are forbidden "
        "one by one",
    ),
    Row(
        CODE,
        CALL,
        r"400 bad request|403 forbidden|404 (?:file )?not found|405 method not allowed|"
        r"406 not acceptable|409 conflict|410 gone|413 (?:content|payload) too large|"
        r"415 unsupported media type|422 unprocessable (?:entity|content)",
        "RFC 9110: statuses with their reason phrases",
    ),
    Row(
        CODE,
        CALL,
        r"status ?code[. :=]{1,3}(?:invalid argument|not found|already exists|"
        r"permission denied|failed precondition|out of range|unimplemented)|"
        r"code = (?:invalid ?argument|not ?found|already ?exists|permission ?denied|"
        r"failed ?precondition|out ?of ?range|unimplemented)",
        "gRPC: status codes that tell of the request",
    ),
    Row(
        CODE,
        CALL,
        r"sqlite (?:constraint|mismatch|range|toobig|auth|perm)(?: \w+)?|"
        r"sql ?state\W{0,4}(?:0a|20|21|22|23|26|34|3d|3f|42|44|p0)\w{3}",
        "SQLite and PostgreSQL, appendix A: statements, values and constraints",
    ),
    Row(
        CODE,
        CALL,
        r"-3260[0-2]|-32700|-32002",
        "JSON-RPC 2.0 and MCP: invalid request, unknown method, invalid params; no such "
        "resource",
    ),
    # --- phrases: the service
    Row(
        PHRASE,
        SERVICE,
        r"connection(?: \w+){0,2} (?:refused|reset|aborted|closed|lost|dropped|terminated|"
        r"broken|failed|failure|timed out|time-?out|error|attempts? failed|not available|"
        r"unavailable|was forcibly closed|unexpectedly)|connection (?:is )?(?:already )?closed|"
        r"reset by peer|broken pipe|broken ?resource|closed ?resource|forcibly closed|"
        r"(?:connect|network|transport|protocol|socket|remote protocol|read|write|proxy) error|"
        r"socket hang ?up|fetch failed|transport (?:endpoint )?(?:is )?(?:not connected|closed)|"
        r"server disconnected|remote (?:end|host) closed|no connection|"
        r"not connected|lost connection",
        "strerror(3), and what HTTP clients and drivers make of it",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"{_CANNOT} (?:\w+ ){{0,4}}?(?:connect|reach|contact|communicate|establish|"
        r"resolve (?:host|proxy|name|address)\w*)|error connecting",
        "there is no way to the service",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:network|host|server|service|destination|node|upstream)(?: \w+){0,2} "
        r"(?:is |was )?(?:currently |temporarily )?(?:un(?:reachable|available|healthy)|"
        r"down|not (?:available|running|responding|ready|reachable|responded)|offline|"
        r"overloaded|busy|gone away|shutting down|starting up)|no route to host|host is down|"
        r"is the server running|no healthy upstream|upstream (?:connect|request) \w+",
        "strerror(3), proxies and databases: the way is there, and nobody at its end",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"name or service not known|name resolution|temporary failure in|"
        r"(?:unknown|no such|resolve) host|host(?:name)? (?:not found|lookup|could not)|"
        r"nodename nor servname|getaddrinfo|dns (?:resolution|lookup|error|failure|timeout)|"
        r"nxdomain|no address associated",
        "gai_strerror(3): a name is unknown also when the resolver or the way to it is down",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"timed? ?out (?:after|waiting|while|reading|during|of|error|exceeded|period)|"
        r"timed out|(?:operation|request|connect|read|write|pool|gateway|statement|lock|"
        r"query|response|execution|command|idle) ?time-?out|time-?out (?:error|expired|was reached|"
        r"of \d+)|timeout error|time limit exceeded|took too long|deadline",
        "what waits for something and gave up",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:temporarily|currently|service|resource temporarily) unavailable|"
        r"(?:try|retry)(?: your request)?(?: again)? later|try again (?:in|after)|"
        r"please (?:try again|retry)|at capacity|over(?:loaded| capacity)|under maintenance|"
        r"(?:scheduled |down for )maintenance|high (?:demand|load)|too busy",
        "RFC 9110 on 503, and how services say it",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"internal (?:server|service|system) error|server error|bad gateway|gateway time-?out|"
        r"service unavailable|bad status line|invalid (?:http )?response|"
        r"(?:unexpected|malformed|empty|incomplete|bad) (?:\w+ )?(?:response|reply)|"
        r"empty reply|incomplete (?:read|chunked)|premature(?:ly)? (?:close|clos|end)\w*|"
        r"(?:peer|server) closed|unexpected eof|unexpected end of (?:stream|response)|"
        r"terminated unexpectedly|process (?:has )?(?:exited|died|crashed|terminated)|"
        r"internal api error",
        "RFC 9110, and clients that could not read an answer",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"too many (?:open files|connections|clients|concurrent \w+)|no space left|"
        r"disk (?:is )?full|disk quota|read-?only (?:file ?system|database)|"
        r"out of (?:memory|disk|space|shared memory|resources)|"
        r"cannot allocate memory|(?:input/output|disk i/o|i/o) error|"
        r"(?:database|table|database table)(?: is|) locked|disk image is malformed|"
        r"is not a database|unable to open database|deadlock(?: detected| found)?|"
        r"lock wait|could not serialize|pool (?:is )?(?:exhausted|timeout|full)|"
        r"(?:resource|device or resource) (?:busy|exhausted)|memory error",
        "strerror(3), SQLite, PostgreSQL and MySQL: resources and locks",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:certificate|ssl|tls)(?: \w+){0,2} (?:verify failed|expired|error|failed|failure|"
        r"handshake|verification|has expired|problem|alert|invalid)|ssl ?error|handshake \w+|"
        r"self.signed certificate|wrong version number|unknown ca",
        "OpenSSL: no request gets through",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:invalid|incorrect|missing|expired|bad|wrong|no|revoked) (?:\w+ )?"
        r"(?:api.?key|credentials?|access.?token|auth(?:entication|orization)? (?:token|header)|"
        r"bearer token|authentication)|(?:api.?key|(?:access |auth |refresh )?token|credentials?)"
        r"(?: \w+){0,3} (?:expired|invalid|revoked|missing|not valid|required|incorrect)|"
        r"authenticat(?:ion|e) (?:failed|required|error|failure)|unauthenticated|unauthorized|"
        r"not authenticated|could not authenticate|login failed|permission denied \(publickey|"
        r"access denied for user|authentication error|noauth|wrongpass",
        "credentials are the tool's, not the model's: an operator has to act",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"segmentation fault|core dumped|stack overflow|runtime error: |"
        r"nil pointer dereference|maximum recursion depth|assertion failed|"
        r"fatal error: runtime|heap out of memory|out of memory|oom.?killed|killed by signal",
        "the program itself broke",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"interface error|busyloading|loading the dataset in memory|"
        r"clusterdown|masterdown|misconf|oom command not allowed|tryagain",
        "PEP 249 and the error prefixes of Redis",
    ),
    # --- phrases: the call
    Row(
        PHRASE,
        CALL,
        r"not found|no such [\w-]+|(?:does|did|do|doesn.t|don.t|didn.t)(?: not)? exist|"
        r"doesn.t exist|non-?existent|not exist|no longer exists|"
        r"could(?: not|n.t) (?:be )?f(?:ou|i)nd|"
        r"cannot find|can.t find|unable to find|(?:could not|cannot|unable to) locate|"
        r"no \w+(?: \w+)? (?:found|matched|matches|exists|available for)|nothing (?:found|to \w+)|"
        r"no match(?:es|ing)?|not present|unknown (?!error|server|host|failure|exception)\w+",
        "what was asked for is not there",
    ),
    Row(
        PHRASE,
        CALL,
        r"already (?:exists|in use|taken|defined|registered|closed)|file exists|"
        r"duplicate (?:key|entry|\w+)|unique constraint|constraint (?:failed|violation)|"
        r"violates|integrity error|foreign key|conflict(?:s|ed|ing)?(?: with)?|"
        r"precondition failed|not empty",
        "what was asked for clashes with what is there",
    ),
    Row(
        PHRASE,
        CALL,
        r"(?:permission|access|operation)(?: is| was|) (?:denied|not permitted|forbidden)|"
        r"not (?:allowed|permitted|authorized to|accessible)|outside (?:of )?(?:the )?"
        r"(?:allowed|permitted|root|base|repository|workspace)\w*|read-?only|forbidden",
        "this may not be touched; another thing may",
    ),
    Row(
        PHRASE,
        CALL,
        r"invalid (?!response|http response|server)\w+|(?:is|are|was|not a) (?:in)?valid(?: \w+)?|"
        r"not valid|validation (?:error|failed|errors?)|illegal \w+|malformed \w+|"
        r"badly formed|bad (?:request|argument|value|parameter|input|format)s?|"
        r"unprocessable|wrong (?:number|type|format|argument)\w*",
        "the arguments are not what they should be",
    ),
    Row(
        PHRASE,
        CALL,
        r"(?:is|are) (?:a )?required|required (?:field|parameter|argument|property|option)\w*|"
        r"missing (?:\d+ )?(?:required|argument|parameter|field|operand|value|option)\w*|"
        r"field required|must (?:not )?(?:be|have|contain|start|match|provide|specify)|"
        r"should (?:be|match|have)|cannot be (?:empty|null|blank|negative|zero)|"
        r"expected (?:a |an )?\w+"
        r"(?:,| but)? (?:got|received|found)|too (?:long|short|large|small|few|many arguments)|"
        r"out of (?:range|bounds)|out-of-range|exceeds (?:the )?(?:maximum|max|limit)\w*|"
        r"unexpected (?:keyword|argument|parameter|token|character|property|field|extra)\w*",
        "JSON schema, argparse, pydantic, zod: what a value must be",
    ),
    Row(
        PHRASE,
        CALL,
        r"syntax error|(?:parse|parsing|decode|encoding|type|value|key|index|attribute|"
        r"zero ?division|"
        r"programming|data|unicode ?decode|unicode ?encode|name|lookup|not implemented|"
        r"not supported|range|reference) error|"
        r"near \S{1,40} syntax|(?:cannot|could not|can.t|unable to|failed to) "
        r"(?:parse|decode|convert|interpret|deserialize|cast)|codec can.t|"
        r"ambiguous|unterminated|unbalanced|unmatched|division by zero|not a number",
        "Python, JavaScript, PEP 249 and SQL: what was given could not be read",
    ),
    Row(
        PHRASE,
        CALL,
        r"is(?: not|n.t) (?:a |an )?(?:directory|file|regular file|git repository|valid|"
        r"supported|recogni[sz]ed|number|integer|string|object|array|iterable|allowed|"
        r"empty|known|defined|a)\w*|not a (?:directory|file|git repository|number|valid|"
        r"regular|known|supported|\w+ file|typewriter)\w*|is a directory|"
        r"unsupported \w+|not (?:supported|implemented|recogni[sz]ed|defined)|unrecogni[sz]ed|"
        r"file name too long|argument list too long|cross-device link|"
        r"wrongtype|wrong kind of value|wrong number of arguments",
        "strerror(3), git and Redis: another thing, or another kind of thing, would do",
    ),
    # --- words: the service
    Row(
        WORD,
        SERVICE,
        r"time-?outs?|unavailable|unreachable|overloaded|offline|internal(?: error)?|"
        r"crash(?:ed)?|panic|aborted|econn\w*|network|socket|dns|ssl|tls|certificate|"
        r"disconnected|connection|outage|maintenance|throttled|exhausted|credentials?|"
        r"authentication|upstream|eof|backend|refused",
        "a subject that is the service's",
    ),
    # --- words: the call
    Row(
        WORD,
        CALL,
        r"(?:unknown|unexpected)(?! (?:error|exception|failure))|invalid|missing|unsupported|"
        r"denied|forbidden|illegal|malformed|duplicate|"
        r"exists|expected|required|requires|must|nonexistent|mismatch|"
        r"argument|parameter|syntax|empty|null|incorrect|undefined|unrecogni[sz]ed|wrong",
        "a subject that is the caller's",
    ),
    # --- prompted by texts of the corpus, strongest first
    Row(
        CODE,
        SERVICE,
        r"another \w+ process",
        "a lock of another's: no arguments take it away",
        "git-8657dc mcp-git-69b660",
    ),
    Row(
        CODE,
        SERVICE,
        r"module not found(?: error)?",
        "a program that is not installed whole",
        "node-8f0785 python-6af487",
    ),
    Row(
        CODE,
        SERVICE,
        r"spawn ?sync \S{1,200} enoent",
        "Node, as `spawn` above",
        "mcp-kubernetes-915d9d",
    ),
    Row(
        CODE,
        SERVICE,
        r"expected http/",
        "an answer that is not HTTP, by the parser of Node and of aiohttp",
        "axios-0028b9 node-62d4c7 undici-6a007e",
    ),
    Row(
        CODE,
        CALL,
        r"unexpected eof (?:while|in)",
        "what ended too soon is what was given, and no answer",
        "archives-068e6f bash-82f1f2",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"other side closed",
        "Node's client of HTTP",
        "node-9dc5f0",
    ),
    Row(
        PHRASE,
        CALL,
        r"incomplete input",
        "half of a statement",
        "python-b2ff61 sqlite3-ec3e6e",
    ),
    Row(
        PHRASE,
        CALL,
        rf"\d+ (?:{_GIVEN} )?(?:was|were) (?:given|passed|supplied|provided|specified)",
        "more or fewer than are expected",
        "python-8cb5de sqlite3-3af3dc",
    ),
    Row(
        PHRASE,
        CALL,
        r"unbound variable",
        "what Bash calls an unknown name",
        "bash-962028",
    ),
    Row(
        PHRASE,
        CALL,
        r"too many levels of symbolic links",
        "strerror(3)",
        "coreutils-a0efdf",
    ),
    Row(
        WORD,
        SERVICE,
        r"operational error",
        "PEP 249. SQLite says so of a missing table too, so that any phrase counts more",
        "python-81c550 sqlalchemy-362b6e",
    ),
    Row(
        WORD,
        CALL,
        r"unable to",
        "the same",
        "java-563113 openssl-1af428",
    ),
    Row(
        WORD,
        CALL,
        r"bad",
        "a value",
        "git-ca1362 node-b619ee ssh-864e1a",
    ),
    Row(
        WORD,
        CALL,
        r"(?<!read[ -])only",
        "what may be asked for instead",
        "git-425d5a mcp-sqlite-fedd2e text-tools-a650a4",
    ),
    Row(
        CODE,
        SERVICE,
        r"shared object",
        "a program that is not installed whole",
        "coreutils-f3a2e3 python-4e0796",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"max retries exceeded",
        "who has tried several times",
        "pip-435ea7 requests-bcc32d",
    ),
    Row(
        PHRASE,
        CALL,
        r"redirects?",
        "this address leads nowhere; another may lead somewhere",
        "aiohttp-b0e126 curl-d0aa83 httpx-fb59e1 mcp-fetch-6be27f python-9a2a6f requests-3449d0",
    ),
    Row(
        PHRASE,
        CALL,
        r"misused?",
        "SQLite, of a function or of a row",
        "python-8b77ad sqlite3-7377c5",
    ),
    Row(
        PHRASE,
        CALL,
        r"\w+ --help",
        "a program that shows how it is called",
        "curl-553a83 git-68ddf3",
    ),
    Row(
        PHRASE,
        CALL,
        r"division by 0",
        "Bash",
        "bash-7667df",
    ),
    Row(
        WORD,
        CALL,
        r"\w*n[o']t",
        "a negation where nothing tells of the service: what the arguments are not, or lack",
        "archives-f2f342 coreutils-a62094 curl-1660da git-73359b jq-e27474 "
        "mcp-duckdb-cab086 mcp-filesystem-6012e5 mcp-git-b4b76f text-tools-9bc476",
    ),
    Row(
        WORD,
        CALL,
        r"no [a-z]\w*",
        "a negation as well: what is not there",
        "git-f2c14f gpg-161cf8 make-c780a2 paramiko-24ce30 python-b9d04d",
    ),
    # --- whole lists of the standards, and classes of words
    Row(
        PHRASE,
        SERVICE,
        r"network is (?:down|unreachable)|network dropped connection|"
        r"software caused connection abort|no buffer space available|"
        r"cannot send after transport|cannot assign requested address|"
        r"address already in use|stale (?:nfs )?file handle|remote i/o error|"
        r"(?:no such|block) device(?: or address| required)?|no medium found|"
        r"no locks available|too many (?:users|references)|structure needs cleaning|"
        r"machine is not on the network|link has been severed|communication error|"
        r"(?:required )?key (?:not available|has expired|has been revoked|was rejected)|"
        r"owner died|timer expired|interrupted(?: system call)?|protocol not available|"
        r"out of streams resources|no child processes|bad message|level \d not|"
        r"resource deadlock avoided|operation canceled|not unique on network",
        "strerror(3): the rest of what the machine and the network lack",
    ),
    Row(
        PHRASE,
        CALL,
        r"(?:exec|executable) (?:file )?format error|out of domain|"
        r"bad (?:file descriptor|address)|text file busy|file too large|illegal seek|"
        r"too many links|value too large|invalid or incomplete multibyte|invalid exchange",
        "strerror(3): the rest of what blames a path or an argument",
    ),
    Row(
        PHRASE,
        CALL,
        r"(?:pole|domain) error",
        "C on errors of mathematics",
        "mcp-calculator-79e952",
    ),
    Row(
        CODE,
        SERVICE,
        r"kind: (?:(?:connection|host|network|not|addr|broken|would|stale|storage|quota|"
        r"resource|write|unexpected|out of|timed|read only|executable|in) ?(?:refused|reset|"
        r"aborted|unreachable|down|connected|in use|not available|pipe|block|network file "
        r"handle|full|exceeded|busy|out|zero|eof|memory|file ?system|file busy|progress)|"
        r"deadlock|interrupted)",
        "std::io::ErrorKind of Rust: all that tell of the network and the machine",
    ),
    Row(
        CODE,
        CALL,
        r"kind: (?:not found|permission denied|already exists|invalid(?: \w+)?|unsupported|"
        r"(?:not|is) ?a ?directory|directory not empty|not seekable|too many links|"
        r"file ?system loop|file too large|crosses devices|argument list too long|empty|"
        r"(?:pos|neg) overflow|zero)|parse (?:int|float|bool|char) error|"
        r"(?:from )?utf(?:8|16) ?error|try from (?:int|char|slice) error|addr parse error",
        "std::io::ErrorKind and the parse errors of Rust: the others",
        "rust-01273c rust-c39bb4 rust-ee1dbf",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:connect|socket(?: timeout)?|unknown ?host|no route to host|port unreachable|"
        r"bind|ssl(?: handshake)?|(?:http )?(?:connect )?timeout|interrupted(?: io)?|"
        r"closed channel|asynchronous close|rejected execution|"
        r"sql (?:timeout|transient|recoverable)(?: \w+)?|insufficient memory|"
        r"out of memory|stack overflow) ?exception|"
        r"(?:out of memory|stack overflow|no class def found|unsatisfied link) ?error",
        "java.lang, java.io, java.net and System of .NET: what tells of the network, the "
        "machine and the program",
    ),
    Row(
        PHRASE,
        CALL,
        r"(?:number format|illegal (?:argument|format)|(?:array |string )?index out of bounds|"
        r"negative array size|class cast|arithmetic|input mismatch|no such element|"
        r"date ?time(?: parse)?|unsupported (?:temporal type|operation|encoding|charset)|"
        r"no such (?:file|field|method)|file not found|file already exists|not directory|"
        r"directory not (?:empty|found)|access denied|malformed (?:url|input)|uri syntax|"
        r"pattern syntax|invalid (?:path|cast|key)|argument(?: null| out of range)?|format|"
        r"key not found|divide by zero|overflow|path too long|parse) ?exception",
        "the same: what blames an argument",
        "java-a65350",
    ),
    Row(
        CODE,
        CALL,
        r"curl: \((?:1|3|4|23|26|33|36|37|47|48|63|78)\)",
        "curl(1), exit codes: the URL, an option, or a file of the caller's",
        "curl-7c8266",
    ),
    Row(
        CODE,
        SERVICE,
        r"und err (?!invalid|not supported)\w+|err (?:connection|network|internet|"
        r"name not resolved|cert|ssl|timed out|empty response|proxy|tunnel|"
        r"address unreachable|tls cert|socket closed|stream premature|worker out of)(?: \w+){0,3}",
        "undici, Node and Chrome: codes of what is wrong with an answer or on its way",
    ),
    Row(
        PHRASE,
        CALL,
        r"sqlite error|sql logic error",
        "SQLite: the first result code, for a statement that makes no sense",
        "python-522200",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"maximum call stack(?: size)?(?: exceeded)?|too much recursion|"
        r"(?:array buffer )?allocation (?:failed|failure|error)|allocation size overflow",
        "MDN's list of errors of JavaScript: those of the program and its memory",
        "node-c9e5f9",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"read[- ]?only (?:error|replica|slave|standby|volume|disk|mount|device|filesystem)",
        "Redis and file systems: what is there cannot be written to now",
        "redis-f9131e",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"(?:no|zero) (?:\w+ )?{_ANSWER}(?: \w+)? (?:received|from|arrived|returned)",
        "no answer",
        "wget-42ae7b",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"(?:did not|didn.t|not|never|without) (?:\w+ )?receiv(?:e|ed|ing) "
        rf"(?:\w+ ){{0,3}}{_ANSWER}",
        "no answer, or none that could be read",
        "websockets-f1c4bf",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"(?:closed|disposed|dead|stale|disconnected|stopped|terminated) {_LINK}",
        "what the tool works with is gone",
        "python-088a61",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"{_LINK} (?:is|was|has been|already|has|are) (?:already )?(?:been )?(?:closed|"
        r"disposed|dead|shut ?down|stopped|terminated|disconnected)",
        "the same",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:after|during|since) (?:\w+ )?shut ?down",
        "the same",
        "python-4ca676",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:server|service|host|peer|upstream|backend|daemon|broker) (?:\w+ ){0,2}"
        r"(?:is|does|did|has|was|can) ?n[o']t",
        "what the service is not, or does not do",
        "elasticsearch-1589b5 elasticsearch-node-325950 neo4j-092a30",
    ),
    Row(
        WORD,
        CALL,
        r"un(?!handled|caught|auth|expect|finish|interrupt)[a-z]{2,16}ed",
        "how an argument is, or how its parts are",
        "js-yaml-08df07 xml2js-d2801a",
    ),
    Row(
        PHRASE,
        SERVICE,
        rf"{_CANNOT} (?:\w+ ){{0,2}}(?:read|get|obtain|find|locate|load|retrieve|refresh|"
        rf"acquire|fetch) (?:\w+ ){{0,2}}{_SECRET}",
        "a credential that is not there",
        "git-395fd5",
    ),
    Row(
        PHRASE,
        SERVICE,
        r"(?:not|be|are|been) (?:logged|signed) in|(?:log|sign) ?in (?:required|again|first)|"
        r"please (?:log|sign) ?in|re-?authenticate|need ?auth(?:entication|orization)?",
        "credentials: somebody has to log in, and that is not the model",
        "npm-ce4382",
    ),
    Row(
        PHRASE,
        CALL,
        rf"un(?:declared|set|assigned|resolved|matched|closed|terminated|balanced|escaped|"
        rf"expected|specified) {_GIVEN}",
        "what is wrong with an argument",
        "redis-0bc4bf",
    ),
    Row(
        PHRASE,
        CALL,
        rf"(?:extra|extraneous|stray|trailing|superfluous|junk|garbage) {_GIVEN}",
        "too much of it",
        "text-tools-9c2c12",
    ),
    Row(
        PHRASE,
        CALL,
        r"refusing to",
        "there is a way to say that it is meant",
        "git-1447a7",
    ),
    Row(
        PHRASE,
        CALL,
        rf"{_CANNOT} (?:open|read|access|stat)(?! (?:\w+ ){{0,3}}?(?:{_ANSWER}|{_LINK}|"
        rf"{_SECRET}|device|headers?|server))",
        "a file that was named",
        "openssl-1af428 openssl-a9f930",
    ),
    Row(
        WORD,
        CALL,
        r"(?:more|fewer|less|greater|larger|smaller|longer|shorter|higher|lower|older|newer)"
        r"(?: \w+)? than",
        "what is given is compared with what is wanted",
        "mcp-postgres-864c4c mcp-postgres-d866fa",
    ),
    Row(
        WORD,
        CALL,
        r"(?:no(?:ne|thing|body)|never|neither|nor|without)",
        "the other negations",
        "gpg-eaeb67",
    ),
    Row(
        WORD,
        CALL,
        r"^(?:error executing tool [\w ]+: |[\w ]+(?:error|exception): )?"
        r"(?:'[^' ]*'|(?:\w+:)?(?:/ ?[\w.@:+-]*)+)$",
        "nothing but a key, a path or a URL: it is what was not there, as of a KeyError",
        "aiohttp-c19617 mcp-git-3844d1",
    ),
    Row(
        WORD,
        SERVICE,
        r"passwords?|passphrase|login|logon",
        "credentials",
    ),
)


# --- the types of the standard library


@dataclass(frozen=True, slots=True)
class ByType:
    """
    What an exception says by its type. Its subclasses say the same, but for those that have
    a row of their own.

    Attributes:
        says: ``SERVICE`` or ``CALL``.
        is_sure: Whether its words are not asked: otherwise the type decides only where
            no row of the words matches.
        why: Why it says so.
    """

    says: Verdict
    is_sure: bool
    why: str


TYPES: Final = {
    "builtins.ConnectionError": ByType(
        SERVICE, True, "refused, reset, aborted, broken pipe"
    ),
    "builtins.TimeoutError": ByType(SERVICE, True, "it took too long, whatever it was"),
    "builtins.MemoryError": ByType(SERVICE, True, "the machine has no more"),
    "builtins.EOFError": ByType(SERVICE, False, "a stream ended before its time"),
    "builtins.FileNotFoundError": ByType(CALL, True, "another path may be there"),
    "builtins.FileExistsError": ByType(CALL, True, "another path may be free"),
    "builtins.IsADirectoryError": ByType(CALL, True, "another path may be a file"),
    "builtins.NotADirectoryError": ByType(CALL, True, "another path may be a directory"),
    "builtins.PermissionError": ByType(
        CALL, True, "a path or a process that is closed to us; another may be open"
    ),
    "builtins.ProcessLookupError": ByType(CALL, True, "another process may be there"),
    "builtins.KeyError": ByType(
        CALL, True, "its text is a key, which is no word of the error's"
    ),
    "builtins.LookupError": ByType(CALL, False, "nothing at that place"),
    "builtins.ValueError": ByType(
        CALL,
        False,
        "a value that makes no sense; but it is also raised for answers of a "
        "service, and then the words tell",
    ),
    "builtins.ArithmeticError": ByType(CALL, False, "numbers that cannot be computed with"),
    "builtins.NotImplementedError": ByType(
        CALL, False, "this cannot be done; other things can"
    ),
    "builtins.SyntaxError": ByType(CALL, False, "code or markup that was given"),
    "json.decoder.JSONDecodeError": ByType(
        SERVICE,
        True,
        "arguments were read before the tool ran: it is an answer, such as "
        "the page of a proxy, that is no JSON",
    ),
    "http.client.InvalidURL": ByType(CALL, True, "a URL that was given"),
    "http.client.HTTPException": ByType(SERVICE, True, "an answer that is not HTTP"),
    "urllib.error.ContentTooShortError": ByType(SERVICE, True, "half of an answer"),
    "smtplib.SMTPServerDisconnected": ByType(SERVICE, True, "there is no connection"),
    "smtplib.SMTPConnectError": ByType(SERVICE, True, "the same"),
    "smtplib.SMTPAuthenticationError": ByType(SERVICE, True, "the tool's credential"),
    "smtplib.SMTPRecipientsRefused": ByType(CALL, True, "other recipients may be known"),
    "ftplib.error_temp": ByType(SERVICE, True, "4xx of FTP: not now"),
    "ftplib.error_proto": ByType(SERVICE, True, "an answer that is not FTP"),
    "poplib.error_proto": ByType(SERVICE, True, "an answer that is not POP"),
    "concurrent.futures._base.BrokenExecutor": ByType(SERVICE, True, "its workers died"),
    "builtins.ImportError": ByType(SERVICE, True, "a program that is not installed whole"),
    "builtins.RecursionError": ByType(SERVICE, True, "the program itself broke"),
    "builtins.SystemError": ByType(SERVICE, True, "the interpreter itself broke"),
    "shutil.Error": ByType(CALL, True, "files that were given"),
    "shutil.ReadError": ByType(CALL, True, "an archive that was given"),
    "shutil.RegistryError": ByType(CALL, True, "a format of archives that was given"),
    "tarfile.TarError": ByType(CALL, True, "an archive that was given"),
    "zipfile.BadZipFile": ByType(CALL, True, "the same"),
    "zipfile.LargeZipFile": ByType(CALL, True, "the same"),
    "gzip.BadGzipFile": ByType(CALL, True, "the same"),
    "_lzma.LZMAError": ByType(CALL, False, "data that was given, or of an answer"),
    "zlib.error": ByType(CALL, False, "the same"),
    "struct.error": ByType(CALL, False, "the same"),
    "_pickle.PickleError": ByType(CALL, False, "the same"),
    "email.errors.MessageError": ByType(CALL, False, "a message that was given"),
    "xml.sax._exceptions.SAXException": ByType(CALL, False, "markup that was given"),
    "xml.parsers.expat.ExpatError": ByType(CALL, False, "the same"),
    "configparser.Error": ByType(CALL, True, "a file of settings that was given"),
    "getopt.GetoptError": ByType(CALL, True, "an option that was given"),
    "argparse.ArgumentError": ByType(CALL, True, "the same"),
    "ctypes.ArgumentError": ByType(CALL, True, "an argument that was given"),
    "locale.Error": ByType(CALL, True, "a locale that was given"),
    "socket.gaierror": ByType(SERVICE, True, "no name is found while the resolver is away"),
    "socket.herror": ByType(SERVICE, True, "the same"),
    "ssl.SSLError": ByType(SERVICE, True, "no request gets through"),
    "subprocess.TimeoutExpired": ByType(SERVICE, True, "it took too long"),
    "re.error": ByType(CALL, True, "a pattern that was given"),
    "re.PatternError": ByType(CALL, True, "the same, since Python 3.13"),
    "csv.Error": ByType(CALL, True, "a file that is no such table"),
    "_csv.Error": ByType(CALL, True, "where it really is"),
}
"""By the name with its module, as those modules are not to be imported for this."""

BLAMING_ERRNOS: Final = frozenset(
    getattr(errno, name, None)
    for name in (
        "ENOENT EEXIST EACCES EPERM ENOTDIR EISDIR ENOTEMPTY ENAMETOOLONG EINVAL ELOOP EFBIG "
        "EXDEV ESRCH E2BIG ETXTBSY ENOEXEC EBADF EDOM ERANGE EILSEQ EOVERFLOW ENOTSUP"
    ).split()
)
"""Numbers of an ``OSError`` that blame a path or an argument. All others that have a name tell
of the network, of what the machine has run out of, or of a device."""


# --- what begins as an error

_OPENING_WORDS: Final = (
    r"(?:a |an |the )?(?:database|sql|query|api|network|connection|server|internal|"
    r"internal server|unexpected|unknown|runtime|system|validation|http|request|tool|file|"
    r"timeout|authentication|execution|parse|parsing|syntax|fatal|mcp|client|input|"
    r"tool execution|redis|postgres|mysql|sqlite)"
)


@dataclass(frozen=True, slots=True)
class Opening:
    """
    How a text begins that is an error although nothing else says so.

    Attributes:
        begins: A regular expression for its beginning, in any case of letters.
        why: Who writes so.
        prompted_by: As in a ``Row``.
    """

    begins: str
    why: str
    prompted_by: str = "standard"


OPENINGS: Final = (
    Opening(r"error ?[:!] ?\S", "the most common one"),
    Opening(r"(?:fatal|exception|failure) ?: \S", "git, and Java"),
    Opening(
        rf"{_OPENING_WORDS} error(?: occurred)?: ?[^\d\s]",
        "what kind of error it is. Not any word: a mean squared error is a result, and so is "
        "what has a number behind the colon",
    ),
    Opening(
        r"an? (?:\w{1,20} )?error (?:has )?occurred\b", "people, and libraries for them"
    ),
    Opening(
        r"error (?:executing|calling|running|reading|fetching|processing|accessing|creating|"
        r"writing|invoking|performing|connecting|retrieving|getting|searching|parsing|"
        r"listing|deleting|updating|querying|while|during) [^\n]{0,100}?: ?\S",
        "the wrapper of many a tool: what it was doing, and what came of it",
    ),
    Opening(r"failed to [a-z]{3,20} [^\n]{0,100}?: ?\S", "the same in Go's way"),
    Opening(r"(?-i:[A-Z]\w{2,60}(?:Error|Exception)): ?\S", "an exception by its type"),
    Opening(r"(?:mcp|http) error -?\d{3,5}\b", "the SDKs of MCP, and urllib"),
    Opening(r"\[errno -?\d+\] ", "Python's OSError"),
    Opening(
        r"error (?!(?:handl|report|check|logg|correct|track|monitor|messag|estimat|bound)ing)"
        r"[a-z]{2,20}ing [^\n]{0,100}?: ?\S",
        "what it was doing, in any other word. How errors are handled is content",
        "mcp-redis-38e42f mcp-redis-5833ad mcp-redis-819a90 mcp-redis-93f63c mcp-redis-fe8c38",
    ),
)


class Strongest(NamedTuple):
    """
    The strongest row that matches.
    """

    strength: Strength
    says: Verdict
    is_tied: bool
    """Whether a row of the other kind is as strong."""

    @property
    def name(self) -> str:
        """
        As the weights know it.
        """
        kind = "service" if self.says is SERVICE else "call"
        return f"{self.strength.name.lower()} {kind}"

    @property
    def is_weak(self) -> bool:
        """
        Whether all words are to be weighed.
        """
        return self.strength is WORD or (self.strength is PHRASE and self.is_tied)


class Patterns:
    """
    The table, or a part of it, ready to be asked. Without weights, the table alone decides.
    """

    __slots__ = ("_begins", "_by_strength", "_weights")

    def __init__(
        self,
        rows: Iterable[Row] = ROWS,
        openings: Iterable[Opening] = OPENINGS,
        weights: Weights | None = None,
    ) -> None:
        rows = tuple(rows)
        self._by_strength = [
            (strength, says, compiled)
            for strength in Strength
            for says in (SERVICE, CALL)
            if (compiled := _any_of(rows, strength, says)) is not None
        ]
        begins = "|".join(each.begins for each in openings) or "(?!)"
        self._begins = re.compile(f"(?:{begins})", re.IGNORECASE | re.ASCII)
        self._weights = weights

    def say(self, words: str, *, at_most: Strength = WORD) -> Verdict | None:
        """
        What the strongest row says of the words, or ``None`` where none matches. Where the
        text names its cause, the cause is asked first.

        Args:
            words: A text as ``words_of`` makes it.
            at_most: Rows that are weaker than this are not asked.
        """
        if at_most is WORD:
            for cause in in_whole_and_causes(words)[1:]:
                if (of_cause := self._strongest(cause, PHRASE)) is not None:
                    return of_cause.says
        found = self._strongest(words, at_most)
        if found is None:
            return None
        if self._weights is None or not found.is_weak:
            return found.says
        return CALL if self._weights.blame_the_call(words, found.name) else SERVICE

    def guess(self, words: str) -> Verdict:
        """
        What is to be said where no row matches, nor anything else has placed the error.
        """
        if self._weights is not None and self._weights.blame_the_call(words, "none"):
            return CALL
        return SERVICE

    def _strongest(self, words: str, at_most: Strength) -> Strongest | None:
        found: Strongest | None = None
        for strength, says, compiled in self._by_strength:
            if strength > (at_most if found is None else found.strength):
                break
            if compiled.search(words) is not None:
                if found is not None:
                    return found._replace(is_tied=True)
                found = Strongest(strength, says, False)
        return found

    def begins_an_error(self, text: str) -> bool:
        """
        Whether the text begins as only errors do.
        """
        return self._begins.match(text) is not None


def _any_of(
    rows: Iterable[Row], strength: Strength, says: Verdict
) -> re.Pattern[str] | None:
    chosen = [row.words for row in rows if row.strength is strength and row.says is says]
    if not chosen:
        return None
    # Not within a path or an option (``--set-upstream``): those are data.
    return re.compile(rf"(?<![\w/-])(?:{'|'.join(chosen)})(?!\w)", re.ASCII)


_CAUSED_BY: Final = re.compile(r"\b(?:caused by\b|\[?cause\]?:):? ?")
"""How Python, Java and Rust (caused by) and Node (cause) hand on what lies beneath."""


def in_whole_and_causes(words: str) -> list[str]:
    """
    The text, and then what it names as its causes, the innermost first.
    """
    return [words, *reversed(_CAUSED_BY.split(words)[1:])]


_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPACE: Final = re.compile(r"[\s_]+")


def words_of(text: str) -> str:
    """
    The text as the rows expect it: both its ends, in lower case, names taken apart into
    words, and one space between them.
    """
    if len(text) > 2 * LOOK:
        text = f"{text[:LOOK]} ... {text[-LOOK:]}"
    return (
        _SPACE.sub(" ", _HUMP.sub(" ", text))
        .lower()
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
