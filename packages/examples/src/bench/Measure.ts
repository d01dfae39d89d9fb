/**
 * How it is measured.
 *
 * One process serves, another makes load for one contender after the other: A B C, A B C, … Every figure of a
 * contender is compared with the reference's figure of the same round, seconds apart, and the median of these ratios
 * counts: a noisy neighbour, a warm processor or a busy minute falls on both sides. Before the first round every contender
 * is warmed up alone; before each turn a short lead-in, which is not counted, brings connections and caches back.
 *
 * The server stays awake while clients are measured (server.ts says why). Where servers are measured each is a process of
 * its own, and the client is always the same.
 */
import * as Effect from "effect/Effect"
import * as Os from "node:os"
import { performance } from "node:perf_hooks"
import * as Child from "./Child.ts"
import { reference, sockets } from "./contenders/index.ts"
import type { Contending, LoadArguments, LoadResult, LoadTurn } from "./load.ts"
import type { MemoryArguments, MemoryResult } from "./memory.ts"
import type { PolicyArguments, PolicyResult } from "./policies.ts"
import type { MemoryRow, PolicyRow, Scenario } from "./Scenario.ts"
import { direct } from "./servers/index.ts"
import { type Server, startSubject, type Upstream } from "./Serving.ts"
import { differences, median, ratios, summary, type Summary } from "./Statistics.ts"

/** How long and how often. Seconds. */
export interface Plan {
  readonly rounds: number
  readonly seconds: number
  readonly warmUp: number
  readonly leadIn: number
  readonly memorySamples: number
  /** Of each body that streams through a proxy. */
  readonly streamBytes: number
  /** Each contender in a process of its own. */
  readonly isolated: boolean
}

export interface Row {
  readonly contender: string
  readonly perSecond: Summary
  /** To the reference's, round by round. */
  readonly ratio: Summary
  /** By round: for ratios to another than the reference. */
  readonly rates: ReadonlyMap<number, number>
  /** Milliseconds, and its ratio to the reference's; `null` where requests are not timed. */
  readonly p99: Summary | null
  readonly p99Ratio: Summary | null
  readonly p50: Summary | null
  /** Milliseconds more than the reference's. */
  readonly added: { readonly p50: Summary; readonly p99: Summary } | null
  /** Share of time in garbage collection. */
  readonly gc: number
  /** Microseconds of processor time for one request: the client's, or of a server that is measured. */
  readonly cpuMicros: number
  /** Share of a core that the server used. */
  readonly serverBusy: number
}

export interface Measured {
  readonly scenario: Scenario
  readonly rows: ReadonlyArray<Row>
  /** Programs that are not installed. */
  readonly missing: ReadonlyArray<string>
  /** Processor cores that other programs used meanwhile; with more than a little the figures are rough. */
  readonly disturbance: number
}

export type Progress = (text: string) => Effect.Effect<void>

interface Turn extends LoadResult {
  readonly round: number
  readonly serverBusy: number
  readonly disturbance: number
}

/** Only what is judged works in every round: the more rounds, the less does noise decide. */
const peersEvery = 3

/** Milliseconds that all cores have worked since the machine was started. */
const worked = (): number =>
  Os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0)

/** A client and the server that it asks: one of the two is what is measured. */
interface Pair extends Contending {
  readonly server: Server
}

/** Who contends; and, of servers, which are not installed. */
const pairs = (scenario: Scenario, server: Server) =>
  Effect.gen(function* () {
    if (scenario.measures !== "servers") {
      const pair = (name: string): Pair => ({ name, client: name, origin: server.origin, server })
      return { found: scenario.contenders.map(pair), missing: [] }
    }
    const found: Array<Pair> = []
    const missing: Array<string> = []
    for (const name of scenario.contenders) {
      const started = name === direct ? server : yield* startSubject(name, server.origin)
      if (started === undefined) missing.push(name)
      else found.push({ name, client: sockets, origin: started.origin, server: started })
    }
    return { found, missing }
  })

/** The clients of a scenario, in one process or in one each. */
const startLoad = (scenario: Scenario, pairs: ReadonlyArray<Pair>, isolated: boolean) => {
  const { callers, pace, timed, work } = scenario
  const start = (group: ReadonlyArray<Pair>) =>
    Effect.gen(function* () {
      const contenders = group.map(({ client, name, origin }): Contending => ({ client, name, origin }))
      const args: LoadArguments = { contenders, work, callers, timed, pace }
      const names = group.map(({ name }) => name).join(", ")
      const child = yield* Child.start(names, new URL("./load.ts", import.meta.url), { args: [JSON.stringify(args)] })
      yield* child.next()
      return group.map(({ name: contender, server }) => {
        const turns: Array<Turn> = []
        const load = (seconds: number) => {
          const turn: LoadTurn = { contender, seconds }
          return Effect.map(child.ask<{ readonly result: LoadResult }>(turn), ({ result }) => result)
        }
        return { contender, server, load, turns }
      })
    })
  const groups = isolated ? pairs.map((pair) => [pair]) : [pairs]
  return Effect.map(Effect.forEach(groups, start), (started) => started.flat())
}

const pick = <A>(turns: ReadonlyArray<Turn>, figure: (turn: Turn) => A): ReadonlyArray<A> => turns.map(figure)

const row = (contender: string, turns: ReadonlyArray<Turn>, all: ReadonlyArray<Turn>): Row => {
  const of = turns.flatMap(({ round }) => all.filter((turn) => turn.round === round))
  const p99 = pick(turns, (turn) => turn.p99).filter((value) => value !== null)
  const p99Of = pick(of, (turn) => turn.p99).filter((value) => value !== null)
  const p50 = pick(turns, (turn) => turn.p50).filter((value) => value !== null)
  const p50Of = pick(of, (turn) => turn.p50).filter((value) => value !== null)
  const perSecond = pick(turns, (turn) => turn.perSecond)
  return {
    contender,
    perSecond: summary(perSecond),
    rates: new Map(turns.map((turn) => [turn.round, turn.perSecond])),
    ratio: ratios(
      perSecond,
      pick(of, (turn) => turn.perSecond)
    ),
    p99: p99.length === 0 ? null : summary(p99),
    p99Ratio: p99.length === 0 ? null : ratios(p99, p99Of),
    p50: p50.length === 0 ? null : summary(p50),
    added: p50.length === 0 ? null : { p50: differences(p50, p50Of), p99: differences(p99, p99Of) },
    gc: median(pick(turns, (turn) => turn.gc)),
    cpuMicros: median(pick(turns, (turn) => turn.cpuMicros)),
    serverBusy: median(pick(turns, (turn) => turn.serverBusy))
  }
}

export const measureScenario = (
  scenario: Scenario,
  upstream: Upstream,
  plan: Plan,
  progress: Progress
): Effect.Effect<Measured, Child.ChildError> =>
  Effect.gen(function* () {
    if (scenario.measures !== "servers") yield* upstream.awake
    const { found, missing } = yield* pairs(scenario, upstream)
    const running = yield* startLoad(scenario, found, plan.isolated)
    for (const { contender, load } of running) {
      yield* progress(`${scenario.title}: warming up ${contender}`)
      yield* load(plan.warmUp)
    }
    for (let round = 1; round <= plan.rounds; round++) {
      for (const [place, { contender, load, server, turns }] of running.entries()) {
        if (place >= scenario.judged && (round - 1) % peersEvery !== 0) continue
        yield* progress(`${scenario.title}: round ${round} of ${plan.rounds}, ${contender}`)
        yield* load(plan.leadIn)
        yield* server.figures
        if (server !== upstream) yield* upstream.figures
        const before = { worked: worked(), at: performance.now() }
        const result = yield* load(plan.seconds * scenario.longer)
        const all = (worked() - before.worked) / (performance.now() - before.at)
        const used = yield* server.figures
        const behind = server === upstream ? 0 : (yield* upstream.figures).busy
        const own = (result.cpuMicros * result.perSecond) / 1_000_000 + used.busy + used.waiting + behind
        const measured =
          scenario.measures === "servers" ? { gc: used.gc, cpuMicros: (used.busy / result.perSecond) * 1_000_000 } : {}
        turns.push({ ...result, ...measured, round, serverBusy: used.busy, disturbance: Math.max(0, all - own) })
      }
    }
    // Alone, a contender is its own reference.
    const to = scenario.reference ?? reference
    const of = (running.find(({ contender }) => contender === to) ?? running[0])?.turns ?? []
    return {
      scenario,
      rows: running.map(({ contender, turns }) => row(contender, turns, of)),
      missing,
      disturbance: median(running.flatMap(({ turns }) => turns.map(({ disturbance }) => disturbance)))
    }
  }).pipe(Effect.scoped)

/** Microseconds of processor time that the policy adds to a request. */
export const measurePolicy = ({ id, policy }: PolicyRow, plan: Plan): Effect.Effect<number, Child.ChildError> => {
  const args: PolicyArguments = { policy, rounds: plan.rounds }
  return Effect.gen(function* () {
    const child = yield* Child.start(id, new URL("./policies.ts", import.meta.url), { args: [JSON.stringify(args)] })
    const { result } = yield* child.next<{ readonly result: PolicyResult }>()
    return result.micros
  }).pipe(Effect.scoped)
}

/** Bytes of heap for one of what the row counts. */
export const measureMemory = (
  { id, count }: MemoryRow,
  server: Server,
  plan: Plan
): Effect.Effect<number, Child.ChildError> => {
  const args: MemoryArguments = { id, count, samples: plan.memorySamples, origin: server.origin }
  return Effect.gen(function* () {
    const child = yield* Child.start(id, new URL("./memory.ts", import.meta.url), {
      args: [JSON.stringify(args)],
      execArgv: ["--expose-gc"]
    })
    const { result } = yield* child.next<{ readonly result: MemoryResult }>()
    return result.bytes
  }).pipe(Effect.scoped)
}
