import { assert, describe, it } from "@effect/vitest"
import * as Quota from "../../../src/tour/upstreams/Quota.ts"

/** Requests at these times; the statuses that they got. */
const ask = (times: ReadonlyArray<number>) => {
  let now = 0
  const quota = Quota.make(2, 1000, () => now)
  const statuses = times.map((time) => {
    now = time
    const reply = quota.reply({ url: "/", method: "GET", headers: {} })
    return reply === "reset" ? reply : reply.status
  })
  return { statuses, seen: quota.seen() }
}

describe("Quota", () => {
  it("allows its limit in every sliding window, which holds its first instant and not its last", () => {
    const { seen, statuses } = ask([5, 900, 1004.9, 1005, 1899, 1900])
    assert.deepStrictEqual(statuses, [200, 200, 429, 200, 429, 200])
    assert.deepStrictEqual(seen, { allowed: 4, refused: 2, fullest: 4, elapsed: 1895 })
  })

  it("is not used up by what it refuses", () => {
    assert.deepStrictEqual(ask([0, 0, 1, 2, 3, 1000, 1000]).statuses, [200, 200, 429, 429, 429, 200, 200])
  })

  it("has seen nothing before the first request", () => {
    assert.deepStrictEqual(ask([]).seen, { allowed: 0, refused: 0, fullest: 0, elapsed: 0 })
  })
})
