import { afterEach, assert, describe, it, vi } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { Body, type BodySource } from "../../../src/client/internal/body.ts"
import * as PoolError from "../../../src/model/PoolError.ts"

class Source implements BodySource {
  readonly log: Array<"pause" | "resume" | "abort"> = []
  pause(): void {
    this.log.push("pause")
  }
  resume(): void {
    this.log.push("resume")
  }
  abort(): void {
    this.log.push("abort")
  }
}

const make = (highWaterMark = 4) => {
  const source = new Source()
  return { source, body: new Body(source, highWaterMark) }
}

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)
const microtask = (): Promise<void> => Promise.resolve()
const boom = new PoolError.PoolClosed({ request: { method: "GET", url: "http://h/" }, attempts: 1 })

describe("body", () => {
  afterEach(() => {
    vi.unstubAllGlobals()
    vi.resetModules()
  })

  describe("that nobody has asked for", () => {
    it("is kept, and complete at its end", () => {
      const { body, source } = make()
      body.push(bytes(1, 2))
      body.push(bytes(3))
      body.end()
      assert.isTrue(body.ended)
      assert.isFalse(body.wanted)
      assert.deepStrictEqual(body.bytes(), bytes(1, 2, 3))
      assert.deepStrictEqual(source.log, [])
    })

    it("pauses above the high-water mark, once", () => {
      const { body, source } = make()
      body.push(bytes(1, 2, 3, 4))
      assert.deepStrictEqual(source.log, [])
      body.push(bytes(5))
      body.push(bytes(6))
      assert.deepStrictEqual(source.log, ["pause"])
      assert.isTrue(body.isPaused)
    })
  })

  it("is whole where there is no Buffer", async () => {
    vi.stubGlobal("Buffer", undefined)
    vi.resetModules()
    const browser = await import("../../../src/client/internal/body.ts")
    const body = new browser.Body(new Source(), 4)
    body.push(bytes(1, 2))
    body.push(bytes(3))
    body.end()
    assert.deepStrictEqual(body.bytes(), bytes(1, 2, 3))
  })

  it("may be empty", () => {
    const { body } = make()
    body.end()
    assert.strictEqual(body.bytes().length, 0)
  })

  it("goes on when it is collected, and pauses no more", () => {
    const { body, source } = make()
    body.push(bytes(1, 2, 3, 4, 5))
    body.collect()
    body.push(bytes(6, 7, 8, 9, 10))
    body.end()
    assert.deepStrictEqual(source.log, ["pause", "resume"])
    assert.deepStrictEqual(body.bytes(), bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    assert.deepStrictEqual(body.bytes(), bytes(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "and again")
  })

  it("gives what has come when it is streamed, and pauses while nobody takes", () => {
    const { body, source } = make()
    body.push(bytes(1))
    body.stream()
    assert.deepStrictEqual(body.take(), [bytes(1)])
    assert.deepStrictEqual(body.take(), [])
    body.push(bytes(2, 3, 4))
    body.push(bytes(5, 6))
    body.push(bytes(7))
    assert.deepStrictEqual(source.log, ["pause"])
    assert.deepStrictEqual(body.take(), [bytes(2, 3, 4), bytes(5, 6), bytes(7)])
    assert.deepStrictEqual(source.log, ["pause", "resume"])
  })

  describe("that is discarded", () => {
    it("is drained up to the high-water mark", () => {
      const { body, source } = make()
      body.push(bytes(1, 2))
      body.discard()
      body.push(bytes(3, 4))
      body.end()
      assert.deepStrictEqual(source.log, [])
    })

    it("is aborted above it", () => {
      const { body, source } = make()
      body.push(bytes(1, 2))
      body.discard()
      body.push(bytes(3, 4, 5))
      assert.deepStrictEqual(source.log, ["abort"])
    })

    it("is aborted at once when too much is here already", () => {
      const { body, source } = make()
      body.push(bytes(1, 2, 3, 4, 5))
      body.discard()
      assert.deepStrictEqual(source.log, ["pause", "abort"])
    })
  })

  describe("whoever waits", () => {
    it("for its end is called after it, in a microtask, once", async () => {
      const { body } = make()
      const log: Array<string> = []
      body.collect()
      body.onChange(() => log.push("a"))
      body.onChange(() => log.push("b"))
      assert.isTrue(body.hasReader)
      body.push(bytes(1))
      await microtask()
      assert.deepStrictEqual(log, [], "a chunk is nothing to a collector")
      body.end()
      assert.deepStrictEqual(log, [])
      await microtask()
      assert.deepStrictEqual(log, ["a", "b"])
      assert.isFalse(body.hasReader)
    })

    it("for a chunk is called after it", async () => {
      const { body } = make()
      let calls = 0
      body.stream()
      body.onChange(() => calls++)
      body.push(bytes(1))
      body.push(bytes(2))
      await microtask()
      assert.strictEqual(calls, 1)
    })

    it("is called when it fails", async () => {
      const { body } = make()
      let seen: unknown
      body.onChange(() => {
        seen = body.error
      })
      body.fail(boom)
      await microtask()
      assert.strictEqual(seen, boom)
      assert.isTrue(body.error !== undefined)
      assert.isFalse(body.ended)
    })

    it("is not called after taking it back, also twice", async () => {
      const { body } = make()
      let calls = 0
      const undo = body.onChange(() => calls++)
      body.onChange(() => calls++)
      undo()
      undo()
      assert.isTrue(body.hasReader)
      body.end()
      undo()
      await microtask()
      undo()
      assert.strictEqual(calls, 1)
    })
  })

  // A number n is a chunk of n bytes; 0 is a reader that takes.
  it.prop(
    "streamed: nothing is lost, reordered, or kept beyond the mark without a pause",
    [Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 6 }))))],
    ([steps]) => {
      const { body, source } = make(8)
      body.stream()
      const pushed: Array<number> = []
      const taken: Array<number> = []
      let kept = 0
      for (const step of steps) {
        if (step === 0) {
          taken.push(...body.take().flatMap((chunk) => [...chunk]))
          kept = 0
        } else {
          const chunk = Array.from({ length: step }, () => pushed.length % 256)
          pushed.push(...chunk)
          kept += step
          body.push(Uint8Array.from(chunk))
        }
        assert.strictEqual(body.isPaused, kept > 8)
      }
      taken.push(...body.take().flatMap((chunk) => [...chunk]))
      assert.deepStrictEqual(taken, pushed)
      // Pauses and resumes alternate, and end with a resume.
      assert.isTrue(source.log.every((entry, i) => entry === (i % 2 === 0 ? "pause" : "resume")))
      assert.strictEqual(source.log.length % 2, 0)
    },
    { arbitrary: { runs: 200 } }
  )
})
