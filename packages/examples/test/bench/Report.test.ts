import { describe, expect, it } from "@effect/vitest"
import { contenders, effectStack, fullStack, millrace, reference } from "../../src/bench/contenders/index.ts"
import type { Row } from "../../src/bench/Measure.ts"
import * as Report from "../../src/bench/Report.ts"
import { memoryRows, scenarios as clientScenarios } from "../../src/bench/Scenario.ts"
import { serverScenarios } from "../../src/bench/ServerScenario.ts"
import { direct, haproxy, pooled, proxy, subjects } from "../../src/bench/servers/index.ts"
import { streamScenarios } from "../../src/bench/Streaming.ts"
import { judge, judgeMemory, judgeStreams } from "../../src/bench/Verdict.ts"

const scenarios = [...clientScenarios, ...serverScenarios]

const flat = (value: number) => ({ median: value, min: value, max: value })

const row = (contender: string, ratio: number, timed: boolean): Row => ({
  contender,
  perSecond: flat(123_456.7),
  ratio: flat(ratio),
  rates: new Map([[1, 1]]),
  p99: timed ? flat(12_345.6) : null,
  p99Ratio: timed ? flat(12.34) : null,
  p50: timed ? flat(1234.56) : null,
  added: timed ? { p50: flat(-123.45), p99: flat(-123.45) } : null,
  gc: 0.123,
  cpuMicros: 18_073.4,
  serverBusy: 1.01
})

const measured = scenarios.map((scenario) => ({
  scenario,
  rows: scenario.contenders.map((contender) => row(contender, 12.34, scenario.timed)),
  missing: [haproxy],
  disturbance: 1.5
}))

const streamed = streamScenarios.map((scenario) => ({
  scenario,
  bytes: 2 ** 30,
  rows: scenario.contenders.map((contender) => {
    const memory = contender === direct ? null : 12_345 * 2 ** 20
    return { contender, mebibytesPerSecond: 12_345.6, heap: memory, rss: memory, growth: memory }
  })
}))

const checks = [
  ...measured.flatMap(judge),
  ...streamed.map(judgeStreams),
  ...memoryRows.map((memoryRow) => judgeMemory(memoryRow, 123_456))
]

describe("Report", () => {
  it("fits 100 columns, with figures wider than any we expect", () => {
    const lines = [
      ...Report.head(
        {
          cpu: "A processor whose name is as long as marketing could make it, with its frequency @ 3.40 GHz",
          cores: 256,
          memoryGiB: 1024,
          platform: "linux x64",
          node: "v24.21.0",
          date: new Date(0).toISOString()
        },
        "How."
      ),
      ...measured.flatMap(Report.scenario),
      ...streamed.flatMap(Report.streams),
      ...Report.floors(checks)
    ]
    for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(Report.width)
  })

  it("does not cut the name of a contender, and keeps columns apart", () => {
    for (const result of measured) {
      const text = Report.scenario(result).join("\n")
      for (const contender of result.scenario.contenders) expect(text).toContain(`  ${contender} `)
    }
  })

  it("says which programs are not installed", () => {
    for (const result of measured) expect(Report.scenario(result)).toContain(`  ${haproxy.padEnd(27)}not installed`)
  })

  it("shows what is added where the rate is given", () => {
    const paced = measured.find(({ scenario }) => scenario.id === "proxy-latency")!
    expect(Report.scenario(paced)[1]).toMatch(/p50 ms +added +p99 ms +added/)
  })

  it("names what was missed", () => {
    expect(Report.missed(checks.map((check) => ({ ...check, ok: true })))).toBe("All floors are met.")
    expect(Report.missed(checks)).toBe(
      "Missed: stack-64 ÷ effect, stack-64 ÷ cockatiel, stack-64 ÷ got, garbage gc, slow-tail p99, " +
        "proxy-stream down, proxy-stream up, memory-host, memory-idle, memory-waiting, memory-server."
    )
  })
})

describe("Verdict", () => {
  const scenario = scenarios.find(({ id }) => id === "get-64")!
  const judged = (ratio: number) =>
    judge({ scenario, rows: [row(reference, 1, false), row(millrace, ratio, false)], missing: [], disturbance: 0 })

  it("holds the ratio of Millrace against the floor", () => {
    expect(judged(1.4)[0]).toMatchObject({ id: "get-64", value: 1.4, bound: 1.4, ok: true })
    expect(judged(1.39)[0]).toMatchObject({ ok: false })
  })

  it("compares a stack with its peer over the rounds in which both have worked", () => {
    const stack = scenarios.find(({ id }) => id === "stack-64")!
    const rated = (contender: string, rates: ReadonlyArray<readonly [number, number]>): Row => ({
      ...row(contender, 1.3, false),
      rates: new Map(rates)
    })
    const rows = [
      rated(fullStack, [
        [1, 50],
        [2, 1],
        [4, 70]
      ]),
      rated(effectStack, [
        [1, 10],
        [4, 10]
      ])
    ]
    const check = judge({ scenario: stack, rows, missing: [], disturbance: 0 }).find(
      ({ id }) => id === "stack-64 ÷ effect"
    )
    expect(check).toMatchObject({ value: 6, bound: 5, ok: true })
  })

  it("holds what our proxy keeps of a stream against the floor, and nobody else's", () => {
    const stream = streamed[0]!
    const grown = (bytes: number) => ({
      ...stream,
      rows: stream.rows.map((row) => (row.contender === proxy ? { ...row, growth: bytes } : row))
    })
    expect(judgeStreams(grown(stream.scenario.bound - 1)).ok).toBe(true)
    expect(judgeStreams(grown(stream.scenario.bound)).ok).toBe(false)
    expect(judgeStreams({ ...stream, rows: [] }).ok).toBe(false)
  })

  it("takes a figure that is missing for a failure", () => {
    const timed = { ...scenario, floors: [{ figure: "p99", relation: "<=", bound: 1.2 } as const] }
    expect(judge({ scenario: timed, rows: [row(millrace, 2, false)], missing: [], disturbance: 0 })[0]?.ok).toBe(false)
    expect(judge({ scenario, rows: [row(millrace, Number.NaN, false)], missing: [], disturbance: 0 })[0]?.ok).toBe(
      false
    )
  })
})

describe("Scenario", () => {
  it("measures Millrace right after the reference, everywhere", () => {
    const names = contenders.map(({ name }) => name)
    for (const { contenders: taking } of clientScenarios) {
      // What is no ratio is measured alone.
      if (taking.length > 1) {
        expect(taking[0]).toBe(reference)
        expect([millrace, fullStack]).toContain(taking[1])
      }
      expect(names).toEqual(expect.arrayContaining([...taking]))
    }
  })

  it("measures our server and our proxy right after what they are compared with", () => {
    const names = [...subjects.map(({ name }) => name), direct]
    for (const { contenders: taking, reference: to } of serverScenarios) {
      expect(taking[0]).toBe(to)
      expect([pooled, proxy]).toContain(taking[1])
      expect(names).toEqual(expect.arrayContaining([...taking]))
    }
  })
})
