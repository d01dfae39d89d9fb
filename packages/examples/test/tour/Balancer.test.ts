import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import * as Balancer from "../../src/tour/Balancer.ts"
import { listen } from "../../src/tour/Loopback.ts"

/** A backend that answers every chunk with its name, and can die. */
const backend = (name: string) =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket
        .on("error", () => undefined)
        .on("data", (chunk) => {
          if (chunk.toString() !== "silence") socket.write(name)
        })
    })
    const kill = Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const socket of sockets) socket.resetAndDestroy()
    })
    yield* listen(server)
    yield* Effect.addFinalizer(() => kill)
    return { name, kill, port: (server.address() as AddressInfo).port, sockets }
  })

/** A connection, or the code of the error that it met. */
const dial = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<Socket, string>((resume) => {
      const socket = connect({ host: "127.0.0.1", port })
      socket
        .once("connect", () => resume(Effect.succeed(socket)))
        .on("error", (error: NodeJS.ErrnoException) => resume(Effect.fail(error.code ?? error.message)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** What comes next: text, `ended` or an error code. */
const said = (socket: Socket) =>
  Effect.callback<string>((resume) => {
    const settle = (text: string) => {
      socket.off("data", onData).off("error", onError).off("end", onEnd)
      resume(Effect.succeed(text))
    }
    const onData = (chunk: Buffer) => settle(chunk.toString())
    const onError = (error: NodeJS.ErrnoException) => settle(error.code ?? error.message)
    const onEnd = () => settle("ended")
    socket.on("data", onData).on("error", onError).on("end", onEnd)
  })

const ask = (socket: Socket, text = "?") =>
  Effect.suspend(() => {
    socket.write(text)
    return said(socket)
  })

const setUp = (...names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const balancer = yield* Balancer.make
    const backends = yield* Effect.forEach(names, backend)
    for (const { name, port } of backends) balancer.add(name, port)
    return { balancer, backends }
  })

/** The reset may come before the client knows that it is connected. */
const askAnew = (port: number) =>
  dial(port).pipe(
    Effect.flatMap((socket) => ask(socket)),
    Effect.catch((code) => Effect.succeed(code)),
    Effect.scoped
  )

describe("Balancer", () => {
  it.live("gives connections to backends in turn", () =>
    Effect.gen(function* () {
      const { balancer } = yield* setUp("a", "b", "c")
      const answers = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => askAnew(balancer.port))
      assert.deepStrictEqual(answers, ["a", "b", "c", "a", "b", "c"])
      assert.deepStrictEqual(balancer.opened(), { a: 2, b: 2, c: 2 })
    })
  )

  it.live("keeps a connection where it is", () =>
    Effect.gen(function* () {
      const { balancer } = yield* setUp("a", "b")
      const socket = yield* dial(balancer.port)
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], () => ask(socket)), ["a", "a", "a"])
      assert.deepStrictEqual(balancer.opened(), { a: 1, b: 0 })
      assert.deepStrictEqual(balancer.open(), { a: 1, b: 0 })
    })
  )

  it.live("gives a removed backend nothing new and leaves it what it has", () =>
    Effect.gen(function* () {
      const { balancer } = yield* setUp("a", "b")
      const old = yield* dial(balancer.port)
      assert.strictEqual(yield* ask(old), "a")
      balancer.remove("a")
      assert.deepStrictEqual(yield* Effect.forEach([1, 2, 3], () => askAnew(balancer.port)), ["b", "b", "b"])
      assert.strictEqual(yield* ask(old), "a")
    })
  )

  it.live("gives an added backend its turn", () =>
    Effect.gen(function* () {
      const { balancer } = yield* setUp("a")
      const late = yield* backend("b")
      balancer.add(late.name, late.port)
      assert.deepStrictEqual(yield* Effect.forEach([1, 2], () => askAnew(balancer.port)), ["a", "b"])
    })
  )

  it.live("answers the next byte of an idle connection by a reset when its backend is lost", () =>
    Effect.gen(function* () {
      const { backends, balancer } = yield* setUp("a")
      const socket = yield* dial(balancer.port)
      yield* ask(socket)
      yield* backends[0]!.kill
      assert.strictEqual(yield* ask(socket), "ECONNRESET")
    })
  )

  it.live("resets a connection whose answer is owed when its backend is lost", () =>
    Effect.gen(function* () {
      const { backends, balancer } = yield* setUp("a")
      const socket = yield* dial(balancer.port)
      yield* ask(socket)
      const [lost] = backends[0]!.sockets
      const arrived = Effect.callback<void>((resume) => void lost!.once("data", () => resume(Effect.void)))
      socket.write("silence")
      yield* arrived
      const [end] = yield* Effect.all([said(socket), backends[0]!.kill], { concurrency: 2 })
      assert.strictEqual(end, "ECONNRESET")
    })
  )

  it.live("resets new connections to a backend that is dead, and those for which there is none", () =>
    Effect.gen(function* () {
      const { backends, balancer } = yield* setUp("a")
      yield* backends[0]!.kill
      assert.strictEqual(yield* askAnew(balancer.port), "ECONNRESET")
      balancer.remove("a")
      assert.strictEqual(yield* askAnew(balancer.port), "ECONNRESET")
      assert.deepStrictEqual(balancer.opened(), { a: 1 })
    })
  )

  it.live("passes on the end of a connection", () =>
    Effect.gen(function* () {
      const { backends, balancer } = yield* setUp("a")
      const socket = yield* dial(balancer.port)
      yield* ask(socket)
      for (const open of backends[0]!.sockets) open.end()
      assert.strictEqual(yield* said(socket), "ended")
    })
  )

  it.live("closes everything with its scope", () =>
    Effect.gen(function* () {
      const a = yield* backend("a")
      const socket = yield* Effect.scoped(
        Effect.gen(function* () {
          const balancer = yield* Balancer.make
          balancer.add(a.name, a.port)
          const socket = yield* dial(balancer.port).pipe(Effect.tap((socket) => ask(socket)))
          return socket
        })
      )
      assert.isTrue(socket.destroyed)
    })
  )
})
