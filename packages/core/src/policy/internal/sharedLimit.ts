/**
 * The rate limit that is kept in a store, as attempts of this process meet it.
 *
 * ```
 *                ┌──────── wait ────────┐
 *                ▼                      │
 * admit ─► line ─► ask the store for the first of the line ─► granted ─► admit ─► settle: unsent gives back
 *                │                                              └─ abandon: gives back
 *                └─ the store is gone ─► moved ─► the local limit, or refused
 * ```
 *
 * - One question is under way at a time, for up to `batch` of the line: the load of the store does not grow with the load
 *   of the process.
 * - First come, first served among the attempts of this process; between processes, who asks first.
 * - What is taken in the store belongs to an attempt, or is given back: whenever the attempt is interrupted, and also when
 *   the answer comes too late. What is told to a store that is gone at that moment is lost there, never here: fewer
 *   requests than allowed, not more.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Line } from "../../model/internal/line.ts"
import { RateLimitExceeded } from "../../model/PoolError.ts"
import type { Attempt, Gate, Outcome } from "../Gate.ts"
import type { Stats } from "../RateLimit.ts"
import type { LimitFace, SharedLimit, Taken } from "../SharedPolicies.ts"
import { responseOf } from "./discard.ts"
import { costOf } from "./rateLimitGate.ts"
import { pauseOf } from "./rateLimitHeaders.ts"
import type { Resolved } from "./rateLimitOptions.ts"
import type { StoreLink } from "./sharedLink.ts"
import { Waiter, wakeAll } from "./sharedWaiter.ts"

/** At most so many attempts are asked for at once. */
const batch = 64

/** When, and in what entry of the store, tokens were taken. */
interface Grant {
  readonly cost: number
  readonly at: number
  readonly entry: number
}

type Mine = Waiter<Grant, RateLimitExceeded>

export interface LimitDeps {
  readonly link: StoreLink
  readonly epoch: () => number
  readonly onPause?: ((millis: number) => void) | undefined
}

export class SharedLimitGate implements Gate<RateLimitExceeded> {
  private readonly limit: SharedLimit
  private readonly options: Resolved
  private readonly local: LimitFace
  private readonly deps: LimitDeps
  private readonly link: StoreLink
  private readonly line = new Line<Mine>()
  /** Every attempt that it knows: waiting here, admitted here, or gone to the local limit. */
  private readonly attempts = new Map<Attempt, Mine | Grant | "local">()
  private asking = false
  /** The first in the line was refused; nobody asks before `nextAt`, and who comes later is behind it. */
  private refused = false
  private nextAt = 0
  private cancelTimer: (() => void) | undefined = undefined
  private available: number
  private pausedUntil = 0

  constructor(key: string, options: Resolved, local: LimitFace, deps: LimitDeps) {
    this.options = options
    this.local = local
    this.deps = deps
    this.link = deps.link
    const capacity = options.algorithm === "tokenBucket" ? options.burst : options.limit
    this.limit = { key, algorithm: options.algorithm, limit: options.limit, interval: options.interval, capacity }
    this.available = capacity
  }

  snapshot(): Stats {
    if (!this.link.available) return this.local.snapshot()
    return {
      available: this.available,
      waiting: this.line.size,
      pausedFor: Duration.millis(Math.max(0, this.pausedUntil - this.link.timers.now()))
    }
  }

  admit(attempt: Attempt): Effect.Effect<void, RateLimitExceeded> | undefined {
    const known = this.attempts.get(attempt)
    if (known === undefined) return this.link.available ? this.enter(attempt) : this.withoutStore(attempt)
    if (known === "local") return this.local.gate.admit(attempt)
    if (!(known instanceof Waiter)) return undefined
    if (known.state === "moved") return this.withoutStore(attempt)
    const { grant } = known
    if (grant === undefined) return known.wait
    this.attempts.set(attempt, grant)
    return undefined
  }

  settle(attempt: Attempt, outcome: Outcome): void {
    const known = this.attempts.get(attempt)
    this.attempts.delete(attempt)
    if (known === "local") this.local.gate.settle(attempt, outcome)
    else if (attempt.sent) this.heed(outcome)
    else if (known !== undefined && !(known instanceof Waiter)) this.giveBack([known])
  }

  abandon(attempt: Attempt): void {
    const known = this.attempts.get(attempt)
    this.attempts.delete(attempt)
    if (known === "local") this.local.gate.abandon?.(attempt)
    else if (known instanceof Waiter) this.leave(known)
  }

  private enter(attempt: Attempt): Effect.Effect<void, RateLimitExceeded> {
    const cost = this.options.cost === undefined ? 1 : costOf(this.options.cost, attempt.request)
    if (cost > this.limit.capacity) return this.refusal(attempt, Infinity)
    const now = this.link.timers.now()
    if (this.refused) {
      // At least: for what is before it in the line it does not even count.
      const wait = Math.max(0, this.nextAt - now)
      if (this.line.size >= this.options.maxQueue || wait > this.options.maxWait) return this.refusal(attempt, wait)
    }
    const waiter: Mine = new Waiter(attempt, cost, now)
    this.attempts.set(attempt, waiter)
    this.line.push(waiter)
    if (!this.refused) this.ask()
    return waiter.wait
  }

  private withoutStore(attempt: Attempt): Effect.Effect<void, RateLimitExceeded> | undefined {
    if (this.link.options.onUnavailable === "fail") {
      return this.refusal(attempt, this.link.retryAfter, "storeUnavailable")
    }
    this.attempts.set(attempt, "local")
    return this.local.gate.admit(attempt)
  }

  private refusal(
    attempt: Attempt,
    wait: number,
    reason?: "storeUnavailable"
  ): Effect.Effect<never, RateLimitExceeded> {
    return Effect.fail(
      new RateLimitExceeded({
        request: attempt.info,
        attempts: attempt.number - 1,
        retryAfter: Duration.millis(Math.ceil(wait)),
        reason
      })
    )
  }

  private leave(waiter: Mine): void {
    if (waiter.grant !== undefined) return this.giveBack([waiter.grant])
    if (waiter.state !== "waiting") return
    const first = this.line.head === waiter
    this.line.remove(waiter)
    if (this.line.size === 0) this.refused = false
    // The next may cost less than the one that was waited for.
    if (first) this.askAt(0)
  }

  private readonly ask = (): void => {
    if (this.asking || this.line.size === 0) return
    if (!this.link.available) return this.moveAll()
    const asked: Array<Mine> = []
    for (let waiter = this.line.head; waiter !== undefined && asked.length < batch; waiter = waiter.next) {
      asked.push(waiter)
    }
    this.asking = true
    const costs = asked.map((waiter) => waiter.cost)
    this.link.call(
      this.link.store.take(this.limit, costs, this.refused),
      (taken) => {
        this.asking = false
        if (taken === undefined) this.moveAll()
        else this.taken(asked, taken)
      },
      (taken) => this.giveBack(asked.slice(0, taken.granted).map((waiter) => grantOf(waiter, taken)))
    )
  }

  private taken(asked: ReadonlyArray<Mine>, taken: Taken): void {
    const woken: Array<Mine> = []
    const unused: Array<Grant> = []
    this.available = taken.available
    for (const waiter of asked.slice(0, taken.granted)) {
      const grant = grantOf(waiter, taken)
      if (!this.attempts.has(waiter.attempt)) {
        unused.push(grant)
        continue
      }
      this.line.remove(waiter)
      waiter.keep(grant)
      woken.push(waiter)
    }
    this.giveBack(unused)
    this.refused = this.line.size > 0 && taken.granted < asked.length
    if (this.refused) {
      this.nextAt = this.link.timers.now() + taken.wait
      woken.push(...this.refuseLate(taken.wait))
      this.refused = this.line.size > 0
    }
    // The first may have left while the store was asked for it.
    const stale = this.refused && asked[taken.granted] !== this.line.head
    this.askAt(this.refused && !stale ? taken.wait : 0)
    wakeAll(woken)
  }

  /** Who must not wait so long, and those for whom the line is too long. */
  private refuseLate(wait: number): ReadonlyArray<Mine> {
    const { maxQueue, maxWait } = this.options
    const late: Array<Mine> = []
    const now = this.link.timers.now()
    // All may wait as long as each other: the first in the line are the first that have waited long enough.
    for (let first = this.line.head; first !== undefined; first = this.line.head) {
      if (now - first.since + wait <= maxWait) break
      this.line.remove(first)
      late.push(first)
    }
    let place = 0
    for (let waiter = this.line.head; this.line.size > maxQueue && waiter !== undefined;) {
      const { next } = waiter
      if (++place > maxQueue) {
        this.line.remove(waiter)
        late.push(waiter)
      }
      waiter = next
    }
    for (const waiter of late) waiter.refuse(this.refusal(waiter.attempt, wait))
    return late
  }

  /** The store is gone. Who waits longer than that is none of its business any more. */
  private moveAll(): void {
    const moved: Array<Mine> = []
    for (let first = this.line.head; first !== undefined; first = this.line.head) {
      this.line.remove(first)
      first.move()
      moved.push(first)
    }
    this.refused = false
    wakeAll(moved)
  }

  private askAt(millis: number): void {
    this.cancelTimer?.()
    this.cancelTimer = undefined
    if (this.line.size === 0) return
    if (millis <= 0) return this.ask()
    this.cancelTimer = this.link.timers.wait(Math.ceil(millis), this.ask)
  }

  private giveBack(grants: ReadonlyArray<Grant>): void {
    const [first] = grants
    // Those of one answer were taken at one time, in one entry.
    const count = grants.reduce((sum, grant) => sum + grant.cost, 0)
    if (first === undefined || count === 0) return
    this.link.tell(this.link.store.giveBack(this.limit, { count, at: first.at, entry: first.entry }))
  }

  private heed(outcome: Outcome): void {
    const response = this.options.respectHeaders ? responseOf(outcome) : undefined
    if (response === undefined) return
    const pause = pauseOf(response.status, response.headers, this.deps.epoch)
    if (pause === undefined || pause === 0) return
    const capped = Math.min(pause, this.options.maxPause)
    this.pausedUntil = Math.max(this.pausedUntil, this.link.timers.now() + capped)
    this.link.tell(this.link.store.pause(this.limit, capped))
    this.deps.onPause?.(capped)
  }
}

const grantOf = (waiter: Mine, taken: Taken): Grant => ({ cost: waiter.cost, at: taken.at, entry: taken.entry })
