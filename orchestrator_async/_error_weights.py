"""
What each word of an error text weighs: made by ``python -m tests.corpus.fit``, not by hand.

In tenths of a natural logarithm, the most telling of the service first. A word is known by
its first letters, and ``a+b`` is one after another; ``_`` is a path, a URL or a name in quotes.
"""

from typing import Final

STARTS: Final = {
    "none": -19,
    "phrase service": 25,
    "word call": -37,
    "word service": -14,
}

_BY_WEIGHT: Final = {
    71: """
connec+to
""",
    69: """
connec+refuse, refuse
""",
    66: """
connec+error, timeou
""",
    62: """
to+server
""",
    60: """
econnr, timed, timed+out
""",
    58: """
or+servic, servic+not
""",
    57: """
connec+reset, errno+connec, peer, reset, server+at, tcp
""",
    56: """
by+peer, connec+econnr, ms, port+failed, reset+by, timeou+error
""",
    55: """
api+group, couldn+get, curren+server, go, group+list, server+api, to+connec
""",
    54: """
_+err, connec, httpco, pool, runnin, ssl
""",
    53: """
connec+failed, couldn+connec, dial, dial+tcp, retrie+exceed, unavai
""",
    51: """
connec+timeou, device, error+connec, httpco+pool, left, left+on, max+retrie,
no+space, on+device, servic+unavai, space, space+left, versio+number,
wrong+versio
""",
    49: """
after+ms, cancel, connec+closed, discon, errno+name, exceed+with, is+the,
of+memory, port+after, server+select, socket+timeou, ssh, to+resolv, with+url
""",
    47: """
and+accept, b'x, connec+timed, databa+file, databa+is, enotfo, establ,
expect+http, intern, number+wrong, on+that, open+databa, produc, read+error,
read+timeou, remote+protoc, replic, reques+to, resolv+host, sendin, server+on,
server+runnin, to+establ
""",
    44: """
a+databa, a+new, a+respon, accept+tcp, an+editor, anothe+git, authen, banner,
be+runnin, bytes+read, can't+connec, cancel+error, cancel+statem, cannot+connec,
create+_, databa+_, editor+opened, establ+a, etimed, from+server, getadd,
getadd+enotfo, git+proces, host+and, html+ok, ice, incomp+read, ip, ip+connec,
is+locked, locked, memory+error, my, my+sql, new+connec, not+connec, ok, ok+_,
on+_, opened, or+ice, other+side, proces+seems, reache, read+econnr, read+timed,
receiv+a, refuse+error, refuse+is, resolu, rtsp, rtsp+or, runnin+in, runnin+on,
seems, seems+to, server+discon, server+is, settin, side+closed, size+exceed,
ssl+routin, stack, statem+due, tcp+ip, that+host, the+connec, this+reposi,
timeou+expire, to+host, to+my, userna, withou+sendin
""",
    40: """
_+connec, _+record, a+readon, abnorm, abnorm+before, admin, admini,
admini+comman, all+proces, and+we, apitim, apitim+error, are+termin, before+or,
body, broken, by+_, by+new, chunke, client+notice, closed+by, closed+connec,
closed+the, closed+with, connec+broken, connec+due, connec+unexpe, connec+was,
connec+withou, consta+error, creden, databa+or, direct+is, discon+withou,
disk+is, down, econnr+error, elasti, elasti+and, empty+reply, eproto,
get+record, handsh, hang, hang+up, hpe, hpe+invali, http+respon, intern+server,
interr, invali+consta, invali+respon, is+full, limit+exceed, lost, means,
means+the, module+not, more+expect, name+resolu, networ+timeou, not+elasti,
notadb, notice, notice+that, object+file, open+shared, opened+by, operat+timed,
or+disk, or+set, or+while, out+after, passwo, probab, probab+means, proces+are,
proces+the, queue, readon, readon+databa, recv, recv+failur, refuse+at, remain,
reply, reply+from, reques+timed, resolu+error, resolv+_, respon+does,
respon+from, respon+to, second, sendin+a, server+closed, server+error,
server+respon, server+termin, shared, shared+object, shutdo, sleep, sock,
socket+hang, spawn+sync, sqlite+notadb, ssl+get, status+line, suppor+this,
sure+all, sync, termin+abnorm, termin+connec, termin+then, that+the, the+client,
then, then+try, this+probab, this+unknow, to+admini, to+write, unauth,
unexpe+respon, unexpe+this, unknow+produc, userna+passwo, was+closed, we+do,
while+proces, while+readin, write+a
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
api, name+or, not+known
""",
    33: """
memcac, the+server
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
couldn, memory
""",
    26: """
after
""",
    25: """
caused, caused+by, errno, get+_, get+curren, port
""",
    24: """
write
""",
    23: """
accept, at+_, attemp, exceed, html, kafka, reason, to+open
""",
    22: """
clonin, clonin+into, into+_
""",
    21: """
error+errno, fetch+failed, known, retrie, unable, unable+to, versio
""",
    20: """
anothe, disk, editor, file+is, in+this, max, readin+from, side, spawn,
sql+server, this+is, we
""",
    19: """
addres, descri
""",
    18: """
logs, resolv, the+reques
""",
    17: """
bytes, expire, found+error, into, to+_, withou
""",
    16: """
aborte, attemp+to, behind, consta, disabl, exhaus, of+size, overfl, so,
the+http, to+get, up, valid+json
""",
    15: """
access+_, comman+failed, defaul, fetch, limit, operat+error, size, to+access
""",
    14: """
by, err, failed+with, file+exists, full, group, of+this, out, return+error,
termin, to+create, to+the, url+return, when
""",
    13: """
_+failed, comple, curren, debug, in+thread, networ, protoc, remote, routin
""",
    12: """
be+found, client, curl, failed+to, header, kubect, reques, respon, this
""",
    11: """
http, thread, to, wrong
""",
    10: """
_+curl, a+comple, a+non, aborte+due, all, applic, availa, begin, call, callin,
close, during, echo, enough, enviro, enviro+variab, err+socket, error+err,
error+gettin, error+the, error+while, except, false, for+detail, for+url,
found+in, from+a, get, incomp, interf, interf+error, ipv, ipv+addres, kill,
length+error, link, loadin, locate, log, machin, make+sure, match+the, may,
module, more+detail, most, namesp, never, new, no+valid, not+availa, not+enough,
not+resolv, of+bytes, openin, out+at, output, overfl+error, please+make, pods,
refer, refer+to, reques+error, return, role, role+_, run, runtim, satisf,
segmen, select+error, self, server+return, sessio, set+to, status+code, still,
store, stream+error, stream+has, string+buffer, suppor+for, sure, system, term,
thread+_, to+a, to+find, to+read, token+_, unexpe+close, unexpe+token, value+of,
which+is, writin, you+may, you+need
""",
    9: """
databa, due, due+to
""",
    8: """
failed, readin, status
""",
    7: """
an+_, before, config, last, on, operat, other, read, that, this+error, while
""",
    6: """
buffer, do, do+not, error+readin, identi, java, librar, list, lookup, not+valid,
oserro, resolv+to, to+instal, user
""",
    5: """
can, detail, fatal, file+_, none, proces, reques+url, used, was
""",
    4: """
access, can't, result, set, stream
""",
    3: """
_+cannot, _+git, _+to, and+no, base, can+only, cannot+find, cannot+open, conten,
direct+does, elemen, error, eval, execut+query, failur, gettin, int+parsin,
intege+type, io, make, messag, name+_, named, named+_, need, need+to, node, non,
occurr, open, parse+string, please, progra, receiv, same, see+_, sequen, set+_,
string+as, the+follow, the+value, to+set, value+_, which
""",
    2: """
bad, code, enoent, have, name, resour, statem, the, to+be, url, variab, with
""",
    1: """
bash, comman, could, could+not, error+at, follow, head, id, in+a, json, note,
on+a, out+of, progra+error, query, to+execut
""",
    -1: """
access+rights, be+used, bucket, comman+not, correc, correc+access, cp, create,
error+retrie, execut+insert, from, from+remote, get+resour, git+add, in, info,
kubect+get, method, no+matchi, not+read, not+suppor, read+from, remote+reposi,
reposi+exists, rights, rights+and, signal, sure+you, the+correc, used+in, using,
valid+intege, versio+that, you+have
""",
    -2: """
a, if, is, it, not+allowe, number, packag, range+error, record, stderr
""",
    -3: """
_+parsin, and+the, are, as+an, catalo, data, empty, encode, exit, exit+code,
found+for, have+the, is+out, maximu, of, operat+on, parent+direct, remove, root,
the+reposi
""",
    -4: """
databa+error, error+execut, execut, is+a, many, object, or, parse+error, stdout,
too+many
""",
    -5: """
an, file, index, kind, more, not+match, select, sqlsta, suppor, token, unknow,
valid, you
""",
    -6: """
a+read, agains+a, cannot, cannot+be, cat, comman+_, does, does+not, encodi,
expect, file+not, find, for+_, found, matchi, mode, not, of+the, previo,
read+only, select+from, string, to+an, tree
""",
    -7: """
agains, an+intege, be, compil, contai, exists, find+a, git, gzip, insert,
is+not, line, no, parent, str+for, to+parse
""",
    -8: """
end, execut+comman, not+exist, parse, type
""",
    -9: """
_+at, a+git, a+valid, eof, exist, has, match, not+find, not+found, number+of,
open+_, parsin, str, try, unsupp
""",
    -10: """
_+does, illega, not+a, see
""",
    -11: """
_+valida, add, allowe, did+not, error+for, input+should, key, length, of+_, only
""",
    -12: """
got, in+the, requir, should, should+be, than, type+_
""",
    -13: """
_+is, direct, too, use
""",
    -14: """
as, did, file+or, main, of+range, or+direct, such, such+file
""",
    -15: """
_+_, _+invali, for, for+more, no+such, range
""",
    -16: """
array, inform
""",
    -17: """
for+furthe, furthe, furthe+inform, inform+visit, input+type, input+value,
specif, visit, visit+_
""",
    -18: """
_+for, alread, format, invali, respon+error, text
""",
    -19: """
be+a, int, intege, missin, value
""",
    -21: """
_+object, _+of, _+via, _+was, _+with, a+_, a+base, a+file, a+flow, a+is,
a+packag, a+time, actual, alias, alias+_, allowe+redire, ambigu+column,
an+invali, an+unsupp, and+is, args, args+beginn, argume+error, as+a,
assert+error, at+end, at+positi, bad+port, bad+revisi, base+encode, base+type,
be+at, be+cast, be+in, be+of, be+provid, becaus+the, beginn, beginn+with,
betwee, betwee+and, big, bucket+name, buffer+or, but+got, but+values, byte+xe,
can't+decode, can't+open, cannot+contai, cannot+conver, cannot+start, case,
check+constr, checko, class+_, column+but, column+refere, commen, config+parame,
consum, consum+group, contai+a, conver+string, coordi, copy, copy+from, core,
data+type, dataty, dataty+mismat, dateti, decode+byte, decode+error, define+in,
depend, determ, dictio, diff, digest, direct+not, domain, domain+error, eexist,
enamet, encoun, ended, ended+unexpe, entrie, entrie+found, equal, error+deleti,
error+near, exact, exactl, exampl, exceed+maximu, execut+one, expect+_,
expect+argume, explai, expres+than, featur, featur+not, fi, file+alread, filena,
find+or, fkey, flag, flow, for+help, for+int, for+parame, for+this, for+write,
forbid, format+error, forwar, found+on, from+file, functi+_, functi+error,
functi+matche, git+branch, global, group+_, group+option, has+an, has+column,
has+more, header+check, http+error, http+url, id+fkey, if+the, if+true, if+you,
import, in+an, in+table, in+xreadg, incorr+header, indent, index+error,
index+is, index+out, input+error, input+string, insert+has, invali+bucket,
invali+mode, invali+operat, invali+reques, invali+schema, invali+time,
invali+type, is+ambigu, is+an, is+outsid, is+unknow, its, json+data, key+constr,
key+file, key+value, keys, keywor, lambda, large, least+one, like, lines,
litera+for, load+_, lookin, lookin+for, lookup+error, main+nothin, match+a,
math, math+domain, max+count, maximu+allowe, method+not, minimu, minimu+of,
mismat+in, missin+argume, missin+url, misuse, mkdir+_, mongod, month,
month+must, more+expres, more+than, must+match, must+not, next, no+functi,
no+stash, nogrou, nogrou+no, not+contai, not+conver, not+empty, not+one,
not+presen, not+provid, not+specif, number+at, number+format, numeri+result,
object+name, object+with, of+file, of+relati, of+suppor, of+undefi, of+your,
on+branch, on+line, on+table, one+statem, only+execut, operat+does, option,
option+or, or+an, or+column, or+consum, or+invali, or+mongod, or+one, overwr,
parse+int, part, paths, perhap, perhap+you, please+specif, presen, primar,
privat, privat+key, proper+of, pseudo, pseudo+class, public, raw, read+proper,
recogn, redire+error, refs, refusi, refusi+to, relati+url, requir+argume,
requir+at, requir+proper, result+out, revisi+_, rm, rmdir, rows, rule,
same+length, scalar, schema+_, scheme+_, search, sectio, securi, select+id,
separa, shapes, simple, small, some, sort, start+with, stash+entrie, statem+at,
strict, string+_, string+format, string+or, struct, such+functi, sum,
symbol+links, table+name, tags, target+column, than+target, than+the, the+_,
the+last, the+minimu, the+path, the+query, the+same, there, this+file,
to+commit, to+have, too+large, too+small, tree+clean, true+to, type+date,
type+intege, type+json, type+number, undefi+column, undefi+table, unders,
uniden, unreco+key, unsupp+operat, unsupp+url, unterm, upstre, uri+scheme,
urierr, url+has, url+parsin, url+scheme, url+withou, use+drop, utf, valid+url,
value+violat, vector, verifi, verifi+failed, via, violat+unique, want+to,
was+found, were+found, were+passed, were+suppli, whites, will, with+args,
with+base, with+group, with+id, with+the, withou+a, would, xreadg, xreadg+with
""",
    -24: """
must+be
""",
    -25: """
_+codec, a+list, a+requir, absolu, algori, an+aggreg, an+instan, and+argume,
any+file, any+files, appear+in, are+suppor, argume+types, assert, at+a, at+eof,
at+least, at+messag, be+one, bindin, branch+_, branch+main, by+clause,
cannot+create, cannot+stat, cast, change, clause+or, clean, client+error, codec,
codec+can't, constr+_, constr+error, data+error, decode, deleti, drop+table,
duplic+key, eisdir, enotdi, file+format, filter, for+a, for+get, found+with,
git+pull, given+name, group+by, help+for, illega+operat, in+functi, in+positi,
incorr, invali+arg, invali+argume, invali+litera, invali+regula, invali+text,
invali+uri, is+_, is+less, iterat, known+to, least, less, less+than, line+col,
matche+the, might, might+need, must+appear, must+specif, name+too, not+of,
nothin+to, numeri, of+argume, of+data, of+string, or+be, or+use, passed,
permis+denied, postgr, protoc+_, pull, receiv+number, regist, regula,
regula+expres, reposi+fatal, repres, requir+for, revisi, scandi, scandi+_,
schema+error, select+_, shell, stash, stat+_, string+to, string+type,
such+column, such+key, syntax+error, tag+_, text+repres, the+curren, the+group,
the+parent, to+add, to+git, tool, type+for, unexpe+charac, unexpe+eof, unit,
unknow+encodi, unknow+option, unpack, unreco+config, update, url+_, url+type,
use+_, valid+string, values+were, want, where, while+parsin, xe, xe+in, xlsm,
xlsx, you+might, your
""",
    -27: """
_+try, _+violat, aborti, add+explic, aggreg, aggreg+functi, ambigu, an+empty,
appear+to, are+allowe, are+not, array+of, attrib, byte, casts, csv, data+_,
delete, dimens, direct+_, either, err+invali, errno+no, explic, explic+type,
extra, found+_, in+_, incomp+input, input, instan+of, int+for, invali+date,
key+_, links, list+of, local, mean, merge, missin+requir, mkdir, name+and,
name+not, names, not+appear, not+be, not+open, nothin, of+a, of+input,
open+file, operan, outsid, parame+_, permis, receiv+string, ref, refere+_,
reposi+_, signat, stat, string+at, syntax, table+_, the+given, type+casts,
undefi+functi, unreco+option, unsupp+protoc, usage, value+is, warnin, with+_,
with+name, workin+tree, you+must, zone
""",
    -28: """
must
""",
    -29: """
value+error
""",
    -30: """
_+must, _+unsupp, a+key, any+of, arg, argume+_, at+or, be+an, becaus, by+zero,
cannot+read, commit, create+table, denied, destin, drop, errors, expect+array,
expect+number, first, given, holdin, holdin+the, integr, is+invali, is+requir,
key+holdin, kind+of, litera, malfor, many+redire, mappin, matche, mismat,
not+an, of+value, operat+agains, option+_, or+any, or+near, parser+error,
path+_, provid, script, sqlite+constr, suppli, symbol, the+wrong, to+load,
to+previo, unknow+tool, wrong+kind, wrongt, wrongt+operat, zero
""",
    -31: """
_+alread, _+type, archiv, cannot+execut, check, class, contex, dict+for, divisi,
divisi+by, duplic, error+proces, excel, field+requir, git+reposi, input+syntax,
long, match+any, not+null, null+constr, of+type, pathsp, pathsp+_, requir+type,
row, start, such+table, syntax+for, too+long, true, types, unique,
unique+constr, unknow+comman, valida+error, violat, workin, you+can
""",
    -32: """
argume, valida
""",
    -33: """
_+line, appear, but, clause, col, collec, date, for+the, for+type,
invali+option, multip, not+define, parser, positi, target, tool+get, undefi+at,
unicod, uri
""",
    -34: """
at+line, count, define, dict, field, here, hint, invali+url, load, proper,
redire, refere, relati+_, stdin, were
""",
    -35: """
column+_, expect+one, expect+string, help, receiv+undefi, unexpe+end
""",
    -36: """
_+did, char, constr+failed, conver, files, near+_, not+in, null, or+_, try+_,
values
""",
    -37: """
_+not, more+inform, scheme
""",
    -38: """
branch, instan, tag, unreco
""",
    -39: """
a+direct, relati
""",
    -40: """
sqlite+error, time
""",
    -41: """
_+in, alread+exists, any, charac, end+of, expres, near, parame, schema
""",
    -42: """
_+or, one+of, path
""",
    -43: """
constr, functi
""",
    -45: """
for+tool, invali+input
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
