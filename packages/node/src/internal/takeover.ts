/**
 * The connections that handlers may take over: those of requests that ask for another protocol, until they are answered.
 *
 * @since 0.1.0
 */
import { RawConnectionError } from "@millrace/core/model/RawConnection"
import type { Takeover } from "@millrace/core/server/Takeover"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { Duplex } from "node:stream"
import { rawConnection } from "./rawConnection.ts"

interface Upgrading {
  readonly socket: Duplex
  /** What the client has sent too early. */
  readonly head: Buffer
  /** From here on whoever has it closes it. */
  readonly taken: () => void
}

/** By Node's request. */
const offered = new WeakMap<object, Upgrading>()

/** @internal */
export const offer = (request: Http.IncomingMessage, upgrading: Upgrading): void => {
  offered.set(request, upgrading)
}

const isGone = (reason: string) => Effect.fail(new RawConnectionError({ reason }))

/** Node parses no headers here, so what they hold must be looked at. */
const headOf = (headers: ReadonlyArray<readonly [name: string, value: string]>): string => {
  let head = "HTTP/1.1 101 Switching Protocols\r\n"
  for (const [name, value] of headers) {
    Http.validateHeaderName(name)
    Http.validateHeaderValue(name, value)
    head += `${name}: ${value}\r\n`
  }
  return `${head}\r\n`
}

/** @internal */
export const takeover: Takeover = ({ source }) => {
  const found = offered.get(source)
  if (found === undefined) return undefined
  const { head, socket, taken } = found
  const left = () => socket.destroy()
  if (socket.readableEnded) left()
  else socket.once("end", left)
  return {
    accept: (headers) =>
      Effect.suspend(() => {
        if (!offered.delete(source)) return isGone("it was taken before")
        let text: string
        try {
          text = headOf(headers)
        } catch (cause) {
          return Effect.fail(new RawConnectionError({ reason: "a header cannot be written", cause }))
        }
        socket.off("end", left)
        taken()
        return Effect.tap(rawConnection(socket), () =>
          Effect.sync(() => {
            if (head.length > 0) socket.unshift(head)
            socket.write(text, "latin1")
          })
        )
      })
  }
}
