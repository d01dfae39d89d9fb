/**
 * Handlers of upgraded connections end with these.
 *
 * Effect's server interrupts such a handler only when its connection breaks. One that is closed, with a close frame or
 * without, is told so by what it reads; a handler that does not read would stay for ever.
 *
 * @since 0.1.0
 */
import type { Handler } from "@millrace/core/server/Listener"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import { IncomingMessage } from "node:http"

/** What a handler has for the end of its work: to leave a room, to save a state. */
const grace = Duration.seconds(5)

const closed = ({ source }: HttpServerRequest): Effect.Effect<void> =>
  source instanceof IncomingMessage
    ? Effect.callback<void>((resume) => {
        const { socket } = source
        const done = () => resume(Effect.void)
        if (socket.closed) return done()
        socket.once("close", done)
        return Effect.sync(() => socket.off("close", done))
      })
    : Effect.never

/**
 * Interrupts the handler when its connection has been closed for a while.
 *
 * @internal
 */
export const whileOpen = (handler: Handler): Handler =>
  Effect.withFiber((fiber) => {
    const gone = Effect.flatMap(HttpServerRequest, closed).pipe(
      Effect.andThen(Effect.sleep(grace)),
      Effect.andThen(Effect.sync(() => fiber.interruptUnsafe()))
    )
    // Not a race: the handler has to hear of an interruption at once, as it has a close frame to send.
    return Effect.flatMap(Effect.forkDetach(gone, { startImmediately: true }), (watch) =>
      Effect.onExit(handler, () => Effect.sync(() => watch.interruptUnsafe()))
    )
  })
