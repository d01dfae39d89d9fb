/**
 * What the server pool is for, on real sockets and with counts: changes under load lose nothing, a stop is quick and says
 * what it cut, a start tells of every address that it could not have.
 *
 * Node's agent is as hard a judge as there is: it sends the next request in the tick in which the last answer ended.
 */
import { assert, describe, it } from "@effect/vitest"
import { Listener, Pool, Proxy, type Server, type ServerConfig, ServerPool } from "@millrace/core"
import type { ServerEvent } from "@millrace/core/server/ServerEvent"
import { Deferred, Effect, Exit, Fiber, Option, Redacted, Scope, Stream } from "effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Net from "node:net"
import { networkInterfaces } from "node:os"
import * as Tls from "node:tls"
import * as NodeListener from "../src/NodeListener.ts"
import * as UndiciConnector from "../src/UndiciConnector.ts"
import { type Report, startCallers } from "./fixtures/callers.ts"
import { type Certificate, selfSigned } from "./fixtures/certificate.ts"
import { echoAs, eventually, text } from "./fixtures/listener.ts"
import { Later, listening } from "./fixtures/net.ts"
import { connect, connectTls, get, post, type RawClient } from "./fixtures/rawClient.ts"

const bind = "127.0.0.1:0"

const certified = ({ cert, key }: Certificate): ServerConfig.DefaultTls => ({ cert, key: Redacted.make(key) })

const made = (servers: ReadonlyArray<ServerConfig.Options>, options: Omit<ServerPool.Options, "servers">) =>
  Effect.provide(ServerPool.make({ servers, ...options }), NodeListener.layer)

const running = (servers: ReadonlyArray<ServerConfig.Options>, options: Omit<ServerPool.Options, "servers">) =>
  Effect.tap(made(servers, options), (pool) => pool.start)

const named = (pool: ServerPool.ServerPool, name: string) =>
  Effect.map(pool.servers, (servers) => {
    const server = servers.find((one) => one.name === name)
    assert.isDefined(server)
    return server
  })

const portOf = (server: Server.Server): number => {
  assert.isDefined(server.address)
  return server.address.port
}

/** One server, and its port. */
const single = (handler: ServerPool.Options["handlers"], options: Partial<ServerConfig.Options> = {}) =>
  Effect.gen(function* () {
    const pool = yield* running([{ name: "one", bind, ...options }], { handlers: handler })
    const server = yield* named(pool, "one")
    return { pool, port: portOf(server), server }
  })

const eventsOf = (pool: ServerPool.ServerPool) =>
  Effect.gen(function* () {
    const events: Array<ServerEvent> = []
    const listen = Stream.runForEach(pool.events, (event) => Effect.sync(() => events.push(event)))
    yield* Effect.forkScoped(listen, { startImmediately: true })
    return events
  })

const timed = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, (value) => ({ millis: performance.now() - start, value }))
  })

const countsUntil = (server: Server.Server, reached: (counts: Effect.Success<typeof server.counts>) => boolean) =>
  Effect.suspend(() => eventually(() => reached(Effect.runSync(server.counts))))

const kept = (port: number) =>
  Effect.gen(function* () {
    const client = yield* connect(port)
    client.send(get())
    yield* client.take("here.")
    return client
  })

const statusOf = (answer: string) => Number(answer.split(" ")[1])

// ---------------------------------------------------------------------------------------------------------------------

const callersOfEachKind = 64
const swaps = 100
const replacements = 40
const renewals = 20
const reloads = 10

/** Calls until its scope closes, or `stop`. */
const calling = (port: number, ca: string | undefined) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const worker = startCallers({ ca, callers: 2 * callersOfEachKind, port })
      const load: Report = { answered: 0, connections: 0, failures: [], wrong: 0 }
      worker.on("message", (report: Report) => Object.assign(load, report))
      const exited = new Promise((resolve) => worker.once("exit", resolve))
      const stop = Effect.promise(() => {
        worker.postMessage("stop")
        return exited
      })
      return { load, stop }
    }),
    ({ stop }) => stop
  )

const churn = (secure: boolean, tell: (figures: string) => Promise<unknown>) =>
  Effect.gen(function* () {
    const certificates = [selfSigned("localhost"), selfSigned("localhost")] as const
    const tls = secure ? { inherit: true } : undefined
    const called = { name: "called", bind, tls }
    const beside = (i: number) => ({ name: `beside ${i}`, bind })
    const pool = yield* running([called, beside(0), beside(1)], {
      handlers: echoAs("start"),
      tls: certified(certificates[0])
    })
    const events = yield* eventsOf(pool)
    const server = yield* named(pool, "called")
    const ca = secure ? certificates.map(({ cert }) => cert).join("") : undefined
    const start = performance.now()
    const { load, stop } = yield* calling(portOf(server), ca)
    const more = (count: number) =>
      Effect.suspend(() => {
        const before = load.answered
        return eventually(() => load.answered >= before + count || load.failures.length > 0)
      })
    yield* more(100)
    for (let i = 0; i < swaps; i++) {
      yield* pool.setHandler(echoAs(`handler ${i}`))
      yield* more(5)
    }
    for (let i = 0; i < replacements; i++) {
      yield* pool.update({ ...called, idleTimeout: 60_000 + i })
      yield* more(10)
    }
    for (let i = 1; i <= renewals; i++) {
      yield* pool.setDefaultTls(certified(certificates[i % 2]!))
      yield* more(10)
    }
    // One goes, one comes, and those that stay are replaced.
    for (let i = 1; i <= reloads; i++) {
      const list = [called, beside(i), beside(i + 1)]
      yield* pool.reload(list.map((one) => ({ ...one, maxHeaderBytes: 16_384 + i })))
      yield* more(10)
    }
    yield* stop
    const seconds = (performance.now() - start) / 1000
    yield* countsUntil(server, ({ active }) => active === 0)
    const count = (tag: ServerEvent["_tag"], name = "called") =>
      events.filter((event) => event._tag === tag && "name" in event && event.name === name).length

    assert.deepStrictEqual(load.failures, [])
    assert.strictEqual(load.wrong, 0)
    assert.include<object>(yield* server.counts, { requests: load.answered, failures: 0, refused: 0 })
    yield* eventually(() => count("Drained") === replacements + reloads)
    assert.strictEqual(count("Replaced"), replacements + reloads)
    assert.strictEqual(count("Updated"), secure ? renewals : 0)
    for (const event of events) if ("cut" in event) assert.deepStrictEqual(event.cut, { connections: 0, requests: 0 })
    assert.strictEqual(events.filter(({ _tag }) => _tag === "Reloaded").length, renewals + reloads)
    // Its address was opened once, and each who keeps its connection makes one more for a replacement at most.
    assert.include<object>(yield* server.health, { starts: 1, lastError: undefined })
    assert.isAtMost(load.connections, callersOfEachKind * (1 + replacements + reloads))
    yield* Effect.promise(() => tell(`${load.answered} requests in ${seconds.toFixed(1)} s, none lost, none cut`))
  })

describe("under 64 callers who keep their connection, and 64 who do not, none of whom retries", () => {
  const what = `${swaps} handler swaps, ${replacements} replacements, ${renewals} renewals of the default TLS, ${reloads} reloads`

  it.live(`HTTP: ${what} lose no request`, (context) => churn(false, (figures) => context.annotate(figures)), 60_000)

  it.live(`HTTPS: ${what} lose no request`, (context) => churn(true, (figures) => context.annotate(figures)), 60_000)
})

// ---------------------------------------------------------------------------------------------------------------------

describe("stop", () => {
  it.live("with 64 idle clients and a request under way it takes less than 100 ms beyond that request", (context) =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const { pool, port, server } = yield* single(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
          url === "/slow" ? Effect.andThen(Deferred.await(gate), text("slow.")) : text("here.")
        )
      )
      const idle = yield* Effect.forEach(Array.from({ length: callersOfEachKind }), () => kept(port))
      const slow = yield* connect(port)
      slow.send(get("/slow"))
      yield* countsUntil(server, ({ active }) => active === 1)
      const stop = yield* Effect.forkScoped(pool.stop, { startImmediately: true })
      // Those that are idle do not wait for it.
      for (const client of idle) assert.strictEqual(yield* client.ended, "closed")
      assert.isUndefined(stop.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      const { millis, value } = yield* timed(Fiber.join(stop))
      assert.include(yield* slow.take("slow."), "Connection: close")
      assert.isBelow(millis, 100)
      yield* Effect.promise(() => context.annotate(`ended ${millis.toFixed(1)} ms after the request could`))
      assert.deepStrictEqual(value[0]?.cut, { connections: 0, requests: 0 })
      assert.include<object>(yield* server.counts, { connections: 0, active: 0, failures: 0 })
      assert.match((yield* Effect.flip(connect(port))).message, /ECONNREFUSED/)
    })
  )

  it.live("with idle clients only it takes less than 100 ms", (context) =>
    Effect.gen(function* () {
      const { pool, port } = yield* single(text("here."))
      yield* Effect.forEach(Array.from({ length: callersOfEachKind }), () => kept(port))
      const { millis } = yield* timed(pool.stop)
      assert.isBelow(millis, 100)
      yield* Effect.promise(() => context.annotate(`took ${millis.toFixed(1)} ms`))
    })
  )

  it.live("a stuck stream is cut at drainTimeout, and reported: in the result, and in the event", (context) =>
    Effect.gen(function* () {
      const endless = Stream.concat(Stream.make(new Uint8Array([46])), Stream.never)
      const { pool, port } = yield* single(
        Effect.sync(() => HttpServerResponse.stream(endless)),
        { drainTimeout: 150 }
      )
      const events = yield* eventsOf(pool)
      const client = yield* connect(port)
      client.send(get())
      yield* client.take("\r\n.")
      const { millis, value } = yield* timed(pool.stop)
      const cut = { connections: 1, requests: 1 }
      assert.isAtLeast(millis, 149)
      assert.isBelow(millis, 250)
      yield* Effect.promise(() => context.annotate(`took ${millis.toFixed(1)} ms of a drainTimeout of 150 ms`))
      assert.deepStrictEqual(
        value.map((stopped) => [stopped.name, stopped.cut]),
        [["one", cut]]
      )
      yield* eventually(() => events.some((event) => event._tag === "Stopped"))
      assert.deepInclude(
        events.find((event) => event._tag === "Stopped"),
        { name: "one", cut }
      )
      yield* client.ended
    })
  )

  it.live("drainDelay: it still serves who comes, though it is not ready", () =>
    Effect.gen(function* () {
      const { pool, port } = yield* single(text("here."), { drainDelay: 100 })
      const { millis } = yield* timed(
        Effect.scoped(
          Effect.gen(function* () {
            const stop = yield* Effect.forkScoped(pool.stop, { startImmediately: true })
            assert.isFalse(yield* pool.ready)
            yield* kept(port)
            return yield* Fiber.join(stop)
          })
        )
      )
      assert.isAtLeast(millis, 99)
      assert.isBelow(millis, 200)
    })
  )

  it.live("the end of the scope is a stop", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(single(text("here.")), scope)
      const client = yield* kept(port)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* client.ended, "closed")
      assert.match((yield* Effect.flip(connect(port))).message, /ECONNREFUSED/)
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

describe("the forms of a bind", () => {
  const ipv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"))
  const forms = [
    { bind: "127.0.0.1:0", expose: "http://127.0.0.1" },
    { bind: "localhost:0", expose: "http://localhost" },
    { bind: "0.0.0.0:0", expose: "http://localhost" },
    { bind: ":0", expose: "http://localhost" },
    ...(ipv6 ? [{ bind: "[::1]:0", expose: "http://[::1]" }] : [])
  ]
  it.live("each accepts where it says, on a port of its own, which its address and its expose have", () =>
    Effect.gen(function* () {
      const pool = yield* running(
        forms.map(({ bind: form }) => ({ name: form, bind: form })),
        { handlers: text("here.") }
      )
      const ports = new Set<number>()
      yield* pool.forEach((server) =>
        Effect.gen(function* () {
          const { host = "", port } = server.address ?? { port: 0 }
          ports.add(port)
          const everywhere = host === "0.0.0.0" || host === "::"
          const client = yield* connect(port, everywhere ? "127.0.0.1" : host)
          client.send(get())
          yield* client.take("here.")
          const expected = forms.find((form) => form.bind === server.name)?.expose
          assert.strictEqual(server.expose, `${expected}:${port}/`)
        })
      )
      assert.strictEqual(ports.size, forms.length)
      assert.isFalse(ports.has(0))
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

describe("start of ten servers of which three cannot bind", () => {
  it.live("seven run, the error names the three with their causes, and the next start tries only those", () =>
    Effect.gen(function* () {
      const blockers = yield* Effect.forEach(Array.from({ length: 3 }), () =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const port = yield* Scope.provide(listening(Net.createServer()), scope)
          return { free: Scope.close(scope, Exit.void), port }
        })
      )
      yield* Effect.addFinalizer(() => Effect.forEach(blockers, ({ free }) => free, { discard: true }))
      const taken = blockers.map(({ port }, index) => ({ name: `taken ${index}`, bind: `127.0.0.1:${port}` }))
      const free = Array.from({ length: 7 }, (_, index) => ({ name: `free ${index}`, bind }))
      // Mixed, so that one that fails has others before and behind it.
      const mixed = [
        ...free.slice(0, 2),
        ...taken.slice(0, 1),
        ...free.slice(2, 5),
        ...taken.slice(1),
        ...free.slice(5)
      ]
      const pool = yield* made(mixed, { handlers: text("here.") })
      const events = yield* eventsOf(pool)

      const error = yield* Effect.flip(pool.start)
      assert.strictEqual(error._tag, "ServerPoolError")
      assert.strictEqual(error.reason, "Start")
      const failed = error.servers.map(({ bind: address, name }) => ({ bind: address, name }))
      assert.sameDeepMembers(failed, taken)
      for (const { bind: address, cause } of error.servers) {
        assert.instanceOf(cause, Listener.ListenError)
        assert.deepInclude(cause, { reason: "bind", address })
        assert.propertyVal(cause.cause, "code", "EADDRINUSE")
        assert.include(error.message, `(${address}): Cannot listen on ${address}: something else listens there`)
      }
      const servers = yield* pool.servers
      const seven = servers.filter(({ name }) => name.startsWith("free"))
      const clients = yield* Effect.forEach(seven, (server) => kept(portOf(server)))
      assert.strictEqual(clients.length, 7)

      yield* blockers[0]!.free
      const rest = yield* Effect.flip(pool.start)
      assert.sameMembers(
        rest.servers.map(({ name }) => name),
        ["taken 1", "taken 2"]
      )
      for (const { free: release } of blockers) yield* release
      yield* pool.start
      assert.isTrue(yield* pool.ready)
      for (const { port } of blockers) yield* kept(port)
      yield* Effect.forEach(servers, (server) =>
        Effect.map(server.health, ({ starts }) => assert.strictEqual(starts, 1, server.name))
      )
      const times = (tag: string, name: string) =>
        events.filter((event) => event._tag === tag && "name" in event && event.name === name).length
      yield* eventually(() => events.filter(({ _tag }) => _tag === "Started").length === 10)
      assert.deepStrictEqual(
        taken.map(({ name }) => times("Failed", name)),
        [1, 2, 2]
      )
      for (const { name } of free) assert.strictEqual(times("Started", name) + times("Failed", name), 1)
      // What ran has not been touched.
      for (const client of clients) {
        client.send(get())
        assert.notInclude(yield* client.take("here."), "Connection: close")
      }
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

/** What a client sees of a server that may turn it away after its own part of the handshake. */
const answer = (port: number, options: Tls.ConnectionOptions) =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* connectTls(port, options)
      client.send(get())
      yield* client.until(({ end, text: received }) => end !== undefined || received.includes("here."))
      return client.text.includes("here.") ? "served" : "refused"
    })
  ).pipe(Effect.orElseSucceed(() => "refused"))

const certificateOf = ({ socket }: RawClient): string => {
  assert.instanceOf(socket, Tls.TLSSocket)
  return socket.getPeerX509Certificate()!.toString().trim()
}

const again = (client: RawClient) =>
  Effect.suspend(() => {
    client.send(get())
    return Effect.map(client.take("here."), (received) => assert.notInclude(received, "Connection: close"))
  })

describe("TLS", () => {
  const [first, second, alice, bob] = [
    selfSigned("localhost"),
    selfSigned("localhost"),
    selfSigned("a"),
    selfSigned("b")
  ]
  const trusting = { ca: [first.cert, second.cert] }

  it.live("mutual TLS beside HTTP; other authorities hold from the next handshake on", () =>
    Effect.gen(function* () {
      const pool = yield* running(
        [
          { name: "mutual", bind, tls: { inherit: true, clientAuth: "require" } },
          { name: "plain", bind }
        ],
        { handlers: text("here."), tls: { ...certified(first), ca: alice.cert } }
      )
      const mutual = yield* named(pool, "mutual")
      const port = portOf(mutual)
      assert.strictEqual(mutual.expose, `https://127.0.0.1:${port}/`)
      const who = (client: Partial<Certificate>) => answer(port, { ...trusting, ...client })
      assert.deepStrictEqual(yield* Effect.all([who(alice), who(bob), who({})]), ["served", "refused", "refused"])
      yield* kept(portOf(yield* named(pool, "plain")))

      const old = yield* connectTls(port, { ...trusting, ...alice })
      yield* again(old)
      yield* pool.setDefaultTls({ ...certified(second), ca: bob.cert })
      assert.deepStrictEqual(yield* Effect.all([who(alice), who(bob), who({})]), ["refused", "served", "refused"])
      yield* again(old)
      assert.strictEqual(certificateOf(old), first.cert.trim())
      assert.strictEqual((yield* mutual.counts).failures, 0)
    })
  )

  it.live("a certificate is renewed, by update or for all, and no connection is touched", () =>
    Effect.gen(function* () {
      const own = (certificate: Certificate) => ({ name: "own", bind, tls: certified(certificate) })
      const pool = yield* running([own(first), { name: "inherits", bind, tls: { inherit: true } }], {
        handlers: text("here."),
        tls: certified(first)
      })
      const events = yield* eventsOf(pool)
      const ports = { own: portOf(yield* named(pool, "own")), inherits: portOf(yield* named(pool, "inherits")) }
      const seen = (port: number) => Effect.scoped(Effect.map(connectTls(port, trusting), certificateOf))
      const clients = yield* Effect.forEach(Object.values(ports), (port) => connectTls(port, trusting))
      yield* Effect.forEach(clients, again)

      yield* pool.update(own(second))
      assert.strictEqual(yield* seen(ports.own), second.cert.trim())
      assert.strictEqual(yield* seen(ports.inherits), first.cert.trim())
      yield* pool.setDefaultTls(certified(second))
      assert.strictEqual(yield* seen(ports.inherits), second.cert.trim())
      yield* Effect.forEach(clients, again)
      for (const client of clients) assert.strictEqual(certificateOf(client), first.cert.trim())
      yield* eventually(() => events.filter(({ _tag }) => _tag === "Updated").length === 2)
      assert.isFalse(events.some(({ _tag }) => _tag === "Replaced"))
    })
  )

  it.live("a certificate that cannot be used is refused by name, and the old one stays in force", () =>
    Effect.gen(function* () {
      const { pool, port } = yield* single(text("here."), { tls: certified(first) })
      const mixed = { cert: first.cert, key: Redacted.make(second.key) }
      const error = yield* Effect.flip(pool.update({ name: "one", bind, tls: mixed }))
      assert.include(error, { _tag: "ServerPoolError", reason: "Validate" } as never)
      assert.match(error.message, /one .*not the private key/)
      assert.strictEqual(yield* answer(port, trusting), "served")
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

describe("handlers", () => {
  it.live("one that fails, dies or throws answers 500, and its server lives", () =>
    Effect.gen(function* () {
      const { pool, port, server } = yield* single(
        Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) => {
          if (url === "/fail") return Effect.fail("secret")
          if (url === "/die") return Effect.die(new Error("secret"))
          if (url === "/throw") throw new Error("secret")
          return text("here.")
        })
      )
      const client = yield* connect(port)
      for (const path of ["/fail", "/die", "/throw"]) {
        client.send(get(path))
        const received = yield* client.take("\r\n\r\n0\r\n\r\n")
        assert.strictEqual(statusOf(received), 500, path)
        assert.notInclude(received, "secret")
      }
      yield* again(client)
      yield* countsUntil(server, ({ active }) => active === 0)
      assert.include<object>(yield* server.counts, { accepted: 1, requests: 4, failures: 3 })
      assert.isTrue(yield* pool.ready)
    })
  )

  it.live("one whose client leaves is interrupted; so is one that was swapped or replaced meanwhile", () =>
    Effect.gen(function* () {
      const left = [new Later<string>(), new Later<string>(), new Later<string>()]
      let begun = 0
      const { pool, port, server } = yield* single(
        Effect.suspend(() => {
          const mine = left[begun++]!
          return Effect.onInterrupt(Effect.never, () => Effect.sync(() => mine.resolve("interrupted")))
        })
      )
      const clients: Array<RawClient> = []
      for (const change of [
        Effect.void,
        Effect.asVoid(pool.update({ name: "one", bind, maxConnections: 10 })),
        Effect.void
      ]) {
        const client = yield* connect(port)
        client.send(get())
        clients.push(client)
        yield* eventually(() => begun === clients.length)
        yield* change
      }
      yield* pool.setHandler(text("here."))
      yield* kept(port)
      for (const [index, client] of clients.entries()) {
        client.socket.destroy()
        assert.strictEqual(yield* left[index]!.wait, "interrupted")
      }
      yield* countsUntil(server, ({ active }) => active === 0)
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

describe("a proxy in the pool", () => {
  it.live("brings an outside client to an inside server, while that is replaced; the end of both cuts nothing", () =>
    Effect.gen(function* () {
      const inside = { name: "inside", bind, handler: "inside" }
      const pool = yield* running([{ name: "outside", bind, tls: { inherit: true } }, inside], {
        handlers: { default: text("not yet."), inside: echoAs("inside") },
        tls: certified(selfSigned("localhost"))
      })
      const target = yield* named(pool, "inside")
      const upstream = yield* Effect.provide(
        Pool.make({ ...Proxy.poolOptions, baseUrl: target.expose, drainTimeout: 0 }),
        UndiciConnector.layer
      )
      yield* pool.setHandler(yield* Proxy.make(upstream), "default")
      const client = yield* connectTls(portOf(yield* named(pool, "outside")), { rejectUnauthorized: false })
      for (let i = 0; i < 20; i++) {
        client.send(post(`hello ${i}`))
        assert.match(yield* client.take(`hello ${i}.`), /^HTTP\/1.1 200 [^]*\r\n\r\ninside:hello /)
        yield* pool.update({ ...inside, idleTimeout: 60_000 + i })
      }
      assert.include<object>(yield* target.counts, { requests: 20, failures: 0 })

      // Nobody listens inside: the client is told so by the proxy, whose server lives.
      assert.isTrue(Option.isSome(yield* pool.remove(target)))
      client.send(post("late"))
      assert.include([502, 503], statusOf(yield* client.take("\r\n\r\n")))
      const stopped = yield* pool.stop
      assert.deepStrictEqual(
        stopped.map(({ cut, name }) => [name, cut]),
        [["outside", { connections: 0, requests: 0 }]]
      )
    })
  )
})
