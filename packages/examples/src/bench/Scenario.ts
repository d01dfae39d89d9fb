/** What is measured, with what, and how good it must be: the floors of the design. */
import {
  bare,
  cockatiel,
  effectStack,
  fullStack,
  fullStackTraced,
  got,
  millrace,
  reference
} from "./contenders/index.ts"
import { type PolicyName, policyNames } from "./Stack.ts"
import type { WorkName } from "./Work.ts"

/** A bound on a ratio to another contender (`rate`, `p99`) or on Millrace's own figure (`gc`). */
export interface Floor {
  readonly figure: "rate" | "p99" | "gc"
  readonly relation: ">=" | "<=" | "<"
  readonly bound: number
  /** Tells it from the others of its scenario. */
  readonly name?: string | undefined
  /** Whose figure. Default: the bare pool's. */
  readonly of?: string | undefined
  /** Compared with whose. Default: that of the scenario's reference. */
  readonly to?: string | undefined
}

export interface Scenario {
  readonly id: string
  readonly title: string
  readonly work: WorkName
  readonly callers: number
  /** In the order of their turns; Millrace's comes right after the one it is compared with. */
  readonly contenders: ReadonlyArray<string>
  /** What they are. Default: clients. */
  readonly measures?: "clients" | "servers" | undefined
  /** How many of them, from the first, work in every round; the others in every third. */
  readonly judged: number
  /** Times each request: for latencies, and for rates of few long requests. */
  readonly timed: boolean
  /** A turn lasts so many times as long as the others'. */
  readonly longer: number
  readonly floors: ReadonlyArray<Floor>
  /** With whose figures those of the others are compared. Default: the reference of all that measure clients. */
  readonly reference?: string | undefined
  /** So many requests a second, rather than as many as the callers can: what is looked at are latencies. */
  readonly pace?: number | undefined
}

const pair = [reference, millrace]

export const scenarios: ReadonlyArray<Scenario> = [
  {
    id: "get-64",
    title: "GET small JSON, 64 callers",
    work: "small",
    callers: 64,
    contenders: bare,
    judged: 2,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.4 }]
  },
  {
    id: "stack-64",
    title: "the full stack: GET small JSON, 64 callers",
    work: "small",
    callers: 64,
    contenders: [reference, fullStack, fullStackTraced, effectStack, cockatiel, got],
    judged: 3,
    timed: false,
    longer: 1,
    floors: [
      { figure: "rate", relation: ">=", bound: 1.3, of: fullStack },
      { figure: "rate", relation: ">=", bound: 1, name: "traced", of: fullStackTraced },
      { figure: "rate", relation: ">=", bound: 5, name: "÷ effect", of: fullStack, to: effectStack },
      { figure: "rate", relation: ">=", bound: 2.2, name: "÷ cockatiel", of: fullStack, to: cockatiel },
      { figure: "rate", relation: ">=", bound: 8, name: "÷ got", of: fullStack, to: got }
    ]
  },
  {
    id: "stack-512",
    title: "the full stack: GET small JSON, 512 callers",
    work: "small",
    callers: 512,
    contenders: [reference, fullStack],
    judged: 2,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.2, of: fullStack }]
  },
  {
    id: "stack-post",
    title: "the full stack: POST 1 KiB, 64 callers",
    work: "echo",
    callers: 64,
    contenders: [reference, fullStack],
    judged: 2,
    timed: false,
    longer: 1,
    floors: [{ figure: "rate", relation: ">=", bound: 1.2, of: fullStack }]
  },
  {
    // Alone: beside others it would also collect what they leave behind.
    id: "garbage",
    title: "GET small JSON, 64 callers, the full stack alone",
    work: "small",
    callers: 64,
    contenders: [fullStack],
    judged: 1,
    timed: false,
    longer: 2,
    floors: [{ figure: "gc", relation: "<", bound: 0.03, of: fullStack }]
  },
  {
    id: "get-512",
    title: "GET small JSON, 512 callers",
    work: "small",
    callers: 512,
    contenders: pair,
    judged: 2,
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
    judged: 2,
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
    judged: 2,
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
    judged: 2,
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
    judged: 2,
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
  readonly id: "memory-host" | "memory-idle" | "memory-waiting" | "memory-server"
  readonly title: string
  readonly count: number
  readonly bound: number
}

export const memoryRows: ReadonlyArray<MemoryRow> = [
  { id: "memory-host", title: "heap per known host without connections", count: 5000, bound: 1024 },
  { id: "memory-idle", title: "heap per open idle connection", count: 512, bound: 8 * 1024 },
  { id: "memory-waiting", title: "heap per waiting request, its fiber included", count: 10_000, bound: 2.5 * 1024 },
  { id: "memory-server", title: "heap per idle server of a pool", count: 100, bound: 64 * 1024 }
]

/** What a policy costs a request that it lets pass at once: microseconds on top of the bare pool, without sockets. */
export interface PolicyRow {
  readonly id: string
  readonly title: string
  readonly policy: PolicyName
  readonly bound: number
}

export const policyRows: ReadonlyArray<PolicyRow> = policyNames.map((policy) => ({
  id: `policy-${policy}`,
  title: `own cost of ${policy}`,
  policy,
  bound: 1
}))
