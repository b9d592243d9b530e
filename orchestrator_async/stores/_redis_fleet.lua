-- Which processes are alive, and what they have said of their figures.
--
-- KEYS: when each has said last that it is alive (a sorted set), and figures of processes (a
-- hash each). ARGV: what is asked for, and what that needs. Nothing that is read is believed.

local ALIVE = KEYS[1]
local KIND = ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function at(ms)
  return string.format('%.0f', now + ms)
end

-- How large a key is that is to be of a kind; of one that is not, it makes an empty one.
local function size_of(command, key)
  local size = redis.pcall(command, key)
  if type(size) == 'number' then return size end
  redis.call('DEL', key)
  return 0
end

local asks = {}

-- A process is alive; and how many are, and how many figures of it there are
function asks.beat()
  local process, figures = ARGV[2], KEYS[2]
  size_of('ZCARD', ALIVE)
  redis.call('ZADD', ALIVE, at(0), process)
  redis.call('ZREMRANGEBYSCORE', ALIVE, '-inf', '(' .. at(-LIFE))
  redis.call('ZREMRANGEBYSCORE', ALIVE, '(' .. at(LIFE), '+inf')
  redis.call('PEXPIRE', ALIVE, REMEMBERED)
  size_of('HLEN', figures)
  for place = 3, #ARGV, 2 do
    if ARGV[place + 1] == '' then
      redis.call('HDEL', figures, ARGV[place])
    else
      redis.call('HSET', figures, ARGV[place], ARGV[place + 1])
    end
  end
  redis.call('PEXPIRE', figures, REMEMBERED)
  return {redis.call('ZCARD', ALIVE), redis.call('HLEN', figures)}
end

-- A process is no longer there
function asks.leave()
  size_of('ZCARD', ALIVE)
  redis.call('ZREM', ALIVE, ARGV[2])
  redis.call('DEL', KEYS[2])
  return 1
end

-- Which are alive, of at most so many
function asks.alive()
  if type(redis.pcall('ZCARD', ALIVE)) ~= 'number' then return {} end
  return redis.call('ZREVRANGEBYSCORE', ALIVE, at(LIFE), at(-LIFE), 'LIMIT', 0, ARGV[2])
end

-- The figures of some
function asks.figures()
  local found = {}
  for place = 2, #KEYS do
    local size = redis.pcall('HLEN', KEYS[place])
    local is_ours = type(size) == 'number' and size <= MOST_FIGURES
    table.insert(found, is_ours and redis.call('HGETALL', KEYS[place]) or {})
  end
  return found
end

return asks[KIND]()
