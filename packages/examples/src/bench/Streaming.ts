/**
 * What streams through a proxy must not stay in it: its memory at the highest, while a body of 1 GiB passes, beside the
 * highest before, when it has warmed up on smaller ones.
 */
import * as Effect from "effect/Effect"
import * as Child from "./Child.ts"
import { startSubject } from "./Serving.ts"
import { direct, httpProxy, proxy, streamUpstream } from "./servers/index.ts"
import type { Transfer, TransferArguments, Transferred } from "./transfer.ts"

export interface StreamScenario {
  readonly id: string
  readonly direction: Transfer["direction"]
  readonly title: string
  readonly contenders: ReadonlyArray<string>
  /** Bytes that the resident memory of our proxy may grow by. */
  readonly bound: number
}

const contenders = [proxy, httpProxy, direct]

const mebibyte = 2 ** 20

export const streamScenarios: ReadonlyArray<StreamScenario> = [
  {
    id: "proxy-stream down",
    direction: "download",
    title: "through a proxy: a download",
    contenders,
    bound: 64 * mebibyte
  },
  { id: "proxy-stream up", direction: "upload", title: "through a proxy: an upload", contenders, bound: 64 * mebibyte }
]

export interface StreamRow {
  readonly contender: string
  readonly mebibytesPerSecond: number
  /** Bytes at the highest; `null` where there is no proxy. */
  readonly heap: number | null
  readonly rss: number | null
  /** More resident memory than at the highest before. */
  readonly growth: number | null
}

export interface Streamed {
  readonly scenario: StreamScenario
  readonly bytes: number
  readonly rows: ReadonlyArray<StreamRow>
}

/** As many warm-ups as it takes until the heap has the size that it keeps. */
const warmUps = 4

const missing = (name: string) => Effect.fail(new Child.ChildError({ message: `${name} does not run` }))

const through = (contender: string, upstream: string, { direction }: StreamScenario, bytes: number) =>
  Effect.gen(function* () {
    const through = contender === direct ? undefined : yield* startSubject(contender, upstream)
    if (through === undefined && contender !== direct) return yield* missing(contender)
    const args: TransferArguments = { origin: through?.origin ?? upstream }
    const client = yield* Child.start("the transfer", new URL("./transfer.ts", import.meta.url), {
      args: [JSON.stringify(args)]
    })
    yield* client.next()
    const move = (size: number) => client.ask<Transferred>({ direction, bytes: size } satisfies Transfer)
    const memory = through?.memory ?? Effect.succeed(null)
    yield* memory
    for (let i = 0; i < warmUps; i++) yield* move(Math.ceil(bytes / 8))
    const before = yield* memory
    const { seconds } = yield* move(bytes)
    const most = yield* memory
    return {
      contender,
      mebibytesPerSecond: bytes / mebibyte / seconds,
      heap: most?.heap ?? null,
      rss: most?.rss ?? null,
      growth: most === null || before === null ? null : Math.max(0, most.rss - before.rss)
    } satisfies StreamRow
  }).pipe(Effect.scoped)

export const measureStreams = (scenario: StreamScenario, bytes: number): Effect.Effect<Streamed, Child.ChildError> =>
  Effect.gen(function* () {
    const upstream = yield* startSubject(streamUpstream, "")
    if (upstream === undefined) return yield* missing(streamUpstream)
    const rows = yield* Effect.forEach(scenario.contenders, (name) => through(name, upstream.origin, scenario, bytes))
    return { scenario, bytes, rows }
  }).pipe(Effect.scoped)
