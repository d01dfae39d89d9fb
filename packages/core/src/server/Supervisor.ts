/**
 * Restarts servers that have failed or do not answer any more, and gives up when that does not help.
 *
 * What it promises:
 *
 * - One for one: only the server that failed is restarted; all others serve on.
 * - A server is restarted when it should run and could not (its `Failed` event), and, with a monitor, when that says `KO`.
 * - More than `maxRestarts` restarts of all servers together `within` that time are too many: as a supervisor of OTP it
 *   does not try again, but gives up and tells. From then on it does nothing; every server stays as it is.
 * - One that is disabled, was stopped, or is about to stop is never started.
 * - When the scope ends it restarts nothing any more; a restart that was under way runs to its end, as every operation of
 *   the pool does.
 *
 * OTP's supervisor stops its children when it gives up. This one does not: servers that work are worth keeping, and who
 * is told can stop them.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import { PreventSchedulerYield } from "effect/References"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ConfigError } from "../model/ConfigError.ts"
import { check } from "../model/internal/check.ts"
import * as Field from "../model/internal/field.ts"
import * as ClockTimers from "../model/internal/timers.ts"
import type { Monitor } from "./Monitor.ts"
import type { Server } from "./Server.ts"
import { ServerPoolError } from "./ServerError.ts"
import type { ServerPool } from "./ServerPool.ts"

/**
 * When a server is restarted, and when no more.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Says who does not answer. Default: none, so that only servers that could not start are restarted. */
  readonly monitor?: Pick<Monitor, "changes" | "reportOf"> | undefined
  /** Restarts of all servers together; one more within the time, and it gives up. Default: 1, as OTP's `intensity`. */
  readonly maxRestarts?: number | undefined
  /** Default: 5 s, as OTP's `period`. */
  readonly within?: Duration.Input | undefined
  /** Runs once, when it gives up, in the supervisor's scope, which it must not close. Default: nothing. */
  readonly onEscalate?: ((error: ServerPoolError) => Effect.Effect<void>) | undefined
}

/**
 * A running supervisor.
 *
 * @category models
 * @since 0.1.0
 */
export interface Supervisor {
  /** Never succeeds; fails when the supervisor gives up, with `Restart` and the server that failed once too often. */
  readonly escalation: Effect.Effect<never, ServerPoolError>
  /** Whether it has given up. */
  readonly escalated: Effect.Effect<boolean>
  /** How often it has restarted a server, those that did not come up included. */
  readonly restarts: Effect.Effect<number>
}

interface Limits {
  maxRestarts: number
  within: number
}

const fields = {
  maxRestarts: Field.integer("Restarts within the time; one more, and it gives up.", {
    min: 0,
    max: 1_000,
    default: 1
  }),
  within: Field.duration("The time in which restarts are counted.", { default: "5 seconds", finite: true })
} satisfies Field.FieldsOf<Limits>

/**
 * Supervises the servers of a pool as long as the scope lasts.
 *
 * ```ts
 * import { type Monitor, type ServerPool, Supervisor } from "@millrace/core"
 * import { Effect } from "effect"
 *
 * // Ends, with all its servers, when restarts do not help: what runs the process starts it anew.
 * export const supervised = Effect.fn(function* (pool: ServerPool.ServerPool, monitor: Monitor.Monitor) {
 *   const supervisor = yield* Supervisor.make(pool, { monitor, maxRestarts: 3, within: "1 minute" })
 *   yield* pool.start
 *   return yield* supervisor.escalation
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  pool: ServerPool,
  options: Options = {}
): Effect.fn.Return<Supervisor, ConfigError, Scope.Scope> {
  const { monitor, onEscalate, ...rest } = options
  const given = yield* check<Limits>(fields, rest)
  const maxRestarts = given.maxRestarts ?? fields.maxRestarts.default
  const within = given.within ?? fields.within.default
  const timers = ClockTimers.make(yield* Effect.context<never>())
  const fibers = yield* FiberSet.make<void>()
  const busy = new Set<Server>()
  const again = new Set<Server>()
  const gaveUp = yield* Deferred.make<never, ServerPoolError>()
  let restarts = 0
  let recent: ReadonlyArray<number> = []
  let escalated = false

  /** Why a server has to be restarted, if it has. One that somebody has asked to stop is neither ready nor failed. */
  const complaintOf = (server: Server): Effect.Effect<Option.Option<unknown>> =>
    Effect.gen(function* () {
      if (server.config.disabled || !(yield* pool.has(server))) return Option.none()
      const report = monitor === undefined ? Option.none() : yield* monitor.reportOf(server)
      const health = yield* server.health
      if (health.state === "Failed" && health.wanted) return Option.some(health.lastError)
      if (!health.ready || Option.isNone(report)) return Option.none()
      const { lastError = "it does not answer", state, status } = report.value
      return status === "Running" && state === "KO" ? Option.some(new Error(lastError)) : Option.none()
    })

  const escalate = (server: Server, cause: unknown) =>
    Effect.suspend(() => {
      escalated = true
      const servers = [{ name: server.name, bind: server.bind, cause }]
      const detail = `supervision has ended, as more than ${maxRestarts} restarts within ${within} ms would be needed`
      const error = new ServerPoolError({ reason: "Restart", servers, detail })
      Deferred.doneUnsafe(gaveUp, Effect.fail(error))
      return Effect.provideService(onEscalate?.(error) ?? Effect.void, PreventSchedulerYield, false)
    })

  const restart = (server: Server): Effect.Effect<void> =>
    Effect.flatMap(complaintOf(server), (complaint) => {
      if (escalated || Option.isNone(complaint)) return Effect.void
      const now = timers.now()
      recent = recent.filter((at) => now - at < within)
      if (recent.length >= maxRestarts) return escalate(server, complaint.value)
      recent = [...recent, now]
      restarts++
      // A server that does not come up has said so in an event, which leads here again.
      return Effect.asVoid(Effect.exit(pool.restartOne(server)))
    })

  /** No other fiber comes between the look at a server and its restart: it might ask the server to stop. */
  const settle = (server: Server): Effect.Effect<void> =>
    Effect.flatMap(Effect.provideService(restart(server), PreventSchedulerYield, true), () => {
      if (again.delete(server)) return settle(server)
      busy.delete(server)
      return Effect.void
    })

  /** One restart of a server at a time; what is said of it meanwhile is looked at when that has ended. */
  const suspect = (server: Server): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (escalated) return Effect.void
      if (busy.has(server)) {
        again.add(server)
        return Effect.void
      }
      busy.add(server)
      return Effect.asVoid(FiberSet.run(fibers, settle(server)))
    })

  const sweep = Effect.flatMap(pool.servers, (servers) => Effect.forEach(servers, suspect, { discard: true }))

  const failures = Stream.filter(pool.events, ({ _tag }) => _tag === "Failed")
  yield* Effect.forkScoped(
    Stream.runForEach(failures, () => sweep),
    { startImmediately: true }
  )
  if (monitor !== undefined) {
    yield* Effect.forkScoped(
      Stream.runForEach(monitor.changes, ({ server, to }) => (to === "KO" ? suspect(server) : Effect.void)),
      { startImmediately: true }
    )
  }
  yield* sweep

  return {
    escalation: Deferred.await(gaveUp),
    escalated: Effect.sync(() => escalated),
    restarts: Effect.sync(() => restarts)
  }
})
