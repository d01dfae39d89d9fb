/**
 * One accepted connection.
 *
 * Its engine, which parses what comes, is for life; its owner, the backend that answers, may change while no request is
 * under way. A connection is idle while no byte has come since the last request was answered: a head that has begun to
 * arrive since is a request under way, though nobody has seen it yet. Half a head that had come before, of a client that
 * does not wait for answers, cannot be told from what was before it, and is none: such a client has to expect that its
 * connection ends after any answer (RFC 9112, 9.3.2).
 *
 * @since 0.1.0
 */
import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { Answer } from "./answer.ts"
import type { NodeBackend, RefusedWith } from "./backend.ts"
import type { Engine } from "./engine.ts"
import { isFaulty } from "./faulty.ts"
import { offer } from "./takeover.ts"

/** How long a client has to read what was sent last and to close its side, before the connection is destroyed. */
const lingering = 500

const linger = (socket: Socket): void => {
  const timer = setTimeout(() => socket.destroy(), lingering)
  socket.once("close", () => clearTimeout(timer))
}

/**
 * Closes `socket` without a reset: what still comes is read and dropped.
 *
 * @internal
 */
export const closeGently = (socket: Socket): void => {
  linger(socket)
  socket.once("end", () => socket.destroy())
  socket.resume()
  socket.end()
}

/** @internal */
export class Connection {
  readonly raw: Socket
  readonly engine: Engine
  owner: NodeBackend
  /** Of requests under way, in their order. */
  readonly responses: Array<Answer> = []
  #upgraded = false
  /** What speaks HTTP: the one above `raw` when there is TLS and the handshake is done. */
  #socket: Socket
  #readWhenIdle = 0
  /** Its last request was refused as ambiguous: what comes after it is not taken for another. */
  #faulty = false
  /** The next answer is the last one: its engine speaks for a backend that is gone. */
  #last = false

  constructor(raw: Socket, engine: Engine, owner: NodeBackend) {
    this.raw = raw
    this.engine = engine
    this.owner = owner
    this.#socket = raw
  }

  /** Requests that are not answered completely. */
  get active(): number {
    return this.responses.length + (this.#upgraded ? 1 : 0)
  }

  get idle(): boolean {
    return this.active === 0 && this.#socket.bytesRead === this.#readWhenIdle
  }

  /** Said goodbye already. */
  get closing(): boolean {
    return this.#socket.writableEnded || this.#socket.destroyed
  }

  close(): void {
    this.#socket.destroySoon()
  }

  /** Ends it now; an answer that is not complete never looks complete. */
  cut(): void {
    if (this.responses.some((response) => response.endsWithConnection)) this.raw.resetAndDestroy()
    else this.raw.destroy()
  }

  /** Only while nothing is under way. */
  moveTo(owner: NodeBackend): void {
    this.owner = owner
    this.#last = true
  }

  secured(socket: Socket): void {
    this.#socket = socket
    this.owner.settled(this)
  }

  /** `held`: its client sends the body when it is told to. */
  request(request: IncomingMessage, response: Answer, held = false): void {
    if (this.#faulty) return
    if (isFaulty(request)) {
      this.#faulty = true
      response.shouldKeepAlive = false
      return this.refuse(response, 400)
    }
    const { maxBodyBytes } = this.owner
    if (maxBodyBytes < Infinity && Number(request.headers["content-length"] ?? 0) > maxBodyBytes) {
      return this.refuse(response, 413)
    }
    this.#begin(response)
    if (held) response.writeContinue()
    this.owner.answer(request, response)
  }

  /** Answers what no handler gets. */
  refuse(response: Answer, status: RefusedWith): void {
    this.#begin(response)
    this.owner.refuse(response, status)
  }

  #begin(response: Answer): void {
    const { owner } = this
    this.responses.push(response)
    response.owner = owner
    response.logged = owner.begin(response)
    if (response.logged !== undefined) response.since = performance.now()
    if (this.#last) response.shouldKeepAlive = false
    response.belongTo(this)
  }

  /** An answer is over, complete or not. */
  answered(response: Answer): void {
    const { logged, owner, req, since } = response
    // They mostly end in their order; a shift makes no list of what it takes out.
    if (this.responses[0] === response) this.responses.shift()
    else this.responses.splice(this.responses.indexOf(response), 1)
    owner?.end(response)
    logged?.ended(response.headersSent ? response.statusCode : undefined, performance.now() - since)
    // What is left of a body that nobody read still comes.
    if (req.complete) this.#settle()
    else req.once("close", () => this.#settle())
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { owner, raw } = this
    if (this.#faulty) return this.cut()
    this.#upgraded = true
    const logged = owner.beginUpgrade(request)
    raw.once("close", () => {
      this.#upgraded = false
      owner.endUpgrade()
      logged?.left()
    })
    // Node's timeouts know this connection no more.
    const goodbye = () => linger(raw)
    socket.once("finish", goodbye)
    offer(request, { socket, head, taken: () => socket.off("finish", goodbye) })
    owner.answerUpgrade(request, socket, head)
  }

  #settle(): void {
    if (this.active > 0) return
    this.#readWhenIdle = this.#socket.bytesRead
    this.owner.settled(this)
  }
}
