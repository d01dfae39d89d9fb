/**
 * A rate limit in one hash of Redis.
 *
 * The rules are those of the limits of one process, written in Lua: a script is a rule and, behind it, what is the same
 * for all. A rule is `due(cost)`, the microseconds until that much can be had; `take(cost)`; `giveBack(count, at,
 * entry)`; `available()`; `rebase()`, when the clock has leapt back; `save()`, which answers how long it must be kept.
 *
 * The server's clock may go back: then time stands still for the limit, but for no longer than an interval. After a
 * longer leap, what was taken counts as taken now.
 */
import type { SharedLimit, Taken } from "@millrace/core/policy/SharedPolicies"
import * as Redis from "effect/persistence/Redis"
import { prelude, toMicros } from "./redisScript.ts"

/**
 * A bucket that has overflowed since tokens were taken has no room for them: they would have overflowed, too. So it
 * remembers when somebody last took while less than 1, 2, 4, 8… were missing: `m0`, `m1`, …
 */
const tokenBucket = `
local fields = redis.call("HMGET", key, "tokens", "at")
local tokens = math.min(capacity, tonumber(fields[1]) or capacity)
local at = tonumber(fields[2]) or now

local function class(missing)
  local n = 0
  while missing + 1e-9 >= 2 ^ n do n = n + 1 end
  return n
end
local function rebase() at = now end
local function refill()
  tokens = math.min(capacity, tokens + (now - at) / pace)
  at = now
end
local function due(cost)
  refill()
  return tokens + 1e-9 >= cost and 0 or (cost - tokens) * pace
end
local function available() refill() return math.floor(tokens + 1e-9) end
local function take(cost)
  redis.call("HSET", key, "m" .. class(capacity - tokens), text(now))
  tokens = tokens - cost
end
local function giveBack(count, taken)
  refill()
  local missing = capacity - tokens
  for n = 0, class(missing) do
    local last = tonumber(redis.call("HGET", key, "m" .. n) or 0)
    if last > taken then
      missing = math.min(missing, n == 0 and 0 or 2 ^ (n - 1))
      break
    end
  end
  tokens = tokens + math.min(count, missing)
end
local function entry() return 0 end
local function save()
  redis.call("HSET", key, "tokens", text(tokens), "at", text(at))
  return (capacity - tokens) * pace
end
`

/** Entries are numbered; each is when and how many, and is gone when its window is over. */
const slidingWindow = `
local fields = redis.call("HMGET", key, "head", "tail", "total")
local head = tonumber(fields[1]) or 1
local tail = tonumber(fields[2]) or 0
local total = tonumber(fields[3]) or 0

local function read(i)
  local value = redis.call("HGET", key, "e" .. i)
  if not value then return nil, 0 end
  local at, count = string.match(value, "^(%d+):(%d+)$")
  return tonumber(at), tonumber(count)
end
local function write(i, at, count)
  redis.call("HSET", key, "e" .. i, string.format("%.0f:%.0f", at, count))
end
local function rebase()
  for i = head, tail do redis.call("HDEL", key, "e" .. i) end
  tail = tail + 1
  head = tail
  write(tail, now, total)
end
local function forget()
  while head <= tail do
    local at, count = read(head)
    if at and at + interval > now then return end
    redis.call("HDEL", key, "e" .. head)
    total = total - count
    head = head + 1
  end
end
local function due(cost)
  forget()
  local missing = total + cost - capacity
  local i = head
  while missing > 0 and i <= tail do
    local at, count = read(i)
    missing = missing - count
    if missing <= 0 then return at + interval - now end
    i = i + 1
  end
  return 0
end
local function available() forget() return math.max(0, capacity - total) end
local current = nil
local function take(cost)
  if current then
    local _, count = read(tail)
    write(tail, now, count + cost)
  else
    tail = tail + 1
    current = tail
    write(tail, now, cost)
  end
  total = total + cost
end
local function giveBack(count, taken, i)
  forget()
  local at, left = read(i)
  if at ~= taken then return end
  local back = math.min(count, left)
  if back < left then write(i, at, left - back) else redis.call("HDEL", key, "e" .. i) end
  total = total - back
end
local function entry() return current or 0 end
local function save()
  redis.call("HSET", key, "head", head, "tail", tail, "total", total)
  return total > 0 and interval or 0
end
`

const slidingCounter = `
local fields = redis.call("HMGET", key, "start", "previous", "current")
local start = tonumber(fields[1]) or 0
local previous = tonumber(fields[2]) or 0
local current = tonumber(fields[3]) or 0

local function rebase()
  current = math.min(capacity, current + previous)
  previous = 0
  start = now
end
local function roll()
  local passed = math.floor((now - start) / interval)
  if passed == 0 then return end
  previous = passed == 1 and current or 0
  current = 0
  start = passed == 1 and start + interval or now
end
local function available()
  roll()
  local weight = 1 - (now - start) / interval
  return math.max(0, math.floor(capacity - current - previous * weight + 1e-9))
end
-- From now on: a time since 1970 in microseconds has no room for fractions.
local function fits(from, before, room)
  return from - now + (before <= room and 0 or interval * (1 - room / before))
end
local function due(cost)
  if cost <= available() then return 0 end
  local room = capacity - cost
  local wait
  if current <= room then wait = fits(start, previous, room - current)
  else wait = fits(start + interval, current, room) end
  return math.max(1, wait)
end
local function take(cost) current = current + cost end
local function giveBack(count, taken)
  roll()
  if taken >= start then current = math.max(0, current - count)
  elseif taken >= start - interval then previous = math.max(0, previous - count) end
end
local function entry() return 0 end
local function save()
  redis.call("HSET", key, "start", text(start), "previous", previous, "current", current)
  return current + previous > 0 and 2 * interval or 0
end
`

const before = `
local operation = ARGV[1]
local capacity = tonumber(ARGV[2])
local interval = tonumber(ARGV[3])
local pace = tonumber(ARGV[4])

local common = redis.call("HMGET", key, "last", "pause", "turn")
local last = tonumber(common[1]) or now
local pause = tonumber(common[2]) or 0
local turn = tonumber(common[3]) or 0
local leapt = last - now > interval
if leapt then
  pause = now + math.max(0, pause - last)
  turn = 0
elseif last > now then
  now = last
end
`

/**
 * Those who have waited go one by one: each has a turn, a pace after the one before. What was missed since is made up for,
 * but no more than 50 ms of it, as in a limit of one process.
 */
const after = `
if leapt then rebase() end
local granted = 0
local wait = 0

if operation == "take" then
  local waited = ARGV[5] == "1"
  for i = 6, #ARGV do
    local cost = tonumber(ARGV[i])
    wait = math.max(due(cost), pause - now)
    if waited then wait = math.max(wait, turn + cost * pace - now) end
    if wait > 0 then break end
    if cost > 0 then take(cost) end
    if waited then
      local mine = turn + cost * pace
      turn = mine < now - 50000 and now or mine
    end
    granted = granted + 1
  end
elseif operation == "giveBack" then
  local count = tonumber(ARGV[5])
  giveBack(count, tonumber(ARGV[6]), ARGV[7])
  turn = turn - count * pace
else
  pause = math.max(pause, now + tonumber(ARGV[5]))
end

local left = available()
local keep = math.max(save(), pause - now, turn - now)
redis.call("HSET", key, "last", text(now), "pause", text(pause), "turn", text(turn))
expire(keep)
return { granted, math.ceil(wait), string.format("%.0f", now), entry(), left }
`

type Answer = readonly [granted: number, wait: number, now: string, entry: number, available: number]

const scriptOf = (rule: string) =>
  Redis.script(
    (key: string, limit: SharedLimit, operation: string, ...args: ReadonlyArray<string | number>) => {
      const { capacity, interval } = limit
      return [key, operation, capacity, toMicros(interval), (interval * 1_000) / limit.limit, ...args]
    },
    { numberOfKeys: 1, lua: prelude + before + rule + after }
  ).withReturnType<Answer>()

export const scripts = {
  tokenBucket: scriptOf(tokenBucket),
  slidingWindow: scriptOf(slidingWindow),
  slidingCounter: scriptOf(slidingCounter)
} satisfies { readonly [A in SharedLimit["algorithm"]]: unknown }

export const takenOf = ([granted, wait, now, entry, available]: Answer): Taken => ({
  granted,
  wait: wait / 1_000,
  at: Number(now),
  entry,
  available
})
