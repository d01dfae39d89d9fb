/** What a program of a user does when nothing but the pool has something to do. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"

interface Ended {
  readonly code: number
  readonly output: string
}

/** Runs a program that holds no socket and no timer of its own. */
const run = (program: string): Promise<Ended> =>
  new Promise((resolve) => {
    const options = { cwd: new URL("..", import.meta.url).pathname, timeout: 30_000 }
    execFile(process.execPath, ["--input-type=module", "--eval", program], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), output: stdout + stderr })
    })
  })

const imports = `
import { Pool, RateLimit } from "@millrace/core"
import { UndiciConnector } from "@millrace/node"
import { Effect } from "effect"
`

describe("a process", () => {
  it("stays for a retry that waits", async () => {
    const ended = await run(`${imports}
      const program = Effect.gen(function* () {
        const pool = yield* Pool.make({ baseUrl: "http://127.0.0.1:1", retry: { maxRetries: 1, initialDelay: 50 } })
        return yield* Effect.flip(pool.client.get("/"))
      })
      console.log((await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(UndiciConnector.layer))))._tag)`)
    assert.deepStrictEqual(ended, { code: 0, output: "RetryExhausted\n" })
  })

  it("stays for a token that is waited for", async () => {
    const ended = await run(`${imports}
      const program = Effect.gen(function* () {
        const limit = yield* RateLimit.make({ limit: 1, interval: 50 })
        yield* limit.acquire(1)
        yield* limit.acquire(1)
      })
      await Effect.runPromise(program)
      console.log("done")`)
    assert.deepStrictEqual(ended, { code: 0, output: "done\n" })
  })
})
