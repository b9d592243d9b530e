-- One change of one circuit, whole and at one moment, on the clock of the engine.
--
-- KEYS: its state (a string), the runs of failures (a hash), the calls (a hash), and the
-- tokens of those who hold it isolated (a set). ARGV: the channel; the circuit's name, as it
-- is in a message; the kind of change; what its sender knows; and what the kind needs.
-- Answers whether it was done (1 or 0), the circuit as it is now, and in which keys there was
-- what nobody here has written.
--
-- Nothing that is read is believed: it may have been written by anybody, or by hand. What is
-- no number of at most 15 digits is none, so all sums are exact. What cannot be read is as
-- if it were not there, and goes with the next change. Nothing here raises by itself but
-- what the engine refuses: to write, say.

local STATE, RUNS, COUNTS, HANDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local CHANNEL, CIRCUIT, KIND = ARGV[1], ARGV[2], ARGV[3]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local odd = {}

-- The token of a lease of which only others have told. No sender has this one.
local UNKNOWN = '?'

local function note(key)
  for _, noted in ipairs(odd) do
    if noted == key then return end
  end
  table.insert(odd, key)
end

local function whole(text, digits)
  if text and #text <= (digits or 15) and string.find(text, '^%d+$') then
    return tonumber(text)
  end
end

-- A circuit as text: "1:generation:state:time:length:failures:reopenings:successes:paused:
-- pauses:isolations:token", with the time when it may be probed or the lease ends, or in what
-- goes in and out, milliseconds until then.

local NUMBERS = {
  'generation', 'time', 'length', 'failures', 'reopenings', 'successes', 'paused', 'pauses',
  'isolations'
}
local FORM = '^1:(%d+):([coh]):' .. string.rep('(%d+):', 8) .. '([^:]*)$'

local function parse(text)
  if type(text) ~= 'string' or #text > LONGEST_TEXT then return nil end
  local parts = {string.match(text, FORM)}
  if #parts ~= 11 then return nil end
  local it = {state = table.remove(parts, 2), token = table.remove(parts)}
  for place, name in ipairs(NUMBERS) do
    it[name] = whole(parts[place])
    if not it[name] then return nil end
  end
  return it.paused <= 1 and it or nil
end

local function text_of(it, time, token)
  return string.format(
    '1:%.0f:%s:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%.0f:%s',
    it.generation, it.state, time, it.length, it.failures, it.reopenings, it.successes,
    it.paused, it.pauses, it.isolations, token)
end

-- The pairs of a hash of at most so many; of one that is none, or larger, it makes an empty
-- one.
local function pairs_of(key, most)
  local size = redis.pcall('HLEN', key)
  if type(size) ~= 'number' or size > most then
    note(key)
    redis.call('DEL', key)
    return {}
  end
  local found = {}
  local flat = size > 0 and redis.call('HGETALL', key) or {}
  for place = 1, #flat, 2 do found[flat[place]] = flat[place + 1] end
  return found
end

local function drop(key, field, is_odd)
  redis.call('HDEL', key, field)
  if is_odd then note(key) end
end

local function size_of_hands()
  local size = redis.pcall('SCARD', HANDS)
  if type(size) == 'number' then return size end
  note(HANDS)
  redis.call('DEL', HANDS)
  return 0
end

-- What there is, and what its sender knows

local it, known = nil, parse(ARGV[4])
local write, tell = false, false

local function longest(it)
  if it.state == 'o' then return it.length end
  return it.state == 'h' and LONGEST_LEASE or 0
end

local function find()
  local text = redis.pcall('GET', STATE)
  if not text then return end
  it = parse(text)
  if it and it.generation > now + DAY then it = nil end
  if not it then
    note(STATE)
    if KIND == 'mend' then redis.call('DEL', STATE) end
    return
  end
  -- A time that is too far away is brought near once: later it would still be as far away.
  local length, time = math.min(it.length, LONGEST), it.time
  write = length < it.length
  it.length = length
  if time > now + longest(it) then
    it.time = now + longest(it)
    write = write or it.state ~= 'c'
  end
end

local function learn()
  if known.generation > now + DAY then known.generation = 0 end
  if it and it.generation >= known.generation then return false end
  local held = it and 0 or size_of_hands()
  it = parse(ARGV[4])
  it.generation = known.generation
  it.token = it.time > 0 and UNKNOWN or ''
  it.time = now + it.time
  it.isolations = math.max(it.isolations, held)
  write = it.generation > 0
  return true
end

-- What is done to it

local function begin()
  it.generation = math.max(now, it.generation + 1)
  if it.generation > LAST_GENERATION then it.generation = now end
  write, tell = true, true
end

local function become(text, failures)
  local to = parse(text)
  to.generation, to.isolations = it.generation, it.isolations
  to.failures = failures or to.failures
  to.time = to.state == 'o' and now + to.time or 0
  it = to
  begin()
  redis.call('DEL', RUNS, COUNTS)
end

local function may_open()
  return it.state == 'c' and it.isolations == 0
end

local function is_probe(token)
  if it.generation ~= known.generation then return false end
  return it.state ~= 'h' or (token ~= '' and (it.token == UNKNOWN or token == it.token))
end

-- The runs or the calls of this generation
local function kept(key, most)
  local found = pairs_of(key, most)
  local generation = found.g
  found.g = nil
  if next(found) and generation ~= string.format('%.0f', it.generation) then
    if not whole(generation) then note(key) end
    redis.call('DEL', key)
    return {}
  end
  return found
end

local changes = {}

function changes.mend()
  return false
end

function changes.claim()
  local token, lease, longest = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
  if it.state == 'h' and it.time > now + longest then
    it.time, write = now + longest, true
  end
  local is_in_force = it.time > now
  if it.state == 'h' and is_in_force and it.token == token then return true end
  if it.state == 'c' or is_in_force or it.isolations > 0 then return false end
  begin()
  it.state, it.time, it.token = 'h', now + lease, token
  return true
end

function changes.renew()
  local token, lease = ARGV[5], tonumber(ARGV[6])
  if it.state ~= 'h' or not is_probe(token) then return false end
  it.time, it.token = now + lease, token
  write = true
  return true
end

function changes.move()
  local to, token, force = ARGV[5], ARGV[6], ARGV[7]
  local is_left = token == '' and it.generation == known.generation and it.time <= now
  if force ~= '1' and not is_left and not is_probe(token) then return false end
  become(to)
  return true
end

function changes.run()
  if known.generation < it.generation then return false end
  local process, failures, lasts = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
  local threshold, processes = tonumber(ARGV[9]), tonumber(ARGV[10])
  local runs = kept(RUNS, MOST_RUNS)
  local was_there = runs[process]
  runs[process] = nil
  local many, together = 0, 0
  for field, value in pairs(runs) do
    local count, till = string.match(value, '^(%d+) (%d+)$')
    count, till = whole(count, 9), whole(till)
    local is_odd = not count or not till or till > now + LONGEST_LEASE
    if is_odd or string.sub(field, 1, 1) ~= '=' then
      drop(RUNS, field, true)
    elseif till <= now then
      drop(RUNS, field)
    else
      many, together = many + 1, together + count
    end
  end
  if failures > 0 then many, together = many + 1, together + failures end
  if may_open() and many >= processes and together >= threshold then
    become(ARGV[5], math.min(together, MOST))
    return true
  end
  if failures > 0 then
    redis.call('HSET', RUNS, 'g', string.format('%.0f', it.generation),
      process, string.format('%.0f %.0f', failures, now + lasts))
    redis.call('PEXPIRE', RUNS, DAY)
  elseif was_there then
    redis.call('HDEL', RUNS, process)
  end
  return false
end

-- The calls of so many of the last buckets, or of fewer that have so many calls
local function last(buckets, newest, most, enough)
  local calls, failures, slow = 0, 0, 0
  for number = newest, newest - most + 1, -1 do
    local each = buckets[number]
    if each then
      calls, failures, slow = calls + each[1], failures + each[2], slow + each[3]
    end
    if enough > 0 and calls >= enough then break end
  end
  return calls, failures, slow
end

local function read_buckets(newest, width)
  local found = kept(COUNTS, BUCKETS + 2)
  if next(found) and found.w ~= width then
    redis.call('DEL', COUNTS)
    return {}
  end
  found.w = nil
  local buckets = {}
  for field, value in pairs(found) do
    local number = whole(field)
    local calls, failures, slow = string.match(value, '^(%d+) (%d+) (%d+)$')
    calls, failures, slow = whole(calls, 9), whole(failures, 9), whole(slow, 9)
    if not (number and calls and failures and slow) or math.max(failures, slow) > calls then
      drop(COUNTS, field, true)
    elseif number > newest or number <= newest - BUCKETS then
      drop(COUNTS, field)
    else
      buckets[number] = {calls, failures, slow}
    end
  end
  return buckets
end

function changes.count()
  if known.generation < it.generation then return false end
  local calls, failures, slow = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
  local enough, has_time, width = tonumber(ARGV[9]), ARGV[10] == '1', tonumber(ARGV[11])
  local least, failure_rate, slow_rate = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
  local newest = math.floor(now / width)
  local buckets = read_buckets(newest, ARGV[11])
  local mine = buckets[newest] or {0, 0, 0}
  buckets[newest] = {
    math.min(mine[1] + calls, MOST), math.min(mine[2] + failures, MOST),
    math.min(mine[3] + slow, MOST)
  }

  local function is_too_bad(least, most, enough)
    local in_all, failed, were_slow = last(buckets, newest, most, enough)
    if in_all < least then return false end
    return (failures > 0 and failed / in_all >= failure_rate)
      or (slow > 0 and were_slow / in_all >= slow_rate)
  end

  if may_open() and (has_time and is_too_bad(least, 10, 0)
      or enough > 0 and is_too_bad(math.min(least, enough), BUCKETS, enough)) then
    become(ARGV[5])
    return true
  end
  redis.call('HSET', COUNTS, 'g', string.format('%.0f', it.generation), 'w', ARGV[11],
    string.format('%.0f', newest), string.format('%.0f %.0f %.0f', unpack(buckets[newest])))
  redis.call('PEXPIRE', COUNTS, DAY)
  return false
end

-- The generation of the runs and the calls, where they were of the last one
local function carry(before)
  for _, key in ipairs({RUNS, COUNTS}) do
    if redis.pcall('HGET', key, 'g') == string.format('%.0f', before) then
      redis.call('HSET', key, 'g', string.format('%.0f', it.generation))
    end
  end
end

function changes.isolate()
  local before, generation, held = it.isolations, it.generation, size_of_hands()
  local all, removed = ARGV[5] == '1', tonumber(ARGV[6])
  if all or held > before then
    redis.call('DEL', HANDS)
    held = 0
  end
  local unnamed = all and 0 or before - held
  for place = 7, 6 + removed do
    if redis.call('SREM', HANDS, ARGV[place]) == 0 and unnamed > 0 then
      unnamed = unnamed - 1
    end
  end
  for place = 7 + removed, #ARGV do
    -- One that is known, but not by its token, may be this one; an engine that has lost its
    -- data learns of it from several.
    if redis.call('SADD', HANDS, ARGV[place]) == 1 and unnamed > 0 then
      unnamed = unnamed - 1
    end
  end
  redis.call('PEXPIRE', HANDS, 2 * MONTH)
  it.isolations = math.min(unnamed + redis.call('SCARD', HANDS), MOST)
  if it.isolations ~= before then
    begin()
    carry(generation)
  end
  return true
end

find()
local is_learnt = learn()
local done = changes[KIND]()
if KIND == 'claim' and not tell and is_learnt then write = false end
if write then
  local life = it.isolations > 0 and MONTH or DAY
  life = life + math.max(0, it.time - now)
  redis.call('SET', STATE, text_of(it, it.time, it.token), 'PX', string.format('%.0f', life))
end
local text = text_of(it, math.max(0, it.time - now), '')
if tell and type(redis.pcall('PUBLISH', CHANNEL, CIRCUIT .. ' ' .. text)) == 'table' then
  note(CHANNEL)
end
return {done and 1 or 0, text, odd}
