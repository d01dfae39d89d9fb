/** The service as a process of its own, and a service that does its work when it is told to. */
import { Effect, Queue, type Scope, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { EventEmitter, once } from "node:events"
import * as Http from "node:http"
import { join } from "node:path"
import type { Location } from "./postgres.ts"

const main = join(import.meta.dirname, "../../src/tasks/main.ts")

/** Settings, by their names in the environment. */
export type Settings = Readonly<Record<string, string | number>>

export const onPostgres = ({ database, host, port, username }: Location): Settings => ({
  TASKS_STORAGE_TYPE: "postgres",
  TASKS_STORAGE_HOST: host,
  TASKS_STORAGE_PORT: port,
  TASKS_STORAGE_USER: username,
  TASKS_STORAGE_NAME: database
})

/** Text that comes by and by, and what waits for some of it. */
class Output extends EventEmitter {
  text = ""
  ended = false

  constructor(child: ChildProcess) {
    super()
    this.setMaxListeners(0)
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (chunk: string) => {
        this.text += chunk
        this.emit("change")
      })
    }
    child.once("close", () => {
      this.ended = true
      this.emit("change")
    })
  }

  /** The first match; dies when the process ends without one. */
  match(pattern: RegExp): Effect.Effect<RegExpExecArray> {
    return Effect.callback<RegExpExecArray>((resume) => {
      const check = () => {
        const found = pattern.exec(this.text)
        if (found !== null) done(Effect.succeed(found))
        else if (this.ended) done(Effect.die(new Error(`the service ended without ${pattern}:\n${this.text}`)))
      }
      const done = (effect: Effect.Effect<RegExpExecArray>) => {
        this.off("change", check)
        resume(effect)
      }
      this.on("change", check)
      check()
      return Effect.sync(() => this.off("change", check))
    })
  }
}

export interface Process {
  readonly output: Output
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Nobody reads its stdout any more. */
  readonly unread: Effect.Effect<void>
  /** What it ended with: a code, or the signal that killed it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals | null>
}

/** Starts it; it is killed at the end of the scope if it is still there. */
export const start = (
  settings: Settings,
  args: ReadonlyArray<string> = []
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const own = Object.entries(process.env).filter(([name]) => !name.startsWith("TASKS_"))
        const given = Object.entries({
          TASKS_SERVER_BIND: "127.0.0.1:0",
          TASKS_ADMIN_BIND: "127.0.0.1:0",
          TASKS_LOGGER_HANDLER: "json",
          TASKS_STORAGE_TYPE: "memory",
          ...settings
        }).map(([name, value]) => [name, String(value)] as const)
        const child = spawn(process.execPath, [main, ...args], {
          env: Object.fromEntries([...own, ...given]),
          stdio: ["ignore", "pipe", "pipe"]
        })
        return { child, output: new Output(child), exit: once(child, "exit") }
      }),
      ({ child, exit }) =>
        Effect.promise(async () => {
          if (child.exitCode !== null || child.signalCode !== null) return
          child.kill("SIGKILL")
          await exit
        })
    ),
    ({ child, exit, output }) => ({
      output,
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      unread: Effect.sync(() => void child.stdout.destroy()),
      ended: Effect.map(
        Effect.promise(() => exit),
        () => child.exitCode ?? child.signalCode
      )
    })
  )

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: unknown
}

export interface Service extends Process {
  readonly api: string
  readonly ask: (method: string, path: string, headers?: Record<string, string>) => Effect.Effect<Answer>
  readonly admin: (path: string) => Effect.Effect<{ readonly status: number; readonly text: string }>
  /** Asks to stop, and gives the exit code. */
  readonly stop: Effect.Effect<number | NodeJS.Signals | null>
}

/** Starts it and waits until it runs. */
export const service = Effect.fnUntraced(function* (settings: Settings): Effect.fn.Return<Service, never, Scope.Scope> {
  const process = yield* start(settings)
  const [, api = "", admin = ""] = yield* process.output.match(
    /The service runs".*"api":"([^"]+)\/?".*"admin":"([^"]+)\/?"/
  )
  return {
    ...process,
    api,
    ask: (method, path, headers = {}) =>
      Effect.promise(async () => {
        const response = await fetch(new URL(path, api), { method, headers })
        const text = await response.text()
        const isJson = response.headers.get("content-type")?.includes("json") === true
        return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
      }),
    admin: (path) =>
      Effect.promise(async () => {
        const response = await fetch(new URL(path, admin))
        return { status: response.status, text: await response.text() }
      }),
    stop: Effect.andThen(process.signal("SIGTERM"), process.ended)
  }
})

/** One run of a task, as who does the work sees it. */
interface Job {
  readonly id: string
  readonly finish: (result: string, status?: number) => void
  /** Completes when the worker goes away before the end. */
  readonly abandoned: Effect.Effect<void>
}

export interface Workshop {
  /** So that services send their work here. */
  readonly settings: Settings
  /** The next run, in order of arrival. */
  readonly next: Effect.Effect<Job>
  /** Finishes whatever comes from now on. */
  readonly finishAll: Effect.Effect<void, never, Scope.Scope>
  /** How often the work of a task was begun. */
  readonly runs: (id: string) => number
}

/** A service that does the work of tasks when the test says so. */
export const workshop: Effect.Effect<Workshop, never, Scope.Scope> = Effect.gen(function* () {
  const jobs = yield* Queue.unbounded<Job>()
  const begun = new Map<string, number>()
  const answered = (request: Http.IncomingMessage, response: Http.ServerResponse) => {
    let text = ""
    request.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
    request.on("end", () => {
      const { id } = JSON.parse(text) as { readonly id: string }
      begun.set(id, (begun.get(id) ?? 0) + 1)
      Queue.offerUnsafe(jobs, {
        id,
        finish: (result, status = 200) => void response.writeHead(status).end(result),
        abandoned: Effect.callback<void>((resume) => {
          if (response.closed) resume(Effect.void)
          else response.once("close", () => resume(Effect.void))
        })
      })
    })
  }
  const server = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = Http.createServer(answered).listen(0, "127.0.0.1")
      await once(server, "listening")
      return server
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  const address = server.address()
  const port = address !== null && typeof address === "object" ? address.port : 0
  return {
    settings: {
      TASKS_WORK_TYPE: "http",
      TASKS_WORK_HTTP_URL: `http://127.0.0.1:${port}/work`,
      TASKS_WORK_HTTP_MAX_RETRIES: 0
    },
    next: Queue.take(jobs),
    finishAll: Stream.fromQueue(jobs).pipe(
      Stream.runForEach((job) => Effect.sync(() => job.finish(`made ${job.id}`))),
      Effect.forkScoped,
      Effect.asVoid
    ),
    runs: (id) => begun.get(id) ?? 0
  }
})

/** Asks again, as soon as it was answered, until the answer is as it should be. */
export const until = <A>(ask: Effect.Effect<A>, right: (answer: A) => boolean): Effect.Effect<A> =>
  Effect.flatMap(ask, (answer) =>
    right(answer)
      ? Effect.succeed(answer)
      : Effect.andThen(
          Effect.callback<void>((resume) => {
            const turn = setImmediate(() => resume(Effect.void))
            return Effect.sync(() => clearImmediate(turn))
          }),
          until(ask, right)
        )
  )

/** The field of a JSON answer. */
export const field = (body: unknown, name: string): unknown =>
  typeof body === "object" && body !== null ? Reflect.get(body, name) : undefined
