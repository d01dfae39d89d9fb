/**
 * Hands out the tokens of a rule, first come, first served.
 *
 * ```
 *        take ─ there are enough, nobody waits, no pause ─────────────► taken ──► giveBack
 *        join ─► waiting ─ its turn and its tokens have come ─► granted ──────────► leave: gives back
 *                   ├─ a pause made its wait too long ────────► refused
 *                   └─ leave: out of the line
 * ```
 *
 * What it promises:
 *
 * - First come, first served, whatever the costs: while anybody waits, nobody takes.
 * - Those who wait are let go one by one, at the pace of the limit: after a window that was used up in one instant, and
 *   after a pause, too. What a late timer missed is made up for, but no more than `maxLag` of it.
 * - Nobody waits who would have to wait longer than `maxWait`, nor for what can never be had.
 * - One timer, for the first in the line; none when nobody waits.
 * - A clock that goes back stands still until it has caught up: no token appears or is lost.
 *
 * It calls nobody while it changes; those who are granted or refused are woken at the end.
 */
import type { Timers } from "../../model/Timers.ts"
import { Line, type Member } from "../../model/internal/line.ts"
import type { Resolved } from "./rateLimitOptions.ts"
import { type Rule, ruleOf, tolerance } from "./rateLimitRule.ts"

/** Milliseconds. Timers are late by a few, and by dozens when the process is busy. */
const maxLag = 50

/** Who waits for tokens, or has just been given them. */
export class Waiter implements Member<Waiter> {
  previous: Waiter | undefined = undefined
  next: Waiter | undefined = undefined
  readonly cost: number
  readonly since: number
  state: "waiting" | "granted" | "refused" = "waiting"
  /** When it was granted, or how long to wait from when it was refused. */
  at = 0
  wake: (() => void) | undefined = undefined

  constructor(cost: number, since: number) {
    this.cost = cost
    this.since = since
  }
}

export class Dispenser {
  private readonly rule: Rule
  private readonly timers: Timers
  private readonly pace: number
  private readonly maxWait: number
  private readonly maxQueue: number
  private readonly line = new Line<Waiter>()
  private latest = -Infinity
  private pausedUntil = -Infinity
  /** When the last one that waited was to go; the next one goes at its own pace after that. */
  private lastTurn = -Infinity
  /** When the first in the line is to go. */
  private turn = Infinity
  /** When the last in the line is to go; `undefined` when that must be found out. */
  private lastInLine: number | undefined = undefined
  /** All that those in the line want. */
  private wanted = 0
  private cancelTimer: (() => void) | undefined = undefined
  private timerAt = Infinity

  constructor(options: Resolved, timers: Timers) {
    this.rule = ruleOf(options)
    this.timers = timers
    this.pace = options.interval / options.limit
    this.maxWait = options.maxWait
    this.maxQueue = options.maxQueue
  }

  get waiting(): number {
    return this.line.size
  }

  get available(): number {
    return this.rule.available(this.now())
  }

  /** Milliseconds that the pause still lasts. */
  get pausedFor(): number {
    return Math.max(0, this.pausedUntil - this.now())
  }

  /** The time when the tokens were taken; `undefined` when they cannot be had at once. */
  take(cost: number): number | undefined {
    const now = this.now()
    if (this.line.size > 0 || this.pausedUntil > now || cost > this.rule.capacity) return undefined
    if (this.rule.when(cost, now) > now + tolerance) return undefined
    this.rule.take(cost, now)
    return now
  }

  /** Waits, when `take` could not: or answers how long that would be, if it must not. */
  join(cost: number): Waiter | number {
    const now = this.now()
    if (cost > this.rule.capacity) return Infinity
    const turn = this.nextTurn(cost, now)
    const wait = Math.max(0, turn - now)
    if (this.line.size >= this.maxQueue || wait > this.maxWait) return wait
    const waiter = new Waiter(cost, now)
    this.line.push(waiter)
    this.wanted += cost
    this.lastInLine = turn
    if (this.line.size === 1) this.setTimer(now)
    return waiter
  }

  /** It does not wait any more, or does not use what it was granted. */
  leave(waiter: Waiter): void {
    if (waiter.state === "granted") this.giveBack(waiter.cost, waiter.at)
    if (waiter.state !== "waiting") return
    this.remove(waiter)
    this.lineChanged()
  }

  /** What was taken at that time was not used. */
  giveBack(cost: number, at: number): void {
    this.rule.giveBack(cost, at, this.now())
    // Its turn is somebody else's.
    this.lastTurn -= cost * this.pace
    this.lineChanged()
  }

  /** Nobody is let go before that time, in milliseconds from now. It can only make a running pause longer. */
  extendPause(millis: number): void {
    this.pauseUntil(Math.max(this.pausedUntil, this.now() + millis))
  }

  /** Sets the length of the pause anew; 0 ends it. */
  setPause(millis: number): void {
    this.pauseUntil(this.now() + millis)
  }

  private pauseUntil(time: number): void {
    if (time === this.pausedUntil) return
    this.pausedUntil = time
    const refused = this.refuseLate()
    this.lineChanged()
    wakeAll(refused)
  }

  /** Whom the pause would let wait for too long. */
  private refuseLate(): ReadonlyArray<Waiter> {
    const refused: Array<Waiter> = []
    if (this.maxWait === Infinity) return refused
    const now = this.now()
    let turn = this.lastTurn
    let ahead = 0
    for (let waiter = this.line.head; waiter !== undefined;) {
      const { next } = waiter
      const mine = this.turnAfter(turn, ahead, waiter.cost, now)
      if (mine - waiter.since > this.maxWait + tolerance) {
        this.remove(waiter)
        waiter.state = "refused"
        waiter.at = mine - now
        refused.push(waiter)
      } else {
        turn = mine
        ahead += waiter.cost
      }
      waiter = next
    }
    return refused
  }

  /** When somebody with that cost would go who joined now. */
  private nextTurn(cost: number, now: number): number {
    if (this.line.size === 0) this.lastTurn = -Infinity
    return this.turnAfter(this.endOfLine(now), this.wanted, cost, now)
  }

  /** When the last in the line is to go. Walks the line only after somebody has left it out of turn. */
  private endOfLine(now: number): number {
    if (this.line.size === 0) return this.lastTurn
    if (this.lastInLine !== undefined) return this.lastInLine
    let turn = this.lastTurn
    let ahead = 0
    for (let waiter = this.line.head; waiter !== undefined; waiter = waiter.next) {
      turn = this.turnAfter(turn, ahead, waiter.cost, now)
      ahead += waiter.cost
    }
    this.lastInLine = turn
    return turn
  }

  private turnAfter(before: number, ahead: number, cost: number, now: number): number {
    return Math.max(
      this.rule.when(ahead + cost, now),
      before + cost * this.pace,
      this.pausedUntil,
      // No turn that was missed is longer ago.
      now - maxLag
    )
  }

  private remove(waiter: Waiter): void {
    this.line.remove(waiter)
    this.wanted -= waiter.cost
  }

  private lineChanged(): void {
    this.lastInLine = undefined
    this.setTimer(this.now())
  }

  /** Sees to it that the timer, if one is needed, is for the first in the line. */
  private setTimer(now: number): void {
    this.turn = this.turnOfFirst(now)
    if (this.turn === this.timerAt) return
    this.cancelTimer?.()
    this.cancelTimer = undefined
    this.timerAt = this.turn
    // Whole milliseconds, as timers have them: then its time has come when it fires.
    if (this.turn < Infinity) {
      this.cancelTimer = this.timers.wait(Math.max(0, Math.ceil(this.turn - now)), this.fire)
    }
  }

  private readonly fire = (): void => {
    this.cancelTimer = undefined
    this.timerAt = Infinity
    const now = this.now()
    const granted: Array<Waiter> = []
    for (let first = this.line.head; first !== undefined && this.turn <= now + tolerance; first = this.line.head) {
      this.lastTurn = Math.max(this.turn, now - maxLag)
      this.remove(first)
      this.rule.take(first.cost, now)
      first.state = "granted"
      first.at = now
      granted.push(first)
      this.turn = this.turnOfFirst(now)
    }
    this.setTimer(now)
    wakeAll(granted)
  }

  private turnOfFirst(now: number): number {
    const first = this.line.head
    return first === undefined ? Infinity : this.turnAfter(this.lastTurn, 0, first.cost, now)
  }

  private now(): number {
    const now = this.timers.now()
    if (now > this.latest) this.latest = now
    return this.latest
  }
}

const wakeAll = (waiters: ReadonlyArray<Waiter>): void => {
  for (const waiter of waiters) waiter.wake?.()
}
