import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as DirectoryWatch from "../../src/internal/directoryWatch.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "millrace-watch-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const watch = (onEvent: () => void) =>
  Effect.acquireRelease(
    Effect.sync(() => DirectoryWatch.make(onEvent)),
    (self) => Effect.sync(self.close)
  )

/** Completes when another watch of the same directory has heard something. */
const heard = (inside: string, act: () => void) =>
  Effect.callback<void>((resume) => {
    const self = DirectoryWatch.make(() => {
      self.close()
      resume(Effect.void)
    })
    self.follow([Path.join(inside, "any")])
    act()
    return Effect.sync(self.close)
  })

describe("directoryWatch", () => {
  it.live("says when it follows something new", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* directory, yield* directory]
      const self = yield* watch(() => {})
      const [a, b] = [Path.join(one, "a"), Path.join(other, "b")]
      assert.isTrue(self.follow([a]))
      assert.isFalse(self.follow([a]))
      assert.isFalse(self.follow([a, Path.join(one, "c")]))
      assert.isTrue(self.follow([a, b]))
      assert.isFalse(self.follow([b]))
      assert.isTrue(self.follow([a]))
    })
  )

  it.live("follows a directory that is made anew", () =>
    Effect.gen(function* () {
      const inside = Path.join(yield* directory, "inner")
      const self = yield* watch(() => {})
      assert.isFalse(self.follow([Path.join(inside, "a")]))
      Fs.mkdirSync(inside)
      assert.isTrue(self.follow([Path.join(inside, "a")]))
      Fs.renameSync(inside, `${inside}~`)
      Fs.mkdirSync(inside)
      assert.isTrue(self.follow([Path.join(inside, "a")]))
    })
  )

  it.live("what no directory can be is nothing to follow", () =>
    Effect.gen(function* () {
      const inside = yield* directory
      Fs.symlinkSync("circle", Path.join(inside, "circle"))
      const self = yield* watch(() => {})
      for (const name of ["circle", "none", "\0", "x".repeat(300)]) {
        assert.isFalse(self.follow([Path.join(inside, name, "a")]), name)
      }
    })
  )

  it.live("links that lead in a circle have an end", () =>
    Effect.gen(function* () {
      const inside = yield* directory
      Fs.symlinkSync("b", Path.join(inside, "a"))
      Fs.symlinkSync("a", Path.join(inside, "b"))
      const self = yield* watch(() => {})
      assert.isTrue(self.follow([Path.join(inside, "a")]))
    })
  )

  it.live("hears what is followed, and nothing once it is not or is closed", () =>
    Effect.gen(function* () {
      const inside = yield* directory
      const file = Path.join(inside, "a")
      let events = 0
      const self = yield* watch(() => void events++)
      self.follow([file])
      yield* heard(inside, () => Fs.writeFileSync(file, "1"))
      yield* heard(inside, () => Fs.writeFileSync(file, "2"))
      assert.isAbove(events, 0)
      self.follow([])
      const before = events
      yield* heard(inside, () => Fs.writeFileSync(file, "3"))
      assert.strictEqual(events, before)
      self.follow([file])
      self.close()
      yield* heard(inside, () => Fs.writeFileSync(file, "4"))
      assert.strictEqual(events, before)
    })
  )
})
