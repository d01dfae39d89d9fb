/**
 * Sockets on loopback: listening on a port that the system chooses, and breaking connections.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { AddressInfo, Server, Socket } from "node:net"

export class ListenError extends Data.TaggedError("ListenError")<{ readonly cause: Error }> {
  override get message(): string {
    return `Cannot listen on 127.0.0.1: ${this.cause.message}`
  }
}

/** Starts to listen; the result is the port. */
export const listen = (server: Server): Effect.Effect<number, ListenError> =>
  Effect.callback((resume) => {
    const refused = (cause: Error) => resume(Effect.fail(new ListenError({ cause })))
    server.once("error", refused)
    server.listen(0, "127.0.0.1", () => {
      server.off("error", refused)
      resume(Effect.succeed((server.address() as AddressInfo).port))
    })
  })

/**
 * Breaks a connection: the other end sees a reset. A socket whose end has been sent is only destroyed; Node 24 cannot
 * reset it (`EINVAL`), loses its handle, and then never ends the process.
 */
export const reset = (socket: Socket): void => {
  if (socket.destroyed) return
  if (socket.writableEnded) socket.destroy()
  else socket.resetAndDestroy()
}
