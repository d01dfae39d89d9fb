/** Prism between a client and a service: it says which requests and responses break an OpenAPI document. */
import { Effect, Schema } from "effect"
import { spawn } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

const Violations = Schema.fromJsonString(
  Schema.Array(Schema.Struct({ location: Schema.Array(Schema.String), message: Schema.String }))
)
const violationsOf = Schema.decodeSync(Violations)

const require = createRequire(import.meta.url)
const command = join(dirname(require.resolve("@stoplight/prism-cli/package.json")), "dist/index.js")

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "tasks-prism-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true }))
)

/** Starts it before `upstream`; the result is its origin. */
export const proxy = (document: unknown, upstream: string) =>
  Effect.gen(function* () {
    const file = join(yield* folder, "openapi.json")
    yield* Effect.promise(() => writeFile(file, JSON.stringify(document)))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [command, "proxy", file, upstream, "--port", "0"], {
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) =>
        Effect.callback<void>((resume) => {
          if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    )
    return yield* Effect.callback<string>((resume) => {
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        output += chunk
        const origin = /listening on (http:\/\/[\d.:]+)/.exec(output)?.[1]
        if (origin !== undefined) resume(Effect.succeed(origin))
      })
      child.once("exit", () => resume(Effect.die(new Error(`Prism has ended: ${output}`))))
    })
  })

/** What it has to say of an exchange. */
export const verdict = (headers: Headers) => {
  const text = headers.get("sl-violations")
  const all = text === null ? [] : violationsOf(text)
  const of = (what: string) => all.filter(({ location }) => location[0] === what).map(({ message }) => message)
  return { request: of("request"), response: of("response") }
}
