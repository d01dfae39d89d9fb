/**
 * The fibers that are alive, and what each of them is at: what `goroutine?debug=1` is to Go.
 *
 * What it promises:
 *
 * - Every fiber that runs under `layer` is seen from its first step to its end. Effect keeps no such list; the layer puts a
 *   scheduler in front of the one there is, which is asked before each step, and looks only at the first one of a turn.
 * - A fiber that nobody can wake any more is not kept from the garbage collector.
 * - Without the layer nothing is watched, and it costs nothing.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"

/**
 * A fiber that is alive.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveFiber {
  readonly id: number
  /** Seconds since its first step. */
  readonly age: number
  /** What it is at, innermost first: names given by `named`, `Effect.fn` and `Effect.withSpan`. */
  readonly frames: ReadonlyArray<string>
  /** The log annotations it has: where a program names the job, here it is. */
  readonly annotations: Readonly<Record<string, string>>
}

/**
 * What sees fibers.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fibers {
  /** Oldest first. */
  readonly live: Effect.Effect<ReadonlyArray<LiveFiber>>
}

/**
 * The watch that is installed; `undefined` where none is.
 *
 * @category services
 * @since 0.1.0
 */
export const Fibers: Context.Reference<Fibers | undefined> = Context.Reference<Fibers | undefined>(
  "@millrace/node/Admin/Fibers",
  { defaultValue: () => undefined }
)

interface Seen {
  readonly fiber: WeakRef<Fiber.Fiber<unknown, unknown>>
  readonly since: number
}

class Watch implements Scheduler.Scheduler {
  readonly executionMode: "sync" | "async"
  readonly seen = new Map<number, Seen>()
  readonly inner: Scheduler.Scheduler
  /** Collected fibers leave no word: the list is swept each time it has doubled. */
  sweepAt = 1024

  constructor(inner: Scheduler.Scheduler) {
    this.inner = inner
    this.executionMode = inner.executionMode
  }

  shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (fiber.currentOpCount === 1 && !this.seen.has(fiber.id)) this.add(fiber)
    return this.inner.shouldYield(fiber)
  }

  makeDispatcher(): Scheduler.SchedulerDispatcher {
    return this.inner.makeDispatcher()
  }

  add(fiber: Fiber.Fiber<unknown, unknown>): void {
    const { id } = fiber
    this.seen.set(id, { fiber: new WeakRef(fiber), since: performance.now() })
    fiber.addObserver(() => this.seen.delete(id))
    if (this.seen.size >= this.sweepAt) this.sweep()
  }

  sweep(): void {
    for (const [id, { fiber }] of this.seen) if (fiber.deref() === undefined) this.seen.delete(id)
    this.sweepAt = Math.max(1024, this.seen.size * 2)
  }

  live(): ReadonlyArray<LiveFiber> {
    const now = performance.now()
    const fibers: Array<LiveFiber> = []
    for (const [id, { fiber, since }] of this.seen) {
      const alive = fiber.deref()
      if (alive !== undefined) fibers.push({ id, age: (now - since) / 1000, ...described(alive) })
    }
    return fibers.sort((a, b) => a.id - b.id)
  }
}

const described = (fiber: Fiber.Fiber<unknown, unknown>): Pick<LiveFiber, "annotations" | "frames"> => {
  const frames: Array<string> = []
  for (let frame = fiber.getRef(References.CurrentStackFrame); frame !== undefined; frame = frame.parent) {
    // `Effect.fn` leaves two: where it was called, and where it was defined.
    if (!frame.name.endsWith(" (definition)")) frames.push(frame.name)
  }
  if (frames.length === 0) {
    for (let span = fiber.cache.span; span?._tag === "Span";) {
      frames.push(span.name)
      const parent = span.parent
      span = parent._tag === "Some" ? parent.value : undefined
    }
  }
  const annotations: Record<string, string> = {}
  for (const [key, value] of Object.entries(fiber.getRef(References.CurrentLogAnnotations))) {
    annotations[key] = String(value)
  }
  return { frames, annotations }
}

/**
 * Watches the fibers that run under it. Provide it around the whole program.
 *
 * ```ts
 * import * as Fibers from "@millrace/node/Admin/Fibers"
 * import { Effect } from "effect"
 *
 * export const program = Effect.gen(function* () {
 *   const fibers = yield* Fibers.Fibers
 *   return fibers === undefined ? [] : yield* fibers.live
 * }).pipe(Effect.provide(Fibers.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.unwrap(
  Effect.gen(function* () {
    const watch = new Watch(yield* Scheduler.Scheduler)
    return Layer.mergeAll(
      Layer.succeed(Scheduler.Scheduler, watch),
      Layer.succeed(Fibers, { live: Effect.sync(() => watch.live()) })
    )
  })
)

/**
 * Names what runs, for this list and for the traces of causes, without the price of a span.
 *
 * ```ts
 * import * as Fibers from "@millrace/node/Admin/Fibers"
 * import { Effect, Schedule } from "effect"
 *
 * export const cleaning = Effect.void.pipe(
 *   Effect.repeat(Schedule.spaced("1 minute")),
 *   Fibers.named("cleans up"),
 *   Effect.forkScoped
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const named =
  (name: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.updateService(self, References.CurrentStackFrame, (parent) => ({ name, stack: nowhere, parent }))

const nowhere = (): undefined => undefined

/**
 * As text: fibers that are at the same together, the most first.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (fibers: ReadonlyArray<LiveFiber>): string => {
  const groups = new Map<string, Array<LiveFiber>>()
  for (const fiber of fibers) {
    const key = fiber.frames.join("\n")
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [fiber])
    else group.push(fiber)
  }
  const lines = [`${fibers.length} fibers`]
  for (const group of [...groups.values()].sort((a, b) => b.length - a.length)) {
    const oldest = group.reduce((most, { age }) => Math.max(most, age), 0)
    lines.push("", `${group.length} × oldest ${oldest.toFixed(1)} s, ids ${ids(group)}`)
    const { frames } = group[0]!
    for (const frame of frames.length === 0 ? ["(no name)"] : frames) lines.push(`    ${frame}`)
    for (const { annotations, id } of group.slice(0, shown)) {
      const text = Object.entries(annotations).map(([key, value]) => `${key}=${value}`)
      if (text.length > 0) lines.push(`    #${id} ${text.join(" ")}`)
    }
  }
  return `${lines.join("\n")}\n`
}

const shown = 10

const ids = (group: ReadonlyArray<LiveFiber>): string => {
  const text = group
    .slice(0, shown)
    .map(({ id }) => `#${id}`)
    .join(" ")
  return group.length > shown ? `${text} …` : text
}
