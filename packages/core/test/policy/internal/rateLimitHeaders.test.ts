import { assert, describe, it } from "@effect/vitest"
import { pauseOf } from "../../../src/policy/internal/rateLimitHeaders.ts"

/** 2026-01-01T00:00:00Z */
const now = 1_767_225_600_000

const pause = (headers: { readonly [name: string]: string }, status = 200): number | undefined =>
  pauseOf(status, headers, () => now)

describe("rateLimitHeaders", () => {
  describe("Retry-After", () => {
    it("counts with 429 and 503, in seconds and as a date", () => {
      assert.strictEqual(pause({ "retry-after": "7" }, 429), 7_000)
      assert.strictEqual(pause({ "retry-after": "7" }, 503), 7_000)
      assert.strictEqual(pause({ "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT" }, 429), 30_000)
    })

    it("of 0, a negative number or a past date is no pause", () => {
      for (const value of ["0", "-5", "Sun, 06 Nov 1994 08:49:37 GMT"]) {
        assert.strictEqual(pause({ "retry-after": value }, 429), 0)
      }
    })

    it("counts with no other status, and not when it is garbage", () => {
      assert.isUndefined(pause({ "retry-after": "7" }, 200))
      assert.isUndefined(pause({ "retry-after": "7" }, 301))
      assert.isUndefined(pause({ "retry-after": "soon" }, 429))
      assert.strictEqual(
        pause({ "retry-after": "soon", "ratelimit-remaining": "0", "ratelimit-reset": "4" }, 429),
        4_000
      )
    })

    it("wins over the others", () => {
      const headers = { "retry-after": "2", ratelimit: '"a";r=0;t=9', "x-ratelimit-remaining": "0" }
      assert.strictEqual(pause({ ...headers, "x-ratelimit-reset": "99" }, 429), 2_000)
    })
  })

  describe("RateLimit", () => {
    it("with nothing remaining is a pause until more is available", () => {
      assert.strictEqual(pause({ ratelimit: '"default";r=0;t=30' }), 30_000)
      assert.strictEqual(pause({ ratelimit: " default ; t=30 ; r=0 ; pk=:dHJpYWw=:" }), 30_000)
    })

    it("with something remaining is none", () => {
      assert.isUndefined(pause({ ratelimit: '"default";r=50;t=30' }))
    })

    it("without a time is none", () => {
      assert.isUndefined(pause({ ratelimit: '"default";r=0' }))
      assert.isUndefined(pause({ ratelimit: '"default";t=3' }))
    })

    it("of several policies: the longest that has nothing left, in whatever order", () => {
      assert.strictEqual(pause({ ratelimit: '"s";r=0;t=5, "d";r=10;t=999, "h";r=0;t=60, "m";r=0;t=6' }), 60_000)
    })

    it("is not misled by names that look like parameters", () => {
      assert.isUndefined(pause({ ratelimit: '"a;r=0;t=9";r=1;t=3' }))
      assert.isUndefined(pause({ ratelimit: '"a\\";r=0;t=9";r=1;t=3' }))
      assert.strictEqual(pause({ ratelimit: '"a,b;r=1";r=0;t=3' }), 3_000)
    })

    it("is understood as the seventh draft had it", () => {
      assert.strictEqual(pause({ ratelimit: "limit=100, remaining=0, reset=50" }), 50_000)
      assert.isUndefined(pause({ ratelimit: "limit=100, remaining=1, reset=50" }))
      assert.isUndefined(pause({ ratelimit: "limit=100, remaining=0" }))
    })

    it("that is malformed or too long to be meant well is ignored", () => {
      for (const value of ["", ";;;", '"a";r=;t=', '"a";r=0;t=x', '"a";r=0;t=-', `${" ".repeat(5_000)};r=0;t=3`]) {
        assert.isUndefined(pause({ ratelimit: value }), value.slice(0, 20))
      }
    })
  })

  describe("RateLimit-* and X-RateLimit-*", () => {
    for (const prefix of ["ratelimit", "x-ratelimit"]) {
      const pair = (remaining: string, reset: string) =>
        pause({ [`${prefix}-remaining`]: remaining, [`${prefix}-reset`]: reset })

      it(`${prefix}: a reset in seconds from now, in seconds since 1970, and in milliseconds since 1970`, () => {
        assert.strictEqual(pair("0", "30"), 30_000)
        assert.strictEqual(pair("0", "1.5"), 1_500)
        assert.strictEqual(pair("0", String(now / 1_000 + 20)), 20_000)
        assert.strictEqual(pair("0", String(now + 1_234)), 1_234)
      })

      it(`${prefix}: a reset that has passed is no pause`, () => {
        assert.strictEqual(pair("0", "-3"), 0)
        assert.strictEqual(pair("0", String(now / 1_000 - 20)), 0)
      })

      it(`${prefix}: nothing, when something remains or one of them is missing or garbage`, () => {
        assert.isUndefined(pair("1", "30"))
        assert.isUndefined(pair("10", "30"))
        assert.isUndefined(pair("none", "30"))
        assert.isUndefined(pair("0", "soon"))
        assert.isUndefined(pair("0", "1e99"))
        assert.isUndefined(pause({ [`${prefix}-remaining`]: "0" }))
        assert.isUndefined(pause({ [`${prefix}-reset`]: "3" }))
      })
    }
  })

  it("nothing is nothing, and needs no clock", () => {
    const noClock = (): number => {
      throw new Error("asked for the time")
    }
    assert.isUndefined(pauseOf(200, {}, noClock))
    assert.strictEqual(pauseOf(200, { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "3" }, noClock), 3_000)
  })
})
