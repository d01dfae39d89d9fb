import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { TaskQueue } from "../../../src/tasks/queue/TaskQueue.ts"
import * as Embedded from "../../../src/tasks/storage/Embedded.ts"
import { TaskStore } from "../../../src/tasks/storage/TaskStore.ts"
import { all, claim, contract, create, lasting } from "./contract.ts"
import { model } from "./model.ts"

contract("Embedded", Embedded.layer())
model("Embedded", Embedded.layer(), 15)

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "tasks-embedded-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

describe("Embedded", () => {
  it.live(
    "a restart loses nothing: not what waits, runs or is done, and not the keys",
    () =>
      Effect.gen(function* () {
        const directory = join(yield* folder, "data")
        const restart = <A, E>(effect: Effect.Effect<A, E, TaskStore | TaskQueue>, migrate: boolean) =>
          Effect.provide(effect, Embedded.layer({ directory, migrate }))
        const before = yield* restart(
          Effect.gen(function* () {
            const { task } = yield* (yield* TaskStore).create("key")
            yield* create(2)
            const [first] = yield* claim(2)
            yield* (yield* TaskQueue).complete(first!, "done")
            assert.strictEqual(first!.id, task.id)
            return yield* all
          }),
          true
        )
        assert.deepStrictEqual(
          before.map(({ state }) => state._tag),
          ["Waiting", "Running", "Completed"]
        )
        for (const migrate of [true, false]) {
          assert.deepStrictEqual((yield* restart(all, migrate)).map(lasting), before.map(lasting))
        }
      }),
    60_000
  )

  it.live("a folder that cannot be used is a typed error that names no path of the service", () =>
    Effect.gen(function* () {
      const directory = join(yield* folder, "file")
      writeFileSync(directory, "")
      const error = yield* Effect.flip(Effect.provide(TaskStore, Embedded.layer({ directory })))
      assert.strictEqual(error._tag, "StorageError")
      assert.strictEqual(error.reason, "refused")
    })
  )

  it.live(
    "a second one in the same folder is refused before it has touched anything",
    () =>
      Effect.gen(function* () {
        const directory = join(yield* folder, "data")
        const open = Effect.provide(TaskStore, Embedded.layer({ directory }))
        yield* Effect.gen(function* () {
          const { task } = yield* (yield* TaskStore).create("key")
          const error = yield* Effect.flip(open)
          assert.include(String(error.cause), "is in use by another process")
          assert.strictEqual((yield* (yield* TaskStore).create("key")).task.id, task.id)
        }).pipe(Effect.provide(Embedded.layer({ directory })))
        yield* open
      }),
    60_000
  )

  it.live(
    "a start that is broken off ends, also while the client connects",
    () =>
      Effect.gen(function* () {
        const start = yield* Effect.forkChild(Effect.provide(TaskStore, Embedded.layer()))
        yield* Effect.callback<void>((resume) => {
          // One turn later the server has the connection, and does not know it yet.
          const connecting = (): void => void setImmediate(() => resume(Effect.void))
          subscribe("net.client.socket", connecting)
          return Effect.sync(() => unsubscribe("net.client.socket", connecting))
        })
        yield* Fiber.interrupt(start)
      }),
    60_000
  )

  it.live(
    "two of them in one process do not meet",
    () =>
      Effect.gen(function* () {
        const one = TaskStore.use((store) => store.create("key")).pipe(Effect.provide(Embedded.layer()))
        const [first, second] = yield* Effect.all([one, one], { concurrency: 2 })
        assert.isTrue(first.fresh && second.fresh)
      }),
    60_000
  )
})
