/** The service under load: a process of its own, as `npm run tasks` starts it. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { Location } from "./Database.ts"

export class ServiceError extends Data.TaggedError("ServiceError")<{ readonly message: string }> {}

export interface Options {
  readonly permits: number
  /** Of each task, in milliseconds. */
  readonly work: number
}

const spawned = ({ database, host, password, port, username }: Location, { permits, work }: Options): ChildProcess =>
  spawn(process.execPath, [fileURLToPath(new URL("../main.ts", import.meta.url))], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("TASKS_"))),
      TASKS_SERVER_BIND: "127.0.0.1:0",
      TASKS_ADMIN_BIND: "127.0.0.1:0",
      TASKS_LOGGER_HANDLER: "json",
      TASKS_APP_SEMAPHORE: String(permits),
      TASKS_APP_DRAIN_TIMEOUT: "0s",
      TASKS_WORK_STUB_MIN: `${work}ms`,
      TASKS_WORK_STUB_MAX: `${work}ms`,
      TASKS_WORK_STUB_FAILURE_RATE: "0",
      TASKS_STORAGE_TYPE: "postgres",
      TASKS_STORAGE_HOST: host,
      TASKS_STORAGE_PORT: String(port),
      TASKS_STORAGE_USER: username,
      TASKS_STORAGE_PASSWORD: Redacted.value(password),
      TASKS_STORAGE_NAME: database
    }
  })

const gone = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

const ended = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (gone(child)) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGTERM")
  })

/** Its log is read and dropped, so that it is written as always. */
const running = (child: ChildProcess): Effect.Effect<string, ServiceError> =>
  Effect.callback<string, ServiceError>((resume) => {
    child.once("exit", () => resume(Effect.fail(new ServiceError({ message: "the service ended too early" }))))
    if (child.stdout === null) return
    createInterface(child.stdout).on("line", (line) => {
      const [, api] = /"message":"The service runs".*"api":"([^"]+)"/.exec(line) ?? []
      if (api !== undefined) resume(Effect.succeed(api))
    })
  })

/** Starts it; gives the address of its API when it answers. Stopped when the scope ends. */
export const start = (location: Location, options: Options): Effect.Effect<string, ServiceError, Scope.Scope> =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => spawned(location, options)),
      ended
    ),
    running
  )
