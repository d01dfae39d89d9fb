/** Moves bodies of any size through a proxy, one at a time, in a process of its own; neither side keeps them. */
import { performance } from "node:perf_hooks"
import { Readable } from "node:stream"
import { Client } from "undici"

export interface TransferArguments {
  readonly origin: string
}

export interface Transfer {
  readonly direction: "download" | "upload"
  readonly bytes: number
}

export interface Transferred {
  readonly seconds: number
}

const chunk = Buffer.alloc(64 * 1024, "m")

const chunks = function* (bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= chunk.length) yield chunk.subarray(0, Math.min(left, chunk.length))
}

const download = async (client: Client, bytes: number): Promise<number> => {
  const { body } = await client.request({ method: "GET", path: `/${bytes}` })
  let received = 0
  for await (const data of body) received += (data as Buffer).length
  return received
}

const upload = async (client: Client, bytes: number): Promise<number> => {
  const headers = { "content-length": String(bytes) }
  const { body } = await client.request({ method: "POST", path: "/", headers, body: Readable.from(chunks(bytes)) })
  return Number(await body.text())
}

const run = async (client: Client, { bytes, direction }: Transfer): Promise<Transferred> => {
  const begin = performance.now()
  const arrived = await (direction === "download" ? download : upload)(client, bytes)
  if (arrived !== bytes) throw new Error(`${direction}: ${arrived} bytes instead of ${bytes}`)
  return { seconds: (performance.now() - begin) / 1000 }
}

const { origin } = JSON.parse(process.argv[2] ?? "{}") as TransferArguments
const client = new Client(origin)
process.on("disconnect", () => process.exit())
process.on("message", (transfer: Transfer) => {
  run(client, transfer).then(
    (transferred) => process.send?.(transferred),
    (error: unknown) => process.send?.({ _tag: "Failed", message: String(error) })
  )
})
process.send?.({ _tag: "Ready" })
