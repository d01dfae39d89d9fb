/**
 * A circuit in one hash of Redis.
 *
 * | from     | to       | in           | when                                        |
 * |----------|----------|--------------|---------------------------------------------|
 * | Closed   | Open     | `record`     | a rule trips                                |
 * | Open     | HalfOpen | `enter`      | somebody wants to pass, and its time is over |
 * | HalfOpen | Closed   | `endProbe`   | `halfOpenMax` probes have succeeded         |
 * | HalfOpen | Open     | `endProbe`   | one has failed                              |
 *
 * A generation is the time of its beginning, or one more than that before it: one that was lost with its key, or with the
 * server, never comes again.
 */
import type { ChangeReason } from "@millrace/core/policy/CircuitBreaker"
import type { CircuitView, SharedCircuit } from "@millrace/core/policy/SharedPolicies"
import * as Redis from "effect/persistence/Redis"
import { orNone, prelude, toMicros, toMillis } from "./redisScript.ts"

/** How long a circuit that nobody uses is remembered, in milliseconds. */
const idle = 3_600_000

const common = `
local halfOpenMax = tonumber(ARGV[1])
local lease = tonumber(ARGV[2])
local idle = tonumber(ARGV[3])

local fields = redis.call("HMGET", key, "state", "generation", "openings", "openUntil", "openFor", "reason",
  "streak", "calls", "failures", "slow", "successes", "leases", "nextLease")
local state = fields[1] or "Closed"
local generation = tonumber(fields[2])
local openings = tonumber(fields[3]) or 0
local openUntil = tonumber(fields[4]) or 0
local openFor = tonumber(fields[5]) or 0
local reason = fields[6] or ""
local streak = tonumber(fields[7]) or 0
local calls = tonumber(fields[8]) or 0
local failures = tonumber(fields[9]) or 0
local slow = tonumber(fields[10]) or 0
local successes = tonumber(fields[11]) or 0
local nextLease = tonumber(fields[13]) or 1
lease = math.max(lease, openFor)

local leases = {}
for id, till in string.gmatch(fields[12] or "", "(%d+):(%d+)") do
  -- Where the clock has leapt back, none lasts longer than it could.
  if tonumber(till) > now then leases[#leases + 1] = { id, math.min(tonumber(till), now + lease) } end
end
openUntil = math.min(openUntil, now + openFor)

if not generation then generation = now end

local function become(next, why)
  state = next
  reason = why
  generation = math.max(generation + 1, now)
  streak, calls, failures, slow, successes = 0, 0, 0, 0, 0
  leases = {}
  -- What a window remembers goes with its generation.
  redis.call("DEL", key)
end
local function open(why, micros)
  openings = openings + 1
  openFor = micros
  openUntil = now + micros
  become("Open", why)
end
local function close(why)
  openings = 0
  become("Closed", why)
end
local function answer(...)
  local held = {}
  local first = math.huge
  for i, one in ipairs(leases) do
    held[i] = one[1] .. ":" .. string.format("%.0f", one[2])
    first = math.min(first, one[2])
  end
  redis.call("HSET", key, "state", state, "generation", text(generation), "openings", openings,
    "openUntil", text(openUntil), "openFor", text(openFor), "reason", reason, "streak", streak, "calls", calls,
    "failures", failures, "slow", slow, "successes", successes, "leases", table.concat(held, " "),
    "nextLease", nextLease)
  expire(state == "Closed" and idle or math.max(lease, openFor) + idle)
  local remaining = 0
  if state == "Open" then remaining = math.max(0, openUntil - now)
  -- A second, as HTTP has no shorter Retry-After; nobody knows when a probe ends.
  elseif state == "HalfOpen" then remaining = math.min(1000000, openFor, first - now) end
  return { state, string.format("%.0f", generation), openings, math.ceil(remaining), math.ceil(openFor), reason,
    streak, calls, failures, slow, #leases, successes, ... }
end
`

const enter = `
local wanted = tonumber(ARGV[4])
if state == "Open" and now >= openUntil then become("HalfOpen", "elapsed") end
local first, granted = 0, 0
if state == "HalfOpen" then
  granted = math.max(0, math.min(wanted, halfOpenMax - #leases - successes))
  first = nextLease
  for i = 1, granted do
    leases[#leases + 1] = { string.format("%.0f", nextLease), now + math.max(lease, openFor) }
    nextLease = nextLease + 1
  end
end
return answer(first, granted)
`

/**
 * The window by count is a ring of digits, in fields of 100 so that a long one is not written anew for each call. The
 * window by time is ten buckets, each with the number of its tenth.
 */
const record = `
local expected = tonumber(ARGV[4])
local ends = ARGV[5]
local delay = tonumber(ARGV[6])
local consecutive = tonumber(ARGV[7])
local failureRate = tonumber(ARGV[8])
local slowRate = tonumber(ARGV[9])
local minimumCalls = tonumber(ARGV[10])
local windowCalls = tonumber(ARGV[11])
local windowTime = tonumber(ARGV[12])

if generation ~= expected or state ~= "Closed" then return answer() end

local byRate = failureRate >= 0 or slowRate >= 0
local count, finish

if not byRate then
  count = function(failed, late)
    calls = calls + 1
    failures = failures + failed
    slow = slow + late
  end
elseif windowTime > 0 then
  local width = windowTime / 10
  local epoch = math.floor(now / width)
  local own = "b" .. string.format("%.0f", epoch % 10)
  local mine = { 0, 0, 0 }
  calls, failures, slow = 0, 0, 0
  for i = 0, 9 do
    local bucket = redis.call("HGET", key, "b" .. i)
    local at, a, b, c = string.match(bucket or "", "^(%d+):(%d+):(%d+):(%d+)$")
    at = tonumber(at)
    if at and at > epoch - 10 and at <= epoch then
      calls, failures, slow = calls + a, failures + b, slow + c
      if at == epoch then mine = { tonumber(a), tonumber(b), tonumber(c) } end
    end
  end
  count = function(failed, late)
    calls, failures, slow = calls + 1, failures + failed, slow + late
    mine = { mine[1] + 1, mine[2] + failed, mine[3] + late }
  end
  finish = function()
    redis.call("HSET", key, own, string.format("%.0f:%d:%d:%d", epoch, mine[1], mine[2], mine[3]))
  end
else
  local size = 100
  local chunks = {}
  local place = tonumber(redis.call("HGET", key, "next") or 0) % windowCalls
  local function chunk(n)
    if not chunks[n] then
      local digits = redis.call("HGET", key, "r" .. n) or ""
      chunks[n] = {}
      for digit in string.gmatch(digits, "%d") do chunks[n][#chunks[n] + 1] = tonumber(digit) end
    end
    return chunks[n]
  end
  count = function(failed, late)
    local digits = chunk(math.floor(place / size))
    local i = place % size + 1
    if calls >= windowCalls then
      local old = digits[i] or 0
      calls = calls - 1
      failures = failures - old % 2
      slow = slow - math.floor(old / 2)
    end
    digits[i] = failed + 2 * late
    calls, failures, slow = calls + 1, failures + failed, slow + late
    place = (place + 1) % windowCalls
  end
  finish = function()
    for n, digits in pairs(chunks) do redis.call("HSET", key, "r" .. n, table.concat(digits)) end
    redis.call("HSET", key, "next", place)
  end
end

for i = 1, #ends do
  local digit = tonumber(string.sub(ends, i, i))
  local failed = digit % 2
  count(failed, math.floor(digit / 2))
  streak = failed == 1 and streak + 1 or 0
  local why = nil
  if consecutive > 0 and streak >= consecutive then why = "consecutiveFailures"
  elseif failureRate >= 0 and calls >= minimumCalls and failures / calls >= failureRate then why = "failureRate"
  elseif slowRate >= 0 and calls >= minimumCalls and slow / calls >= slowRate then why = "slowCallRate" end
  if why then
    open(why, delay)
    return answer()
  end
end
if finish then finish() end
return answer()
`

const endProbe = `
local expected = tonumber(ARGV[4])
local probe = ARGV[5]
local ended = tonumber(ARGV[6])
local delay = tonumber(ARGV[7])

if generation ~= expected or state ~= "HalfOpen" then return answer() end
for i, one in ipairs(leases) do
  if one[1] == probe then
    table.remove(leases, i)
    break
  end
end
if ended > 0 then open("probeFailed", delay)
elseif ended == 0 then
  successes = successes + 1
  if successes >= halfOpenMax then close("probesSucceeded") end
end
return answer()
`

type State = readonly [
  state: CircuitView["state"],
  generation: string,
  openings: number,
  remaining: number,
  openFor: number,
  reason: ChangeReason | "",
  streak: number,
  calls: number,
  failures: number,
  slow: number,
  probes: number,
  successes: number
]

const commonOf = (circuit: SharedCircuit) => [
  circuit.halfOpenMax,
  toMicros(circuit.lease),
  toMicros(Math.max(idle, 2 * Math.max(0, orNone(circuit.windowDuration))))
]

export const enterScript = Redis.script(
  (key: string, circuit: SharedCircuit, probes: number) => [key, ...commonOf(circuit), probes],
  { numberOfKeys: 1, lua: prelude + common + enter }
).withReturnType<readonly [...State, firstLease: number, granted: number]>()

export const recordScript = Redis.script(
  (
    key: string,
    circuit: SharedCircuit,
    of: { readonly generation: number; readonly ends: string; readonly openFor: number }
  ) => [
    key,
    ...commonOf(circuit),
    of.generation,
    of.ends,
    toMicros(of.openFor),
    orNone(circuit.consecutiveFailures),
    orNone(circuit.failureRate),
    orNone(circuit.slowCallRate),
    circuit.minimumCalls,
    circuit.windowCalls,
    Math.max(0, toMicros(orNone(circuit.windowDuration)))
  ],
  { numberOfKeys: 1, lua: prelude + common + record }
).withReturnType<State>()

export const endProbeScript = Redis.script(
  (
    key: string,
    circuit: SharedCircuit,
    of: {
      readonly generation: number
      readonly lease: number
      readonly end: number | undefined
      readonly openFor: number
    }
  ) => [key, ...commonOf(circuit), of.generation, of.lease, orNone(of.end), toMicros(of.openFor)],
  { numberOfKeys: 1, lua: prelude + common + endProbe }
).withReturnType<State>()

export const viewOf = (answer: readonly [...State, ...ReadonlyArray<number>]): CircuitView => {
  const [state, generation, openings, remaining, openFor, reason, streak, calls, failures, slow, probes, successes] =
    answer
  return {
    state,
    generation: Number(generation),
    openings,
    remaining: toMillis(remaining),
    openFor: toMillis(openFor),
    reason: reason === "" ? undefined : reason,
    counts: { consecutiveFailures: streak, calls, failures, slowCalls: slow },
    probes,
    successes
  }
}
