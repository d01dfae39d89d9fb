/** The backends that a server has had: they drain, one beside the other, and what they have counted stays. */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Backend, Counts, Drained } from "../Listener.ts"

const zero: Counts = { connections: 0, active: 0, accepted: 0, requests: 0, failures: 0, refused: 0 }

const plus = (a: Counts, b: Counts): Counts => ({
  connections: a.connections + b.connections,
  active: a.active + b.active,
  accepted: a.accepted + b.accepted,
  requests: a.requests + b.requests,
  failures: a.failures + b.failures,
  refused: a.refused + b.refused
})

export class Backends {
  private readonly ending = new Set<Backend>()
  private readonly drains = new Set<Fiber.Fiber<unknown, unknown>>()
  private past: Counts = zero

  /** It is not the current one any more, and still counts as it stands. */
  retire(backend: Backend): void {
    this.ending.add(backend)
  }

  /** To the end of one that gets no more connections. */
  drain(backend: Backend, timeout: number): Effect.Effect<Exit.Exit<Drained>> {
    return Effect.map(Effect.exit(backend.drain(timeout)), (drained) => {
      this.ending.delete(backend)
      this.past = plus(this.past, { ...backend.counts(), connections: 0, active: 0 })
      return drained
    })
  }

  /** A drain that nobody waits for now. */
  track(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.drains.add(fiber)
    fiber.addObserver(() => void this.drains.delete(fiber))
  }

  /** Waits for those that drain when this is called. */
  drained(): Effect.Effect<void> {
    return Effect.asVoid(Fiber.awaitAll(Array.from(this.drains)))
  }

  /** Of all that there were, and of the current one. */
  counts(current: Backend | undefined): Counts {
    let counts = current === undefined ? this.past : plus(this.past, current.counts())
    for (const backend of this.ending) counts = plus(counts, backend.counts())
    return counts
  }
}
