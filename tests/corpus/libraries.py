"""
What libraries of Python raise: clients of services, and readers of formats and languages.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import io
import signal
import socket
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from .exceptions import provoke
from .found import Found
from .loopback import Net

# source | label | how | an expression that raises, or gives an awaitable that does | why
_CASES = """
jinja2|call|a tag that is not closed|jinja2.Template('{{% if x %}}')
jinja2|call|a filter|jinja2.Template('{{{{ x|nowhere }}}}')
jinja2|call|a template|jinja2.Environment(loader=jinja2.DictLoader({{}})).get_template('nowhere')
jinja2|call|a variable|jinja2.Environment(undefined=jinja2.StrictUndefined).from_string('{{{{ x }}}}').render()
jinja2|call|a tag|jinja2.Template('{{% nonsense %}}')
sqlglot|call|a syntax|sqlglot.parse_one('select from where')
sqlglot|call|a string that does not end|sqlglot.parse_one("select 'x")
sqlglot|call|a dialect|sqlglot.parse_one('select 1', read='nonsense')
pillow|call|no image|PIL.Image.open(io.BytesIO(b'text'))
pillow|call|an image's mode|PIL.Image.new('nonsense', (1, 1))
pillow|call|a format|PIL.Image.new('L', (1, 1)).save(io.BytesIO(), 'nonsense')
pillow|call|a size|PIL.Image.new('L', (-1, 1))
pillow|call|a crop|PIL.Image.new('L', (4, 4)).crop((3, 3, 1, 1))
pillow|call|a colour|PIL.Image.new('RGB', (1, 1), 'nonsense')
pillow|call|half an image|PIL.Image.open(io.BytesIO(bytes.fromhex('89504e470d0a1a0a0000000d49484452')))
dateutil|call|a date|dateutil.parser.parse('nonsense')
dateutil|call|a day|dateutil.parser.parse('2020-13-45')
dateutil|call|an ISO date|dateutil.parser.isoparse('tomorrow')
dateutil|call|a rule|dateutil.rrule.rrulestr('FREQ=NONSENSE')
marshmallow|call|a field|marshmallow.Schema.from_dict({{'a': marshmallow.fields.Integer(required=True)}})().load({{}})
marshmallow|call|a type|marshmallow.Schema.from_dict({{'a': marshmallow.fields.Integer()}})().load({{'a': 'x'}})
marshmallow|call|a field too many|marshmallow.Schema.from_dict({{}})().load({{'b': 1}})
voluptuous|call|a key|voluptuous.Schema({{voluptuous.Required('a'): int}})({{}})
voluptuous|call|a type|voluptuous.Schema({{'a': int}})({{'a': 'x'}})
voluptuous|call|a key too many|voluptuous.Schema({{}})({{'b': 1}})
cattrs|call|a type|cattrs.structure('x', int)
networkx|call|a node|networkx.shortest_path(networkx.Graph(), 1, 2)
networkx|call|no path|networkx.shortest_path(networkx.empty_graph(2), 0, 1)
networkx|call|a cycle|list(networkx.topological_sort(networkx.DiGraph([(1, 2), (2, 1)])))
networkx|call|an edge|networkx.Graph().remove_edge(1, 2)
docker-py|service|nobody listens|docker.DockerClient('tcp://{refused}', version='1.41').containers.list()
docker-py|service|no answer in time|docker.DockerClient('tcp://{silent}', version='1.41', timeout=1).containers.list()
docker-py|service|no socket|docker.DockerClient('unix:///nowhere/docker.sock', version='1.41').containers.list()
elasticsearch|service|nobody listens|elasticsearch.Elasticsearch('http://{refused}', max_retries=0).search(index='x')
elasticsearch|service|no answer in time|elasticsearch.Elasticsearch('http://{silent}', max_retries=0, request_timeout=0.3).search(index='x')
elasticsearch|service|no Elasticsearch|elasticsearch.Elasticsearch('http://{http}', max_retries=0).search(index='x')
elasticsearch|call|an empty index|elasticsearch.Elasticsearch('http://{refused}').get(index='', id='1')
pika|service|nobody listens|pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', int('{refused}'[10:])))
pika|service|closed|pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', int('{closed}'[10:])))
pika|service|no AMQP|pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', int('{garbage}'[10:]), socket_timeout=1, stack_timeout=1))
pika|call|a URL|pika.URLParameters('amqp://x:y/z')
kafka-python|service|nobody listens|kafka.KafkaProducer(bootstrap_servers='{refused}', bootstrap_timeout_ms=500)
kafka-python|call|an option|kafka.KafkaProducer(nonsense=1)
minio|service|nobody listens|minio.Minio('{refused}', access_key='a', secret_key='b', secure=False, http_client=urllib3.PoolManager(retries=False)).list_buckets()
minio|service|no XML|minio.Minio('{http}', access_key='a', secret_key='b', secure=False, http_client=urllib3.PoolManager(retries=False)).list_buckets()
minio|call|a bucket's name|minio.Minio('{refused}').bucket_exists('A')
minio|call|a file|minio.Minio('{refused}').fput_object('bucket', 'x', 'nowhere.txt')
httplib2|service|nobody listens|httplib2.Http().request('http://{refused}/')
httplib2|service|closed|httplib2.Http().request('http://{closed}/')
httplib2|service|no answer in time|httplib2.Http(timeout=0.3).request('http://{silent}/')
httplib2|service|a name that cannot be resolved|httplib2.Http().request('http://nowhere.invalid/')
httplib2|call|a URL|httplib2.Http().request('nonsense')
httplib2|call|a loop|httplib2.Http().request('http://{http}/loop')
tornado|service|nobody listens|tornado_fetch('http://{refused}/')
tornado|service|closed|tornado_fetch('http://{closed}/')
tornado|service|no answer in time|tornado_fetch('http://{silent}/', request_timeout=0.3)
tornado|service|no HTTP|tornado_fetch('http://{garbage}/')
tornado|service|status 503|tornado_fetch('{status}503')
tornado|call|status 404|tornado_fetch('{status}404')
tornado|call|a scheme|tornado_fetch('foo://x/')
ldap3|service|nobody listens|ldap3.Connection(ldap3.Server('{refused}'), auto_bind=True)
ldap3|call|a filter|ldap3.Connection(ldap3.Server('{refused}'), client_strategy='MOCK_SYNC', auto_bind=True).search('o=x', '(nonsense')
ldap3|call|a name|ldap3.utils.dn.parse_dn('nonsense')
dnspython|service|nobody listens|resolver('{refused}').resolve('x.example', 'A', lifetime=0.5)
dnspython|call|a name|dns.name.from_text('a..b')
dnspython|call|a kind of record|dns.rdatatype.from_text('NONSENSE')
dnspython|call|an address|dns.inet.inet_pton(socket.AF_INET, 'x')
dnspython|call|a long label|dns.name.from_text('x' * 70)
pyjwt|call|no token|jwt.decode('nonsense', 'k' * 32, algorithms=['HS256'])
pyjwt|call|another's token|jwt.decode(jwt.encode({{}}, 'x' * 32), 'y' * 32, algorithms=['HS256'])|it was given to be read
pyjwt|call|a token that is over|jwt.decode(jwt.encode({{'exp': 1}}, 'x' * 32), 'x' * 32, algorithms=['HS256'])|it was given to be read
pyjwt|call|an algorithm|jwt.encode({{}}, 'x' * 32, algorithm='nonsense')
cryptography|call|no certificate|cryptography.x509.load_pem_x509_certificate(b'text')
cryptography|call|no key|cryptography.hazmat.primitives.serialization.load_pem_private_key(b'text', None)
cryptography|call|a token|cryptography.fernet.Fernet(cryptography.fernet.Fernet.generate_key()).decrypt(b'text')
cryptography|call|a key's length|cryptography.fernet.Fernet(b'text')
jmespath|call|a syntax|jmespath.search('a[', {{}})
jmespath|call|a function|jmespath.search('nowhere(@)', {{}})
jmespath|call|a type|jmespath.search('length(@)', 1)
jmespath|call|how many|jmespath.search('length()', 1)
pint|call|a unit|pint.UnitRegistry()('1 nowhere')
pint|call|metres as seconds|pint.UnitRegistry()('1 m').to('s')
pint|call|a sum|pint.UnitRegistry()('1 m + 1 s')
openpyxl|call|no workbook|openpyxl.load_workbook(io.BytesIO(b'text'))
openpyxl|call|a kind of file|openpyxl.load_workbook('nowhere.txt')
openpyxl|call|a sheet|openpyxl.Workbook()['nowhere']
openpyxl|call|a cell|openpyxl.Workbook().active['nonsense']
openpyxl|call|a row|openpyxl.Workbook().active.cell(0, 0)
openpyxl|call|a character|openpyxl.Workbook().active.cell(1, 1, chr(1))
pypdf|call|no PDF|pypdf.PdfReader(io.BytesIO(b'text'))
pypdf|call|an empty file|pypdf.PdfReader(io.BytesIO(b''))
pypdf|call|half a PDF|pypdf.PdfReader(io.BytesIO(b'%PDF-1.7 text')).pages[0]
docx|call|no document|docx.Document(io.BytesIO(b'text'))
docx|call|a style|docx.Document().add_paragraph('x', style=3)
beautifulsoup4|call|a parser|bs4.BeautifulSoup('x', 'nonsense')
beautifulsoup4|call|a selector|bs4.BeautifulSoup('x', 'html.parser').select('a[')
beautifulsoup4|call|a pseudo-class|bs4.BeautifulSoup('x', 'html.parser').select('a:nonsense')
pygithub|service|nobody listens|github.Github(base_url='http://{refused}', retry=0).get_repo('a/b')
pygithub|call|a repository|github.Github(base_url='{status}404', retry=0).get_repo('a/b')
pygithub|service|status 401|github.Github(base_url='{status}401', retry=0).get_repo('a/b')|its credential
slack-sdk|service|nobody listens|slack_sdk.WebClient(base_url='http://{refused}/').api_test()
slack-sdk|service|a page where JSON should be|slack_sdk.WebClient(base_url='http://{http}/').api_test()
slack-sdk|service|no token|slack_sdk.WebClient(base_url='http://{http}/').chat_postMessage(channel='x', text='y')
mysql-connector|service|nobody listens|mysql.connector.connect(host='127.0.0.1', port=int('{refused}'[10:]))
mysql-connector|call|an option|mysql.connector.connect(nonsense=1)
nats|service|nobody listens|nats.connect('nats://{refused}', allow_reconnect=False, connect_timeout=1)
nats|service|no NATS|nats.connect('nats://{garbage}', allow_reconnect=False, connect_timeout=1)
nats|service|not connected|nats.NATS().publish('x', b'y')
aiosmtplib|service|nobody listens|aiosmtplib.send('x', sender='a@b', recipients=['c@d'], hostname='127.0.0.1', port=int('{refused}'[10:]))
aiosmtplib|service|no SMTP|aiosmtplib.send('x', sender='a@b', recipients=['c@d'], hostname='127.0.0.1', port=int('{garbage}'[10:]), timeout=1)
aiosmtplib|service|no answer in time|aiosmtplib.send('x', sender='a@b', recipients=['c@d'], hostname='127.0.0.1', port=int('{silent}'[10:]), timeout=0.3)
aiosmtplib|call|no recipients|aiosmtplib.send('x', sender='a@b', recipients=[], hostname='127.0.0.1', port=int('{refused}'[10:]))
asyncssh|service|nobody listens|asyncssh.connect('127.0.0.1', int('{refused}'[10:]))
asyncssh|service|closed|asyncssh.connect('127.0.0.1', int('{closed}'[10:]))
asyncssh|service|no SSH|asyncssh.connect('127.0.0.1', int('{garbage}'[10:]), connect_timeout=1)
asyncssh|call|no key|asyncssh.import_private_key('text')
asyncssh|call|a key's file|asyncssh.read_private_key('nowhere')
asyncssh|call|an algorithm|asyncssh.generate_private_key('nonsense')
neo4j|service|nobody listens|neo4j.GraphDatabase.driver('bolt://{refused}').verify_connectivity()
neo4j|service|no Neo4j|neo4j.GraphDatabase.driver('bolt://{garbage}', connection_timeout=1).verify_connectivity()
neo4j|service|closed|neo4j.GraphDatabase.driver('bolt://{closed}').verify_connectivity()
neo4j|call|a scheme|neo4j.GraphDatabase.driver('foo://x')
pymemcache|service|nobody listens|pymemcache.Client('{refused}').get('x')
pymemcache|service|closed|pymemcache.Client('{closed}').get('x')
pymemcache|service|no memcached|pymemcache.Client('{garbage}').get('x')
pymemcache|service|no answer in time|pymemcache.Client('{silent}', timeout=0.3).get('x')
pymemcache|call|a key|pymemcache.Client('{refused}').get('a b')
fsspec|call|a protocol|fsspec.open('foo://x')
fsspec|call|a file|fsspec.open('nowhere.txt').open()
fsspec|call|a file in memory|fsspec.filesystem('memory').cat('nowhere')
fsspec|call|no archive|fsspec.filesystem('zip', fo=io.BytesIO(b'text'))
msgpack|call|too much|msgpack.unpackb(b'ab')
msgpack|call|half of it|msgpack.unpackb(bytes([0x92, 1]))
msgpack|call|an object|msgpack.packb(object())
fastavro|call|no Avro|list(fastavro.reader(io.BytesIO(b'text')))
fastavro|call|a schema|fastavro.parse_schema({{'type': 'nonsense'}})
fastavro|call|a record|fastavro.writer(io.BytesIO(), {{'type': 'record', 'name': 'x', 'fields': [{{'name': 'a', 'type': 'int'}}]}}, [{{}}])
tomlkit|call|a syntax|tomlkit.parse('a = ')
tomlkit|call|a key twice|tomlkit.parse('a = 1\\na = 2')
tomlkit|call|a key|tomlkit.parse('a = 1')['b']
click|call|an option|command('--nonsense')
click|call|a number|command('--count', 'x')
click|call|a choice|command('--kind', 'x')
click|call|a file|command('--file', 'nowhere.txt')
click|call|an argument too many|command('x')
lark|call|a character|lark.Lark('start: "a"').parse('b')
lark|call|an end|lark.Lark('start: "a" "b"').parse('a')
lark|call|a grammar|lark.Lark('start: nowhere')
pyparsing|call|a word|pyparsing.Word(pyparsing.nums).parse_string('x')
pyparsing|call|more|pyparsing.Word(pyparsing.nums).parse_string('1 x', parse_all=True)
simpleeval|call|a name|simpleeval.simple_eval('nowhere')
simpleeval|call|a function|simpleeval.simple_eval('nowhere()')
simpleeval|call|a feature|simpleeval.simple_eval('[x for x in y]')
simpleeval|call|too large a power|simpleeval.simple_eval('9 ** 9999999')
qdrant|service|nobody listens|qdrant_client.QdrantClient(url='http://{refused}', check_compatibility=False).get_collections()
qdrant|service|status 503|qdrant_client.QdrantClient(url='{status}503', check_compatibility=False).get_collections()
qdrant|call|a collection|qdrant_client.QdrantClient(':memory:').get_collection('nowhere')
qdrant|call|a vector's length|vectors(qdrant_client)
clickhouse|service|nobody listens|clickhouse_connect.get_client(host='127.0.0.1', port=int('{refused}'[10:]))
clickhouse|service|no ClickHouse|clickhouse_connect.get_client(host='127.0.0.1', port=int('{http}'[10:]))
kubernetes-py|service|nobody listens|kubernetes.client.CoreV1Api(pods('http://{refused}')).list_namespace(_request_timeout=1)
kubernetes-py|call|a pod|kubernetes.client.CoreV1Api(pods('{status}404')).list_namespace()
kubernetes-py|service|status 500|kubernetes.client.CoreV1Api(pods('{status}500')).list_namespace()
kubernetes-py|call|no name|kubernetes.client.CoreV1Api(pods('http://{refused}')).read_namespace(None)
kubernetes-py|service|no settings|kubernetes.config.load_kube_config('/nowhere/config')|its own
numpy|call|shapes|numpy.zeros((2, 3)) @ numpy.zeros((2, 3))
numpy|call|a reshape|numpy.zeros(6).reshape(4, 2)
numpy|call|a singular matrix|numpy.linalg.inv(numpy.zeros((2, 2)))
numpy|call|an axis|numpy.zeros(3).sum(axis=5)
numpy|call|an index|numpy.zeros(3)[9]
numpy|call|a type|numpy.dtype('nonsense')
numpy|call|a file|numpy.load(io.BytesIO(b'text'))
numpy|call|a broadcast|numpy.zeros(3) + numpy.zeros(4)
numpy|service|too large an array|numpy.zeros(2 ** 50)|there is not that much memory
babel|call|a locale|babel.Locale.parse('nonsense')
babel|call|a currency's locale|babel.numbers.format_currency(1, 'EUR', locale='xx')
babel|call|a number|babel.numbers.parse_decimal('x', locale='en')
jsonpath-ng|call|a syntax|jsonpath_ng.parse('$[')
jsonpath-ng|call|a character|jsonpath_ng.parse('$.a^^')
pycountry|call|a country|pycountry.countries.lookup('nowhere')
croniter|call|a field|croniter.croniter('nonsense')
croniter|call|a minute|croniter.croniter('99 * * * *')
hvac|service|nobody listens|hvac.Client('http://{refused}').secrets.kv.read_secret_version('x')
hvac|service|status 503|hvac.Client('{status}503').secrets.kv.read_secret_version('x')
hvac|call|a path|hvac.Client('{status}404').secrets.kv.read_secret_version('x')
influxdb|service|nobody listens|influxdb_client.InfluxDBClient('http://{refused}', 't', org='o').query_api().query('x')
influxdb|call|a bucket|influxdb_client.InfluxDBClient('{status}404', 't', org='o').query_api().query('x')
influxdb|service|status 429|influxdb_client.InfluxDBClient('{status}429', 't', org='o').query_api().query('x')
cerberus|call|a schema|cerberus.Validator({{'a': {{'nonsense': 1}}}})
cerberus|call|no schema|cerberus.Validator()({{}})
"""

_IMPORTS = (
    "PIL.Image asyncssh aiosmtplib babel babel.numbers bs4 cattrs cerberus click "
    "clickhouse_connect croniter cryptography.fernet cryptography.x509 "
    "cryptography.hazmat.primitives.serialization dateutil.parser dateutil.rrule dns.inet "
    "dns.name dns.rdatatype dns.resolver docker docx elasticsearch fastavro fsspec github "
    "httplib2 hvac influxdb_client jinja2 jmespath jsonpath_ng jwt kafka kubernetes lark "
    "ldap3 ldap3.utils.dn marshmallow minio msgpack mysql.connector nats neo4j networkx numpy "
    "openpyxl pika pint pycountry pymemcache pyparsing pypdf qdrant_client simpleeval "
    "slack_sdk sqlglot tomlkit tornado.httpclient urllib3 voluptuous"
).split()


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of those that are installed.
    """
    warnings.simplefilter("ignore")
    scope = _scope()
    names = vars(net) | {"status": f"http://{net.http}/status/"}
    for line in _CASES.strip().splitlines():
        source, label, provoked, rest = line.split("|", 3)
        code, _, why = rest.rpartition("|") if _has_why(rest) else (rest, "", "")
        code = code.format(**names)
        found = provoke(source, label, provoked, partial(_run, code, scope), why)
        if found is not None and not _is_of_ours(found):
            yield found


def _has_why(rest: str) -> bool:
    return rest.rpartition("|")[2].startswith(("it ", "its ", "there "))


def _is_of_ours(found: Found) -> bool:
    """
    Whether we raised it: the library waits too long, or is not installed.
    """
    kind = found.types[0]
    return kind == f"{__name__}._TooLong" or (
        kind == "builtins.NameError" and "'" in found.text
    )


class _TooLong(BaseException):
    """
    A library that waits longer than we do.
    """


def _too_long(*_: object) -> None:
    raise _TooLong


def _run(code: str, scope: dict[str, Any]) -> None:
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(8)
    try:
        _evaluated(code, scope)
    finally:
        signal.alarm(0)


def _evaluated(code: str, scope: dict[str, Any]) -> None:
    made = eval(code, scope)
    if inspect.isawaitable(made):

        async def wait() -> None:
            await made

        asyncio.run(asyncio.wait_for(wait(), 10))


def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {"io": io, "socket": socket}
    for name in _IMPORTS:
        try:
            importlib.import_module(name)
            scope[name.partition(".")[0]] = importlib.import_module(name.partition(".")[0])
        except ImportError:
            print(f"{name} is not installed")
    return scope | {
        "tornado_fetch": lambda url, **more: _fetched(scope["tornado"], url, more),
        "resolver": lambda address: _resolver(scope["dns"], address),
        "command": lambda *arguments: _command(scope["click"], arguments),
        "vectors": _vectors,
        "pods": lambda address: _pods(scope["kubernetes"], address),
    }


async def _fetched(tornado: Any, url: str, more: dict[str, Any]) -> None:
    await tornado.httpclient.AsyncHTTPClient().fetch(url, **more)


def _resolver(dns: Any, address: str) -> Any:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers, made.port = ["127.0.0.1"], int(address.partition(":")[2])
    return made


def _command(click: Any, arguments: tuple[str, ...]) -> None:
    @click.command()
    @click.option("--count", type=int)
    @click.option("--kind", type=click.Choice(["a", "b"]))
    @click.option("--file", type=click.File())
    def run(**_: Any) -> None: ...

    run.main(list(arguments), standalone_mode=False)


def _vectors(qdrant: Any) -> None:
    client = qdrant.QdrantClient(":memory:")
    kind = qdrant.models.VectorParams(size=2, distance=qdrant.models.Distance.DOT)
    client.create_collection("x", vectors_config=kind)
    client.query_points("x", query=[1.0])


def _pods(kubernetes: Any, address: str) -> Any:
    configuration = kubernetes.client.Configuration(host=address)
    configuration.retries = False
    return kubernetes.client.ApiClient(configuration)
