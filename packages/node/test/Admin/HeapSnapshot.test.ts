import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as HeapSnapshot from "../../src/Admin/HeapSnapshot.ts"

const firstBytes = Stream.runHead(HeapSnapshot.stream)

describe("HeapSnapshot", () => {
  it.live("streams a snapshot, and makes way for the next when its reader leaves early", () =>
    Effect.gen(function* () {
      for (let turn = 0; turn < 2; turn++) {
        const head = yield* firstBytes
        assert.isTrue(head._tag === "Some" && Buffer.from(head.value).toString().startsWith('{"snapshot"'))
        assert.isFalse(HeapSnapshot.isBusy())
      }
    })
  )

  it.live("one at a time", () =>
    Effect.gen(function* () {
      yield* HeapSnapshot.stream.pipe(
        Stream.take(1),
        Stream.runForEach(() =>
          Effect.map(Effect.flip(firstBytes), (error) => {
            assert.strictEqual(error.reason, "busy")
            assert.match(error.message, /try again/)
          })
        )
      )
    })
  )
})
