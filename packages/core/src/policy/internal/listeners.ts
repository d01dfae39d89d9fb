/** Those who listen to what a policy tells: none most of the time, which costs nothing. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"

/** How much a slow listener may be behind. */
const buffer = 64

export class Listeners<in out A> {
  private readonly queues = new Set<Queue.Enqueue<A>>()

  get size(): number {
    return this.queues.size
  }

  /** A queue wakes its reader in a task of its own, never within the attempt that has something to tell. */
  tell(news: A): void {
    for (const queue of this.queues) Queue.offerUnsafe(queue, news)
  }

  /** What is told from now on. Who is too far behind loses the oldest. */
  readonly stream: Stream.Stream<A> = Stream.callback<A>(
    (queue) =>
      Effect.acquireRelease(
        Effect.sync(() => this.queues.add(queue)),
        () => Effect.sync(() => this.queues.delete(queue))
      ),
    { bufferSize: buffer, strategy: "sliding" }
  )
}
