import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, type Scope } from "effect"
import type { Target } from "@millrace/core/client/Connector"
import dns, { type LookupAddress } from "node:dns"
import * as Fs from "node:fs"
import * as Module from "node:module"
import net, * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tls from "node:tls"
import { afterEach, vi } from "vitest"
import { dial, type Dialed, DialError } from "../../src/internal/dial.ts"
import { selfSigned } from "../fixtures/certificate.ts"
import { closedPort, Later, listening, loopback, tcpServer } from "../fixtures/net.ts"
import { ManualTimers, targetOf } from "../fixtures/target.ts"

const dialing = (target: Target): Effect.Effect<Dialed | DialError, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Dialed | DialError>((resume) => {
      const cancel = dial(target, (result) => resume(Effect.succeed(result)))
      return Effect.sync(cancel)
    }),
    (result) => Effect.sync(() => (result instanceof DialError ? undefined : result.socket.destroy()))
  )

const connected = Effect.fnUntraced(function* (target: Target) {
  const result = yield* dialing(target)
  if (result instanceof DialError) return yield* Effect.die(result)
  return result
})

const refused = Effect.fnUntraced(function* (target: Target) {
  const result = yield* dialing(target)
  if (!(result instanceof DialError)) return yield* Effect.die(new Error("connected"))
  return result
})

const causeOf = (error: DialError): Error => {
  if (error.failure._tag === "Connect" && error.failure.cause instanceof Error) return error.failure.cause
  throw new Error("no cause", { cause: error })
}

/** Only Linux has all of 127.0.0.0/8 without being asked. */
const manyLoopbacks = process.platform === "linux" ? it.live : it.live.skip

const certificate = selfSigned("localhost", "a.test", loopback)
const other = selfSigned("b.test")

const closed = (socket: Net.Socket): Promise<void> =>
  socket.destroyed ? Promise.resolve() : new Promise((resolve) => socket.once("close", () => resolve()))

/** Replaces a function of a built-in module, also for those who import it. */
const replaceConnect = (make: (connect: typeof Net.connect) => (options: Net.TcpNetConnectOpts) => Net.Socket) => {
  const spy = vi.spyOn(net, "connect")
  spy.mockImplementation(make(Net.connect) as typeof Net.connect)
  Module.syncBuiltinESMExports()
  return spy
}

const lookupGives = (...addresses: ReadonlyArray<string>) => {
  const lookup = vi.spyOn(dns, "lookup")
  // The overload that `dial` uses: (host, { all: true }, callback).
  lookup.mockImplementation(((
    _host: string,
    _options: unknown,
    callback: (error: Error | null, found: Array<LookupAddress>) => void
  ) =>
    process.nextTick(
      callback,
      null,
      addresses.map((address) => ({ address, family: Net.isIP(address) }))
    )) as typeof dns.lookup)
  Module.syncBuiltinESMExports()
  return lookup
}

afterEach(() => {
  vi.restoreAllMocks()
  Module.syncBuiltinESMExports()
})

describe("dial", () => {
  describe("TCP", () => {
    it.live("connects, asynchronously and once", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer((socket) => socket.end("hello"))
        let synchronous = true
        const calls: Array<boolean> = []
        const socket = new Later<Net.Socket>()
        dial(targetOf(`http://${loopback}:${port}`), (result) => {
          calls.push(synchronous)
          if (!(result instanceof DialError)) socket.resolve(result.socket)
        })
        synchronous = false
        const open = yield* socket.wait
        open.resume()
        yield* Effect.promise(() => closed(open))
        assert.deepStrictEqual(calls, [false])
      })
    )

    it.live("tells address and time; the socket keeps no listener but the one for late errors", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {})
        const { address, millis, socket } = yield* connected(targetOf(`http://${loopback}:${port}`))
        assert.strictEqual(address, `${loopback}:${port}`)
        assert.isAtLeast(millis, 0)
        for (const event of ["connect", "connectionAttempt", "lookup", "data"]) {
          assert.strictEqual(socket.listenerCount(event), 0, event)
        }
        assert.strictEqual(socket.listenerCount("error"), 1)
        socket.destroy(new Error("late"))
        yield* Effect.promise(() => closed(socket))
      })
    )

    it.live("refused: phase, address, code", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        const error = yield* refused(targetOf(`http://${loopback}:${port}`))
        assert.include<object>(error.failure, { _tag: "Connect", phase: "tcp", address: `${loopback}:${port}` })
        assert.include<object>(causeOf(error), { code: "ECONNREFUSED" })
        assert.match(error.message, /^connection to 127\.0\.0\.1:\d+ failed \(tcp after \d+ ms\): connect ECONNREFUSED/)
      })
    )

    it.live("an IPv6 address stands in brackets", () =>
      Effect.gen(function* () {
        // Refused where there is IPv6, unreachable where there is none.
        const error = yield* refused(targetOf("http://[::1]:1"))
        assert.strictEqual(error.failure.address, "[::1]:1")
      })
    )

    manyLoopbacks("a name with several addresses: one readable cause for all of them", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        lookupGives("127.0.0.1", "127.0.0.2")
        const error = yield* refused(targetOf(`http://many.test:${port}`))
        const cause = causeOf(error)
        assert.strictEqual(error.failure._tag === "Connect" && error.failure.phase, "tcp")
        assert.include<object>(cause, { code: "ECONNREFUSED" })
        assert.include(cause.message, `127.0.0.1:${port}`)
        assert.include(cause.message, `127.0.0.2:${port}`)
      })
    )

    it.live("an unknown name: phase dns, the address is the name", () =>
      Effect.gen(function* () {
        vi.spyOn(dns, "lookup").mockImplementation(((
          host: string,
          _options: unknown,
          callback: (error: Error) => void
        ) =>
          process.nextTick(
            callback,
            Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND", syscall: "getaddrinfo" })
          )) as typeof dns.lookup)
        Module.syncBuiltinESMExports()
        for (const addresses of ["first", "spread"] as const) {
          const error = yield* refused(targetOf("http://none.test:81", { addresses }))
          assert.include<object>(error.failure, { _tag: "Connect", phase: "dns", address: "none.test:81" })
          assert.include<object>(causeOf(error), { code: "ENOTFOUND" })
        }
      })
    )

    it.live("dialTimeout runs on the target's clock and names the address", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {})
        const timers = new ManualTimers()
        const result = new Later<Dialed | DialError>()
        dial(targetOf(`http://${loopback}:${port}`, { dialTimeout: 5000 }, { timers }), result.resolve)
        timers.advance(4999)
        assert.strictEqual(timers.size, 1)
        timers.advance(1)
        const error = yield* result.wait
        assert.instanceOf(error, DialError)
        if (!(error instanceof DialError)) return
        assert.deepStrictEqual(error.failure, {
          _tag: "ConnectTimeout",
          phase: "dial",
          address: `${loopback}:${port}`,
          millis: 5000
        })
        assert.strictEqual(error.message, `no connection to ${loopback}:${port} within 5000 ms`)
        assert.strictEqual(timers.size, 0)
      })
    )

    it.live("Infinity is no limit", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {})
        const timers = new ManualTimers()
        const options = { dialTimeout: Infinity, tlsTimeout: Infinity }
        const result = yield* connected(targetOf(`http://${loopback}:${port}`, options, { timers }))
        assert.strictEqual(timers.size, 0)
        assert.isFalse(result.socket.destroyed)
      })
    )

    it.live("cancelled: silent, and neither timer nor socket stays", () =>
      Effect.gen(function* () {
        const accepted = new Later<Net.Socket>()
        const port = yield* tcpServer(accepted.resolve)
        const timers = new ManualTimers()
        const created: Array<Net.Socket> = []
        replaceConnect((connect) => (options) => {
          const socket = connect(options)
          created.push(socket)
          return socket
        })
        const results: Array<unknown> = []
        const cancel = dial(targetOf(`http://${loopback}:${port}`, {}, { timers }), (result) => results.push(result))
        cancel()
        cancel()
        assert.strictEqual(timers.size, 0)
        const [socket] = created
        if (socket === undefined) return assert.fail("no socket")
        yield* Effect.promise(() => closed(socket))
        // The next one connects: nothing of the first is left in its way.
        yield* connected(targetOf(`http://${loopback}:${port}`))
        yield* accepted.wait
        assert.deepStrictEqual(results, [])
      })
    )

    it.live("a port that no socket can have fails like everything else", () =>
      Effect.gen(function* () {
        replaceConnect(() => () => {
          throw new RangeError("bad port")
        })
        const error = yield* refused(targetOf("http://a.test"))
        assert.strictEqual(causeOf(error).message, "bad port")
      })
    )

    it.live("Unix sockets", () =>
      Effect.gen(function* () {
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "millrace-"))),
          (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true }))
        )
        const socketPath = Path.join(folder, "s")
        const server = Net.createServer((socket) => socket.on("error", () => {}).end("unix"))
        yield* Effect.acquireRelease(
          Effect.callback<void>((resume) => void server.listen(socketPath, () => resume(Effect.void))),
          () => Effect.sync(() => server.close())
        )
        const { address, socket } = yield* connected(targetOf("http://any.test", { socketPath }))
        assert.strictEqual(address, socketPath)
        assert.isFalse(socket.destroyed)
        const error = yield* refused(targetOf("http://any.test", { socketPath: `${socketPath}x` }))
        assert.include<object>(error.failure, { phase: "tcp", address: `${socketPath}x` })
        assert.include<object>(causeOf(error), { code: "ENOENT" })
      })
    )
  })

  describe("spread", () => {
    manyLoopbacks("slot i begins with address i of a stable order, and follows changes", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {}, "0.0.0.0")
        const reached = (slot: number) =>
          Effect.map(
            connected(targetOf(`http://many.test:${port}`, { addresses: "spread" }, { slot })),
            (_) => _.address
          )
        lookupGives("127.0.0.10", "127.0.0.2", "127.0.0.3", "127.0.0.3")
        assert.strictEqual(yield* reached(0), `127.0.0.2:${port}`)
        assert.strictEqual(yield* reached(1), `127.0.0.3:${port}`)
        lookupGives("127.0.0.3", "127.0.0.10", "127.0.0.2")
        assert.strictEqual(yield* reached(2), `127.0.0.10:${port}`)
        assert.strictEqual(yield* reached(3), `127.0.0.2:${port}`)
        lookupGives("127.0.0.4")
        assert.strictEqual(yield* reached(3), `127.0.0.4:${port}`)
      })
    )

    manyLoopbacks("falls back to the other addresses, and reports all when none answers", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {}, "127.0.0.3")
        lookupGives("127.0.0.2", "127.0.0.3")
        const target = targetOf(`http://many.test:${port}`, { addresses: "spread" })
        assert.strictEqual((yield* connected(target)).address, `127.0.0.3:${port}`)
        lookupGives("127.0.0.2", "127.0.0.4")
        const error = yield* refused(target)
        assert.include<object>(error.failure, { phase: "tcp", address: `127.0.0.4:${port}` })
        assert.include(causeOf(error).message, `127.0.0.2:${port}`)
        assert.include(causeOf(error).message, `127.0.0.4:${port}`)
      })
    )

    manyLoopbacks("an address that swallows packets leaves time for the next", () =>
      Effect.gen(function* () {
        const port = yield* tcpServer(() => {}, "127.0.0.3")
        lookupGives("127.0.0.2", "127.0.0.3")
        const timers = new ManualTimers()
        replaceConnect((connect) => (options) => {
          if (options.host !== "127.0.0.2") return connect(options)
          // Nothing ever comes back from here; half of the limit later the next address has its turn.
          queueMicrotask(() => timers.advance(2500))
          return new Net.Socket()
        })
        const { address } = yield* connected(
          targetOf(`http://many.test:${port}`, { addresses: "spread", dialTimeout: 5000 }, { timers })
        )
        assert.strictEqual(address, `127.0.0.3:${port}`)
        assert.strictEqual(timers.size, 0)
      })
    )

    it.live("cancelled while the name is resolved: the answer is ignored", () =>
      Effect.gen(function* () {
        const lookup = lookupGives("127.0.0.1")
        const connect = replaceConnect((connect) => connect)
        dial(targetOf("http://many.test:9", { addresses: "spread" }), () => assert.fail("called"))()
        assert.strictEqual(lookup.mock.calls.length, 1)
        yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        assert.strictEqual(connect.mock.calls.length, 0)
      })
    )
  })

  describe("TLS", () => {
    const tlsServer = (options: Tls.TlsOptions, f: (socket: Tls.TLSSocket) => void = () => {}) =>
      listening(
        Tls.createServer({ ...certificate, ...options }, (socket) => {
          socket.on("error", () => {})
          f(socket)
        })
      )

    it.live("asks for http/1.1 only, with the host name as SNI", () =>
      Effect.gen(function* () {
        const seen = new Later<readonly [string | false | null, string | false | null | undefined]>()
        const port = yield* tlsServer({ ALPNProtocols: ["h2", "http/1.1"] }, (socket) => {
          seen.resolve([socket.alpnProtocol, socket.servername])
        })
        const result = yield* connected(targetOf(`https://localhost:${port}`, { tls: { ca: certificate.cert } }))
        assert.deepStrictEqual(yield* seen.wait, ["http/1.1", "localhost"])
        assert.instanceOf(result.socket, Tls.TLSSocket)
        if (result.socket instanceof Tls.TLSSocket) assert.isTrue(result.socket.authorized)
      })
    )

    it.live("an IP address is checked against the certificate, without SNI; `servername` overrides", () =>
      Effect.gen(function* () {
        const names: Array<string | false | null | undefined> = []
        const port = yield* tlsServer({}, (socket) => {
          names.push(socket.servername)
          socket.end("x")
        })
        const first = yield* connected(targetOf(`https://${loopback}:${port}`, { tls: { ca: [certificate.cert] } }))
        first.socket.resume()
        yield* Effect.promise(() => closed(first.socket))
        const tls = { ca: certificate.cert, servername: "a.test" }
        const second = yield* connected(targetOf(`https://${loopback}:${port}`, { tls }))
        second.socket.resume()
        yield* Effect.promise(() => closed(second.socket))
        assert.deepStrictEqual(names, [false, "a.test"])
      })
    )

    it.live("an untrusted certificate, a wrong name: phase tls; insecureSkipVerify accepts both and warns once", () =>
      Effect.gen(function* () {
        const port = yield* tlsServer(other)
        const untrusted = yield* refused(targetOf(`https://localhost:${port}`))
        assert.include<object>(untrusted.failure, { _tag: "Connect", phase: "tls" })
        assert.include<object>(causeOf(untrusted), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" })
        const wrong = yield* refused(targetOf(`https://localhost:${port}`, { tls: { ca: other.cert } }))
        assert.include<object>(causeOf(wrong), { code: "ERR_TLS_CERT_ALTNAME_INVALID" })
        const warn = vi.spyOn(process, "emitWarning").mockImplementation(() => {})
        yield* connected(targetOf(`https://localhost:${port}`, { tls: { insecureSkipVerify: true } }))
        yield* connected(targetOf(`https://localhost:${port}`, { tls: { insecureSkipVerify: true } }))
        assert.strictEqual(warn.mock.calls.length, 1)
        assert.include(String(warn.mock.calls[0]?.[0]), "insecureSkipVerify")
      })
    )

    it.live("client certificates", () =>
      Effect.gen(function* () {
        const client = selfSigned("client.test")
        const seen = new Later<boolean>()
        const port = yield* tlsServer({ requestCert: true, rejectUnauthorized: true, ca: client.cert }, (socket) =>
          seen.resolve(socket.authorized)
        )
        yield* connected(
          targetOf(`https://localhost:${port}`, {
            tls: { ca: certificate.cert, cert: client.cert, key: Redacted.make(client.key) }
          })
        )
        assert.isTrue(yield* seen.wait)
      })
    )

    it.live("a key that is no key: phase tls, and the TCP connection is closed", () =>
      Effect.gen(function* () {
        const gone = new Later<void>()
        const port = yield* tcpServer((socket) => socket.resume().on("close", () => gone.resolve()))
        const tls = { cert: "no", key: Redacted.make("no") }
        const error = yield* refused(targetOf(`https://localhost:${port}`, { tls }))
        assert.include<object>(error.failure, { _tag: "Connect", phase: "tls" })
        yield* gone.wait
      })
    )

    it.live("sessions are used again by the same options only", () =>
      Effect.gen(function* () {
        const port = yield* tlsServer({}, (socket) => socket.end("x"))
        const tls = { ca: certificate.cert }
        const reused = Effect.fnUntraced(function* (options: { readonly ca: string }) {
          const { socket } = yield* connected(targetOf(`https://localhost:${port}`, { tls: options }))
          const again = socket instanceof Tls.TLSSocket && socket.isSessionReused()
          socket.resume()
          yield* Effect.promise(() => closed(socket))
          return again
        })
        assert.isFalse(yield* reused(tls))
        assert.isTrue(yield* reused(tls))
        assert.isFalse(yield* reused({ ...tls }))
      })
    )

    it.live("tlsTimeout: a server that accepts and says nothing; the dial limit is over by then", () =>
      Effect.gen(function* () {
        const timers = new ManualTimers()
        const gone = new Later<void>()
        const port = yield* tcpServer((socket) => {
          socket.on("close", () => gone.resolve())
          // The first bytes of the handshake: the TCP connection stands, its limit has ended.
          socket.once("data", () => {
            timers.advance(5000)
            timers.advance(4999)
            assert.strictEqual(timers.size, 1)
            timers.advance(1)
          })
        })
        const target = targetOf(`https://localhost:${port}`, { dialTimeout: 5000, tlsTimeout: 10_000 }, { timers })
        const error = yield* refused(target)
        assert.strictEqual(error.failure._tag, "ConnectTimeout")
        assert.include<object>(error.failure, { phase: "tls", millis: 10_000 })
        assert.match(String(error.failure.address), new RegExp(`^(127\\.0\\.0\\.1|\\[::1\\]):${port}$`))
        assert.match(error.message, /^no TLS session to .* within 10000 ms$/)
        assert.strictEqual(timers.size, 0)
        yield* gone.wait
      })
    )

    it.live("a server that hangs up during the handshake, one that does not speak TLS, one with h2 only", () =>
      Effect.gen(function* () {
        const hangsUp = yield* tcpServer((socket) => socket.once("data", () => socket.end()))
        const plain = yield* tcpServer((socket) => socket.once("data", () => socket.end("HTTP/1.1 400 No\r\n\r\n")))
        const h2 = yield* tlsServer({ ALPNProtocols: ["h2"] })
        for (const port of [hangsUp, plain, h2]) {
          const error = yield* refused(targetOf(`https://localhost:${port}`, { tls: { ca: certificate.cert } }))
          assert.include<object>(error.failure, { _tag: "Connect", phase: "tls" })
          assert.notStrictEqual(causeOf(error).message, "")
        }
      })
    )

    it.live("cancelled during the handshake: the connection is closed", () =>
      Effect.gen(function* () {
        const greeted = new Later<void>()
        const gone = new Later<void>()
        const port = yield* tcpServer((socket) => {
          socket.once("data", () => greeted.resolve())
          socket.on("close", () => gone.resolve())
        })
        const cancel = dial(targetOf(`https://localhost:${port}`), () => assert.fail("called"))
        yield* greeted.wait
        cancel()
        yield* gone.wait
      })
    )
  })

  describe("proxy", () => {
    /** A proxy that really tunnels; `heads` are the requests it saw. */
    const tunnelling = Effect.fnUntraced(function* (accept: (head: string) => string | undefined = () => undefined) {
      const heads: Array<string> = []
      const connection = (socket: Net.Socket) => {
        socket.on("error", () => {})
        socket.once("data", (chunk: Buffer) => {
          const head = chunk.toString("latin1")
          heads.push(head)
          const answer = accept(head)
          if (answer !== undefined) return void socket.end(answer)
          const [, host = "", port = ""] = /^CONNECT (.+):(\d+) /.exec(head) ?? []
          const upstream = Net.connect(Number(port), host, () => {
            socket.write("HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n")
            socket.pipe(upstream).pipe(socket)
          })
          upstream.on("error", () => socket.destroy())
          socket.on("close", () => upstream.destroy())
        })
      }
      const plain = yield* tcpServer(connection)
      const secure = yield* listening(Tls.createServer(certificate, connection))
      return { heads, plain, secure }
    })

    const origin = listening(
      Tls.createServer(certificate, (socket) => {
        socket.on("error", () => {})
        socket.end("through")
      })
    )

    const text = (socket: Net.Socket): Effect.Effect<string> =>
      Effect.callback<string>((resume) => {
        let all = ""
        socket.on("data", (chunk: Buffer) => (all += chunk.toString()))
        socket.once("close", () => resume(Effect.succeed(all)))
      })

    it.live("https: a CONNECT tunnel with credentials, TLS inside; through an http and an https proxy", () =>
      Effect.gen(function* () {
        const proxy = yield* tunnelling()
        const port = yield* origin
        for (const url of [`http://u:p@localhost:${proxy.plain}`, `https://u:p@localhost:${proxy.secure}`]) {
          const { address, socket } = yield* connected(
            targetOf(`https://localhost:${port}`, { tls: { ca: certificate.cert }, proxy: Redacted.make(url) })
          )
          assert.match(String(address), new RegExp(`:${new URL(url).port}$`))
          assert.strictEqual(yield* text(socket), "through")
        }
        const authorization = `Basic ${Buffer.from("u:p").toString("base64")}`
        const head = `CONNECT localhost:${port} HTTP/1.1\r\nhost: localhost:${port}\r\nproxy-authorization: ${authorization}\r\n\r\n`
        assert.deepStrictEqual(proxy.heads, [head, head])
      })
    )

    it.live("http: just a connection to the proxy", () =>
      Effect.gen(function* () {
        const proxy = yield* tunnelling()
        for (const url of [`http://localhost:${proxy.plain}`, `https://localhost:${proxy.secure}`]) {
          const target = targetOf("http://never.test", { tls: { ca: certificate.cert }, proxy: Redacted.make(url) })
          const { socket } = yield* connected(target)
          assert.strictEqual(socket instanceof Tls.TLSSocket, url.startsWith("https:"))
        }
        assert.deepStrictEqual(proxy.heads, [])
      })
    )

    const refusal = Effect.fnUntraced(function* (answer: string) {
      const proxy = yield* tunnelling(() => answer)
      const option = Redacted.make(`http://u:secret@localhost:${proxy.plain}`)
      const error = yield* refused(targetOf("https://a.test", { proxy: option }))
      assert.include<object>(error.failure, { _tag: "Connect", phase: "proxy" })
      assert.notInclude(error.message, "secret")
      return causeOf(error).message
    })

    it.live("refusals say why", () =>
      Effect.gen(function* () {
        assert.include(yield* refusal("HTTP/1.1 407 No\r\n\r\n"), "credentials")
        assert.include(yield* refusal("HTTP/1.1 502 Bad\r\n\r\n"), "status 502")
        assert.include(yield* refusal("SSH-2.0\r\n\r\n"), "did not answer CONNECT")
        assert.include(yield* refusal("HTTP/1.1 200 OK\r\n"), "closed the connection")
        assert.include(yield* refusal(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(20_000)}`), "16 KiB")
        assert.include(yield* refusal("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n"), "403")
      })
    )

    it.live("a proxy that is not there, or whose URL is no URL", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        const gone = yield* refused(targetOf("http://a.test", { proxy: Redacted.make(`http://${loopback}:${port}`) }))
        assert.include<object>(gone.failure, { _tag: "Connect", phase: "proxy", address: `${loopback}:${port}` })
        const bad = yield* refused(targetOf("http://a.test", { proxy: Redacted.make("http://a b") }))
        assert.include<object>(bad.failure, { _tag: "Connect", phase: "proxy" })
        assert.strictEqual(causeOf(bad).message, "the option `proxy` is not a URL")
      })
    )

    it.live("a proxy that never answers CONNECT: the dial limit", () =>
      Effect.gen(function* () {
        const timers = new ManualTimers()
        const port = yield* tcpServer((socket) => socket.once("data", () => timers.advance(5000)))
        const proxy = Redacted.make(`http://${loopback}:${port}`)
        const error = yield* refused(targetOf("https://a.test", { proxy }, { timers }))
        assert.include<object>(error.failure, { _tag: "ConnectTimeout", phase: "dial", address: `${loopback}:${port}` })
      })
    )
  })
})
