import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Folder from "../../../src/tasks/storage/Folder.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "tasks-folder-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/** A process of its own that holds the folder until it is killed. */
const holder = (folder: string) => {
  const module = join(import.meta.dirname, "../../../src/tasks/storage/Folder.ts")
  const program = `
    import { Effect } from ${JSON.stringify(import.meta.resolve("effect"))}
    import { hold } from ${JSON.stringify(module)}
    Effect.runFork(Effect.scoped(Effect.andThen(hold(process.argv[1]), Effect.suspend(() => {
      console.log("held")
      setInterval(() => {}, 60_000)
      return Effect.never
    }))))`
  return Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(process.execPath, ["--input-type=module", "--eval", program, folder], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      await once(child.stdout, "data")
      return child
    }),
    (child) =>
      Effect.promise(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const exit = once(child, "exit")
        child.kill("SIGKILL")
        await exit
      })
  )
}

describe("Folder", () => {
  it.effect("is made when it is not there, and free again when the scope ends", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "a", "b")
      for (let turn = 0; turn < 2; turn++) yield* Effect.scoped(Folder.hold(path))
      assert.isTrue(existsSync(path))
    })
  )

  it.effect("a second one in this process is refused with the name of the folder and what to do", () =>
    Effect.gen(function* () {
      const path = yield* folder
      yield* Folder.hold(path)
      const error = yield* Effect.flip(Folder.hold(path))
      assert.instanceOf(error.cause, Folder.FolderInUse)
      assert.include(String(error.cause), `${path} is in use by another process: stop it`)
    })
  )

  it.live("another process keeps everybody out until it ends, also when it is killed", () =>
    Effect.gen(function* () {
      const path = yield* folder
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* holder(path)
          const error = yield* Effect.flip(Folder.hold(path))
          assert.instanceOf(error.cause, Folder.FolderInUse)
        })
      )
      yield* Folder.hold(path)
    })
  )

  it.effect("what is no folder is refused with the reason of the system", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "file")
      writeFileSync(path, "")
      const error = yield* Effect.flip(Folder.hold(path))
      assert.deepStrictEqual([error.operation, error.reason], ["open", "refused"])
      assert.match(String(error.cause), /EEXIST/)
    })
  )
})
