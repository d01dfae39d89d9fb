import { assert, describe, it } from "@effect/vitest"
import type { Handler } from "@millrace/core/server/Listener"
import { Takeover } from "@millrace/core/server/Takeover"
import { Effect, type Exit } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { IncomingMessage } from "node:http"
import { eventually, serving } from "../fixtures/listener.ts"
import { Later } from "../fixtures/net.ts"
import { connect, get } from "../fixtures/rawClient.ts"
import { handshake } from "../fixtures/webSocket.ts"

const offered = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  return (yield* Takeover)(request)
})

describe("takeover", () => {
  it.live("nothing is offered for a request that asks for no upgrade", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(
        Effect.map(offered, (offer) => HttpServerResponse.text(offer === undefined ? "nothing." : "something."))
      )
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("nothing.")
    })
  )

  it.live("gives the bytes, the early ones first; what the handler answers then is not sent", () =>
    Effect.gen(function* () {
      const errors: Array<string> = []
      const handler: Handler = Effect.gen(function* () {
        const offer = (yield* offered)!
        yield* Effect.scoped(
          Effect.gen(function* () {
            const connection = yield* offer.accept([["X-A", "1"]])
            const again = yield* Effect.flip(offer.accept([]))
            errors.push(again.message)
            const bytes = yield* connection.read
            yield* connection.write(bytes ?? new Uint8Array())
          })
        )
        return HttpServerResponse.text("never")
      })
      const { backend, port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(`${handshake()}early`)
      yield* client.ended
      assert.strictEqual(client.text, "HTTP/1.1 101 Switching Protocols\r\nX-A: 1\r\n\r\nearly")
      assert.include(errors[0], "it was taken before")
      yield* eventually(() => backend.counts().connections === 0)
    })
  )

  it.live("a header that would be two is not written, and the handler may still answer", () =>
    Effect.gen(function* () {
      const handler: Handler = Effect.gen(function* () {
        const offer = (yield* offered)!
        const error = yield* Effect.flip(Effect.scoped(offer.accept([["X-A", "1\r\nX-B: 2"]])))
        return HttpServerResponse.text(`${error.message}.`)
      })
      const { port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(handshake())
      yield* client.take("a header cannot be written.")
      yield* client.ended
    })
  )

  it.live("a client that has ended its side before is gone already", () =>
    Effect.gen(function* () {
      const left = new Later<Exit.Exit<unknown, unknown>>()
      const handler: Handler = Effect.gen(function* () {
        const { source } = yield* HttpServerRequest.HttpServerRequest
        if (source instanceof IncomingMessage) yield* eventually(() => source.socket.readableEnded)
        yield* offered
        return yield* Effect.never
      }).pipe(Effect.onExit((exit) => Effect.sync(() => left.resolve(exit))))
      const { port } = yield* serving(handler)
      const client = yield* connect(port)
      client.socket.end(handshake())
      assert.strictEqual((yield* left.wait)._tag, "Failure")
      yield* client.ended
    })
  )

  it.live("a client that ends its side before the answer interrupts the handler", () =>
    Effect.gen(function* () {
      const left = new Later<Exit.Exit<unknown, unknown>>()
      const handler: Handler = Effect.andThen(offered, Effect.never).pipe(
        Effect.onExit((exit) => Effect.sync(() => left.resolve(exit)))
      )
      const { backend, port } = yield* serving(handler)
      const client = yield* connect(port)
      client.send(handshake())
      yield* eventually(() => backend.counts().active === 1)
      client.socket.end()
      assert.strictEqual((yield* left.wait)._tag, "Failure")
      yield* eventually(() => backend.counts().connections === 0)
    })
  )
})
