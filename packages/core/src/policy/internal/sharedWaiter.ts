/**
 * An attempt that waits for what a store says about it.
 *
 * waiting → granted: what it is for is kept for it. waiting → refused: with `error`. waiting → moved: the store is gone,
 * and the attempt is for whoever takes its place.
 */
import * as Effect from "effect/Effect"
import type { Member } from "../../model/internal/line.ts"
import type { Attempt } from "../Gate.ts"

export class Waiter<G, E> implements Member<Waiter<G, E>> {
  previous: Waiter<G, E> | undefined = undefined
  next: Waiter<G, E> | undefined = undefined
  readonly attempt: Attempt
  /** Tokens, where it is for tokens. */
  readonly cost: number
  readonly since: number
  private end:
    | { readonly _tag: "granted"; readonly grant: G }
    | { readonly _tag: "refused"; readonly refusal: Effect.Effect<never, E> }
    | { readonly _tag: "moved" }
    | undefined = undefined
  private wake: (() => void) | undefined = undefined

  constructor(attempt: Attempt, cost: number, since: number) {
    this.attempt = attempt
    this.cost = cost
    this.since = since
  }

  get state(): "waiting" | "granted" | "refused" | "moved" {
    return this.end?._tag ?? "waiting"
  }

  get grant(): G | undefined {
    return this.end?._tag === "granted" ? this.end.grant : undefined
  }

  /** Only waits: it has nothing to clean up. */
  readonly wait: Effect.Effect<void, E> = Effect.callback((resume) => {
    const ended = (): void => resume(this.end?._tag === "refused" ? this.end.refusal : Effect.void)
    if (this.end === undefined) this.wake = ended
    else ended()
  })

  /** None of these wakes it: see `wakeAll`. */
  keep(grant: G): void {
    this.end = { _tag: "granted", grant }
  }

  refuse(refusal: Effect.Effect<never, E>): void {
    this.end = { _tag: "refused", refusal }
  }

  move(): void {
    this.end = { _tag: "moved" }
  }

  notify(): void {
    const { wake } = this
    this.wake = undefined
    wake?.()
  }
}

/** A fiber runs where it is woken: only when all is decided. */
export const wakeAll = <G, E>(waiters: Iterable<Waiter<G, E>>): void => {
  for (const waiter of waiters) waiter.notify()
}
