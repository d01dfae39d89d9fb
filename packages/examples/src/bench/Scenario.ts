/** What is measured, with what, and how good it must be: the floors of the design. */
import { contenders, millrace, reference } from "./contenders/index.ts"
import type { WorkName } from "./Work.ts"

/** A bound on a ratio to the reference (`rate`, `p99`) or on Millrace's own figure (`gc`). */
export interface Floor {
  readonly figure: "rate" | "p99" | "gc"
  readonly relation: ">=" | "<=" | "<"
  readonly bound: number
}

export interface Scenario {
  readonly id: string
  readonly title: string
  readonly work: WorkName
  readonly callers: number
  /** In the order of their turns; Millrace's comes right after the one it is compared with. */
  readonly contenders: ReadonlyArray<string>
  /** Times each request: for latencies, and for rates of few long requests. */
  readonly timed: boolean
  /** A turn lasts so many times as long as the others'. */
  readonly longer: number
  readonly floors: ReadonlyArray<Floor>
}

const pair = [reference, millrace]

export const scenarios: ReadonlyArray<Scenario> = [
  {
    id: "get-64",
    title: "GET small JSON, 64 callers",
    work: "small",
    callers: 64,
    contenders: contenders.map(({ name }) => name),
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.4 }]
  },
  {
    // Alone: beside others it would also collect what they leave behind.
    id: "garbage",
    title: "GET small JSON, 64 callers, Millrace alone",
    work: "small",
    callers: 64,
    contenders: [millrace],
    timed: false,
    longer: 2,
    floors: [{ figure: "gc", relation: "<", bound: 0.03 }]
  },
  {
    id: "get-512",
    title: "GET small JSON, 512 callers",
    work: "small",
    callers: 512,
    contenders: pair,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.2 }]
  },
  {
    id: "post-64",
    title: "POST 1 KiB, 64 callers",
    work: "echo",
    callers: 64,
    contenders: pair,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.2 }]
  },
  {
    id: "one-caller",
    title: "GET small JSON, one caller at a time",
    work: "small",
    callers: 1,
    contenders: pair,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 0.95 }]
  },
  {
    id: "download",
    title: "10 MiB download, one caller at a time",
    work: "large",
    callers: 1,
    contenders: pair,
    timed: true,
    longer: 2,
    floors: [{ figure: "rate", relation: ">=", bound: 0.92 }]
  },
  {
    id: "slow-tail",
    title: "GET, 0.5 % of answers take 100 ms, 64 callers",
    work: "tail",
    callers: 64,
    contenders: pair,
    timed: true,
    longer: 3,
    floors: [
      { figure: "rate", relation: ">=", bound: 1 },
      { figure: "p99", relation: "<=", bound: 1.2 }
    ]
  }
]

/** Heap that Millrace holds for one of a thing. */
export interface MemoryRow {
  readonly id: "memory-host" | "memory-idle" | "memory-waiting"
  readonly title: string
  readonly count: number
  readonly bound: number
}

export const memoryRows: ReadonlyArray<MemoryRow> = [
  { id: "memory-host", title: "heap per known host without connections", count: 5000, bound: 1024 },
  { id: "memory-idle", title: "heap per open idle connection", count: 512, bound: 8 * 1024 },
  { id: "memory-waiting", title: "heap per waiting request, its fiber included", count: 10_000, bound: 2.5 * 1024 }
]
