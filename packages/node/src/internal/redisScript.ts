/** What the scripts of shared policies have in common. */

/**
 * Every script touches one key, its only one, so a cluster knows where it runs. Time is the server's, in microseconds:
 * the clocks of the processes do not matter. A script that fails has written nothing: it writes at its end.
 */
export const prelude = `
local key = KEYS[1]
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- As text that reads back as the same number; Lua itself keeps 14 digits.
local function text(n) return string.format("%.17g", n) end
local function expire(micros) redis.call("PEXPIRE", key, string.format("%.0f", math.ceil(micros / 1000) + 1000)) end
`

/** Text of a number for a script, which knows no undefined: below zero is none. */
export const orNone = (value: number | undefined): number =>
  value === undefined || !Number.isFinite(value) ? -1 : value

export const toMicros = (millis: number): number => Math.ceil(millis * 1_000)

export const toMillis = (micros: number): number => micros / 1_000
