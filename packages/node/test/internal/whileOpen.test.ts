import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import { TestClock } from "effect/testing"
import { IncomingMessage } from "node:http"
import { Socket } from "node:net"
import { whileOpen } from "../../src/internal/whileOpen.ts"

/** A handler that goes on for ever, on a connection of which `source` tells. */
const handling = (source: object) => {
  const request: HttpServerRequest.HttpServerRequest = Object.create(
    HttpServerRequest.fromWeb(new Request("http://a.test/")),
    { source: { value: source } }
  )
  return Effect.forkScoped(
    Effect.provideService(whileOpen(Effect.never), HttpServerRequest.HttpServerRequest, request),
    { startImmediately: true }
  )
}

const closing = (socket: Socket) =>
  Effect.callback<void>((resume) => {
    socket.once("close", () => resume(Effect.void)).destroy()
  })

describe("a handler of an upgraded connection", () => {
  it.effect("is interrupted a while after that was closed", () =>
    Effect.gen(function* () {
      const socket = new Socket()
      const handler = yield* handling(new IncomingMessage(socket))
      yield* TestClock.adjust("1 hour")
      yield* closing(socket)
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(handler.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(handler)))
    })
  )

  it.effect("is so, too, where that was closed before it began", () =>
    Effect.gen(function* () {
      const socket = new Socket()
      yield* closing(socket)
      const handler = yield* handling(new IncomingMessage(socket))
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(handler)))
    })
  )

  it.effect("goes on where nobody can tell of its connection", () =>
    Effect.gen(function* () {
      const handler = yield* handling(new Request("http://a.test/"))
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(handler.pollUnsafe())
    })
  )
})
