/** How long the circuit stays open, opening after opening. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { type Delays, fields } from "./circuitBreakerOptions.ts"

type Step = Effect.Success<ReturnType<typeof Schedule.toStep<unknown, unknown, never, never>>>

export class Openings {
  /** Of the present opening, in milliseconds. */
  delay: number
  private readonly schedule: Delays | undefined
  private readonly random: () => number
  private step: Step | undefined

  constructor(openFor: number | Delays, random: () => number) {
    this.delay = typeof openFor === "number" ? openFor : fields.openFor.default
    this.schedule = typeof openFor === "number" ? undefined : openFor
    this.random = random
  }

  /**
   * Takes the next delay. A schedule that has ended leaves the last; so does one that dies, or cannot answer at once:
   * that is thrown.
   */
  advance(now: number): void {
    if (this.schedule === undefined) return
    this.step ??= Effect.runSync(Schedule.toStep(this.schedule))
    const { random } = this
    const step = Effect.provideService(this.step(now, undefined), Random.Random, {
      nextDoubleUnsafe: random,
      nextIntUnsafe: () => Math.floor((random() * 2 - 1) * Number.MAX_SAFE_INTEGER)
    })
    const exit = Effect.runSyncExit(step)
    if (Exit.isSuccess(exit)) this.delay = Duration.toMillis(exit.value[1])
    else if (!Pull.isDoneCause(exit.cause)) throw Cause.squash(exit.cause)
  }

  /** Begins with the first delay again. */
  restart(): void {
    this.step = undefined
  }
}
