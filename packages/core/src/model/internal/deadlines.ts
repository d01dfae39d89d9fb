/**
 * Deadlines of equal length share one timer.
 *
 * A limit of the pool has one length for all requests, so the deadlines under it expire in the order in which they were
 * armed: a FIFO and one timer for its head are enough. Arming and disarming are a few field writes; nothing is
 * allocated but the deadline itself. The timer is left to run when its deadline is disarmed (nearly always) and looks at
 * the then first one when it fires.
 */
import type { Timers } from "../Timers.ts"
import { Line, type Member } from "./line.ts"

export interface Expiring<K> {
  readonly expired: (kind: K, millis: number) => void
}

export class Deadline<K> implements Member<Deadline<K>> {
  previous: Deadline<K> | undefined = undefined
  next: Deadline<K> | undefined = undefined
  readonly limit: Limit<K>
  readonly owner: Expiring<K>
  readonly kind: K
  at: number
  /** `due`: its time has come, its owner hears of it once all that are due with it are known. */
  private state: "armed" | "due" | "idle" = "armed"

  constructor(limit: Limit<K>, owner: Expiring<K>, kind: K, at: number) {
    this.limit = limit
    this.owner = owner
    this.kind = kind
    this.at = at
  }

  disarm(): void {
    if (this.state === "armed") this.limit.line.remove(this)
    this.state = "idle"
  }

  /** Its time has come. */
  fall(): void {
    this.limit.line.remove(this)
    this.state = "due"
  }

  /** Tells its owner, unless it was disarmed since it fell due. */
  expire(): void {
    if (this.state !== "due") return
    this.state = "idle"
    this.owner.expired(this.kind, this.limit.millis)
  }

  /** Starts the same deadline anew, from now. */
  restart(): void {
    if (this.state === "armed") this.limit.line.remove(this)
    this.state = "armed"
    this.at = this.limit.timers.now() + this.limit.millis
    this.limit.line.push(this)
  }
}

export class Limit<K> {
  readonly line = new Line<Deadline<K>>()
  readonly millis: number
  readonly timers: Timers
  private cancelTimer: (() => void) | undefined = undefined
  private firing = false

  constructor(millis: number, timers: Timers) {
    this.millis = millis
    this.timers = timers
  }

  arm(owner: Expiring<K>, kind: K, now: number): Deadline<K> {
    const deadline = new Deadline(this, owner, kind, now + this.millis)
    this.line.push(deadline)
    if (this.cancelTimer === undefined && !this.firing) this.schedule(this.millis)
    return deadline
  }

  /** Stops the timer; deadlines that are still armed never expire. */
  stop(): void {
    this.cancelTimer?.()
    this.cancelTimer = undefined
  }

  private schedule(millis: number): void {
    this.cancelTimer = this.timers.after(Math.max(millis, 0), this.fire)
  }

  private readonly fire = (): void => {
    this.cancelTimer = undefined
    const now = this.timers.now()
    // All that are due, and the youngest first: the end of an old request gives its slot to a younger one, which is better
    // not started at all when its own time is up.
    const due: Array<Deadline<K>> = []
    // setTimeout counts in whole milliseconds and may be a fraction early.
    for (let first = this.line.head; first !== undefined && first.at <= now + 0.5; first = this.line.head) {
      first.fall()
      due.push(first)
    }
    // What an expiry arms is behind those that wait already: the timer is for the first of those that remain.
    this.firing = true
    for (const deadline of due.reverse()) {
      try {
        deadline.expire()
      } catch (defect) {
        // One owner's defect must not cost the others their deadline, nor be lost.
        queueMicrotask(() => {
          throw defect
        })
      }
    }
    this.firing = false
    const first = this.line.head
    if (first !== undefined) this.schedule(Math.max(first.at - this.timers.now(), 0))
  }
}

export class Deadlines<K> {
  private readonly limits = new Map<number, Limit<K>>()
  private readonly timers: Timers

  constructor(timers: Timers) {
    this.timers = timers
  }

  /** The limit of that length; `undefined` when there is none (`Infinity`). */
  limit(millis: number): Limit<K> | undefined {
    if (!Number.isFinite(millis)) return undefined
    let limit = this.limits.get(millis)
    if (limit === undefined) {
      limit = new Limit<K>(millis, this.timers)
      this.limits.set(millis, limit)
    }
    return limit
  }

  stop(): void {
    for (const limit of this.limits.values()) limit.stop()
  }
}
