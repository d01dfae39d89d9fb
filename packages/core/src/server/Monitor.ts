/**
 * Asks the servers of a pool how they are, by a real request through a client pool, and says how each stands.
 *
 * What it promises:
 *
 * - A server with `monitor` in its configuration is asked as soon as it runs, and then at its `interval`, each in a fiber
 *   of its own: one that does not answer delays no other. A replaced handler, certificate or configuration is seen by the
 *   next request.
 * - `OK`: it answers. `Warn`: it has failed fewer than `fall` times in a row, answers slowly, has not answered yet, or is
 *   about to start or stop. `KO`: it has failed `fall` times in a row, or does not run. From `KO` it comes back with `rise`
 *   answers in a row; a server that was started anew begins anew.
 * - What the client did to itself (its pool is closed or saturated, its circuit is open), and an `origin` that throws, is
 *   told, but counts for nothing.
 * - A server that leaves the pool leaves the reports. When the scope ends nothing is left.
 * - Reports are plain data and hold no secret: of errors there is the message, of URLs no query.
 *
 * It never starts or stops anything; that is what a `Supervisor` does.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Pool } from "../client/Pool.ts"
import type { ConfigError } from "../model/ConfigError.ts"
import * as Field from "../model/internal/field.ts"
import { check } from "../model/internal/check.ts"
import * as ClockTimers from "../model/internal/timers.ts"
import { Watch } from "./internal/healthWatch.ts"
import type { Counts } from "./Listener.ts"
import type { Server, State } from "./Server.ts"
import { ServerPoolError } from "./ServerError.ts"
import type { ServerPool, Which } from "./ServerPool.ts"

/**
 * How a server stands.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict = "OK" | "Warn" | "KO"

/**
 * What is known of a server. Plain data: `JSON.stringify` gives the JSON form. Durations are milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerReport {
  readonly name: string
  /** As configured, with port 0 where the system chooses; `expose` has the port that it chose. */
  readonly bind: string
  readonly expose: string
  readonly state: Verdict
  readonly status: State["_tag"]
  /** It should run. Where it is `KO` and not wanted, it was stopped on purpose, or never started. */
  readonly wanted: boolean
  /** Whether it is asked by requests; else `state` says only whether it runs. */
  readonly monitored: boolean
  /** Answers in a row. */
  readonly rises: number
  /** Failures in a row. */
  readonly falls: number
  /** Health requests since it was first seen, and those of them that failed. */
  readonly checks: number
  readonly failures: number
  /** Of the last health request that was answered, its body included. */
  readonly latency?: number | undefined
  readonly uptime: number
  readonly downtime: number
  /** The message of what last went wrong, even where all is well since. */
  readonly lastError?: string | undefined
  /** Connections and requests of its clients, the health requests among them. */
  readonly counts: Counts
}

/**
 * A server stands differently.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly server: Server
  readonly from: Verdict
  readonly to: Verdict
  readonly report: ServerReport
}

/**
 * How requests are made and judged; path, interval, timeout, rise and fall are options of each server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** An answer that takes so long is slow. Default: half of the server's `monitor.timeout`. */
  readonly slow?: Duration.Input | undefined
  /**
   * Where a server is asked, without the path: its host is the request's `Host` too. Default: its own address, the loopback
   * where it accepts on all addresses.
   */
  readonly origin?: ((server: Server) => string) | undefined
}

/**
 * A running monitor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Monitor {
  /** All servers of the pool, in its order; sends nothing. */
  readonly report: Effect.Effect<ReadonlyArray<ServerReport>>
  readonly reportOf: (which: Which) => Effect.Effect<Option.Option<ServerReport>>
  /** The names of the servers that are asked. */
  readonly monitorNames: Effect.Effect<ReadonlyArray<string>>
  /**
   * Asks all that are wanted and monitored now, at once; fails with `Monitor` and every one that did not answer well. It
   * counts as any other health request.
   */
  readonly check: Effect.Effect<ReadonlyArray<ServerReport>, ServerPoolError>
  readonly checkOne: (which: Which) => Effect.Effect<ServerReport, ServerPoolError>
  /** What changes from now on, to the end of the monitor; a slow consumer misses the oldest. */
  readonly changes: Stream.Stream<Change>
}

const fields = {
  slow: Field.duration("An answer that takes so long is slow.", { default: "2.5 seconds" })
}

/** How many changes a slow consumer may be behind. */
const buffer = 1024

/**
 * Watches the servers of a pool as long as the scope lasts. The client's pool should do nothing but this: a slot for each
 * server, and no retry, or failures come late.
 *
 * ```ts
 * import { Monitor, Pool, ServerPool } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * export const monitor = Effect.gen(function* () {
 *   const servers = yield* ServerPool.ServerPool
 *   const client = yield* Pool.make({ size: 4, observe: false })
 *   return yield* Monitor.make(servers, client)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  pool: ServerPool,
  client: Pick<Pool, "client">,
  options: Options = {}
): Effect.fn.Return<Monitor, ConfigError, Scope.Scope> {
  const { origin, ...rest } = options
  const { slow } = yield* check<{ slow: number }>(fields, rest)
  const timers = ClockTimers.make(yield* Effect.context<never>())
  const pubsub = yield* PubSub.sliding<Change | "ended">(buffer)
  let ended = false
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      ended = true
      return PubSub.publish(pubsub, "ended")
    })
  )
  const fibers = yield* FiberMap.make<Server>()
  const watches = new Map<Server, Watch>()

  const watchOf = (server: Server): Watch => {
    const known = watches.get(server)
    if (known !== undefined) return known
    const watch = new Watch(server, { client: client.client, timers, slow, origin })
    watches.set(server, watch)
    return watch
  }

  const tell = (watch: Watch) =>
    Effect.flatMap(watch.change, (change) =>
      change === undefined ? Effect.void : Effect.asVoid(PubSub.publish(pubsub, change))
    )

  const asked = (watch: Watch) => Effect.tap(watch.ask, () => tell(watch))

  const loop = (watch: Watch): Effect.Effect<never> => {
    const once = Effect.suspend(() => {
      const began = timers.now()
      const rest = Effect.suspend(() => Effect.sleep(Math.max(0, watch.interval - (timers.now() - began))))
      return Effect.andThen(asked(watch), rest)
    })
    return Effect.forever(once)
  }

  const follow = Effect.gen(function* () {
    const servers = new Set(yield* pool.servers)
    for (const server of watches.keys()) {
      if (servers.has(server)) continue
      watches.delete(server)
      yield* FiberMap.remove(fibers, server)
    }
    for (const server of servers) {
      const watch = watchOf(server)
      const todo = yield* watch.todo
      // Before it is asked again, so that nobody misses that it began anew.
      yield* tell(watch)
      if (todo === "ask anew") yield* FiberMap.run(fibers, server, loop(watch))
      if (todo === "rest") yield* FiberMap.remove(fibers, server)
    }
  })

  yield* Effect.forkScoped(
    Stream.runForEach(pool.events, () => follow),
    { startImmediately: true }
  )
  yield* follow

  const member = (which: Which): Effect.Effect<Server, ServerPoolError> =>
    Effect.flatMap(pool.get(which), (found) => {
      if (Option.isSome(found)) return Effect.succeed(found.value)
      const shown = typeof which === "string" ? JSON.stringify(which) : which.bind
      return Effect.fail(new ServerPoolError({ reason: "Monitor", servers: [], detail: `there is no server ${shown}` }))
    })

  /** The reason why it is not well, if it is not. */
  const problemOf = (server: Server): Effect.Effect<unknown> =>
    Effect.gen(function* () {
      if (server.config.monitor === undefined) return new Error("it has no `monitor` in its configuration")
      if (!(yield* server.isRunning)) return (yield* server.health).lastError ?? new Error("it does not run")
      const { answer, error } = yield* asked(watchOf(server))
      return answer === "good" || answer === "slow" ? undefined : error
    })

  const failedOf = (server: Server) =>
    Effect.map(problemOf(server), (cause) =>
      cause === undefined ? [] : [{ name: server.name, bind: server.bind, cause }]
    )

  const checkAll = (servers: ReadonlyArray<Server>) =>
    Effect.flatMap(Effect.forEach(servers, failedOf, { concurrency: "unbounded" }), (failed) => {
      const all = failed.flat()
      return all.length === 0 ? Effect.void : Effect.fail(new ServerPoolError({ reason: "Monitor", servers: all }))
    })

  const report = Effect.flatMap(pool.servers, (servers) => Effect.forEach(servers, (server) => watchOf(server).report))

  return {
    report,
    reportOf: (which) =>
      Effect.flatMap(
        pool.get(which),
        Option.match({
          onNone: () => Effect.succeedNone,
          onSome: (server) => Effect.asSome(watchOf(server).report)
        })
      ),
    monitorNames: Effect.map(pool.servers, (servers) =>
      servers.filter(({ config }) => config.monitor !== undefined && !config.disabled).map(({ name }) => name)
    ),
    check: Effect.gen(function* () {
      yield* follow
      const servers = yield* pool.servers
      const wanted = yield* Effect.filter(servers, (server) => Effect.map(server.health, (health) => health.wanted))
      yield* checkAll(wanted.filter(({ config }) => config.monitor !== undefined))
      return yield* report
    }),
    checkOne: (which) =>
      Effect.gen(function* () {
        const server = yield* member(which)
        yield* follow
        yield* checkAll([server])
        return yield* watchOf(server).report
      }),
    changes: Stream.suspend(() =>
      ended
        ? Stream.empty
        : Stream.fromPubSub(pubsub).pipe(
            Stream.takeUntil((change) => change === "ended"),
            Stream.filter((change) => change !== "ended")
          )
    )
  }
})
