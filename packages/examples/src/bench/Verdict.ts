/** Holds what was measured against the floors. */
import { millrace, reference } from "./contenders/index.ts"
import type { Measured, Row } from "./Measure.ts"
import type { Floor, MemoryRow, PolicyRow, Scenario } from "./Scenario.ts"
import { proxy } from "./servers/index.ts"
import type { Streamed } from "./Streaming.ts"
import { median } from "./Statistics.ts"

/** One floor and whether it was met. */
export interface Check {
  readonly id: string
  readonly says: string
  readonly value: number
  readonly relation: Floor["relation"]
  readonly bound: number
  readonly unit: "ratio" | "share" | "bytes" | "mebibytes" | "micros"
  readonly ok: boolean
}

const holds = (value: number, relation: Floor["relation"], bound: number): boolean => {
  switch (relation) {
    case ">=":
      return value >= bound
    case "<=":
      return value <= bound
    case "<":
      return value < bound
  }
}

/** The ratio to another contender, over the rounds in which both have worked. */
const ratioTo = (row: Row, other: Row | undefined): number =>
  median([...row.rates].flatMap(([round, rate]) => (other?.rates.has(round) ? [rate / other.rates.get(round)!] : [])))

const figure = (row: Row, floor: Floor, rows: ReadonlyArray<Row>): number => {
  switch (floor.figure) {
    case "rate":
      return floor.to === undefined
        ? row.ratio.median
        : ratioTo(
            row,
            rows.find(({ contender }) => contender === floor.to)
          )
    case "p99":
      return row.p99Ratio?.median ?? Number.NaN
    case "gc":
      return row.gc
  }
}

const says = (figure: Floor["figure"], to: string): string =>
  figure === "gc" ? "share of time in garbage collection" : `${figure === "rate" ? "requests/s" : "p99"} ÷ ${to}`

const idOf = ({ id }: Scenario, { figure, name }: Floor): string =>
  [id, ...(figure === "rate" ? [] : [figure]), ...(name === undefined ? [] : [name])].join(" ")

const check = (scenario: Scenario, row: Row, floor: Floor, rows: ReadonlyArray<Row>): Check => {
  const value = figure(row, floor, rows)
  return {
    id: idOf(scenario, floor),
    says: says(floor.figure, floor.to ?? scenario.reference ?? reference),
    value,
    relation: floor.relation,
    bound: floor.bound,
    unit: floor.figure === "gc" ? "share" : "ratio",
    ok: holds(value, floor.relation, floor.bound)
  }
}

export const judge = ({ scenario, rows }: Measured): ReadonlyArray<Check> =>
  scenario.floors.flatMap((floor) => {
    const row = rows.find(({ contender }) => contender === (floor.of ?? millrace))
    return row === undefined ? [] : [check(scenario, row, floor, rows)]
  })

export const judgePolicy = ({ id, title, bound }: PolicyRow, micros: number): Check => ({
  id,
  says: title,
  value: micros,
  relation: "<",
  bound,
  unit: "micros",
  ok: holds(micros, "<", bound)
})

export const judgeMemory = ({ id, title, bound }: MemoryRow, bytes: number): Check => ({
  id,
  says: title,
  value: bytes,
  relation: "<",
  bound,
  unit: "bytes",
  ok: holds(bytes, "<", bound)
})

export const judgeStreams = ({ scenario: { bound, id }, rows }: Streamed): Check => {
  const growth = rows.find(({ contender }) => contender === proxy)?.growth ?? Number.NaN
  return {
    id,
    says: "memory of the proxy beyond when warm",
    value: growth,
    relation: "<",
    bound,
    unit: "mebibytes",
    ok: holds(growth, "<", bound)
  }
}
