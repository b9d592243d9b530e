"""
What libraries of Node throw: clients of services, and readers of formats and schemas.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .found import Found
from .loopback import Net
from .node import SCRIPT

# source | label | how | an expression that throws, or a promise that is rejected | why
_CASES = """
axios|service|nobody listens|require('axios').get('http://{refused}/')
axios|service|closed|require('axios').get('http://{closed}/')
axios|service|no answer in time|require('axios').get('http://{silent}/', {{timeout: 300}})
axios|service|no HTTP|require('axios').get('http://{garbage}/')
axios|service|half an answer|require('axios').get('http://{partial}/')
axios|service|status 503|require('axios').get('{status}503')
axios|service|status 401|require('axios').get('{status}401')|its credential
axios|call|status 404|require('axios').get('{status}404')
axios|call|a URL|require('axios').get('nonsense')
axios|call|a scheme|require('axios').get('foo://x/')
axios|call|a loop|require('axios').get('http://{http}/loop', {{maxRedirects: 3}})
pg|service|nobody listens|new (require('pg').Client)({{host: '127.0.0.1', port: {refused_port}}}).connect()
pg|service|closed|new (require('pg').Client)({{host: '127.0.0.1', port: {closed_port}}}).connect()
pg|service|no answer in time|new (require('pg').Client)({{host: '127.0.0.1', port: {silent_port}, connectionTimeoutMillis: 300}}).connect()
mysql2|service|nobody listens|require('mysql2/promise').createConnection({{host: '127.0.0.1', port: {refused_port}}})
mysql2|service|closed|require('mysql2/promise').createConnection({{host: '127.0.0.1', port: {closed_port}}})
mysql2|service|no answer in time|require('mysql2/promise').createConnection({{host: '127.0.0.1', port: {silent_port}, connectTimeout: 300}})
ioredis|service|nobody listens|new (require('ioredis'))({refused_port}, '127.0.0.1', {{maxRetriesPerRequest: 1}}).get('x')
ioredis|service|no Redis|new (require('ioredis'))({garbage_port}, '127.0.0.1', {{maxRetriesPerRequest: 1}}).get('x')
mongodb-node|service|nobody listens|new (require('mongodb').MongoClient)('mongodb://{refused}', {{serverSelectionTimeoutMS: 300}}).db('x').collection('y').findOne()
mongodb-node|call|a URL|new (require('mongodb').MongoClient)('nonsense')
mongodb-node|call|an id|new (require('mongodb').ObjectId)('x')
zod|call|a type|require('zod').z.string().parse(1)
zod|call|a field|require('zod').z.object({{a: require('zod').z.number()}}).parse({{}})
zod|call|a choice|require('zod').z.enum(['a', 'b']).parse('c')
zod|call|a length|require('zod').z.string().min(3).parse('x')
zod|call|a key too many|require('zod').z.object({{}}).strict().parse({{b: 1}})
zod|call|an address|require('zod').z.string().email().parse('x')
joi|call|a type|require('joi').attempt('x', require('joi').number())
joi|call|a field|require('joi').attempt({{}}, require('joi').object({{a: require('joi').required()}}))
joi|call|a key too many|require('joi').attempt({{b: 1}}, require('joi').object({{}}))
joi|call|a choice|require('joi').attempt('c', require('joi').valid('a', 'b'))
yup|call|a type|require('yup').number().validate('x')
yup|call|a field|require('yup').object({{a: require('yup').string().required()}}).validate({{}})
yup|call|a length|require('yup').string().max(1).validate('xyz')
yup|call|a choice|require('yup').string().oneOf(['a']).validate('c')
ajv|call|a keyword|new (require('ajv'))().compile({{nonsense: 1}})
ajv|call|a reference|new (require('ajv'))().compile({{$ref: '#/nowhere'}})
ajv|call|a type|new (require('ajv'))().compile({{type: 'nonsense'}})
js-yaml|call|a syntax|require('js-yaml').load('[1')
js-yaml|call|an indentation|require('js-yaml').load('a: b: c')
js-yaml|call|a tag|require('js-yaml').load('!nonsense x')
js-yaml|call|a key twice|require('js-yaml').load('a: 1\\na: 2')
js-yaml|call|an alias|require('js-yaml').load('*x')
undici|service|nobody listens|require('undici').request('http://{refused}/')
undici|service|closed|require('undici').request('http://{closed}/')
undici|service|no HTTP|require('undici').request('http://{garbage}/')
undici|service|no answer in time|require('undici').request('http://{silent}/', {{headersTimeout: 300}})
undici|call|a URL|require('undici').request('nonsense')
undici|call|a method|require('undici').request('http://{http}/', {{method: 'a b'}})
ws|service|nobody listens|on(new (require('ws'))('ws://{refused}/'))
ws|service|no WebSocket|on(new (require('ws'))('ws://{http}/'))
ws|service|no HTTP|on(new (require('ws'))('ws://{garbage}/'))
ws|call|a URL|new (require('ws'))('nonsense')
ws|call|a protocol|new (require('ws'))('ws://{http}/', 'a b')
nodemailer|service|nobody listens|require('nodemailer').createTransport({{host: '127.0.0.1', port: {refused_port}}}).sendMail({{from: 'a@b', to: 'c@d'}})
nodemailer|service|no SMTP|require('nodemailer').createTransport({{host: '127.0.0.1', port: {garbage_port}}}).sendMail({{from: 'a@b', to: 'c@d'}})
nodemailer|service|no greeting|require('nodemailer').createTransport({{host: '127.0.0.1', port: {silent_port}, greetingTimeout: 300}}).sendMail({{from: 'a@b', to: 'c@d'}})
nodemailer|call|no recipients|require('nodemailer').createTransport({{jsonTransport: false, host: '127.0.0.1', port: {refused_port}}}).sendMail({{}})
cheerio|call|a selector|require('cheerio').load('x')('a[')
cheerio|call|a pseudo-class|require('cheerio').load('x')('a:nonsense')
xml2js|call|a tag that is not closed|require('xml2js').parseStringPromise('<a>')
xml2js|call|no XML|require('xml2js').parseStringPromise('text')
xml2js|call|a tag that is closed by another|require('xml2js').parseStringPromise('<a></b>')
csv-parse|call|columns|require('csv-parse/sync').parse('a,b\\n1')
csv-parse|call|a quote|require('csv-parse/sync').parse('a"b')
csv-parse|call|an option|require('csv-parse/sync').parse('a', {{delimiter: 1.5}})
date-fns|call|a date|require('date-fns').format(new Date('x'), 'P')
date-fns|call|a format|require('date-fns').format(new Date(), 'nonsense')
luxon|call|a unit|require('luxon').Duration.fromObject({{nowhere: 1}})
luxon|call|a zone|(() => {{ require('luxon').Settings.throwOnInvalid = true; return require('luxon').DateTime.now().setZone('Nowhere') }})()
luxon|call|a day|(() => {{ require('luxon').Settings.throwOnInvalid = true; return require('luxon').DateTime.fromObject({{day: 99}}) }})()
mathjs|call|a name|require('mathjs').evaluate('nowhere')
mathjs|call|a syntax|require('mathjs').evaluate('1 +')
mathjs|call|a function|require('mathjs').evaluate('nowhere(1)')
mathjs|call|units|require('mathjs').evaluate('1 m + 1 s')
mathjs|call|dimensions|require('mathjs').evaluate('[1,2] * [1,2,3]')
mathjs|call|how many|require('mathjs').evaluate('sqrt(1, 2, 3)')
mathjs|call|a parenthesis|require('mathjs').evaluate('(1')
commander|call|an option|new (require('commander').Command)().exitOverride().parse(['--nonsense'], {{from: 'user'}})
commander|call|an argument|new (require('commander').Command)().exitOverride().argument('<x>').parse([], {{from: 'user'}})
commander|call|a choice|new (require('commander').Command)().exitOverride().addOption(new (require('commander').Option)('--kind <x>').choices(['a'])).parse(['--kind', 'b'], {{from: 'user'}})
simple-git|call|no repository|require('simple-git').simpleGit('/').log()
simple-git|call|a revision|(async () => {{ const g = require('simple-git').simpleGit('.'); await g.init(); await g.checkout('nowhere') }})()
simple-git|call|a directory|require('simple-git').simpleGit('/nowhere')
elasticsearch-node|service|nobody listens|new (require('@elastic/elasticsearch').Client)({{node: 'http://{refused}', maxRetries: 0}}).search({{}})
elasticsearch-node|service|no Elasticsearch|new (require('@elastic/elasticsearch').Client)({{node: 'http://{http}', maxRetries: 0}}).search({{}})
elasticsearch-node|call|no id|new (require('@elastic/elasticsearch').Client)({{node: 'http://{refused}', maxRetries: 0}}).get({{index: 'x'}})
amqplib|service|nobody listens|require('amqplib').connect('amqp://{refused}')
amqplib|service|closed|require('amqplib').connect('amqp://{closed}')
amqplib|service|no AMQP|require('amqplib').connect('amqp://{garbage}')
amqplib|call|a scheme|require('amqplib').connect('foo://x')
kafkajs|service|nobody listens|new (require('kafkajs').Kafka)({{brokers: ['{refused}'], logLevel: 0, retry: {{retries: 0}}}}).producer().connect()
kafkajs|service|no answer in time|new (require('kafkajs').Kafka)({{brokers: ['{silent}'], logLevel: 0, requestTimeout: 300, retry: {{retries: 0}}}}).producer().connect()
kafkajs|service|not connected|new (require('kafkajs').Kafka)({{brokers: ['{refused}'], logLevel: 0, retry: {{retries: 0}}}}).producer().send({{topic: 'x', messages: [{{value: 'y'}}]}})
kafkajs|call|no topic|new (require('kafkajs').Kafka)({{brokers: ['{refused}'], logLevel: 0}}).producer().send({{messages: []}})
"""


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All that are installed in the directory that ``CORPUS_NODE`` names.
    """
    modules = os.environ.get("CORPUS_NODE", "")
    if shutil.which("node") is None or not modules:
        return
    servers = ("refused", "silent", "closed", "garbage", "partial", "http")
    words = {name: getattr(net, name) for name in servers}
    words |= {f"{name}_port": words[name].rpartition(":")[2] for name in servers}
    words["status"] = f"http://{net.http}/status/"
    for line in _CASES.strip().splitlines():
        source, label, provoked, rest = line.split("|", 3)
        code, _, why = rest.partition("|")
        ran = subprocess.run(
            ["node", "-e", SCRIPT, code.format_map(words)], cwd=here, capture_output=True,
            text=True, timeout=30, check=False, env=os.environ | {"NODE_PATH": modules},
        )  # fmt: skip
        if ran.stdout.startswith('"') and "Cannot find module" not in ran.stdout:
            said = json.loads(ran.stdout)
            yield Found(
                source=source, provoked=provoked, form="error", text=said, label=label, why=why
            )  # fmt: skip
