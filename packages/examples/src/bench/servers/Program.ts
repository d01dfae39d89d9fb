/** Programs that are no modules of ours: started from a configuration in a folder of their own, ended with this process. */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { listen } from "./Listening.ts"
import type { Subject } from "./Subject.ts"

interface Place {
  /** On loopback. */
  readonly port: number
  /** `host:port` */
  readonly upstream: string
  /** Exists, and is empty but for the configuration. */
  readonly folder: string
}

export interface Program {
  readonly command: string
  /** It stays in the foreground, as one process. */
  readonly args: (file: string, place: Place) => ReadonlyArray<string>
  readonly config: (place: Place) => string
}

/** Such programs cannot say which port the system has chosen for them. */
const freePort = async (): Promise<number> => {
  const server = Net.createServer()
  const { port } = await listen(server)
  await new Promise((resolve) => server.close(resolve))
  return port
}

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = Net.connect(port, "127.0.0.1")
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false))
    socket.once("connect", () => socket.destroy())
  })

/** Linux counts in hundredths of a second, whatever the machine. */
const cpuOf = (pid: number) => (): number => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[11]) + Number(fields[12])) * 10_000
  } catch {
    return Number.NaN
  }
}

/** Where servers are installed, also for those whose shell does not look there. */
const path = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/opt/homebrew/bin`

export const program =
  ({ args, command, config }: Program): Subject =>
  async (upstream) => {
    const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "millrace-bench-"))
    process.once("exit", () => Fs.rmSync(folder, { recursive: true, force: true }))
    const place: Place = { port: await freePort(), upstream: new URL(upstream).host, folder }
    const file = Path.join(folder, `${command}.conf`)
    Fs.writeFileSync(file, config(place))
    const child = spawn(command, args(file, place), {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: path }
    })
    process.once("exit", () => child.kill("SIGKILL"))
    let said = ""
    child.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1000)))
    const failed = new Promise<NodeJS.ErrnoException>((resolve) => {
      child.once("error", resolve)
      child.once("exit", () => resolve(new Error(`${command} ended: ${said.trim()}`)))
    })
    for (let attempt = 0; attempt < 200; attempt++) {
      const error = await Promise.race([failed, delay(20)])
      if (error?.code === "ENOENT") return undefined
      if (error !== undefined) throw error
      if (await accepts(place.port)) return { port: place.port, cpu: cpuOf(child.pid ?? 0) }
    }
    throw new Error(`${command} does not accept connections: ${said.trim()}`)
  }
