/** Holds what was measured against the floors. */
import { millrace, reference } from "./contenders/index.ts"
import type { Measured, Row } from "./Measure.ts"
import type { Floor, MemoryRow, Scenario } from "./Scenario.ts"

/** One floor and whether it was met. */
export interface Check {
  readonly id: string
  readonly says: string
  readonly value: number
  readonly relation: Floor["relation"]
  readonly bound: number
  readonly unit: "ratio" | "share" | "bytes"
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

const figure = (row: Row, floor: Floor): number => {
  switch (floor.figure) {
    case "rate":
      return row.ratio.median
    case "p99":
      return row.p99Ratio?.median ?? Number.NaN
    case "gc":
      return row.gc
  }
}

const says: { readonly [K in Floor["figure"]]: string } = {
  rate: `requests/s ÷ ${reference}`,
  p99: `p99 ÷ ${reference}`,
  gc: "share of time in garbage collection"
}

const check = (scenario: Scenario, row: Row, floor: Floor): Check => {
  const value = figure(row, floor)
  return {
    id: floor.figure === "rate" ? scenario.id : `${scenario.id} ${floor.figure}`,
    says: says[floor.figure],
    value,
    relation: floor.relation,
    bound: floor.bound,
    unit: floor.figure === "gc" ? "share" : "ratio",
    ok: holds(value, floor.relation, floor.bound)
  }
}

export const judge = ({ scenario, rows }: Measured): ReadonlyArray<Check> => {
  const row = rows.find(({ contender }) => contender === millrace)
  return row === undefined ? [] : scenario.floors.map((floor) => check(scenario, row, floor))
}

export const judgeMemory = ({ id, title, bound }: MemoryRow, bytes: number): Check => ({
  id,
  says: title,
  value: bytes,
  relation: "<",
  bound,
  unit: "bytes",
  ok: holds(bytes, "<", bound)
})
