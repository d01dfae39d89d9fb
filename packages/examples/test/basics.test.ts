/** Every example, as a person starts it: it prints what happened, complains about nothing and ends by itself. */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const folder = join(import.meta.dirname, "../src/basics")

const limit = 20_000

/** What exports something is there for the examples, and is none itself. */
const isExample = (file: string) => !/^export /m.test(readFileSync(join(folder, file), "utf8"))

const examples = readdirSync(folder)
  .filter((file) => file.endsWith(".ts"))
  .filter(isExample)

interface Ended {
  /** `null`: it ended well. */
  readonly failure: string | null
  readonly stdout: string
  readonly stderr: string
}

const run = (file: string): Promise<Ended> =>
  new Promise((resolve) => {
    const options = { timeout: limit, killSignal: "SIGKILL" } as const
    execFile(process.execPath, [join(folder, file)], options, (error, stdout, stderr) => {
      const failure = error === null ? null : error.killed ? `runs after ${limit} ms` : `exit code ${error.code}`
      resolve({ failure, stdout, stderr })
    })
  })

describe("basics", () => {
  it.for([
    "api-client.ts",
    "auth.ts",
    "circuit-breaker.ts",
    "events.ts",
    "hosts.ts",
    "middleware.ts",
    "policies.ts",
    "rate-limit.ts",
    "retry.ts",
    "services.ts",
    "streaming.ts",
    "testing.ts"
  ])("%s is there", (file) => assert.include(examples, file))

  describe.concurrent("end by themselves", () => {
    it.for(examples)("%s", { timeout: limit + 10_000 }, async (file) => {
      const { failure, stderr, stdout } = await run(file)
      assert.isNull(failure, `${file}\n${stdout}${stderr}`)
      assert.strictEqual(stderr, "", file)
      assert.isNotEmpty(stdout.trim(), file)
    })
  })
})
