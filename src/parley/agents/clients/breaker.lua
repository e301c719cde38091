-- One step of a circuit breaker, by the clock of Redis. KEYS: the circuit (a hash).
-- ARGV: operation (ask, ok, failed, dropped), window ms, least calls, failure rate in percent, open ms, probe ms,
--       id of the probe (ask: of the one that may begin; else of the one that ends, or empty), rest ms.
-- Answers {state, ms until it may change, 1 if this call is the probe, 1 if this step changed the state}.
local key = KEYS[1]
local operation, window, least, rate = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local open_ms, probe_ms, probe, rest = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local SLOTS = 10

local circuit = redis.call('HMGET', key, 'state', 'until', 'probe')
local state, due = circuit[1] or 'closed', tonumber(circuit[2] or '0')

local function keep(wait)
  redis.call('PEXPIRE', key, math.max(window, wait) + open_ms + probe_ms)
end

local function enter(new, wait, id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'state', new, 'until', now + wait, 'probe', id or '')
  keep(wait)
  return {new, wait, 0, state == new and 0 or 1}
end

if operation == 'ask' then
  if state == 'closed' then return {state, 0, 0, 0} end
  if due > now then return {state, due - now, 0, 0} end
  enter('half_open', probe_ms, probe)
  return {'half_open', probe_ms, 1, state == 'half_open' and 0 or 1}
end

if probe ~= '' then
  -- A probe whose lease went to another has no say any more.
  if state ~= 'half_open' or circuit[3] ~= probe then return {state, math.max(0, due - now), 0, 0} end
  if operation == 'ok' then return enter('closed', 0) end
  if operation == 'failed' then return enter('open', math.max(open_ms, rest)) end
  return enter('open', 0)
end

-- Calls that began before it opened say nothing new.
if state ~= 'closed' or operation == 'dropped' then return {state, math.max(0, due - now), 0, 0} end
local slot = math.floor(now / (window / SLOTS))
local field = 's' .. (slot % SLOTS)
local at, good, bad = string.match(redis.call('HGET', key, field) or '', '(%d+) (%d+) (%d+)')
if tonumber(at) ~= slot then good, bad = 0, 0 end
if operation == 'ok' then good = good + 1 else bad = bad + 1 end
redis.call('HSET', key, field, string.format('%d %d %d', slot, good, bad))
keep(0)
if operation == 'ok' then return {state, 0, 0, 0} end

local total, failures = 0, 0
for i = 0, SLOTS - 1 do
  at, good, bad = string.match(redis.call('HGET', key, 's' .. i) or '', '(%d+) (%d+) (%d+)')
  if at and tonumber(at) > slot - SLOTS then
    total, failures = total + good + bad, failures + bad
  end
end
if rest > 0 or (total >= least and failures * 100 >= rate * total) then
  return enter('open', math.max(open_ms, rest))
end
return {state, 0, 0, 0}
