/**
 * A heap snapshot of this process, for the memory panel of Chromium's developer tools.
 *
 * While the engine makes it the process does nothing else, about a second for each 100 MB, and it may need as much memory
 * again. It holds everything that the program has in memory, secrets too: it goes to operators only.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { getHeapSnapshot } from "node:v8"

/**
 * There is no snapshot, or it broke off.
 *
 * @category errors
 * @since 0.1.0
 */
export class SnapshotError extends Data.TaggedError("SnapshotError")<{
  readonly reason: "busy" | "broken"
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.reason === "busy"
      ? "A heap snapshot is being sent: try again when it has ended"
      : "The heap snapshot broke off: there may not be enough memory for it"
  }
}

let busy = false

/** Whether one is being sent. */
export const isBusy = (): boolean => busy

/**
 * Takes a snapshot when it is run; the bytes of a `.heapsnapshot` file, as fast as they are read. One at a time.
 *
 * @category constructors
 * @since 0.1.0
 */
export const stream: Stream.Stream<Uint8Array, SnapshotError> = Stream.unwrap(
  Effect.gen(function* () {
    const readable = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        if (busy) return Effect.fail(new SnapshotError({ reason: "busy" }))
        const readable = getHeapSnapshot()
        busy = true
        return Effect.succeed(readable)
      }),
      (readable) =>
        Effect.sync(() => {
          busy = false
          readable.destroy()
        })
    )
    return Stream.fromAsyncIterable<Uint8Array, SnapshotError>(
      readable,
      (cause) => new SnapshotError({ reason: "broken", cause })
    )
  })
)
