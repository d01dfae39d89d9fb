/**
 * How a handler gets the connection of a request that asks for another protocol, as it is: not the frames of a WebSocket,
 * as `HttpServerRequest.upgrade` gives them, but the bytes. A proxy passes them on.
 *
 * `NodeListener` provides it to its handlers. On other servers nothing is offered.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type * as Scope from "effect/Scope"
import type { RawConnection, RawConnectionError } from "../model/RawConnection.ts"

/**
 * Finds what is offered for a request: `undefined` unless it asks for an upgrade, and its platform can hand over the
 * connection. From then on a client that closes its side is gone, and its handler interrupted.
 *
 * @category models
 * @since 0.1.0
 */
export type Takeover = (request: HttpServerRequest) => Offer | undefined

/**
 * A connection that may be had.
 *
 * @category models
 * @since 0.1.0
 */
export interface Offer {
  /**
   * Answers 101 with these headers and gives the connection; the bytes that the client has sent too early come first. When
   * the scope ends the connection is closed, and what the handler answers after that is not sent.
   *
   * Fails when the client is gone, the connection was taken before, or a header cannot be written.
   */
  readonly accept: (
    headers: ReadonlyArray<readonly [name: string, value: string]>
  ) => Effect.Effect<RawConnection, RawConnectionError, Scope.Scope>
}

/**
 * What the server of a handler offers.
 *
 * @category references
 * @since 0.1.0
 */
export const Takeover: Context.Reference<Takeover> = Context.Reference<Takeover>("@millrace/core/Takeover", {
  defaultValue: () => () => undefined
})
