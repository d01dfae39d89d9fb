/**
 * Publishes a pool's events in the microtask after they happened.
 *
 * Never when they happen: publishing wakes whoever listens, and a listener that interrupts a request, or makes one, would
 * do so in the middle of a slot's transition.
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import type { PoolEvent } from "../PoolEvent.ts"
import * as wakeups from "./wakeups.ts"

/** How many events a slow listener may be behind. */
const buffer = 256

export class Announcer implements wakeups.Sleeper {
  private readonly pubsub: PubSub.PubSub<PoolEvent>
  private pending: Array<PoolEvent> = []
  private ended = false

  constructor(pubsub: PubSub.PubSub<PoolEvent>) {
    this.pubsub = pubsub
  }

  announce(event: PoolEvent): void {
    // A connection of an evicted host may still be closing: nobody listens any more.
    if (this.ended) return
    this.ended = event._tag === "Closed"
    if (this.pending.push(event) === 1) wakeups.soon(this)
  }

  wake(): void {
    const { pending } = this
    this.pending = []
    // Where the buffer is full, `publishUnsafe` would drop the newest, for everybody; `publish` drops the oldest.
    for (const event of pending) Effect.runSync(PubSub.publish(this.pubsub, event))
  }

  /** What happens from now on, to the end. */
  readonly stream: Stream.Stream<PoolEvent> = Stream.suspend(() =>
    this.ended ? Stream.empty : Stream.takeUntil(Stream.fromPubSub(this.pubsub), (event) => event._tag === "Closed")
  )
}

export const make: Effect.Effect<Announcer> = Effect.map(
  PubSub.sliding<PoolEvent>(buffer),
  (pubsub) => new Announcer(pubsub)
)
