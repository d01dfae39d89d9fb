/**
 * A PostgreSQL for tests: a database of one's own on one that runs, or a whole cluster that can be stopped and started.
 *
 * The one that runs is that of `TASKS_TEST_POSTGRES` (`postgres://user:password@host:port/database`), or that at
 * 127.0.0.1:5432 that lets `postgres` in, or a cluster made for the purpose when PostgreSQL is installed.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { describe, vi } from "@effect/vitest"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import * as Postgres from "../../src/tasks/storage/Postgres.ts"

// To make and drop a database, or a cluster, takes its time on a busy machine.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

/** Where a database is: options of the storage. */
export interface Location {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password?: Redacted.Redacted
  readonly database: string
}

const session = (location: Location) => PgConnection.make({ ...location, ssl: false, connectTimeout: "2 seconds" })

/** Runs a statement past the storage, on a connection of its own. */
export const ask = (location: Location, statement: string): Effect.Effect<ReadonlyArray<PgConnection.Row>> =>
  Effect.scoped(Effect.flatMap(session(location), (own) => own.query(statement, [], false))).pipe(
    Effect.map(({ rows }) => rows),
    Effect.orDie
  )

const ofUrl = (text: string): Location => {
  const url = new URL(text)
  return {
    host: url.hostname,
    port: Number(url.port || 5432),
    username: decodeURIComponent(url.username || "postgres"),
    ...(url.password && { password: Redacted.make(decodeURIComponent(url.password)) }),
    database: decodeURIComponent(url.pathname.slice(1) || "postgres")
  }
}

/** Debian keeps them off the path. */
const binaries = (): string | undefined => {
  const versions = "/usr/lib/postgresql"
  const installed = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    ...installed.map((name) => join(versions, name, "bin"))
  ]
  return folders.find((folder) => existsSync(join(folder, "initdb")))
}

const bin = binaries()

/** Whether a cluster can be made here. */
const isInstalled = bin !== undefined

const near: Location = { host: "127.0.0.1", port: 5432, username: "postgres", database: "postgres" }

const given = process.env["TASKS_TEST_POSTGRES"]

/** One that runs already. */
const running: Location | undefined =
  given === undefined
    ? await Effect.runPromise(
        Effect.scoped(session(near)).pipe(
          Effect.as(near),
          Effect.orElseSucceed(() => undefined)
        )
      )
    : ofUrl(given)

const described = (available: boolean) => (name: string, tests: () => void) => {
  if (available) describe(name, tests)
  else describe.skip(`${name} (skipped: no PostgreSQL is installed, and TASKS_TEST_POSTGRES names none)`, tests)
}

/** `describe` of tests that need `database`. */
export const describeDatabase = described(running !== undefined || isInstalled)

/** `describe` of tests that need `cluster`. */
export const describeCluster = described(isInstalled)

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  if (address === null || typeof address === "string") throw new Error("no port")
  return address.port
}

/** PostgreSQL refuses to run as root. */
const user = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const accounts = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
  const account = accounts.find(([name]) => name === "postgres") ?? accounts.find(([name]) => name === "nobody")
  if (account === undefined) throw new Error("PostgreSQL does not run as root, and there is no user postgres or nobody")
  return { uid: Number(account[2]), gid: Number(account[3]) }
}

export class Cluster {
  readonly location: Location
  readonly #bin: string
  readonly #folder = mkdtempSync(join(tmpdir(), "tasks-postgres-"))
  readonly #user = user()
  readonly #settings: Array<string> = []
  #process: ChildProcess | undefined = undefined

  constructor(bin: string, port: number) {
    this.#bin = bin
    this.location = { ...near, port }
    if (this.#user !== undefined) chownSync(this.#folder, this.#user.uid, this.#user.gid)
  }

  #spawn(command: string, args: ReadonlyArray<string>): ChildProcess {
    const options: SpawnOptions = { ...this.#user, cwd: this.#folder, stdio: ["ignore", "ignore", "pipe"] }
    return spawn(join(this.#bin, command), args, options)
  }

  async init(): Promise<void> {
    const options = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    const child = this.#spawn("initdb", ["-D", join(this.#folder, "data"), ...options])
    let log = ""
    child.stderr?.on("data", (chunk: Buffer) => (log += chunk.toString()))
    const [code] = await once(child, "exit")
    if (code !== 0) throw new Error(`initdb failed: ${log}`)
  }

  /** Takes encrypted connections too, from the next start on. */
  encrypt({ cert, key }: { readonly cert: string; readonly key: string }): void {
    for (const [name, text] of Object.entries({ "server.crt": cert, "server.key": key })) {
      const file = join(this.#folder, "data", name)
      writeFileSync(file, text, { mode: 0o600 })
      if (this.#user !== undefined) chownSync(file, this.#user.uid, this.#user.gid)
    }
    this.#settings.push("-c", "ssl=on")
  }

  /** Returns when it takes connections. */
  async start(): Promise<void> {
    const data = join(this.#folder, "data")
    const address = ["-h", this.location.host, "-p", String(this.location.port), "-k", this.#folder]
    const child = this.#spawn("postgres", [
      "-D",
      data,
      ...address,
      "-c",
      "fsync=off",
      "-c",
      "max_connections=50",
      ...this.#settings
    ])
    this.#process = child
    // A run that is broken off leaves nothing behind.
    const end = (): void => void child.kill("SIGQUIT")
    process.once("exit", end)
    child.once("exit", () => process.off("exit", end))
    let log = ""
    await new Promise<void>((resolve, reject) => {
      child.stderr?.on("data", (chunk: Buffer) => {
        log += chunk.toString()
        if (log.includes("ready to accept connections")) resolve()
      })
      child.once("exit", () => reject(new Error(`postgres ended: ${log}`)))
    })
  }

  /** `fast` says goodbye to its clients; `crash` ends them at once and recovers at the next start. */
  async stop(how: "fast" | "crash" = "fast"): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, "exit")
    child.kill(how === "fast" ? "SIGINT" : "SIGQUIT")
    await exit
  }

  async remove(): Promise<void> {
    await this.stop("crash")
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Runs until the scope ends. */
export const cluster: Effect.Effect<Cluster, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => {
    if (bin === undefined) throw new Error("PostgreSQL is not installed: use describeCluster")
    const cluster = new Cluster(bin, await freePort())
    await cluster.init()
    await cluster.start()
    return cluster
  }),
  (cluster) => Effect.promise(() => cluster.remove())
)

/** A new database, dropped at the end of the scope. */
export const database: Effect.Effect<Location, never, Scope.Scope> = Effect.gen(function* () {
  const server = running ?? (yield* cluster).location
  const name = `tasks_test_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(ask(server, `create database ${name}`), () =>
    ask(server, `drop database ${name} with (force)`)
  )
  return { ...server, database: name }
})

/** Both ports on a database of their own. */
export const storage = (options: Partial<Postgres.Options> = {}) =>
  Layer.unwrap(Effect.map(database, (location) => Postgres.layer({ ...location, ...options })))
