/** What the workers of this process have done, for whoever exports Effect's metrics. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type { End } from "./Run.ts"

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

const started = counter("tasks.started", "Tasks whose work was begun.")

const ends: Readonly<Record<End, Metric.Counter<number>>> = {
  completed: counter("tasks.completed", "Tasks that have a result."),
  failed: counter("tasks.failed", "Tasks that have failed, those whose workers died too often included."),
  cancelled: counter("tasks.cancelled", "Tasks that were removed while they ran."),
  lost: counter("tasks.lost", "Claims that were taken away: the task was removed, or is another worker's."),
  expired: counter("tasks.expired", "Runs that ended with their lease, as the storage was away."),
  refused: counter("tasks.refused", "Runs whose end the storage refused."),
  handedBack: counter("tasks.handed_back", "Tasks that were interrupted when a worker stopped, for others to run.")
}

const running = Metric.gauge("tasks.running", { description: "Tasks that run in this process." })
const permits = Metric.gauge("tasks.permits", { description: "Tasks that may run at once in this process." })

export const countStart = Metric.update(started, 1)

export const countEnd = (end: End, by = 1): Effect.Effect<void> => Metric.update(ends[end], by)

/** Shows gauges that are read when somebody looks, and counters at 0, until the scope ends. */
export const show = Effect.fnUntraced(function* (
  limit: number,
  now: () => number
): Effect.fn.Return<void, never, Scope.Scope> {
  yield* Effect.forEach([started, ...Object.values(ends)], (counter) => Metric.update(counter, 0), { discard: true })
  const context = yield* Effect.context<never>()
  const gauge = (metric: Metric.Gauge<number>, get: () => number) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        Metric.registerUnsafe(metric, context, { get: () => ({ value: get() }), update() {}, modify() {} })
      ),
      (registration) => Effect.sync(() => registration.remove())
    )
  yield* gauge(running, now)
  yield* gauge(permits, () => limit)
})
