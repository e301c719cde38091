-- What a user has used, and what calls under way may still use, by the clock of Redis. One step each.
-- KEYS: the account (a hash), its holds by when they expire, ms (a sorted set), what each holds (a hash).
-- ARGV: operation, id of the hold, ms a hold lasts, then
--   reserve: prompt tokens, completion tokens wanted, least of them, micro-dollars of the prompt, micro-dollars a million
--            completion tokens, then the bounds (-1: none) of tokens a minute, tokens a day, micro-dollars a minute, a day
--            -> {completion tokens granted or -1, tokens left, micro-dollars left (-1: no bound), ms until more,
--                1 if there were enough but for what other calls hold}
--   settle: tokens used, micro-dollars used -> 1, or 0 if this hold was settled before
--   renew: -> 1 if the hold was still there
-- A hold counts against the minute and the day that are now, whenever it began, and what it came to is booked when it is
-- settled: so used + held never passes a bound, over the turn of a minute as well.
local account, ends, holds = KEYS[1], KEYS[2], KEYS[3]
local operation, id, lasts = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local MINUTE, DAY = 60000, 86400000
local KEPT, SETTLED = 2 * DAY, 600000 -- how long an account is kept, and how long a repeated settling is known

local function read(text)
  local tokens, micros = string.match(text or '', '(%d+) (%d+)')
  return tonumber(tokens or 0), tonumber(micros or 0)
end

local got = redis.call('HMGET', account, 'minute', 'day', 'minute_used', 'day_used', 'held')
local minute, day = math.floor(now / MINUTE), math.floor(now / DAY)
local minute_tokens, minute_micros = read(tonumber(got[1] or 0) == minute and got[3])
local day_tokens, day_micros = read(tonumber(got[2] or 0) == day and got[4])
local held_tokens, held_micros = read(got[5])

local function free(hold)
  local tokens, micros = read(redis.call('HGET', holds, hold))
  held_tokens, held_micros = math.max(0, held_tokens - tokens), math.max(0, held_micros - micros)
end

for _, hold in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
  free(hold)
  redis.call('HDEL', holds, hold)
  redis.call('ZREM', ends, hold)
end

local function save()
  redis.call('HSET', account, 'minute', minute, 'day', day,
    'minute_used', string.format('%.0f %.0f', minute_tokens, minute_micros),
    'day_used', string.format('%.0f %.0f', day_tokens, day_micros),
    'held', string.format('%.0f %.0f', held_tokens, held_micros))
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, KEPT) end
end

if operation == 'renew' then
  local is_there = redis.call('ZSCORE', ends, id) and 1 or 0
  if is_there == 1 then redis.call('ZADD', ends, now + lasts, id) end
  save()
  return is_there
end

if operation == 'settle' then
  if redis.call('HGET', holds, id) == 'settled' then
    save()
    return 0
  end
  local tokens, micros = tonumber(ARGV[4]), tonumber(ARGV[5])
  free(id)
  minute_tokens, minute_micros = minute_tokens + tokens, minute_micros + micros
  day_tokens, day_micros = day_tokens + tokens, day_micros + micros
  redis.call('HSET', holds, id, 'settled')
  redis.call('ZADD', ends, now + SETTLED, id)
  save()
  return 1
end

local prompt, wanted, least = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local prompt_micros, rate = tonumber(ARGV[7]), tonumber(ARGV[8])
local tokens_left, micros_left, more_at = -1, -1, 0
local granted, alone = wanted, wanted

local function bound(limit, used, held, fits, next_at)
  if limit < 0 then return -1 end
  local left = math.max(0, limit - used - held)
  local most = fits(left)
  if most < wanted then more_at = math.max(more_at, next_at) end
  granted = math.min(granted, most)
  alone = math.min(alone, fits(math.max(0, limit - used)))
  return left
end

local function least_of(a, b)
  if a < 0 then return b end
  return b < 0 and a or math.min(a, b)
end

local function by_tokens(left) return left - prompt end
local function by_micros(left)
  if left < prompt_micros then return -1 end
  if rate == 0 then return wanted end
  return math.floor((left - prompt_micros) * 1000000 / rate)
end

local next_minute, next_day = (minute + 1) * MINUTE, (day + 1) * DAY
tokens_left = least_of(bound(tonumber(ARGV[9]), minute_tokens, held_tokens, by_tokens, next_minute),
  bound(tonumber(ARGV[10]), day_tokens, held_tokens, by_tokens, next_day))
micros_left = least_of(bound(tonumber(ARGV[11]), minute_micros, held_micros, by_micros, next_minute),
  bound(tonumber(ARGV[12]), day_micros, held_micros, by_micros, next_day))

if granted < least then
  save()
  return {-1, tokens_left, micros_left, math.max(0, more_at - now), alone >= least and 1 or 0}
end
local tokens, micros = prompt + granted, prompt_micros + math.ceil(granted * rate / 1000000)
held_tokens, held_micros = held_tokens + tokens, held_micros + micros
local before_tokens, before_micros = read(redis.call('HGET', holds, id))
redis.call('HSET', holds, id, string.format('%.0f %.0f', before_tokens + tokens, before_micros + micros))
redis.call('ZADD', ends, now + lasts, id)
save()
if tokens_left >= 0 then tokens_left = tokens_left - tokens end
if micros_left >= 0 then micros_left = micros_left - micros end
return {granted, tokens_left, micros_left, math.max(0, more_at - now), 0}
