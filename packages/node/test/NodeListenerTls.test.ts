import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { createPrivateKey } from "node:crypto"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { selfSigned } from "./fixtures/certificate.ts"
import { echoAs, eventually, replace, serving, text, tlsOf } from "./fixtures/listener.ts"
import { connect, connectTls, get, post, type RawClient } from "./fixtures/rawClient.ts"

const first = selfSigned("localhost")
const second = selfSigned("localhost")
const alice = selfSigned("alice")
const bob = selfSigned("bob")
const trusting = { ca: first.cert }

const encrypted = createPrivateKey(first.key)
  .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" })
  .toString()

const unreadable = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"

const certificateOf = ({ socket }: RawClient): string => {
  assert.instanceOf(socket, Tls.TLSSocket)
  return socket.getPeerX509Certificate()!.toString()
}

/** What a client sees of a server that may turn it away after its own part of the handshake. */
const answer = (port: number, options: Tls.ConnectionOptions) =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* connectTls(port, { ...trusting, ...options })
      client.send(get())
      yield* client.until(({ end, text: received }) => end !== undefined || received.includes("here."))
      return client.text.includes("here.") ? "served" : "refused"
    })
  ).pipe(Effect.orElseSucceed(() => "refused"))

describe("NodeListener: TLS", () => {
  it.live("https, over HTTP/1.1 only, and on kept connections", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(echoAs("tls"), { tls: tlsOf(first) })
      const client = yield* connectTls(port, { ...trusting, ALPNProtocols: ["h2", "http/1.1"] })
      assert.strictEqual(client.socket instanceof Tls.TLSSocket && client.socket.alpnProtocol, "http/1.1")
      client.send(post("one"))
      yield* client.take("tls:one.")
      client.send(post("two"))
      yield* client.take("tls:two.")
      assert.include<object>(backend.counts(), { accepted: 1, connections: 1, requests: 2 })
      const h2 = yield* Effect.flip(connectTls(port, { ...trusting, ALPNProtocols: ["h2"] }))
      assert.match(h2.message, /no application protocol/)
      client.socket.destroy()
      yield* eventually(() => backend.counts().connections === 0)
    })
  )

  it.live(
    "a handshake that does not end is cut after readHeaderTimeout, one that is none at once; both are counted",
    () =>
      Effect.gen(function* () {
        const { backend, port } = yield* serving(text("here."), { tls: tlsOf(first), readHeaderTimeout: 40 })
        const silent = yield* connect(port)
        yield* eventually(() => backend.counts().connections === 1)
        const wrong = yield* connect(port)
        wrong.send(get())
        yield* wrong.ended
        assert.notInclude(wrong.text, "HTTP")
        yield* silent.ended
        yield* eventually(() => backend.counts().connections === 0)
        assert.include<object>(backend.counts(), { accepted: 2, requests: 0 })
        assert.strictEqual(yield* answer(port, {}), "served")
      })
  )

  it.live("a client that leaves with the end of its handshake is gone at once, and holds no drain", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("here."), { tls: tlsOf(first) })
      for (let i = 0; i < 3; i++) yield* Effect.scoped(connectTls(port, trusting))
      yield* eventually(() => backend.counts().accepted === 3 && backend.counts().connections === 0)
      yield* acceptor.close
      assert.deepStrictEqual(yield* backend.drain(10_000), { connections: 0, requests: 0 })
    })
  )

  it.live("no time has to be finite", () =>
    Effect.gen(function* () {
      const limits = { readTimeout: Infinity, readHeaderTimeout: Infinity, idleTimeout: Infinity }
      const { port } = yield* serving(text("here."), { tls: tlsOf(first), ...limits })
      assert.strictEqual(yield* answer(port, { ca: [first.cert] }), "served")
    })
  )

  it.live("a slow head over TLS is cut as any other", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("here."), { tls: tlsOf(first), readHeaderTimeout: 200 })
      const client = yield* connectTls(port, trusting)
      client.send("GET / HTTP/1.1\r\n")
      yield* client.ended
      assert.match(client.text, /^HTTP\/1.1 408 /)
    })
  )

  it.live("minVersion: an older client is refused", () =>
    Effect.gen(function* () {
      const { port } = yield* serving(text("here."), { tls: tlsOf(first, { minVersion: "TLSv1.3" }) })
      assert.strictEqual(yield* answer(port, { maxVersion: "TLSv1.2" }), "refused")
      assert.strictEqual(yield* answer(port, {}), "served")
    })
  )

  it.live("new certificates: new handshakes get them, open connections and handshakes under way are not touched", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."), { tls: tlsOf(first) })
      const old = yield* connectTls(port, trusting)
      old.send(get())
      yield* old.take("here.")
      const handshaking = yield* connect(port)
      yield* eventually(() => backend.counts().connections === 2)
      yield* backend.secure(tlsOf(second))
      const fresh = yield* connectTls(port, { ca: [second.cert] })
      for (const client of [old, fresh, old, fresh]) {
        client.send(get())
        assert.notInclude(yield* client.take("here."), "Connection: close")
      }
      assert.strictEqual(certificateOf(old).trim(), first.cert.trim())
      assert.strictEqual(certificateOf(fresh).trim(), second.cert.trim())
      const late = yield* connectTls(port, { ca: [first.cert], socket: handshaking.socket })
      late.send(get())
      yield* late.take("here.")
      assert.include<object>(backend.counts(), { accepted: 3, connections: 3, failures: 0 })
    })
  )

  it.live("certificates that cannot be used are refused with what to do, and the old ones stay", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("here."), { tls: tlsOf(first) })
      const bad = [
        tlsOf({ cert: first.cert, key: second.key }),
        tlsOf({ cert: "no PEM", key: first.key }),
        tlsOf({ cert: first.cert, key: "no PEM" }),
        tlsOf({ cert: first.cert, key: encrypted }),
        // One that OpenSSL does not complain of as encrypted.
        tlsOf({ cert: first.cert, key: unreadable }),
        tlsOf(first, { ca: "no PEM" }),
        tlsOf(first, { clientAuth: "require" })
      ]
      const said = [
        /not the private key/,
        /`cert` is not PEM/,
        /`key`/,
        /is encrypted/,
        /is encrypted/,
        /`ca` is not/,
        /needs `ca`/
      ]
      for (const [index, tls] of bad.entries()) {
        for (const effect of [backend.secure(tls), replace(acceptor, text("bad."), { tls })]) {
          const failure = yield* Effect.flip(Effect.asVoid(effect))
          assert.deepInclude(failure, { _tag: "ListenError", reason: "tls", address: "127.0.0.1:0" })
          assert.match(failure.message, said[index]!)
          assert.notInclude(failure.message, Redacted.value(tls.key))
        }
      }
      assert.strictEqual(yield* answer(port, { ca: [first.cert] }), "served")
    })
  )

  it.live("there is nothing to secure where there is no TLS", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."))
      const failure = yield* Effect.flip(backend.secure(tlsOf(first)))
      assert.match(failure.message, /plain HTTP/)
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("here.")
    })
  )

  it.live("client certificates: none, may, must; and other authorities hold from the next handshake on", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."), { tls: tlsOf(first) })
      const outcomes = Effect.all([answer(port, {}), answer(port, alice), answer(port, bob)])
      assert.deepStrictEqual(yield* outcomes, ["served", "served", "served"])
      yield* backend.secure(tlsOf(first, { clientAuth: "request", ca: alice.cert }))
      assert.deepStrictEqual(yield* outcomes, ["served", "served", "served"])
      yield* backend.secure(tlsOf(first, { clientAuth: "require", ca: alice.cert }))
      assert.deepStrictEqual(yield* outcomes, ["refused", "served", "refused"])
      yield* backend.secure(tlsOf(first, { clientAuth: "require", ca: [bob.cert] }))
      assert.deepStrictEqual(yield* outcomes, ["refused", "refused", "served"])
      assert.strictEqual(backend.counts().requests, 3 + 3 + 1 + 1)
    })
  )

  it.live("a session from before is no way around a certificate that is demanded now", () =>
    Effect.gen(function* () {
      const { backend, port } = yield* serving(text("here."), { tls: tlsOf(first) })
      for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
        yield* backend.secure(tlsOf(first))
        const sessions: Array<Buffer> = []
        const client = yield* connectTls(port, { ...trusting, maxVersion })
        client.socket.on("session", (session: Buffer) => sessions.push(session))
        client.send(get())
        yield* client.take("here.")
        const session = client.socket instanceof Tls.TLSSocket ? (sessions[0] ?? client.socket.getSession()) : undefined
        assert.isDefined(session)
        yield* backend.secure(tlsOf(first, { clientAuth: "require", ca: alice.cert }))
        assert.strictEqual(yield* answer(port, { maxVersion, session }), "refused")
      }
    })
  )

  it.live("a replacement takes idle TLS connections over, unless it demands more of them", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(text("one."), { tls: tlsOf(first) })
      const client = yield* connectTls(port, trusting)
      client.send(get())
      yield* client.take("one.")
      const same = yield* replace(acceptor, text("two."), { tls: tlsOf(second) })
      assert.deepStrictEqual(yield* backend.drain(1000), { connections: 0, requests: 0 })
      assert.strictEqual(same.counts().connections, 1)
      client.send(get())
      assert.include(yield* client.take("two."), "Connection: close")
      yield* client.ended
      const stricter = [
        { tls: tlsOf(first, { clientAuth: "require", ca: alice.cert }) },
        { tls: tlsOf(first, { clientAuth: "require", ca: bob.cert }) },
        { tls: tlsOf(first, { clientAuth: "require", ca: bob.cert, minVersion: "TLSv1.3" }) },
        { tls: undefined }
      ]
      let before = same
      for (const [index, settings] of stricter.entries()) {
        const idle = yield* connectTls(
          port,
          [{ ca: second.cert }, { ...trusting, ...alice }, { ...trusting, ...bob }, { ...trusting, ...bob }][index]!
        )
        idle.send(get())
        yield* idle.take("\r\n\r\n")
        const next = yield* replace(acceptor, text("strict."), settings)
        assert.deepStrictEqual(yield* before.drain(1000), { connections: 0, requests: 0 })
        assert.strictEqual(yield* idle.ended, "closed")
        assert.strictEqual(next.counts().connections, 0)
        before = next
      }
    })
  )

  it.live("connections that come with the same port from two addresses are two", () =>
    Effect.gen(function* () {
      const { acceptor, backend, port } = yield* serving(echoAs("tls"), { tls: tlsOf(first) })
      assert.strictEqual(acceptor.address.host, "127.0.0.1")
      const dial = (localAddress: string, localPort: number) =>
        Effect.gen(function* () {
          const socket = Net.connect({ port, host: "127.0.0.1", localAddress, localPort })
          const client = yield* connectTls(port, { ...trusting, socket })
          return { client, localPort: socket.localPort! }
        })
      const one = yield* dial("127.0.0.2", 0)
      const two = yield* dial("127.0.0.3", one.localPort)
      two.client.send(post("two"))
      yield* two.client.take("tls:two.")
      one.client.send(post("one"))
      yield* one.client.take("tls:one.")
      assert.strictEqual(backend.counts().requests, 2)
    })
  )
})
