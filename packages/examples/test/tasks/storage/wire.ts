/** A wire to a database, which can be cut off without a word. */
import { Effect, type Scope } from "effect"
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import type { Location } from "../postgres.ts"

export class Wire {
  readonly location: Location
  readonly #sockets: Set<Socket>
  readonly #server: Server
  #silent = false

  constructor(server: Server, sockets: Set<Socket>, location: Location) {
    this.#server = server
    this.#sockets = sockets
    this.location = location
  }

  get isSilent(): boolean {
    return this.#silent
  }

  /** Nothing passes any more, in either direction, and nobody is told: as when a machine vanishes. */
  silence(): void {
    this.#silent = true
    for (const socket of this.#sockets) socket.pause()
  }

  restore(): void {
    this.#silent = false
    for (const socket of this.#sockets) socket.resume()
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }
}

export const wire = (target: Location): Effect.Effect<Wire, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      const pass = (from: Socket, to: Socket): void => {
        sockets.add(from)
        if (wire.isSilent) from.pause()
        from.on("data", (data) => to.write(data))
        from.on("error", () => {})
        from.once("close", () => {
          sockets.delete(from)
          to.destroy()
        })
      }
      const server = createServer((client) => {
        const upstream = connect(target.port, target.host)
        pass(client, upstream)
        pass(upstream, client)
      }).listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      if (address === null || typeof address === "string") throw new Error("no port")
      const wire = new Wire(server, sockets, { ...target, host: "127.0.0.1", port: address.port })
      return wire
    }),
    (wire) => Effect.sync(() => wire.close())
  )
