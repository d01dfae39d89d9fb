/**
 * An effect, and after a while perhaps a second one: the first that succeeds wins.
 *
 * - A failure of one waits for the other while that runs; when both have failed, the earlier failure is the result. Before
 *   the second has started, the failure of the first is the result at once. So is a defect of either.
 * - The loser is interrupted, and not waited for: it may be in what cannot be interrupted, and it is slow already.
 * - An interruption of the whole interrupts both, and waits for both. A result that was there, and did not reach the
 *   caller, goes to `discard`.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

export interface Contest<A, E, R> {
  readonly first: Effect.Effect<A, E, R>
  /** Milliseconds until `second` is asked. */
  readonly delay: number
  /** `undefined`: the first one stays alone. */
  readonly second: () => Effect.Effect<A, E, R> | undefined
  /** One has succeeded; the contest is over. */
  readonly won: (by: "first" | "second") => void
  readonly discard: (value: A) => Effect.Effect<void>
}

export const race = <A, E, R>(contest: Contest<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.contextWith((context: Context.Context<R>) => {
    const fork = Effect.runForkWith(context)
    return Effect.callback<A, E>((resume) => {
      const running = new Set<Fiber.Fiber<unknown, unknown>>()
      let timer: Fiber.Fiber<void> | undefined
      let result: Exit.Exit<A, E> | undefined
      let failure: Exit.Exit<A, E> | undefined
      let registered = false

      const stop = (exit: Exit.Exit<A, E>): void => {
        result = exit
        timer?.interruptUnsafe()
        for (const fiber of running) fiber.interruptUnsafe()
      }
      const end = (exit: Exit.Exit<A, E>): void => {
        stop(exit)
        if (registered) resume(exit)
      }
      const start = (effect: Effect.Effect<A, E, R>, by: "first" | "second"): void => {
        const fiber = fork(effect)
        running.add(fiber)
        fiber.addObserver((exit) => {
          running.delete(fiber)
          if (result !== undefined) return
          if (Exit.isSuccess(exit)) {
            contest.won(by)
            end(exit)
          } else if (Cause.hasDies(exit.cause)) {
            end(exit)
          } else {
            failure ??= exit
            if (running.size === 0) end(failure)
          }
        })
      }

      start(contest.first, "first")
      if (result === undefined) {
        timer = fork(Effect.sleep(Duration.millis(contest.delay)))
        timer.addObserver((exit) => {
          if (Exit.isFailure(exit)) return
          const second = contest.second()
          if (second !== undefined) start(second, "second")
        })
      } else {
        // What resumes at once is never told of an interruption: its result would be lost with it.
        queueMicrotask(() => resume(result!))
      }
      registered = true

      return Effect.suspend(() => {
        const lost = result
        if (lost !== undefined) return Exit.isSuccess(lost) ? contest.discard(lost.value) : Effect.void
        // All at once: between two operations of this fiber one of them could succeed unseen.
        const both = [...running]
        stop(Exit.interrupt())
        return Effect.asVoid(Fiber.awaitAll(both))
      })
    })
  })
