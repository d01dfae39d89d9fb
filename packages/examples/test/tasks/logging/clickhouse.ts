/**
 * A ClickHouse of the test's own, on loopback, that can be killed and started again: the installed `clickhouse-server`, or else
 * the engine of `chdb` behind its interface (see `engine.ts`).
 */
import { createClient } from "@clickhouse/client"
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** The servers that some distributions bring are too old: they know no `Map`. */
const oldest = 24

const isInstalled = ((): boolean => {
  const { stdout } = spawnSync("clickhouse-server", ["--version"], { encoding: "utf8" })
  return Number(/version (\d+)\./.exec(stdout ?? "")?.[1] ?? 0) >= oldest
})()

/** A port where nobody listens now. */
export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  if (address === null || typeof address === "string") throw new Error("no port")
  return address.port
}

const command = (port: number, directory: string): readonly [program: string, args: ReadonlyArray<string>] =>
  isInstalled
    ? [
        "clickhouse-server",
        [
          "--",
          `--path=${directory}/`,
          "--listen_host=127.0.0.1",
          `--http_port=${port}`,
          "--tcp_port=0",
          "--mysql_port=0"
        ]
      ]
    : [process.execPath, [fileURLToPath(new URL("engine.ts", import.meta.url)), String(port), directory]]

export class ClickHouse {
  readonly port: number
  readonly address: string
  readonly #directory = mkdtempSync(join(tmpdir(), "millrace-clickhouse-"))
  #process: ChildProcess | undefined = undefined

  constructor(port: number) {
    this.port = port
    this.address = `http://127.0.0.1:${port}`
  }

  async start(): Promise<void> {
    const [program, args] = command(this.port, this.#directory)
    const child = spawn(program, args, { cwd: this.#directory, stdio: ["ignore", "pipe", "pipe"] })
    this.#process = child
    // A run that is broken off leaves nothing behind.
    const end = (): void => void child.kill("SIGKILL")
    process.once("exit", end)
    child.once("exit", () => process.off("exit", end))
    let log = ""
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        log = (log + chunk.toString()).slice(-4_000)
        if (log.includes("Ready for connections")) resolve()
      }
      child.stdout.on("data", read)
      child.stderr.on("data", read)
      child.once("exit", () => reject(new Error(`ClickHouse ended: ${log}`)))
    })
  }

  /** As `kill -9`. */
  async kill(): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exit = once(child, "exit")
    child.kill("SIGKILL")
    await exit
  }

  /** Stops it where it is, or lets it go on: it holds its connections and answers nothing. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#process?.kill(signal)
  }

  /** Asks it something, past the service. */
  async ask<A = unknown>(query: string): Promise<ReadonlyArray<A>> {
    const client = createClient({ url: this.address })
    try {
      const result = await client.query({ query, format: "JSONEachRow" })
      return await result.json<A>()
    } finally {
      await client.close()
    }
  }

  async run(query: string): Promise<void> {
    const client = createClient({ url: this.address })
    try {
      await client.command({ query })
    } finally {
      await client.close()
    }
  }

  async close(): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

/** One that runs until the scope closes. */
export const start: Effect.Effect<ClickHouse, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => {
    const self = new ClickHouse(await freePort())
    await self.start()
    return self
  }),
  (self) => Effect.promise(() => self.close())
)
