/**
 * The response to a request of ours, which knows itself what its end means.
 *
 * A listener with a closure could do the same, but at times at the price of half as much processor time again: V8 learns
 * from sockets, which live long, to allocate the lists of an emitter's listeners in its old generation, those of responses
 * with them. Until a full collection each such list keeps what its closures hold: the request, the response and their buffers.
 *
 * @since 0.1.0
 */
import type { LoggedRequest } from "@millrace/core/server/Listener"
import { ServerResponse } from "node:http"
import type { NodeBackend } from "./backend.ts"
import type { Connection } from "./connection.ts"

/** @internal */
export class Answer extends ServerResponse {
  /** That it goes over; `connection` is a name of Node's. */
  line: Connection | undefined = undefined
  /** Who answers, whatever becomes of the connection meanwhile. */
  owner: NodeBackend | undefined = undefined
  logged: LoggedRequest | undefined = undefined
  since = 0

  /** What a client of HTTP/1.0 would take for the end of the body, whose length it need not know. */
  get endsWithConnection(): boolean {
    return this.req.httpVersion === "1.0" && this.headersSent && !this.writableFinished
  }

  /** Whoever answers breaks off by this. */
  override destroy(error?: Error): this {
    if (this.endsWithConnection) this.line?.cut()
    return super.destroy(error)
  }

  /** Tells `connection` when it is over. */
  belongTo(connection: Connection): void {
    this.line = connection
    this.on("close", over)
  }
}

function over(this: Answer): void {
  this.line?.answered(this)
}
