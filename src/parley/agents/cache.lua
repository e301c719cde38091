-- The cache of answers, by the clock of Redis; all of it together is bounded in bytes and time. One step each.
-- KEYS: the answers (a hash), when each ends, ms (a sorted set), the sum of their bytes. ARGV: operation, name, then
--   get -> the answer, or nil    put: answer, ms it is kept, most bytes -> 1, or 0 where it is larger than all may be
local answers, ends, sum = KEYS[1], KEYS[2], KEYS[3]
local operation, name = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if operation == 'get' then
  local due = redis.call('ZSCORE', ends, name)
  if not due or tonumber(due) <= now then return false end
  return redis.call('HGET', answers, name)
end

local answer, kept, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local bytes = tonumber(redis.call('GET', sum) or 0)

local function drop(old)
  bytes = math.max(0, bytes - redis.call('HSTRLEN', answers, old))
  redis.call('HDEL', answers, old)
  redis.call('ZREM', ends, old)
end

if #answer > most then return 0 end
drop(name)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do drop(old) end
-- What ends first came first: the oldest make room.
while bytes + #answer > most do
  local oldest = redis.call('ZRANGE', ends, 0, 0)[1]
  if not oldest then
    redis.call('DEL', answers)
    bytes = 0
    break
  end
  drop(oldest)
end
redis.call('HSET', answers, name, answer)
redis.call('ZADD', ends, now + kept, name)
redis.call('SET', sum, string.format('%.0f', bytes + #answer))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, kept) end
return 1
