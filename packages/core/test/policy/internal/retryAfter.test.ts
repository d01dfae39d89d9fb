import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { parseRetryAfter } from "../../../src/policy/internal/retryAfter.ts"

const now = Date.UTC(2026, 10, 21, 12, 0, 0)

const cases = (rows: ReadonlyArray<readonly [string | undefined, number | undefined]>): void => {
  for (const [value, expected] of rows) assert.strictEqual(parseRetryAfter(value, now), expected, String(value))
}

describe("parseRetryAfter", () => {
  it("reads seconds", () => {
    cases([
      ["0", 0],
      ["1", 1_000],
      ["120", 120_000],
      ["  7 ", 7_000],
      ["007", 7_000]
    ])
  })

  it("takes negative seconds as now", () => {
    cases([
      ["-1", 0],
      ["-0", 0],
      ["-99999999999999999999", 0]
    ])
  })

  it("reads all three forms of an HTTP date", () => {
    cases([
      ["Sat, 21 Nov 2026 12:00:30 GMT", 30_000],
      ["Saturday, 21-Nov-26 12:00:30 GMT", 30_000],
      ["Sat Nov 21 12:00:30 2026", 30_000],
      ["Tue Dec  1 12:00:00 2026", 10 * 86_400_000],
      ["Wed, 29 Feb 2028 12:00:00 GMT", Date.UTC(2028, 1, 29, 12) - now],
      ["Thu, 31 Dec 2026 23:59:60 GMT", Date.UTC(2027, 0, 1) - now]
    ])
  })

  it("takes a date in the past as now", () => {
    cases([
      ["Sun, 06 Nov 1994 08:49:37 GMT", 0],
      ["Sunday, 06-Nov-94 08:49:37 GMT", 0],
      ["Sun Nov  6 08:49:37 1994", 0],
      ["Sat, 21 Nov 2026 12:00:00 GMT", 0],
      ["Mon, 01 Jan 0050 00:00:00 GMT", 0]
    ])
  })

  it("takes a year of two digits as at most 50 years ahead", () => {
    cases([
      ["Friday, 20-Nov-76 12:00:00 GMT", Date.UTC(2076, 10, 20, 12) - now],
      ["Saturday, 21-Nov-76 12:00:00 GMT", Date.UTC(2076, 10, 21, 12) - now],
      ["Sunday, 22-Nov-76 12:00:00 GMT", 0],
      ["Saturday, 01-Jan-77 12:00:00 GMT", 0],
      ["Friday, 31-Dec-99 12:00:00 GMT", 0],
      // There is no 29 February 2100, nor in 2000 + 74.
      ["Thursday, 29-Feb-74 12:00:00 GMT", undefined]
    ])
    const nineties = Date.UTC(1999, 11, 31, 23, 0, 0)
    assert.strictEqual(parseRetryAfter("Saturday, 01-Jan-00 00:00:00 GMT", nineties), 3_600_000)
    assert.strictEqual(parseRetryAfter("Tuesday, 29-Feb-00 23:00:00 GMT", nineties), 60 * 86_400_000)
  })

  it("answers a finite number however far ahead the time is", () => {
    cases([
      ["315360000", 315_360_000_000],
      ["9".repeat(400), Number.MAX_SAFE_INTEGER],
      ["Fri, 31 Dec 9999 23:59:59 GMT", Date.UTC(9999, 11, 31, 23, 59, 59) - now]
    ])
  })

  it("knows no time in garbage", () => {
    for (const garbage of [
      undefined,
      "",
      "   ",
      "soon",
      "1.5",
      "+5",
      "1e3",
      "0x10",
      "--1",
      "5, 5",
      "5s",
      "Infinity",
      "NaN",
      "2026-11-21T12:00:30Z",
      "Sat, 21 Nov 2026 12:00:30",
      "Sat, 21 Nov 2026 12:00:30 CET",
      "Sat, 21 nov 2026 12:00:30 GMT",
      "Sat, 31 Feb 2026 12:00:30 GMT",
      "Sat, 00 Nov 2026 12:00:30 GMT",
      "Sat, 21 Nov 2026 24:00:00 GMT",
      "Sat, 21 Nov 2026 12:60:00 GMT",
      "Sat, 21 Nov 2026 12:00:61 GMT",
      "Sat, 29 Feb 2027 12:00:00 GMT",
      "Sat Nov 1 12:00:30 2026"
    ]) {
      assert.isUndefined(parseRetryAfter(garbage, now), garbage)
    }
  })

  it.prop(
    "reads back the date that a program writes",
    [Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4e9 }))],
    ([ahead]) => {
      assert.strictEqual(parseRetryAfter(new Date(now + ahead * 1_000).toUTCString(), now), ahead * 1_000)
    }
  )
})
