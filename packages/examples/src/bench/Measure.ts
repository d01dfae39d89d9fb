/**
 * How it is measured.
 *
 * One process serves, one process of each contender makes load, and they take turns: A B C, A B C, … Every figure of a
 * contender is compared with the reference's figure of the same round, seconds apart, and the median of these ratios
 * counts: a noisy neighbour, a warm processor or a busy minute falls on both sides. Before the first round every process
 * is warmed up alone; before each turn a short lead-in, which is not counted, brings connections and caches back.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Os from "node:os"
import { performance } from "node:perf_hooks"
import * as Child from "./Child.ts"
import { reference } from "./contenders/index.ts"
import type { LoadArguments, LoadResult, LoadTurn } from "./load.ts"
import type { MemoryArguments, MemoryResult } from "./memory.ts"
import type { MemoryRow, Scenario } from "./Scenario.ts"
import { median, ratios, summary, type Summary } from "./Statistics.ts"

/** How long and how often. Seconds. */
export interface Plan {
  readonly rounds: number
  readonly seconds: number
  readonly warmUp: number
  readonly leadIn: number
  readonly memorySamples: number
}

export interface Server {
  readonly origin: string
  /** The share of a core that the server used since it was last asked. */
  readonly busy: Effect.Effect<number, Child.ChildError>
}

export interface Row {
  readonly contender: string
  readonly perSecond: Summary
  readonly ratio: Summary
  /** Milliseconds, and its ratio to the reference's; `null` where requests are not timed. */
  readonly p99: Summary | null
  readonly p99Ratio: Summary | null
  /** Share of time in garbage collection. */
  readonly gc: number
  /** Microseconds of processor time for one request. */
  readonly cpuMicros: number
  /** Share of a core that the server used. */
  readonly serverBusy: number
}

export interface Measured {
  readonly scenario: Scenario
  readonly rows: ReadonlyArray<Row>
  /** Processor cores that other programs used meanwhile; with more than a little the figures are rough. */
  readonly disturbance: number
}

export type Progress = (text: string) => Effect.Effect<void>

export const startServer: Effect.Effect<Server, Child.ChildError, Scope.Scope> = Effect.gen(function* () {
  const child = yield* Child.start("the server", new URL("./server.ts", import.meta.url))
  const { port } = yield* child.next<{ readonly port: number }>()
  return {
    origin: `http://127.0.0.1:${port}`,
    busy: Effect.map(child.ask<{ readonly busy: number }>({ _tag: "Busy" }), ({ busy }) => busy)
  }
})

interface Turn extends LoadResult {
  readonly serverBusy: number
  readonly disturbance: number
}

/** Milliseconds that all cores have worked since the machine was started. */
const worked = (): number =>
  Os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0)

const startContender = (scenario: Scenario, contender: string, server: Server) => {
  const { work, callers, timed } = scenario
  const args: LoadArguments = { contender, origin: server.origin, work, callers, timed }
  return Effect.gen(function* () {
    const child = yield* Child.start(contender, new URL("./load.ts", import.meta.url), { args: [JSON.stringify(args)] })
    yield* child.next()
    const load = (turn: LoadTurn) =>
      Effect.map(child.ask<{ readonly result: LoadResult }>(turn), ({ result }) => result)
    const turns: Array<Turn> = []
    return { contender, load, turns }
  })
}

const pick = <A>(turns: ReadonlyArray<Turn>, figure: (turn: Turn) => A): ReadonlyArray<A> => turns.map(figure)

const row = (contender: string, turns: ReadonlyArray<Turn>, of: ReadonlyArray<Turn>): Row => {
  const p99 = pick(turns, (turn) => turn.p99).filter((value) => value !== null)
  const p99Of = pick(of, (turn) => turn.p99).filter((value) => value !== null)
  const perSecond = pick(turns, (turn) => turn.perSecond)
  return {
    contender,
    perSecond: summary(perSecond),
    ratio: ratios(
      perSecond,
      pick(of, (turn) => turn.perSecond)
    ),
    p99: p99.length === 0 ? null : summary(p99),
    p99Ratio: p99.length === 0 ? null : ratios(p99, p99Of),
    gc: median(pick(turns, (turn) => turn.gc)),
    cpuMicros: median(pick(turns, (turn) => turn.cpuMicros)),
    serverBusy: median(pick(turns, (turn) => turn.serverBusy))
  }
}

export const measureScenario = (
  scenario: Scenario,
  server: Server,
  plan: Plan,
  progress: Progress
): Effect.Effect<Measured, Child.ChildError> =>
  Effect.gen(function* () {
    const running = yield* Effect.forEach(scenario.contenders, (contender) =>
      Effect.gen(function* () {
        yield* progress(`${scenario.title}: warming up ${contender}`)
        const started = yield* startContender(scenario, contender, server)
        yield* started.load({ seconds: plan.warmUp })
        return started
      })
    )
    for (let round = 1; round <= plan.rounds; round++) {
      for (const { contender, load, turns } of running) {
        yield* progress(`${scenario.title}: round ${round} of ${plan.rounds}, ${contender}`)
        yield* load({ seconds: plan.leadIn })
        yield* server.busy
        const before = { worked: worked(), at: performance.now() }
        const result = yield* load({ seconds: plan.seconds * scenario.longer })
        const all = (worked() - before.worked) / (performance.now() - before.at)
        const serverBusy = yield* server.busy
        const own = (result.cpuMicros * result.perSecond) / 1_000_000 + serverBusy
        turns.push({ ...result, serverBusy, disturbance: Math.max(0, all - own) })
      }
    }
    const of = running.find(({ contender }) => contender === reference)?.turns ?? []
    return {
      scenario,
      rows: running.map(({ contender, turns }) => row(contender, turns, of)),
      disturbance: median(running.flatMap(({ turns }) => turns.map(({ disturbance }) => disturbance)))
    }
  }).pipe(Effect.scoped)

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
