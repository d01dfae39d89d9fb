/**
 * A socket of Node's as a `RawConnection`.
 *
 * The socket is never made to flow: it is read when somebody asks, so that once its buffer is full the peer has to wait.
 *
 * @since 0.1.0
 */
import { type RawConnection, RawConnectionError } from "@millrace/core/model/RawConnection"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Duplex } from "node:stream"

/** How long what was written may take to leave, when all is said. */
const lingering = 1000

const noop = (): void => {}

/**
 * The socket, from what it has not read yet on. When the scope ends well what was written still leaves; otherwise, and when
 * that takes too long, the socket is destroyed. The end of the scope waits for its end.
 *
 * @internal
 */
export const rawConnection = (socket: Duplex): Effect.Effect<RawConnection, RawConnectionError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() =>
      socket.destroyed || socket.readableEnded
        ? Effect.fail(new RawConnectionError({ reason: "the other side has closed it" }))
        : Effect.succeed(new NodeRawConnection(socket))
    ),
    (connection, exit) => connection.close(Exit.isSuccess(exit))
  )

class NodeRawConnection implements RawConnection {
  readonly #socket: Duplex
  #failure: Error | undefined = undefined
  /** Its scope has ended. */
  #over = false
  #wakeReader = noop
  #wakeWriter = noop

  constructor(socket: Duplex) {
    this.#socket = socket
    socket.pause()
    socket.on("error", this.#failed)
    socket.on("readable", this.#readable)
    socket.on("end", this.#readable)
    socket.on("drain", this.#writable)
    socket.on("close", this.#closed)
  }

  readonly read: RawConnection["read"] = Effect.suspend(() => this.#next() ?? this.#wait("read"))

  readonly write: RawConnection["write"] = (bytes) =>
    Effect.suspend(() => {
      if (this.#over || !this.#socket.writable) return Effect.fail(this.#error())
      return this.#socket.write(bytes) ? Effect.void : Effect.asVoid(this.#wait("write"))
    })

  readonly end: Effect.Effect<void> = Effect.sync(() => {
    this.#socket.end()
  })

  close(gently: boolean): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const socket = this.#socket
      // Whoever still waits must not wait for ever.
      this.#over = true
      this.#closed()
      socket.off("readable", this.#readable).off("end", this.#readable)
      socket.off("drain", this.#writable).off("close", this.#closed)
      if (socket.closed) return resume(Effect.void)
      const timer = setTimeout(() => socket.destroy(), lingering)
      socket.once("close", () => {
        clearTimeout(timer)
        resume(Effect.void)
      })
      if (gently) socket.end(() => socket.destroy())
      else socket.destroy()
    })
  }

  readonly #failed = (error: Error): void => {
    this.#failure ??= error
  }
  readonly #readable = (): void => this.#wakeReader()
  readonly #writable = (): void => this.#wakeWriter()
  readonly #closed = (): void => {
    this.#wakeReader()
    this.#wakeWriter()
  }

  /** `undefined`: nobody knows yet. */
  #next(): Effect.Effect<Uint8Array | undefined, RawConnectionError> | undefined {
    if (this.#over) return Effect.fail(this.#error())
    const socket = this.#socket
    const bytes: Uint8Array | null = socket.read()
    if (bytes !== null) return Effect.succeed(bytes)
    if (socket.readableEnded) return Effect.succeed(undefined)
    return socket.destroyed ? Effect.fail(this.#error()) : undefined
  }

  #wait(what: "read" | "write"): Effect.Effect<Uint8Array | undefined, RawConnectionError> {
    return Effect.callback((resume) => {
      if (what === "read") {
        const done = () => {
          this.#wakeReader = noop
        }
        this.#wakeReader = () => {
          const next = this.#next()
          if (next === undefined) return
          done()
          resume(next)
        }
        return Effect.sync(done)
      }
      const done = () => {
        this.#wakeWriter = noop
      }
      this.#wakeWriter = () => {
        done()
        resume(this.#over || this.#socket.destroyed ? Effect.fail(this.#error()) : Effect.succeed(undefined))
      }
      return Effect.sync(done)
    })
  }

  #error(): RawConnectionError {
    return new RawConnectionError({ reason: this.#failure?.message ?? "it is closed", cause: this.#failure })
  }
}
