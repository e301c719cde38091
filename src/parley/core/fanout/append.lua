-- Adds an entry to the log of a reply and publishes it, in one step, only where it continues what the log holds.
-- KEYS: the log (a stream whose entry ids are attempt-end), the channel; one hash tag.
-- ARGV: attempt, start, end, entry (start = end and no entry: only keep the log alive), ms the log is kept.
-- Answers {attempt, n}: where the log ends now; {0, 0}: there is none.
local log, channel = KEYS[1], KEYS[2]
local attempt, start, stop, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]

local at, n = -1, 0
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
if last then
  at, n = string.match(last[1], '(%d+)-(%d+)')
  at, n = tonumber(at), tonumber(n)
end

if stop > start and ((at == attempt and n == start) or (start == 0 and at < attempt)) then
  redis.call('XADD', log, ARGV[1] .. '-' .. ARGV[3], 'e', ARGV[4])
  if last and at < attempt then redis.call('XTRIM', log, 'MINID', ARGV[1] .. '-0') end
  redis.call('PEXPIRE', log, kept)
  redis.call('PUBLISH', channel, ARGV[4])
  return {attempt, stop}
end
if not last then return {0, 0} end
redis.call('PEXPIRE', log, kept)
return {at, n}
