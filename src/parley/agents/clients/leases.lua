-- Leases on a provider, by the clock of Redis: whoever dies stops renewing. KEYS: the leases (a sorted set of ids by
-- when they end, ms). ARGV: operation (take, renew, release), ms a lease lasts, limit, ids...
-- Answers, for take, 1 or 0; else how many leases there are.
local key, operation, lasts, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if operation == 'release' then
  for i = 4, #ARGV do redis.call('ZREM', key, ARGV[i]) end
  return redis.call('ZCARD', key)
end
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
if operation == 'take' and redis.call('ZCARD', key) >= limit then return 0 end
-- A renewed lease that had ended comes back: its call is still under way, and calls are what is counted.
for i = 4, #ARGV do redis.call('ZADD', key, now + lasts, ARGV[i]) end
redis.call('PEXPIRE', key, lasts * 2)
if operation == 'take' then return 1 end
return redis.call('ZCARD', key)
