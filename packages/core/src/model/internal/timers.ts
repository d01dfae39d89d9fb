/**
 * Time for the pool: `performance.now` and `setTimeout` while Effect's `Clock` is the real one, that `Clock` otherwise,
 * so that a test that adjusts the `TestClock` moves every deadline of a pool.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Timers } from "../Timers.ts"

/** setTimeout fires at once when its delay does not fit in 31 bits. */
const maxDelay = 0x7fff_ffff

/** A platform's timer is a number, or an object that can let the process go. */
const unref = (timer: unknown): void => {
  if (typeof timer === "object" && timer !== null && "unref" in timer && typeof timer.unref === "function") {
    timer.unref()
  }
}

const real: Timers = {
  now: () => performance.now(),
  after: (millis, f) => {
    const timer = setTimeout(f, Math.min(Math.ceil(millis), maxDelay))
    // A deadline alone must not keep a process alive: the socket that it guards does.
    unref(timer)
    return () => clearTimeout(timer)
  },
  wait: (millis, f) => {
    const timer = setTimeout(f, Math.min(Math.ceil(millis), maxDelay))
    return () => clearTimeout(timer)
  }
}

const fromClock = (clock: Clock.Clock, services: Context.Context<never>): Timers => {
  const fork = Effect.runForkWith(services)
  const after: Timers["after"] = (millis, f) => {
    // A test clock does not sleep for no time; `f` must still not be called before `after` has returned.
    const wait = millis > 0 ? clock.sleep(Duration.millis(millis)) : Effect.yieldNow
    const fiber = fork(Effect.andThen(wait, Effect.sync(f)))
    return () => fiber.interruptUnsafe()
  }
  return { now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6, after, wait: after }
}

/** Whether time passes by itself, and not as a test says. */
export const areReal = (timers: Timers): boolean => timers === real

export const make = (services: Context.Context<never>): Timers => {
  const clock = Context.get(services, Clock.Clock)
  return clock === Context.get(Context.empty(), Clock.Clock) ? real : fromClock(clock, services)
}
