/**
 * An effect, and after a while perhaps a second one: the first that succeeds wins.
 *
 * - A failure of one waits for the other while that runs; when both have failed, the earlier failure is the result. Before
 *   the second has started, the failure of the first is the result at once. So is a defect of either.
 * - The loser is interrupted, and not waited for: it may be in what cannot be interrupted, and it is slow already. What it
 *   gives nevertheless goes to `discard`.
 * - An interruption of the whole interrupts both, and waits for both. A result that was there goes to `discard`.
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
      let result: Exit.Exit<A, E> | undefined
      let failure: Exit.Exit<A, E> | undefined

      const end = (exit: Exit.Exit<A, E>): void => {
        result = exit
        timer?.interruptUnsafe()
        for (const fiber of running) fiber.interruptUnsafe()
        resume(exit)
      }
      const discard = (exit: Exit.Exit<A, E> | undefined): void => {
        if (exit !== undefined && Exit.isSuccess(exit)) fork(contest.discard(exit.value))
      }
      const start = (effect: Effect.Effect<A, E, R>, by: "first" | "second"): void => {
        const fiber = fork(effect)
        running.add(fiber)
        fiber.addObserver((exit) => {
          running.delete(fiber)
          if (result !== undefined) return discard(exit)
          if (Exit.isSuccess(exit)) {
            contest.won(by)
            return end(exit)
          }
          failure ??= exit
          if (Cause.hasDies(exit.cause)) end(exit)
          else if (running.size === 0) end(failure)
        })
      }

      let timer: Fiber.Fiber<void> | undefined
      start(contest.first, "first")
      if (result === undefined) {
        timer = fork(Effect.sleep(Duration.millis(contest.delay)))
        timer.addObserver((exit) => {
          if (result !== undefined || Exit.isFailure(exit)) return
          const second = contest.second()
          if (second !== undefined) start(second, "second")
        })
      }

      return Effect.suspend(() => {
        discard(result)
        result ??= Exit.interrupt()
        return Fiber.interruptAll(timer === undefined ? running : [timer, ...running])
      })
    })
  })
