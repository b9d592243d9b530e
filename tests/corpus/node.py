"""
What Node's own modules throw: ``fs``, ``net``, ``http``, ``fetch`` and the language.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .found import Found
from .loopback import Net

# label | how | an expression that throws, or a promise that is rejected | why
_CASES = """
call|a missing file|fs.readFileSync('nowhere.txt')
call|a directory to read|fs.readFileSync('.')
call|a file as a directory|fs.readdirSync('there.txt')
call|what is there|fs.mkdirSync('full')
call|what is not empty|fs.rmdirSync('full')
call|a descriptor|fs.readSync(999, Buffer.alloc(1))
call|a path that is no string|fs.readFileSync(undefined)
call|a number|fs.readFileSync('there.txt', {{flag: 'nonsense'}})
call|a name that is too long|fs.readFileSync('x'.repeat(300))
call|JSON|JSON.parse('nonsense')
call|half of JSON|JSON.parse('{{"a":')
call|a URL|new URL('nonsense')
call|a scheme|fetch('foo://example')
call|a header|new Headers({{'a b': 'c'}})
call|a range|new Array(-1)
call|a radix|(1).toString(99)
call|a date|new Date('x').toISOString()
call|an encoding|Buffer.from('x', 'nonsense')
call|a digest|crypto.createHash('nonsense')
call|a key's length|crypto.createCipheriv('aes-128-cbc', 'a', 'b')
call|no gzip|zlib.gunzipSync(Buffer.from('text'))
call|a pattern|new RegExp('(')
call|a component|decodeURIComponent('%')
call|a circle|(() => {{ const a = {{}}; a.a = a; return JSON.stringify(a) }})()
call|a BigInt|BigInt('x')
call|a variable|eval('nowhere')
call|a syntax|eval('if (')
call|a port|net.connect(99999)
call|an assertion|require('assert').strictEqual(1, 2)
call|a symbol|'x'.repeat(-1)
service|nobody listens|fetch('http://{refused}/')
service|reset|fetch('http://{reset}/')
service|closed|fetch('http://{closed}/')
service|no answer in time|fetch('http://{silent}/', {{signal: AbortSignal.timeout(300)}})
service|no HTTP|fetch('http://{garbage}/')
service|half an answer|fetch('http://{partial}/').then(r => r.text())
service|a name that cannot be resolved|fetch('http://nowhere.invalid/')
service|an answer that is no JSON|fetch('{status}200').then(r => r.json())|a page of a proxy
service|http.get, nobody listens|get('http://{refused}/')
service|http.get, closed|get('http://{closed}/')
service|http.get, no HTTP|get('http://{garbage}/')
service|http.get, a name that cannot be resolved|get('http://nowhere.invalid/')
service|https to a plain port|get('https://{http}/')
service|a socket, reset|on(net.connect({reset_port}, '127.0.0.1').end('x'))
service|a port that is taken|on(net.createServer().listen({http_port}, '127.0.0.1'))|other ports are not for the model to choose
service|a resolver|require('dns').promises.resolve4('nowhere.invalid')
service|a program that is not there|on(cp.spawn('nowhere-such'))|the program is the tool's
service|a program out of time|cp.execFileSync('sleep', ['9'], {{timeout: 200}})
service|a full disk|fs.writeFileSync('/dev/full', 'x')
service|a module that is not there|require('nowhere-such')|the tool is not installed whole
service|a stack that overflows|(function f() {{ f() }})()
service|a stream that ended|(async () => {{ const s = new (require('stream').PassThrough)(); s.end(); return new Promise((_, no) => s.write('x', e => no(e))) }})()
service|too large a buffer|Buffer.alloc(2 ** 53)|there is not that much memory
"""

SCRIPT = """
const fs = require('fs'), net = require('net'), http = require('http'), https = require('https');
const crypto = require('crypto'), zlib = require('zlib'), cp = require('child_process');
const on = emitter => new Promise((_, no) => emitter.on('error', no));
const get = url => on((url.startsWith('https') ? https : http).get(url));
const said = e => [e.code && String(e.message).includes(e.code) ? '' : e.code, `${e.name}: ${e.message}`,
  e.cause ? `cause: ${e.cause.message || e.cause.code}` : ''].filter(Boolean).join(' ');
const quit = e => { console.log(JSON.stringify(said(e))); process.exit(0); };
process.on('uncaughtException', quit);
setTimeout(() => process.exit(0), 8000);
(async () => { try { await eval(process.argv[1]) } catch (e) { quit(e) } })();
"""


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of them; nothing without Node.
    """
    if shutil.which("node") is None:
        return
    (here / "there.txt").write_text("text")
    (here / "full").mkdir()
    (here / "full" / "x").write_text("text")
    servers = ("refused", "reset", "silent", "closed", "garbage", "partial", "http")
    words = {name: getattr(net, name) for name in servers}
    words |= {f"{name}_port": words[name].rpartition(":")[2] for name in servers}
    words["status"] = f"http://{net.http}/status/"
    for line in _CASES.strip().splitlines():
        label, provoked, rest = line.split("|", 2)
        code, _, why = rest.partition("|")
        code = code.format_map(words)
        ran = subprocess.run(
            ["node", "-e", SCRIPT, code], cwd=here, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
        if ran.stdout.startswith('"'):
            said = json.loads(ran.stdout)
            yield Found(
                source="node",
                provoked=provoked,
                form="error",
                text=said,
                label=label,
                why=why,
            )
