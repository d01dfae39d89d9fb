/** How long the queue is, of all processes together, for whoever exports Effect's metrics: what an operator scales by. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import { TaskStore } from "../storage/TaskStore.ts"

const waiting = Metric.gauge("tasks.waiting", { description: "Tasks that wait to start, in all processes together." })

/** Asked for again so long after the last answer; while the storage is away the last figure stays. */
const every = Duration.seconds(10)

/** Keeps the figure as long as the scope lasts. */
export const layer: Layer.Layer<never, never, TaskStore> = Layer.effectDiscard(
  Effect.gen(function* () {
    const { counts } = yield* TaskStore
    const look = Effect.flatMap(counts, (now) => Metric.update(waiting, now.waiting))
    yield* Effect.forkScoped(Effect.repeat(Effect.ignore(look), Schedule.spaced(every)))
  })
)
