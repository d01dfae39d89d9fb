/**
 * Sockets for a server pool on Node.
 *
 * One `net.Server` for each address accepts, and hands each connection to the backend that is current: a `node:http` or
 * `node:https` server that never listens. So a backend is replaced, or its certificates, without a moment in which nobody
 * accepts, and idle connections of the old one are taken over by the new one rather than closed under a client's hand.
 *
 * Requests and responses are those of Effect's `NodeHttpServer`: streams, multipart, `HttpServerRequest.upgrade` and
 * WebSockets work as there. Other than there, a handler is interrupted when its client leaves, a while after its WebSocket was
 * closed, too; and it may take over a connection as it is (`Takeover`), as a proxy does.
 *
 * What Node's parser refuses (`Content-Length` beside `Transfer-Encoding`, folded headers, bare line feeds...) is refused,
 * also where the process runs with `--insecure-http-parser`; and so are `Transfer-Encoding` in HTTP/1.0 and a second `Host`,
 * after which nothing is read as a request.
 *
 * `Expect: 100-continue` is met at once, not only when the handler reads the body; unless the body is refused. An answer
 * that breaks off ends with a reset for a client of HTTP/1.0, who would take a mere end for the end of the body.
 *
 * ```ts
 * import * as Listener from "@millrace/core/server/Listener"
 * import * as NodeListener from "@millrace/node/NodeListener"
 * import * as Effect from "effect/Effect"
 *
 * const port = Effect.gen(function* () {
 *   const listener = yield* Listener.Listener
 *   const acceptor = yield* listener.open({ host: "127.0.0.1", port: 0 })
 *   return acceptor.address.port
 * }).pipe(Effect.scoped, Effect.provide(NodeListener.layer))
 * ```
 *
 * @since 0.1.0
 */
import { Listener } from "@millrace/core/server/Listener"
import * as Layer from "effect/Layer"
import { open } from "./internal/acceptor.ts"

/**
 * Provides the listener. Needs the peer dependency `@effect/platform-node`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Listener> = Layer.succeed(Listener, { open })
