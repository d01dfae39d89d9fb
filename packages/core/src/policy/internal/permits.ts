/**
 * The permits of a bulkhead, and the line of those who wait for one.
 *
 * A permit is free, held by an attempt that was admitted, or kept for one that was woken and has not come back yet. A
 * permit that gets free is kept for the first in the line before that one is woken; nobody waits while a permit is free.
 *
 * A waiter is waiting → kept → gone, or waiting → late → gone; interruption takes it out of any of them.
 */
import * as Effect from "effect/Effect"
import { type Deadline, type Expiring, Limit } from "../../model/internal/deadlines.ts"
import { Line, type Member } from "../../model/internal/line.ts"
import { PoolSaturated } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Attempt, Gate } from "../Gate.ts"
import type { Resolved } from "./bulkheadOptions.ts"

class Waiter implements Member<Waiter>, Expiring<"maxWait"> {
  previous: Waiter | undefined = undefined
  next: Waiter | undefined = undefined
  state: "waiting" | "kept" | "late" = "waiting"
  deadline: Deadline<"maxWait"> | undefined = undefined
  private resume: ((end: Effect.Effect<void, PoolSaturated>) => void) | undefined = undefined
  private readonly permits: Permits
  private readonly attempt: Attempt

  constructor(permits: Permits, attempt: Attempt) {
    this.permits = permits
    this.attempt = attempt
  }

  /** Only waits: what it waits for is kept by the attempt, so it has nothing to clean up. */
  readonly wait: Effect.Effect<void, PoolSaturated> = Effect.callback((resume) => {
    if (this.state === "waiting") this.resume = resume
    else resume(this.end())
  })

  wake(): void {
    this.resume?.(this.end())
    this.resume = undefined
  }

  expired(): void {
    this.permits.expire(this)
  }

  private end(): Effect.Effect<void, PoolSaturated> {
    return this.state === "late" ? this.permits.refuse(this.attempt) : Effect.void
  }
}

export class Permits implements Gate<PoolSaturated> {
  /** Held or kept. */
  active = 0
  /** Refused since the beginning. */
  rejected = 0
  private readonly line = new Line<Waiter>()
  /** All that were put into the line and have not gone. */
  private readonly waiters = new Map<Attempt, Waiter>()
  private woken: Array<Waiter> = []
  private readonly options: Resolved
  private readonly timers: Timers
  private readonly maxWait: Limit<"maxWait"> | undefined

  constructor(options: Resolved, timers: Timers) {
    this.options = options
    this.timers = timers
    this.maxWait = Number.isFinite(options.maxWait) ? new Limit(options.maxWait, timers) : undefined
  }

  get waiting(): number {
    return this.line.size
  }

  admit(attempt: Attempt): Effect.Effect<void, PoolSaturated> | undefined {
    // Only who has waited can be among them: there are none while there is room.
    const waiter = this.waiters.size === 0 ? undefined : this.waiters.get(attempt)
    if (waiter !== undefined) {
      if (waiter.state !== "kept") return waiter.wait
      this.waiters.delete(attempt)
      return undefined
    }
    if (this.active < this.options.maxConcurrent) {
      this.active++
      return undefined
    }
    return this.line.size < this.options.maxWaiting ? this.enqueue(attempt) : this.refuse(attempt)
  }

  settle(): void {
    this.release()
  }

  abandon(attempt: Attempt): void {
    const waiter = this.waiters.get(attempt)
    if (waiter === undefined) return
    this.waiters.delete(attempt)
    if (waiter.state === "waiting") this.leave(waiter)
    else if (waiter.state === "kept") this.release()
  }

  expire(waiter: Waiter): void {
    this.leave(waiter)
    waiter.state = "late"
    this.wake(waiter)
  }

  refuse(attempt: Attempt): Effect.Effect<never, PoolSaturated> {
    this.rejected++
    return Effect.fail(
      new PoolSaturated({
        request: attempt.info,
        attempts: attempt.number - 1,
        reason: "bulkhead",
        limit: this.options.maxConcurrent,
        waiting: this.line.size
      })
    )
  }

  private enqueue(attempt: Attempt): Effect.Effect<void, PoolSaturated> {
    const waiter = new Waiter(this, attempt)
    this.waiters.set(attempt, waiter)
    this.line.push(waiter)
    waiter.deadline = this.maxWait?.arm(waiter, "maxWait", this.timers.now())
    return waiter.wait
  }

  private leave(waiter: Waiter): void {
    this.line.remove(waiter)
    waiter.deadline?.disarm()
    // Whoever closes a pool is left no timer.
    if (this.line.head === undefined) this.maxWait?.stop()
  }

  private release(): void {
    const first = this.line.head
    if (first === undefined) {
      this.active--
      return
    }
    this.leave(first)
    first.state = "kept"
    this.wake(first)
  }

  /**
   * In a microtask: a fiber runs where it is woken. Here that would be within another attempt's end, before the other
   * gates have heard of it, and one end within the other for as long as the line is.
   */
  private wake(waiter: Waiter): void {
    if (this.woken.push(waiter) === 1) queueMicrotask(this.flush)
  }

  private readonly flush = (): void => {
    const { woken } = this
    this.woken = []
    for (const waiter of woken) waiter.wake()
  }
}
