import { assert, describe, it } from "@effect/vitest"
import { RequestTable } from "../../../src/observe/internal/requestTable.ts"

const rows = (table: RequestTable) =>
  table.series.map(({ duration, error, method, status }) => [method, status, error, duration.count])

describe("requestTable", () => {
  it("a series for each method, status and error, however they follow each other", () => {
    const table = new RequestTable()
    const outcomes = [
      ["GET", 200, undefined],
      ["GET", 200, undefined],
      ["GET", 503, undefined],
      ["POST", 200, undefined],
      ["GET", undefined, "ConnectError"],
      ["GET", 200, undefined]
    ] as const
    const fresh = outcomes.map(([method, status, error]) => table.record(method, status, error, 0.1))
    assert.deepStrictEqual(fresh, [true, false, true, true, true, false])
    assert.deepStrictEqual(rows(table), [
      ["GET", 200, undefined, 3],
      ["GET", 503, undefined, 1],
      ["POST", 200, undefined, 1],
      ["GET", undefined, "ConnectError", 1]
    ])
  })

  it("methods that nobody knows share one series, so that they cannot fill the memory", () => {
    const table = new RequestTable()
    for (let i = 0; i < 1000; i++) table.record(`M${i}`, 200, undefined, 0.1)
    table.record("get", 200, undefined, 0.1)
    assert.deepStrictEqual(rows(table), [["_OTHER", 200, undefined, 1001]])
  })
})
