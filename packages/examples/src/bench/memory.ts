/**
 * Measures the heap that Millrace holds for one of a thing: so many are made, the garbage is collected before and after,
 * and the difference is divided. A child process of its own, started with `--expose-gc`.
 *
 * The first sample is thrown away: it pays for code that is compiled and for caches that are filled once.
 */
import { Connector, Pool, ServerPool } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import * as NodeListener from "@millrace/node/NodeListener"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as FakeConnector from "./FakeConnector.ts"
import type { MemoryRow } from "./Scenario.ts"
import { handler } from "./servers/Answer.ts"
import { median } from "./Statistics.ts"

export interface MemoryArguments {
  readonly id: MemoryRow["id"]
  readonly count: number
  readonly samples: number
  readonly origin: string
}

export interface MemoryResult {
  readonly bytes: number
}

const collect = (globalThis as { readonly gc?: () => void }).gc

/** What is no longer referenced is freed in several turns: finalizers and weak references come one after the other. */
const heap = Effect.gen(function* () {
  for (let i = 0; i < 4; i++) {
    collect?.()
    yield* Effect.sleep(20)
  }
  return process.memoryUsage().heapUsed
})

/** Does `fill` and gives the growth of the heap by each of `count`. */
const growth = <E, R>(count: number, fill: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.gen(function* () {
    const before = yield* heap
    const held = yield* fill
    const after = yield* heap
    // Named here so that it is alive until now.
    return held === undefined ? Number.NaN : (after - before) / count
  })

type Sample = (args: MemoryArguments) => Effect.Effect<number, unknown, Scope.Scope>

const samples: { readonly [K in MemoryRow["id"]]: Sample } = {
  /** One request to each of many hosts, so that the pool knows them all; nothing holds a connection to any. */
  "memory-host": ({ count }) =>
    Effect.gen(function* () {
      const pool = yield* Pool.make({ maxHosts: count + 1 })
      const visit = (host: number) =>
        Effect.flatMap(pool.client.get(`http://host-${host}.test/`), (response) => response.text)
      yield* visit(count)
      const visits = Effect.forEach(
        Array.from({ length: count }, (_, host) => host),
        visit,
        { discard: true }
      )
      return yield* growth(count, Effect.as(visits, pool))
    }).pipe(Effect.provideService(Connector.Connector, FakeConnector.make(true))),

  /** As many slots as requests, one after the other: each opens a connection and leaves it idle. */
  "memory-idle": ({ count, origin }) =>
    Effect.gen(function* () {
      const pool = yield* Pool.make({ baseUrl: origin, size: count })
      const fill = Effect.flatMap(pool.client.get("/small"), (response) => response.text).pipe(
        Effect.repeat({ times: count - 1 }),
        Effect.as(pool)
      )
      const bytes = yield* growth(count, fill)
      const { connectionsOpen } = yield* pool.stats
      if (connectionsOpen !== count) return yield* Effect.die(`${connectionsOpen} connections instead of ${count}`)
      return bytes
    }).pipe(Effect.provide(UndiciConnector.layer)),

  /** One request holds the only slot for ever; the others wait in line, each in a fiber. */
  "memory-waiting": ({ count }) =>
    Effect.gen(function* () {
      const pool = yield* Pool.make({ baseUrl: "http://host.test", size: 1, maxWaiting: count, drainTimeout: 0 })
      const request = Effect.flatMap(pool.client.get("/"), (response) => response.text)
      const first = yield* Effect.forkScoped(request)
      yield* Effect.yieldNow
      const fill = Effect.forEach(Array.from({ length: count }), () => Effect.forkScoped(request))
      let fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []
      const bytes = yield* growth(
        count,
        Effect.map(fill, (forked) => (fibers = forked))
      )
      const { waiting } = yield* pool.stats
      if (waiting !== count) return yield* Effect.die(`${waiting} requests wait instead of ${count}`)
      yield* Fiber.interruptAll([first, ...fibers])
      return bytes
    }).pipe(Effect.provideService(Connector.Connector, FakeConnector.make(false))),

  /** Servers that listen, each at a port of its own, and that nobody has asked anything. */
  "memory-server": ({ count }) =>
    Effect.gen(function* () {
      const servers = Array.from({ length: count }, (_, i) => ({ name: `server-${i}`, bind: "127.0.0.1:0" }))
      const fill = Effect.gen(function* () {
        const pool = yield* ServerPool.make({ servers, handlers: { default: handler } })
        yield* pool.start
        return pool
      })
      return yield* growth(count, fill)
    }).pipe(Effect.provide(NodeListener.layer))
}

const run = async (args: MemoryArguments): Promise<MemoryResult> => {
  const sample = Effect.scoped(samples[args.id](args))
  await Effect.runPromise(sample)
  const bytes: Array<number> = []
  for (let i = 0; i < args.samples; i++) bytes.push(await Effect.runPromise(sample))
  return { bytes: median(bytes) }
}

process.on("disconnect", () => process.exit())
run(JSON.parse(process.argv[2] ?? "{}") as MemoryArguments).then(
  (result) => process.send?.({ _tag: "Measured", result }),
  (error: unknown) => process.send?.({ _tag: "Failed", message: String(error) })
)
