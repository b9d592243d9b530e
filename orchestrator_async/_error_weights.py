"""
What each word of an error text weighs: made by ``python -m tests.corpus.fit``, not by hand.

In tenths of a natural logarithm, the most telling of the service first. A word is known by
its first letters, and ``a+b`` is one after another; ``_`` is a path, a URL or a name in quotes.
"""

from typing import Final

STARTS: Final = {
    "none": -24,
    "phrase service": 20,
    "word call": -42,
    "word service": -19,
}

_BY_WEIGHT: Final = {
    71: """
connec+refuse, connec+to, refuse
""",
    70: """
error+connec
""",
    66: """
connec+error, timeou
""",
    62: """
to+server
""",
    60: """
econnr, errno+connec, port+failed, timed, timed+out
""",
    59: """
to+connec
""",
    58: """
or+servic, reset, servic+not
""",
    57: """
connec+reset, peer, server+at, tcp
""",
    56: """
by+peer, connec+econnr, host+_, ms, reset+by, timeou+error
""",
    55: """
api+group, connec+connec, couldn+get, curren+server, err+couldn, failed+connec,
go, group+list, memcac+go, server+api
""",
    54: """
_+err, connec, go+_, httpco, list+get, pool, runnin, ssl
""",
    53: """
_+dial, connec+failed, couldn+connec, dial, dial+tcp, pool+host, retrie+exceed,
to+port, unavai
""",
    51: """
_+errno, connec+timeou, device, httpco+pool, left, left+on, max+retrie,
no+space, on+device, servic+unavai, space, space+left, tcp+connec, to+resolv,
versio+number, wrong+versio
""",
    49: """
after+ms, cancel, cause+connec, connec+closed, discon, errno+name, error+httpco,
exceed+with, httpco+host, is+the, ms+couldn, of+memory, port+after, port+max,
server+select, socket+timeou, ssh, with+url
""",
    47: """
_+connec, _+please, and+accept, b'x, connec+errno, connec+timed, databa+file,
databa+is, econnr+cause, enotfo, error+networ, establ, expect+http, intern,
number+wrong, on+that, open+databa, produc, read+error, read+timeou,
remote+protoc, replic, reques+to, resolv+host, sendin, server+on, server+runnin,
the+connec, to+establ
""",
    44: """
a+databa, a+respon, accept+tcp, all+proces, an+editor, anothe+git, are+termin,
authen, banner, be+runnin, by+_, bytes+read, can't+connec, cancel+error,
cancel+statem, cannot+connec, create+_, databa+_, editor+opened, error+respon,
error+server, error+socket, error+timeou, establ+a, etimed, exists+anothe,
from+server, getadd, getadd+enotfo, git+proces, host+and, html+ok, http+rtsp,
ice, incomp+read, ip, ip+connec, is+locked, locked, memory+error, my, my+sql,
networ+timeou, new+connec, not+connec, number+ssl, ok, ok+_, on+_, opened,
opened+by, or+ice, other+side, proces+are, proces+seems, reache, read+econnr,
read+timed, receiv+a, refuse+error, refuse+is, resolu, rtsp, rtsp+or, runnin+in,
runnin+on, seems, seems+to, server+discon, server+is, settin, side+closed,
size+exceed, ssl+routin, ssl+wrong, stack, statem+due, sure+all, tcp+ip,
termin+then, that+host, then, then+try, this+reposi, timeou+expire, to+host,
to+my, userna, withou+sendin
""",
    40: """
_+read, _+record, _+remote, a+readon, abnorm, abnorm+before, addres+_, admin,
admini, admini+comman, after+second, again+if, and+we, apitim, apitim+error,
before+or, body, broken, broken+incomp, by+new, chunke, client+notice,
closed+by, closed+connec, closed+the, closed+with, code+connec, connec+broken,
connec+due, connec+unexpe, connec+was, connec+withou, consta+error, creden,
databa+or, direct+is, discon+withou, disk+is, down, econnr+error, elasti,
elasti+and, empty+reply, eproto, error+b'x, error+intern, error+read,
error+servic, error+ssl, expect+incomp, failed+server, fails, fails+a,
failur+connec, file+no, get+record, handsh, hang, hang+up, host+port, hpe,
hpe+invali, http+protoc, http+respon, if+it, intern+server, interr,
invali+consta, invali+respon, is+full, it+still, limit+exceed, lost, may+have,
means, means+the, messag+body, module+not, more+expect, name+resolu, not+elasti,
notadb, notadb+file, notice, notice+that, number+_, object+file, on+socket,
open+shared, operat+timed, or+disk, or+set, or+while, out+after, out+read,
passwo, port+connec, port+read, probab, probab+means, proces+may, proces+the,
protoc+expect, queue, read+bytes, read+connec, read+more, readon, readon+databa,
record+wrong, recv, recv+failur, refuse+at, remain, reply, reply+from,
reques+timed, resolu+error, resolv+_, respon+does, respon+from, respon+to,
routin+ssl, second, sendin+a, server+closed, server+error, server+respon,
server+termin, shared, shared+object, shutdo, sleep, so+cannot, sock,
socket+hang, spawn+sync, sqlite+notadb, ssh+connec, ssl+get, status+line,
still+fails, suppor+this, sync, termin+abnorm, termin+connec, that+the,
the+client, this+probab, this+unknow, timeou+connec, timeou+httpco,
timeou+timed, to+admini, to+write, try+again, unauth, unexpe+respon,
unexpe+this, unknow+produc, userna+passwo, was+closed, we+do, while+proces,
while+readin, write+a
""",
    39: """
_+port
""",
    38: """
servic
""",
    37: """
server, socket
""",
    35: """
host
""",
    34: """
api, name+or, not+known, the+server
""",
    33: """
fatal+unable, memcac
""",
    30: """
cause
""",
    29: """
protoc+error
""",
    28: """
closed
""",
    27: """
couldn, error+fetch, error+reques, memory
""",
    26: """
after, port
""",
    25: """
attemp, caused, caused+by, errno, get+_
""",
    24: """
write
""",
    23: """
accept, exceed, html, kafka, reason, to+open
""",
    22: """
clonin, clonin+into, error+errno, into+_
""",
    21: """
_+fatal, error+unable, fetch+failed, known, retrie, to+_
""",
    20: """
a+new, aborte, anothe, auto, curl+failed, disk, editor, file+is, in+this, max,
readin+from, side, spawn, sql+server, this+is, we
""",
    19: """
addres, at+_, descri, none+error, unable, unable+to
""",
    18: """
resolv, the+reques, versio
""",
    17: """
bytes, found+error, into, to+the, withou
""",
    16: """
_+error, again, attemp+to, behind, consta, disabl, error+can't, error+parse,
error+stream, error+too, exhaus, get+curren, of+size, overfl, so, still,
the+http, to+get, up, valid+json
""",
    15: """
access+_, comman+failed, defaul, fetch, limit, logs, networ, operat+error, size,
termin, to+access
""",
    14: """
_+failed, _+the, by, err, failed+with, file+exists, full, group, http, may, out,
output, return+error, to+create, url+return, when
""",
    13: """
all, expire, in+thread, make+sure, none, please+make, protoc, remote, routin,
sure
""",
    12: """
client, curl, debug, failed+to, header, kubect, module, reques, respon, url+_
""",
    11: """
comple, error+code, this, thread, to, wrong
""",
    10: """
_+cannot, _+curl, _+false, _+file, _+receiv, a+non, aborte+due, availa, begin,
call, chart, close, code+out, code+unknow, contai+_, during, echo, enough,
enviro, enviro+variab, err+socket, error+a, error+all, error+an, error+bytes,
error+comman, error+err, error+gettin, error+header, error+messag, except,
false, file+error, for+url, from+a, host+or, if+you, incomp, interf,
interf+error, ipv, ipv+addres, key+a, kill, length+error, link, loadin, locate,
machin, manual, match+the, more+detail, most, namesp, never, new, no+valid,
not+availa, not+enough, not+resolv, of+bytes, openin, or+port, out+at,
overfl+error, pods, refer, refer+to, reques+error, reques+method, return, role,
role+_, runtim, satisf, segmen, select+error, self, server+return, sessio,
set+to, specif+the, status+code, store, stream+error, stream+has, string+buffer,
suppor+for, system, term, the+file, thread+_, to+a, to+find, to+read, token+_,
unexpe+close, unexpe+token, value+of, which+is, with+status, writin, you+may,
you+need, you+specif
""",
    9: """
curren, databa, due, due+to, error+the, get
""",
    8: """
a+comple, be+found, failed, found+in, log, of+this, on, readin, run
""",
    7: """
an+_, before, config, error+failed, in+_, last, operat, other, read, that,
this+error, while
""",
    6: """
buffer, callin, do, do+not, error+readin, fatal+could, identi, java, librar,
list, lookup, make, not+valid, oserro, resolv+to, status, to+instal, user, was
""",
    5: """
fatal, file+_, messag, please, proces, reques+url, used
""",
    4: """
access, bash+line, can, can't, detail, have, if, result, set, stream
""",
    3: """
_+git, _+to, and+no, applic, base, base+_, can+only, cannot+find, cannot+open,
conten, direct+does, elemen, error+protoc, error+while, eval, execut+query,
exist+_, exit+status, failed+no, failur, fatal+bad, for+detail, for+status,
gettin, int+parsin, intege+type, intege+unable, io, named, named+_, need,
need+to, node, non, occurr, open, parse+string, progra, receiv, same, see+_,
sequen, set+_, string+_, string+as, the, the+follow, the+value, to+set, which
""",
    2: """
_+line, bad, code, enoent, error+sqlite, it, name, resour, statem, to+be, url,
variab, with
""",
    1: """
bash, comman, could, could+not, error, follow, head, id, in+a, json, on+a,
out+of, progra+error, query, to+execut
""",
    -1: """
access+rights, are, be+used, bucket, comman+not, correc, correc+access, cp,
did+you, direct+open, error+query, error+retrie, error+tool, error+unexpe,
error+you, execut+insert, from, from+remote, get+resour, in, info, kubect+get,
method, name+_, no+matchi, not+read, not+suppor, note, number, protoc+_,
read+from, remote+reposi, reposi+exists, reposi+please, rights, rights+and,
signal, string+line, sure+you, the+correc, used+in, using, valid+intege,
versio+that, you+have
""",
    -2: """
a, a+git, create, error+at, error+sqlsta, is, not+allowe, number+of, packag,
range+error, record, stderr
""",
    -3: """
_+parsin, and+the, as+an, catalo, data, empty, encode, exit, exit+code,
found+for, have+the, is+out, maximu, of, operat+on, parent+direct, parsin+input,
remove, root, the+reposi, you
""",
    -4: """
databa+error, error+cannot, error+could, error+expect, is+a, many, object, or,
parse+error, stderr+fatal, stdout, too+many
""",
    -5: """
an, file, index, kind, more, not+match, select, sqlsta, suppor, token, try,
unknow, valid
""",
    -6: """
_+invali, a+read, agains+a, cannot, cannot+be, cat, does, does+not, encodi,
error+_, error+no, expect, file+not, find, found, git+add, matchi, mode, not,
of+the, previo, read+only, select+from, string, to+an, tree, with+_
""",
    -7: """
agains, an+intege, be, compil, contai, enoent+no, exists, find+a, for+_, gzip,
insert, is+not, line, no, parent, str+for, to+parse, type+int, type+str
""",
    -8: """
_+no, did, end, execut+comman, main, not+exist, parse, type
""",
    -9: """
_+on, a+valid, comman+_, eof, execut, exist, has, match, mcperr, mcperr+code,
not+find, not+found, open+_, parsin, str, unsupp
""",
    -10: """
_+_, _+does, error+is, illega, mcp, mcp+error, not+a
""",
    -11: """
allowe, did+not, error+execut, error+for, git, input+should, key, length, only,
see, specif
""",
    -12: """
_+at, add, got, in+the, of+_, requir, should, should+be, than, value+_
""",
    -13: """
_+is, direct, too, tool+git, type+_, use
""",
    -14: """
as, direct+_, error+in, file+or, of+range, or+direct, such, such+file
""",
    -15: """
for, for+more
""",
    -16: """
array, inform, no+such, range
""",
    -17: """
execut+tool, for+furthe, furthe, furthe+inform, inform+visit, input+type,
input+value, visit, visit+_
""",
    -18: """
_+for, alread, format, invali, line+select, respon+error, text
""",
    -19: """
be+a, int, intege, missin, value
""",
    -20: """
tool
""",
    -21: """
_+and, _+found, _+int, _+object, _+of, _+too, _+true, _+unreco, _+via, _+was,
a+_, a+base, a+file, a+flow, a+is, a+packag, a+time, about, actual, alias,
alias+_, allowe+redire, ambigu+column, an+invali, an+unsupp, and+is, args,
args+beginn, argume+error, argume+key, as+a, assert+error, at+end, at+positi,
bad+port, bad+revisi, base+encode, base+type, be+cast, be+in, be+of, be+provid,
becaus+the, beginn, beginn+with, betwee, betwee+and, big, bucket+name,
buffer+or, but+got, but+values, byte+xe, can't+decode, can't+open,
cannot+contai, cannot+conver, cannot+start, case, check+constr, class+_,
column+but, column+refere, comman+unknow, commen, commit+workin, config+parame,
consum, consum+group, conver+string, coordi, copy, copy+from, core, count+from,
data+type, dataty, dataty+mismat, dateti, decode+byte, decode+error, depend,
determ, dictio, digest, direct+at, direct+not, direct+read, domain,
domain+error, eexist, eexist+file, enamet, enamet+name, encoun, ended,
ended+unexpe, entrie, entrie+found, equal, error+deleti, error+enoent,
error+forbid, error+incomp, error+incorr, error+index, error+malfor,
error+month, error+row, error+to, error+unknow, error+unpack, error+values,
exact, exactl, exampl, exceed+maximu, execut+one, exist+intege, exists+mkdir,
expect+_, expect+argume, explai, expres+_, expres+than, failed+unknow, featur,
featur+not, fi, file+alread, file+you, filena, find+_, find+or, fkey, flag,
flow, for+help, for+int, for+parame, for+this, for+write, forbid, format+error,
forwar, found+line, found+on, from+file, functi+_, functi+error, functi+matche,
git+checko, global, got+_, group+_, group+option, has+an, has+column, has+more,
header+check, http+error, http+url, id+fkey, if+the, if+true, import, in+an,
in+table, in+xreadg, incorr+header, indent, index+error, index+is, index+out,
input+error, input+string, insert+has, intege+_, intege+text, invali+bucket,
invali+mode, invali+operat, invali+reques, invali+schema, invali+time,
invali+type, is+ambigu, is+an, is+outsid, is+unknow, its, json+data, key+constr,
key+file, keys, keywor, lambda, large, least+one, like, line+line, lines,
litera+for, load+_, lookin, lookin+for, lookup+error, main+nothin, match+a,
math, math+domain, max+count, maximu+allowe, method+not, minimu, minimu+of,
mismat+in, missin+argume, missin+url, misuse, mkdir+_, mode+_, mongod, month,
month+must, more+expres, more+than, must+match, must+not, next, no+functi,
no+stash, nogrou, nogrou+no, not+contai, not+conver, not+empty, not+one,
not+presen, not+provid, not+specif, number+at, number+format, numeri+result,
object+name, object+with, of+file, of+relati, of+suppor, of+undefi, of+your,
on+branch, on+line, on+table, one+statem, only+execut, open+no, operat+does,
option, option+or, or+an, or+column, or+consum, or+invali, or+mongod, or+one,
overwr, parse+int, path+no, paths, perhap, perhap+you, please+specif, port+_,
presen, primar, privat, privat+key, proper+of, pseudo, pseudo+class, public,
raw, read+proper, receiv+_, recogn, redire+error, refs, refusi, refusi+to,
relati+url, requir+argume, requir+at, requir+proper, result+out, revisi+_, rm,
rmdir, rows, rule, same+length, scalar, search, sectio, securi, select+id,
separa, shapes, simple, small, small+expect, some, sort, sqlsta+functi,
sqlsta+insert, sqlsta+invali, start+with, stash+entrie, statem+at, strict,
string+format, string+number, string+or, struct, such+functi, such+option, sum,
switch, symbol+links, table+name, tags, target+column, than+target, than+the,
the+_, the+last, the+minimu, the+path, the+query, the+same, there, this+file,
to+commit, to+have, too+large, too+small, tree+clean, true+fi, true+to,
type+date, type+intege, type+number, type+url, undefi+column, undefi+readin,
undefi+table, unders, uniden, unreco+key, unsupp+operat, unsupp+url, unterm,
upstre, urierr, url+has, url+parsin, url+relati, url+scheme, url+withou,
use+drop, utf, valid+url, value+type, value+violat, vector, verifi,
verifi+failed, via, violat+unique, want+to, were+found, were+passed,
were+suppli, whites, will, with+args, with+base, with+group, with+id, with+the,
withou+a, would, xreadg, xreadg+with
""",
    -22: """
value+error
""",
    -24: """
error+invali, must+be
""",
    -25: """
_+a, _+codec, _+sql, _+unsupp, a+list, a+requir, absolu, an+aggreg, an+instan,
and+argume, any+file, any+files, appear+in, are+suppor, argume+types, assert,
at+a, at+eof, at+least, at+messag, be+at, be+one, bindin, branch+_, branch+main,
by+clause, cannot+create, cannot+stat, cast, change, checko, clause+or, clean,
client+error, codec, codec+can't, constr+_, constr+error, contai+a, data+error,
date+_, decode, define+in, deleti, direct+git, direct+scandi, drop+table,
duplic+key, eisdir, eisdir+illega, enotdi, enotdi+not, error+conver, error+key,
error+missin, error+pathsp, error+port, error+syntax, error+unreco,
error+unsupp, expres+char, fatal+pathsp, fatal+reposi, file+format, filter,
for+a, for+get, found+with, git+branch, git+diff, git+pull, git+status,
given+name, group+by, hint+no, illega+operat, in+functi, in+positi, incorr,
int+with, intege+does, invali+arg, invali+argume, invali+litera, invali+regula,
invali+text, invali+uri, is+_, is+less, iterat, key+value, known+to, least,
less, less+than, matche+the, might, might+need, must+appear, must+specif,
name+too, not+of, nothin+to, numeri, of+argume, of+data, of+string, or+be,
or+use, part, passed, permis+denied, postgr, protoc+reques, pull, receiv+number,
regist, regula, regula+expres, reposi+fatal, reposi+or, repres, requir+for,
revisi, scandi, scandi+_, schema+error, scheme+_, shell, stash, stat+_,
stderr+error, string+to, string+type, such+column, such+key, syntax+error,
tag+_, text+repres, the+curren, the+group, the+parent, to+add, to+git, type+for,
type+json, types+you, unexpe+charac, unexpe+eof, unit, unknow+encodi,
unknow+option, unpack, unreco+config, update, url+type, use+_, valid+string,
values+were, want, was+found, where, while+parsin, xe, xe+in, xlsm, xlsx,
xlsx+xlsm, you+might, your
""",
    -27: """
_+violat, _+with, aborti, add+explic, aggreg, aggreg+functi, algori, ambigu,
an+empty, appear+to, are+allowe, are+not, array+of, attrib, byte, casts, csv,
data+_, diff, dimens, either, err+invali, errno+no, error+this, explic,
explic+type, extra, fatal+not, help+for, incomp+input, input, instan+of,
int+for, invali+date, links, list+of, local, mean, merge, missin+requir, mkdir,
name+and, name+not, names, not+appear, not+be, not+open, nothin, number+receiv,
of+input, operan, outsid, permis, receiv+string, redire+exceed, ref, refere+_,
reposi+_, select+_, signat, sqlsta+column, sqlsta+syntax, string+at, syntax,
table+_, the+given, type+casts, type+string, undefi+functi, unreco+option,
unsupp+protoc, uri+scheme, usage, value+is, warnin, with+name, workin+tree,
you+must, zone
""",
    -28: """
must
""",
    -30: """
_+try, a+key, any+of, arg, at+or, be+an, becaus, by+zero, cannot+read, commit,
create+table, delete, denied, destin, drop, errors, expect+array, expect+number,
first, found+_, given, holdin, holdin+the, integr, is+invali, is+requir, key+_,
key+holdin, kind+of, litera, malfor, many+redire, mappin, matche, mismat,
not+an, of+a, of+value, open+file, operat+agains, or+any, or+near, parser+error,
provid, script, sqlite+constr, stat, suppli, symbol, the+wrong, to+previo,
tool+read, type+input, unknow+tool, wrong+kind, wrongt, wrongt+operat, zero
""",
    -31: """
_+alread, _+must, _+syntax, archiv, cannot+execut, check, class, code+invali,
contex, dict+for, divisi, divisi+by, duplic, error+not, error+proces,
error+table, excel, fatal+_, field+requir, git+reposi, input+syntax, long,
match+any, missin+input, not+null, null+constr, of+type, option+_,
option+expect, path+_, pathsp, pathsp+_, requir+type, row, start, such+table,
syntax+for, to+load, too+long, true, type+dict, type+missin, types, unique,
unique+constr, unknow+comman, valida+error, violat, workin, you+can
""",
    -32: """
argume, valida
""",
    -33: """
_+input, _+type, appear, but, clause, col, collec, date, error+near,
error+valida, for+the, for+type, invali+option, line+col, multip, not+define,
parame+_, parser, positi, target, undefi+at, unicod, uri
""",
    -34: """
argume+_, at+line, comman+error, count, define, dict, field, here, hint,
invali+url, proper, redire, refere, relati+_, stdin, string+receiv, value+input,
were
""",
    -35: """
column+_, expect+one, expect+string, load, receiv+undefi, unexpe+end
""",
    -36: """
_+did, char, constr+failed, files, help, near+_, not+in, null, or+_, schema+_,
try+_, values
""",
    -37: """
more+inform, scheme
""",
    -38: """
_+not, conver, instan, tag, unreco
""",
    -39: """
a+direct, relati, tool+get
""",
    -40: """
branch, sqlite+error
""",
    -41: """
_+in, alread+exists, any, charac, end+of, expres, input+expect, line+column,
near, parame, schema, time
""",
    -42: """
_+or, one+of, path
""",
    -43: """
constr, functi
""",
    -45: """
error+input, for+tool
""",
    -46: """
invali+input
""",
    -47: """
input+valida, one, undefi
""",
    -48: """
argume+for, table
""",
    -50: """
column
""",
}

WORDS: Final = {
    word.replace("+", " "): weight
    for weight, words in _BY_WEIGHT.items()
    for word in words.replace(",", " ").split()
}
