"""
What programs of the command line say when they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .found import Found
from .loopback import Net

# source | label | how it was provoked | what the shell runs | why, if one may think otherwise
_COMMANDS = r"""
curl|service|nobody listens|curl -sS http://{refused}/
curl|service|reset while reading|curl -sS http://{reset}/
curl|service|closed without an answer|curl -sS http://{closed}/
curl|service|no answer in a second|curl -sS -m 1 http://{silent}/
curl|service|an answer that is not HTTP|curl -sS http://{garbage}/
curl|service|half an answer|curl -sS http://{partial}/
curl|service|a name that cannot be resolved|curl -sS http://nowhere.invalid/|the name may also be the argument
curl|service|TLS to a plain port|curl -sS https://{http}/
curl|service|a proxy that is away|curl -sS -x http://{refused} http://{http}/
curl|call|status 404|curl -sSf {status}404
curl|call|status 403|curl -sSf {status}403
curl|call|status 410|curl -sSf {status}410
curl|service|status 500|curl -sSf {status}500
curl|service|status 502|curl -sSf {status}502
curl|service|status 503|curl -sSf {status}503
curl|service|status 429|curl -sSf {status}429
curl|service|status 401|curl -sSf {status}401|the credential is the tool's
curl|call|an unknown scheme|curl -sS foo://example.com/
curl|call|a URL that is none|curl -sS 'http://exa mple/'
curl|call|a missing file|curl -sS file:///nothing/here
curl|call|an unknown option|curl --nonsense
curl|call|no URL|curl
curl|call|a file that cannot be written|curl -sS -o /nothing/here/page http://{http}/
curl|call|an upload that is not there|curl -sS -T missing.txt http://{http}/
curl|call|too many redirects|curl -sS -L --max-redirs 3 http://{http}/loop|this address loops
curl|call|a bad port|curl -sS http://127.0.0.1:99999/
wget|service|nobody listens|wget -nv -t1 -O- http://{refused}/
wget|service|reset while reading|wget -nv -t1 -O- http://{reset}/
wget|service|no answer in a second|wget -nv -t1 -T1 -O- http://{silent}/
wget|service|a name that cannot be resolved|wget -nv -t1 -O- http://nowhere.invalid/|the name may also be the argument
wget|service|closed without an answer|wget -nv -t1 -O- http://{closed}/
wget|call|status 404|wget -nv -t1 -O- {status}404
wget|call|status 403|wget -nv -t1 -O- {status}403
wget|service|status 503|wget -nv -t1 -O- {status}503
wget|service|status 500|wget -nv -t1 -O- {status}500
wget|service|status 401|wget -nv -t1 -O- {status}401|the credential is the tool's
wget|call|an unknown scheme|wget -nv foo://x/
wget|call|no URL|wget
git|call|outside of a repository|cd plain && git status
git|call|an unknown revision|cd repo && git show nowhere
git|call|an unknown path|cd repo && git checkout nowhere
git|call|a missing file|cd repo && git add nowhere.txt
git|call|a path that is not tracked|cd repo && git rm nowhere.txt
git|call|a branch that exists|cd repo && git branch main
git|call|a branch's name|cd repo && git branch 'a..b'
git|call|a branch that is not there|cd repo && git branch -d nowhere
git|call|the branch that is checked out|cd repo && git branch -d main
git|call|an unknown command|cd repo && git frobnicate
git|call|an unknown option|cd repo && git log --frobnicate
git|call|nothing to commit|cd repo && git commit -m x
git|call|an empty message|cd repo && git commit --allow-empty -m ''
git|call|changes that would be lost|cd repo && echo z > b.txt && git checkout other; git checkout -q b.txt
git|call|a merge that conflicts|cd repo && git merge other; git merge --abort
git|call|histories without an ancestor|cd repo && git merge orphan
git|call|no such remote|cd repo && git push nowhere main
git|call|a push that is not fast-forward|cd repo && git push origin HEAD~0:main
git|call|no upstream|cd repo && git pull
git|call|a tag that exists|cd repo && git tag v1 && git tag v1
git|call|a patch that does not apply|cd repo && echo nonsense | git apply
git|call|a ref outside of the repository|cd repo && git add ../plain
git|call|a revert of nothing|cd repo && git revert nowhere
git|call|a range of lines|cd repo && git blame -L 99,100 b.txt
git|call|a stash that is empty|cd repo && git stash pop
git|call|a repository that is not there|git clone /nothing/here x
git|call|a directory that is not empty|git clone repo plain
git|call|a config key|cd repo && git config nonsense x
git|call|a missing worktree|cd repo && git worktree remove nowhere
git|call|no such submodule|cd repo && git submodule update nowhere
git|service|nobody listens|git clone http://{refused}/x.git x
git|service|a server that resets|git clone http://{reset}/x.git x
git|service|a server that closes|git clone http://{closed}/x.git x
git|service|an ssh server that is away|git clone ssh://git@{refused}/x.git x
git|service|the git protocol refused|git clone git://{refused}/x.git x
git|service|a name that cannot be resolved|git clone http://nowhere.invalid/x.git x|the name may also be the argument
git|call|status 404|git clone {status}404/x.git x
git|call|status 403|git clone {status}403/x.git x
git|service|status 500|git clone {status}500/x.git x
git|service|status 503|git clone {status}503/x.git x
git|service|status 401, without a terminal|git clone {status}401/x.git x|the credential is the tool's
git|service|a lock that another left|cd repo && touch .git/index.lock && git add b.txt; rm .git/index.lock|no other argument helps while it is there
git|service|an index that is damaged|cp -r repo broken1 && cd broken1 && echo nonsense > .git/index && git status
git|service|objects that are gone|cp -r repo broken2 && cd broken2 && rm -rf .git/objects/?? && git log
sqlite3|call|no such table|sqlite3 a.db 'select * from nowhere'
sqlite3|call|no such column|sqlite3 a.db 'select nope from t'
sqlite3|call|no such function|sqlite3 a.db 'select nope(1)'
sqlite3|call|a syntax error|sqlite3 a.db 'selec 1'
sqlite3|call|a statement that does not end|sqlite3 a.db 'select (1'
sqlite3|call|a token|sqlite3 a.db 'select #'
sqlite3|call|an ambiguous column|sqlite3 a.db 'select id from t, t as u'
sqlite3|call|a unique key|sqlite3 a.db 'insert into t values (1, 2)'
sqlite3|call|a column that may not be null|sqlite3 a.db 'insert into t values (2, null)'
sqlite3|call|a table that exists|sqlite3 a.db 'create table t (x)'
sqlite3|call|too many values|sqlite3 a.db 'insert into t values (1, 2, 3)'
sqlite3|call|a type|sqlite3 a.db "insert into t values ('x', 2)"
sqlite3|call|an aggregate out of place|sqlite3 a.db 'select * from t where count(*) > 1'
sqlite3|call|an unknown command|sqlite3 a.db '.nonsense'
sqlite3|call|a file to read|sqlite3 a.db '.read nowhere.sql'
sqlite3|service|a file that is no database|sqlite3 plain/b.txt 'select 1'
sqlite3|service|a database that is locked|sqlite3 a.db '.timeout 1' 'begin exclusive' '.shell sqlite3 a.db "select * from t"'
sqlite3|service|a directory in its place|sqlite3 plain 'create table t (x)'
sqlite3|service|a database that is damaged|cp a.db hurt.db && printf '%02000d' 0 | dd of=hurt.db bs=1 seek=120 conv=notrunc status=none && sqlite3 hurt.db 'select * from t'
sqlite3|service|a database that may only be read|sqlite3 -readonly a.db 'insert into t values (9, 9)'|the tool has opened it so
sqlite3|service|a disk that is full|sqlite3 a.db 'pragma max_page_count=2' 'create table big (x)' 'insert into big values (zeroblob(1000000))'
ssh|service|nobody listens|ssh {ssh} -p {refused_port} 127.0.0.1 true
ssh|service|reset while greeting|ssh {ssh} -p {reset_port} 127.0.0.1 true
ssh|service|closed while greeting|ssh {ssh} -p {closed_port} 127.0.0.1 true
ssh|service|no greeting|ssh {ssh} -p {silent_port} 127.0.0.1 true
ssh|service|no ssh|ssh {ssh} -p {garbage_port} 127.0.0.1 true
ssh|service|a name that cannot be resolved|ssh {ssh} nowhere.invalid true|the name may also be the argument
ssh|call|a key that is not there|ssh-keygen -y -f nowhere
ssh|call|a key that is none|ssh-keygen -l -f plain/b.txt
ssh|call|an unknown option|ssh -o Nonsense=1 127.0.0.1
ssh|call|a bad port|ssh -p 99999 127.0.0.1
ssh|call|a file to copy|scp nowhere.txt plain/x
pip|service|an index that is away|{pip} --index-url http://{refused}/simple/ example-package
pip|service|an index that resets|{pip} --index-url http://{reset}/simple/ example-package
pip|call|a package that is not there|{pip} --index-url {status}404/simple/ example-package
pip|service|status 500|{pip} --index-url {status}500/simple/ example-package|pip says as well that it found nothing
pip|call|no such option|{pip} --nonsense
pip|call|a requirement|{pip} 'example=='
pip|call|a version|{pip} 'example==one.two.x!'
pip|call|a file of requirements|{pip} -r nowhere.txt
pip|call|a directory that is no project|{pip} ./plain
pip|call|a wheel's name|touch bad.whl && {pip} ./bad.whl
pip|call|a wheel that is none|touch a-1-py3-none-any.whl && {pip} ./a-1-py3-none-any.whl
pip|call|nothing to install|{pip}
pip|call|a URL that is none|{pip} http:nothing
pip|call|an unknown command|python3 -m pip frobnicate
pip|call|no such package to show|python3 -m pip show nowhere-example
pip|call|an archive by URL, 404|{pip} {status}404/a-1.tar.gz
pip|service|an archive by URL, 503|{pip} {status}503/a-1.tar.gz
npm|service|a registry that is away|{npm} view example --registry http://{refused}/
npm|service|a registry that resets|{npm} view example --registry http://{reset}/
npm|service|a name that cannot be resolved|{npm} view example --registry http://nowhere.invalid/
npm|service|no answer in a second|{npm} view example --registry http://{silent}/ --fetch-timeout 900
npm|call|status 404|{npm} view example --registry {status}404/
npm|service|status 500|{npm} view example --registry {status}500/
npm|service|status 503|{npm} view example --registry {status}503/
npm|service|status 401|{npm} view example --registry {status}401/|the credential is the tool's
npm|service|status 429|{npm} view example --registry {status}429/
npm|call|status 403|{npm} view example --registry {status}403/
npm|call|no package.json|cd plain && {npm} run build
npm|call|no such script|cd node && {npm} run nowhere
npm|call|an unknown command|{npm} frobnicate
npm|call|a package's name|{npm} install 'Not A Name!' --registry http://{refused}/
npm|call|a package.json that is no JSON|cd plain && echo '{{' > package.json && {npm} run x; rm -f package.json
npm|call|a tag|{npm} install ./nowhere
npm|service|not logged in|{npm} whoami --registry http://{http}/|the credential is the tool's
openssl|service|nobody listens|openssl s_client -connect {refused}
openssl|service|a plain server|openssl s_client -connect {garbage}
openssl|call|a missing file|openssl x509 -in nowhere.pem
openssl|call|no certificate|openssl x509 -in plain/b.txt
openssl|call|an unknown option|openssl x509 -nonsense
openssl|call|an unknown digest|openssl dgst -nonsense plain/b.txt
openssl|call|a wrong password|echo secret | openssl enc -aes-128-cbc -pbkdf2 -k a -out x.enc && openssl enc -d -aes-128-cbc -pbkdf2 -k b -in x.enc
openssl|call|an unknown command|openssl frobnicate
openssl|call|a certificate of nobody's|openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=x -keyout k.pem -out c.pem 2>/dev/null; openssl verify c.pem|it was given to be verified
coreutils|call|ls|ls nowhere
coreutils|call|cat of a directory|cat plain
coreutils|call|cp of a directory|cp plain x
coreutils|call|mv of nothing|mv nowhere x
coreutils|call|mkdir of what is there|mkdir plain
coreutils|call|mkdir without a parent|mkdir a/b/c
coreutils|call|rmdir of what is not empty|rmdir plain
coreutils|call|rm of a directory|rm plain
coreutils|call|touch without a parent|touch nowhere/x
coreutils|call|an unknown option|ls --nonsense
coreutils|call|a missing operand|cp x
coreutils|call|a number|head -n x plain/b.txt
coreutils|call|a mode|chmod nonsense plain
coreutils|call|a user|chown nobody-such plain
coreutils|call|a date|date -d nonsense
coreutils|call|a link that is there|ln -s x plain/b.txt
coreutils|call|a loop of links|ln -sf l1 l2 && ln -sf l2 l1 && cat l1
coreutils|call|a name that is too long|touch $(printf '%0300d' 0)
coreutils|call|a signal|kill -NONSENSE 1
coreutils|call|a process that is not there|kill 99999999
coreutils|call|a file as a directory|ls plain/b.txt/x
coreutils|call|split of a number|split -n 0 plain/b.txt
coreutils|call|lines that are not sorted|printf 'b\na\n' | sort -c
coreutils|call|base64|echo '!!' | base64 -d
coreutils|call|an expression|expr 1 / 0
coreutils|call|two of one|sort nowhere nowhere2
coreutils|service|a disk that is full|echo x > /dev/full
coreutils|service|dd to a disk that is full|dd if=/dev/zero of=/dev/full bs=1k count=1 status=none
coreutils|service|cp to a disk that is full|cp plain/b.txt /dev/full
coreutils|service|out of time|timeout -v 0.2 sleep 5
coreutils|call|a file that may be no larger|(ulimit -f 1; trap '' XFSZ; head -c 100000 /dev/zero > big)|a smaller one can be written
coreutils|service|no more open files|(ulimit -n 3; cat plain/b.txt)
coreutils|service|no memory|(ulimit -v 20000; sort -S 500M plain/b.txt)
text tools|call|grep of nothing|grep x nowhere
text tools|call|grep of a pattern|grep '[' plain/b.txt
text tools|call|grep of a directory|grep x plain
text tools|call|grep -P of a pattern|grep -P '(?<=a*)b' plain/b.txt
text tools|call|sed of a command|sed 'nonsense' plain/b.txt
text tools|call|sed of an s|sed 's/a' plain/b.txt
text tools|call|sed of nothing|sed -i s/a/b/ nowhere
text tools|call|awk of a program|awk '{{print' plain/b.txt
text tools|call|awk of nothing|awk '{{print}}' nowhere
text tools|call|find of nothing|find nowhere
text tools|call|find of an option|find . -nonsense
text tools|call|diff of nothing|diff nowhere plain/b.txt
text tools|call|patch of nothing|patch -p1 < plain/b.txt
text tools|call|xargs of a command|echo x \| xargs nowhere-such
text tools|service|grep without memory|(ulimit -v 9000; grep -E '(a{{1,2000}}){{1,2000}}' plain/b.txt)
jq|call|no JSON|echo nonsense \| jq .
jq|call|half of it|echo '{{"a":' \| jq .
jq|call|a filter|echo 1 \| jq '.['
jq|call|a kind|echo '[1]' \| jq .a
jq|call|a kind of number|echo '"x"' \| jq '. + 1'
jq|call|a function|echo 1 \| jq nonsense
jq|call|a file|jq . nowhere.json
jq|call|over null|echo null \| jq '.[] \| .a'
jq|call|a key's kind|echo '{{}}' \| jq '.[0]'
jq|call|to a number|echo '"x"' \| jq tonumber
archives|call|a missing archive|tar xf nowhere.tar
archives|call|no archive|tar xf plain/b.txt
archives|call|a missing file|tar cf x.tar nowhere
archives|call|a missing member|tar cf y.tar plain && tar xf y.tar nowhere
archives|call|no gzip|tar xzf plain/b.txt
archives|call|an empty archive|tar cf z.tar
archives|call|no command|tar
archives|call|an unknown option|tar --nonsense
archives|service|a disk that is full|tar cf /dev/full plain
archives|call|half an archive|head -c 1000 /dev/urandom > r && tar cf h.tar r && head -c 700 h.tar > h2.tar && tar xf h2.tar
archives|call|gzip of nothing|gzip nowhere
archives|call|gunzip of text|gzip -dc plain/b.txt
archives|call|what is there|cp plain/b.txt g && gzip -k g && gzip g < /dev/null
archives|call|unzip of nothing|unzip nowhere.zip
archives|call|unzip of text|unzip plain/b.txt
archives|call|zip of nothing|zip x.zip nowhere
archives|call|xz of text|xz -dc plain/b.txt
archives|call|half a gzip|gzip -c plain/b.txt \| head -c 12 \| gzip -dc
archives|service|gzip to a disk that is full|gzip -c plain/b.txt > /dev/full
bash|call|no such command|nowhere-such
bash|call|no such script|bash nowhere.sh
bash|call|a quote that does not end|bash -c "echo 'x"
bash|call|a syntax|bash -c 'if true; fi'
bash|call|a directory to run|./plain
bash|call|a file that may not be run|./plain/b.txt
bash|call|a division|bash -c 'echo $((1/0))'
bash|call|a variable|bash -uc 'echo $nowhere'
bash|call|cd to nothing|cd nowhere
bash|call|a program for another machine|printf '\177ELF garbage' > elf && chmod +x elf && ./elf
bash|service|no more processes|(ulimit -v 6000; bash -c 'x=$(printf "%%010000000d" 0)')|there is no memory
bash|service|nobody listens|exec 3<>/dev/tcp/127.0.0.1/{refused_port}
bash|service|it was killed|bash -c 'bash -c "kill -9 \$\$"; true'
bash|service|it crashed|bash -c 'bash -c "kill -SEGV \$\$"; true'
bash|service|a name that cannot be resolved|exec 3<>/dev/tcp/nowhere.invalid/80
make|call|no Makefile|cd plain && make
make|call|no such target|make -f node/Makefile nowhere
make|call|a recipe that fails|make -f node/Makefile all|what it makes is at fault
make|call|a Makefile|printf 'a:\n  b\n' > m && make -f m
make|call|gcc of nothing|gcc nowhere.c
make|call|gcc of nonsense|echo 'int main( {{' > n.c && gcc n.c
make|call|a symbol|echo 'int main() {{ return f(); }}' > f.c && gcc f.c
make|call|an include|echo '#include <nowhere.h>' > i.c && gcc -c i.c
perl|call|a syntax|perl -e 'print ('
perl|service|a module|perl -e 'use Nowhere::Such;'|the tool is not installed whole
perl|call|a file|perl -e 'open(my $f, "<", "nowhere") or die "Cannot open nowhere: $!"'
perl|call|a division|perl -e 'my $x = 0; print 1 / $x'
perl|service|nobody listens|perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => "{refused}") or die "cannot connect: $@"'
perl|call|a method|perl -e 'Nowhere->new'
java|call|a class|java Nowhere
java|call|a jar|java -jar nowhere.jar
java|call|an option|java -nonsense
java|call|a bad number|{java} 'Integer.parseInt("x");'
java|call|a null|{java} 'String s = null; s.length();'
java|call|an index|{java} 'int[] a = new int[1]; a[2] = 1;'
java|call|a file|{java} 'new java.io.FileInputStream("nowhere");'
java|call|an element|{java} 'java.util.List.of().iterator().next();'
java|call|an argument|{java} 'new java.util.ArrayList<Object>(-1);'
java|service|nobody listens|{java} 'new java.net.Socket("127.0.0.1", {refused_port});'
java|service|a name that cannot be resolved|{java} 'new java.net.Socket("nowhere.invalid", 80);'
java|service|no answer in time|{java} 'var c = new java.net.URL("http://{silent}/").openConnection(); c.setReadTimeout(300); c.getInputStream();'
java|service|status 503|{java} 'new java.net.URL("{status}503").openStream();'
java|call|status 404|{java} 'new java.net.URL("{status}404").openStream();'
java|service|reset|{java} 'new java.net.URL("http://{reset}/").openStream();'
java|service|no memory|{java} 'Object[] all = new Object[Integer.MAX_VALUE];'
java|service|endless recursion|{java} 'class A {{ int f(int x) {{ return f(x + 1) + 1; }} }} new A().f(0);'
rust|call|a file|rustc nowhere.rs
rust|call|a type|echo 'fn main() {{ let x: i32 = "a"; }}' > t.rs && rustc t.rs
rust|call|no Cargo.toml|cd plain && cargo build
rust|call|a subcommand|cargo frobnicate
rust|service|nobody listens|{rust} 'std::net::TcpStream::connect("{refused}").unwrap();'
rust|call|a missing file|{rust} 'std::fs::read("nowhere").unwrap();'
rust|call|a number|{rust} '"x".parse::<i32>().unwrap();'
rust|call|bytes that are no UTF-8|{rust} 'String::from_utf8(vec![255]).unwrap();'
rust|service|a name that cannot be resolved|{rust} 'std::net::TcpStream::connect("nowhere.invalid:80").unwrap();'
kubectl|service|no cluster|kubectl --server http://{refused} get pods
kubectl|service|a server that resets|kubectl --server http://{reset} get pods
kubectl|service|status 503|kubectl --server {status}503 get pods
kubectl|service|a name that cannot be resolved|kubectl --server http://nowhere.invalid get pods
kubectl|call|an unknown command|kubectl frobnicate
kubectl|call|an unknown option|kubectl get --nonsense
kubectl|call|a missing file|kubectl apply -f nowhere.yaml
kubectl|call|no such context|kubectl config use-context nowhere
kubectl|call|nothing to get|kubectl get
gpg|call|a missing file|gpg {gpg} --decrypt nowhere.gpg
gpg|call|no OpenPGP data|gpg {gpg} --decrypt plain/b.txt
gpg|call|no such key|gpg {gpg} --export nobody
gpg|call|nobody to encrypt to|gpg {gpg} -e -r nobody@example.com plain/b.txt
redis-cli|service|nobody listens|redis-cli -p {refused_port} get x
redis-cli|service|reset|redis-cli -p {reset_port} get x
redis-cli|service|a name that cannot be resolved|redis-cli -h nowhere.invalid get x
psql|service|nobody listens|psql postgresql://u@{refused}/d -c 'select 1'
psql|service|reset|psql postgresql://u@{reset}/d -c 'select 1'
psql|service|closed|psql postgresql://u@{closed}/d -c 'select 1'
psql|service|no socket|psql -h {here}/nowhere -c 'select 1' postgres
psql|service|a name that cannot be resolved|psql postgresql://u@nowhere.invalid/d -c 'select 1'
psql|service|no answer in time|PGCONNECT_TIMEOUT=2 psql postgresql://u@{silent}/d -c 'select 1'
psql|call|an option|psql --nonsense
docker|service|no daemon|DOCKER_HOST=tcp://{refused} docker ps
"""


def collect(net: Net, here: Path) -> Iterator[Found]:
    """
    All of them, in a directory that is prepared for them.
    """
    _prepare(here)
    words = _words(net, here)
    for line in _COMMANDS.strip().splitlines():
        line = line.replace("\\|", "\0")
        source, label, provoked, command, *why = line.split("|")
        command = command.replace("\0", "|").format_map(words)
        if any(shutil.which(each) is None for each in _NEEDED.get(source, [source])):
            continue
        if said := _run(command, here):
            yield Found(
                source=source, provoked=provoked, form="error", text=said, label=label,
                why=why[0] if why else "",
            )  # fmt: skip


_NEEDED = {
    "coreutils": [], "text tools": [], "archives": ["tar", "zip", "unzip"], "rust": ["rustc"],
    "make": ["make", "gcc"],
}  # fmt: skip


def _words(net: Net, here: Path) -> dict[str, str]:
    servers = ("refused", "reset", "silent", "closed", "garbage", "partial", "http")
    words = {name: getattr(net, name) for name in servers}
    words |= {f"{name}_port": words[name].rpartition(":")[2] for name in servers}
    return words | {
        "status": f"http://{net.http}/status/",
        "here": str(here),
        "ssh": "-o BatchMode=yes -o ConnectTimeout=2 -o StrictHostKeyChecking=no -F /dev/null",
        "pip": "python3 -m pip --isolated --no-input --disable-pip-version-check "
        f"--no-color --retries 0 --timeout 2 install --index-url http://{net.refused}/simple/",
        "npm": "npm --fetch-retries 0 --no-update-notifier --loglevel error "
        f"--cache {here}/npm-cache --userconfig /dev/null",
        "java": f"sh {here}/java.sh",
        "rust": f"sh {here}/rust.sh",
        "gpg": f"--batch --no-tty --homedir {here}/gpg",
    }


def _prepare(here: Path) -> None:
    (here / "java.sh").write_text(
        'printf "public class M { public static void main(String[] a) throws Throwable '
        '{ %s } }" "$1" > M.java; java M.java 2>&1 | head -3 >&2; exit 1\n'
    )
    (here / "rust.sh").write_text(
        'printf "fn main() { %s }" "$1" > r.rs && rustc -A warnings r.rs -o r && ./r\n'
    )
    script = """
    mkdir plain node && echo '{"name":"x","version":"1.0.0"}' > node/package.json
    printf 'all:\\n\\t@echo checking; exit 3\\n' > node/Makefile
    mkdir -m 700 gpg
    echo text > plain/b.txt
    git init -q --bare remote.git && git init -q -b main repo && cd repo
    git config user.email a@example.com && git config user.name A
    echo a > b.txt && git add . && git commit -qm first
    git remote add origin ../remote.git && git push -q origin main
    git checkout -qb other && echo b > b.txt && git commit -qam second
    git checkout -q main && echo c > b.txt && git commit -qam third
    git push -q origin other:main -f
    git checkout -q --orphan orphan && git commit -qm root && git checkout -q main
    cd .. && sqlite3 a.db 'create table t (id integer primary key, x not null)' \
        'insert into t values (1, 1)'
    """
    subprocess.run(["bash", "-ec", script], cwd=here, env=_environment(here), check=False)


def _environment(here: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -F /dev/null", "KUBECONFIG": f"{here}/kube",
        "PYENV_VERSION": os.environ.get("PYENV_VERSION", ""), "NO_COLOR": "1",
    }  # fmt: skip


def _run(command: str, here: Path) -> str:
    """
    What it says on stderr; on stdout, if it says nothing there.
    """
    try:
        ran = subprocess.run(
            ["bash", "-c", command], cwd=here, env=_environment(here), timeout=60,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    return (ran.stderr or ran.stdout).strip() if ran.returncode or ran.stderr else ""
