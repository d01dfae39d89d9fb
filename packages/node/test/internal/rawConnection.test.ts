import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import * as Net from "node:net"
import { rawConnection } from "../../src/internal/rawConnection.ts"
import { Later, listening, loopback } from "../fixtures/net.ts"
import { turn } from "../fixtures/pool.ts"

/** Both ends of a connection; each ends by itself. */
const pair = Effect.gen(function* () {
  const accepted = new Later<Net.Socket>()
  const port = yield* listening(Net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, accepted.resolve))
  const far = yield* Effect.acquireRelease(
    Effect.sync(() => Net.connect({ port, host: loopback, allowHalfOpen: true }).on("error", () => {})),
    (socket) => Effect.sync(() => socket.destroy())
  )
  return { far, near: yield* accepted.wait }
})

const closed = (socket: Net.Socket) =>
  Effect.callback<void>((resume) => {
    if (socket.closed) resume(Effect.void)
    else socket.once("close", () => resume(Effect.void))
  })

describe("rawConnection", () => {
  it.live("reads what came before the end of the other side, then that", () =>
    Effect.gen(function* () {
      const { far, near } = yield* pair
      far.end("all")
      const connection = yield* rawConnection(near)
      assert.strictEqual(String(yield* connection.read), "all")
      assert.isUndefined(yield* connection.read)
      assert.isUndefined(yield* connection.read)
      yield* connection.write(Buffer.from("answer"))
      far.resume()
      yield* connection.end
      yield* closed(far)
    })
  )

  it.live("a read that is interrupted loses nothing", () =>
    Effect.gen(function* () {
      const { far, near } = yield* pair
      const connection = yield* rawConnection(near)
      const first = yield* Effect.forkChild(connection.read, { startImmediately: true })
      yield* Fiber.interrupt(first)
      far.write("here")
      assert.strictEqual(String(yield* connection.read), "here")
    })
  )

  it.live("a write waits for room, and can be interrupted", () =>
    Effect.gen(function* () {
      const { far, near } = yield* pair
      const connection = yield* rawConnection(near)
      const piece = Buffer.alloc(4 * 1024 * 1024)
      const flood = Effect.forever(connection.write(piece))
      const writing = yield* Effect.forkChild(flood, { startImmediately: true })
      for (let i = 0; i < 20; i++) yield* turn
      assert.isBelow(near.writableLength, 3 * piece.length)
      yield* Fiber.interrupt(writing)
      far.resume()
      yield* connection.write(Buffer.from("x"))
    })
  )

  it.live("what breaks says why; afterwards nothing can be read or written", () =>
    Effect.gen(function* () {
      const { far, near } = yield* pair
      const connection = yield* rawConnection(near)
      const reading = yield* Effect.forkChild(Effect.flip(connection.read), { startImmediately: true })
      far.resetAndDestroy()
      assert.include((yield* Fiber.join(reading)).message, "ECONNRESET")
      assert.include((yield* Effect.flip(connection.read)).message, "ECONNRESET")
      assert.include((yield* Effect.flip(connection.write(Buffer.from("x")))).message, "ECONNRESET")
    })
  )

  it.live("the end of the scope ends whoever waits; what was written still leaves", () =>
    Effect.gen(function* () {
      const { far, near } = yield* pair
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(rawConnection(near), scope)
      const reading = yield* Effect.forkChild(Effect.flip(connection.read), { startImmediately: true })
      yield* connection.write(Buffer.from("last"))
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(near.closed)
      assert.strictEqual((yield* Fiber.join(reading)).message, "The connection cannot be used: it is closed")
      assert.strictEqual((yield* Effect.flip(connection.read))._tag, "RawConnectionError")
      let came = ""
      far.on("data", (data: Buffer) => {
        came += String(data)
      })
      far.once("end", () => far.destroy())
      yield* closed(far)
      assert.strictEqual(came, "last")
    })
  )

  it.live("a peer that takes nothing does not hold the end of the scope for long", () =>
    Effect.gen(function* () {
      const { near } = yield* pair
      const scope = yield* Scope.make()
      const connection = yield* Scope.provide(rawConnection(near), scope)
      yield* Effect.forkChild(Effect.ignore(connection.write(Buffer.alloc(16 * 1024 * 1024))), {
        startImmediately: true
      })
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(near.closed)
    })
  )

  it.live("one that has ended before cannot be had", () =>
    Effect.gen(function* () {
      const { near } = yield* pair
      near.destroy()
      assert.include((yield* Effect.flip(rawConnection(near))).message, "the other side has closed it")
    })
  )
})
