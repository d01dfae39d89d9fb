/**
 * The pool on real loopback sockets: what it promises to its users. What servers and callers do to it is in
 * `PoolHazards.test.ts`, what goes over the wire in `UndiciConnector.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Pool } from "@millrace/core"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Ref, Schema, Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { TestClock } from "effect/testing"
import type * as Cookies from "effect/http/Cookies"
import { HttpApi, HttpApiClient, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import * as UndiciConnector from "../src/UndiciConnector.ts"
import * as HostileServer from "./fixtures/HostileServer.ts"
import { closedPort, listening } from "./fixtures/net.ts"
import { eventually, failsWith, poolOn } from "./fixtures/pool.ts"
import * as Net from "node:net"

const distinct = (values: ReadonlyArray<unknown>) => new Set(values).size

const times = (count: number) => Array.from({ length: count }, (_, i) => i)

const all = { concurrency: "unbounded" } as const

describe("Pool", () => {
  describe("as the original pool of Go clients", () => {
    it.live("get and post", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) =>
          request.whole(() => request.answer(`${request.method} ${request.path} ${request.text}`))
        )
        const { client } = yield* poolOn(server)
        const got = yield* client.get("/ping")
        assert.strictEqual(yield* got.text, "GET /ping ")
        const posted = yield* client.post("/echo", { body: yield* jsonBody({ a: 1 }) })
        assert.strictEqual(posted.status, 200)
        assert.strictEqual(yield* posted.text, 'POST /echo {"a":1}')
        assert.strictEqual(server.requests[1]?.headers["content-type"], "application/json")
      })
    )

    it.live("a caller's timeout ends the request and frees the slot", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path === "/") request.answer()
        })
        const { client, stats } = yield* poolOn(server, { size: 1 })
        assert.isTrue(Option.isNone(yield* Effect.timeoutOption(client.get("/hang"), "50 millis")))
        assert.strictEqual((yield* client.get("/")).status, 200)
        yield* server.until(() => server.connections[0]?.closed === true)
        yield* eventually(stats, {
          active: 0,
          waiting: 0,
          connectionsOpened: 2,
          connectionsClosed: 1,
          connectionsOpen: 1
        })
      })
    )

    it.live("cancelling ends the request at the server", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(() => {})
        const { client } = yield* poolOn(server)
        const fiber = yield* Effect.forkChild(client.get("/hang"))
        yield* server.received(1)
        yield* Fiber.interrupt(fiber)
        yield* server.allClosed
        assert.strictEqual(server.connections.length, 1)
      })
    )

    it.live("1000 at once over 8 connections", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer(request.path))
        const { client, stats } = yield* poolOn(server)
        const bodies = yield* Effect.forEach(
          times(1000),
          (i) => Effect.flatMap(client.get(`/${i}`), (response) => response.text),
          all
        )
        assert.deepStrictEqual(
          bodies,
          times(1000).map((i) => `/${i}`)
        )
        assert.strictEqual(server.connections.length, 8)
        assert.strictEqual(server.mostOpen, 8)
        const counts = server.connections.map((connection) => connection.requests.length)
        assert.strictEqual(
          counts.reduce((a, b) => a + b),
          1000
        )
        assert.include(yield* stats, { requests: 1000, responses: 1000, failures: 0, active: 0, waiting: 0 })
      })
    )

    it.live("closing twice is harmless", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer())
        const scope = yield* Scope.make()
        const { client } = yield* Scope.provide(poolOn(server), scope)
        yield* client.get("/")
        yield* Scope.close(scope, Exit.void)
        yield* Scope.close(scope, Exit.void)
        yield* server.allClosed
        const error = yield* failsWith(client.get("/"), "PoolClosed")
        assert.include(error.message, "scope")
        assert.strictEqual(server.requests.length, 1)
      })
    )

    it.live("joins the base URL and the path", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer(request.path))
        for (const base of ["/api", "/api/"]) {
          const { client } = yield* poolOn(server, { baseUrl: `${server.origin}${base}?key=1` })
          for (const path of ["users", "/users", `${server.origin}/users`]) {
            const response = yield* client.get(path, { urlParams: { page: "2" } })
            const absolute = path.startsWith("http")
            assert.strictEqual(yield* response.text, absolute ? "/users?page=2" : "/api/users?key=1&page=2")
          }
        }
        const { client } = yield* poolOn(server, { baseUrl: `${server.origin}/api` })
        yield* failsWith(client.get("../admin"), "InvalidRequest")
        const without = yield* Effect.provide(Pool.make({ drainTimeout: 0 }), UndiciConnector.layer)
        yield* failsWith(without.client.get("/users"), "InvalidRequest")
        assert.strictEqual((yield* without.client.get(`${server.origin}/x`)).status, 200)
      })
    )

    it.live("gives up on a server that sends no headers, and says which limit it was", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(() => {})
        const { client, stats } = yield* poolOn(server, { responseHeaderTimeout: 60 })
        const error = yield* failsWith(client.get("/hang"), "TimeoutError")
        assert.strictEqual(error.phase, "headers")
        assert.strictEqual(Duration.toMillis(error.timeout), 60)
        assert.strictEqual(error.address, `127.0.0.1:${server.port}`)
        assert.include(error.message, "responseHeaderTimeout")
        yield* server.allClosed
        yield* eventually(stats, { timeouts: 1, failures: 1, connectionsOpen: 0 })
      })
    )

    it.live("has 8 slots unless told otherwise", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer())
        const { client, slots } = yield* poolOn(server)
        assert.strictEqual(slots.length, 8)
        for (let i = 0; i < 24; i++) yield* client.get("/")
        assert.strictEqual(server.connections.length, 8)
      })
    )

    for (const size of [1, 3, 8]) {
      it.live(`${size} slots: N sequential requests use N connections, once each`, () =>
        Effect.gen(function* () {
          const server = yield* HostileServer.make((request) => request.answer())
          const { client, stats } = yield* poolOn(server, { size })
          for (let round = 0; round < 5; round++) {
            for (let i = 0; i < size; i++) yield* client.get("/")
            const ports = server.remotePorts.slice(round * size)
            assert.strictEqual(distinct(ports), size)
            assert.deepStrictEqual(ports, server.remotePorts.slice(0, size))
          }
          assert.strictEqual(server.connections.length, size)
          assert.include(yield* stats, { connectionsOpened: size, connectionsOpen: size, connectionsClosed: 0 })
        })
      )
    }
  })

  describe("slots", () => {
    it.live("a busy slot is passed over: a stuck stream never blocks the N-th request", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path !== "/hang") request.answer()
        })
        const { client, slots } = yield* poolOn(server, { size: 3 })
        yield* Effect.forkChild(client.get("/hang"))
        yield* server.received(1)
        for (let i = 0; i < 10; i++) yield* client.get("/")
        assert.strictEqual(server.connections.length, 3)
        assert.strictEqual(server.connections[0]?.requests.length, 1)
        const states = yield* Effect.forEach(slots, (slot) => Effect.map(slot.stats, (stats) => stats.state))
        assert.deepStrictEqual(states, ["busy", "free", "free"])
      })
    )

    it.live("requests wait in one line, first come first served", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(() => {})
        const { client, stats } = yield* poolOn(server, { size: 2 })
        yield* Effect.forEach(times(6), (i) => Effect.forkChild(client.get(`/${i}`), { startImmediately: true }))
        yield* server.received(2)
        assert.include(yield* stats, { active: 2, waiting: 4 })
        // Always the same connection answers; the other one hangs.
        const [first] = server.connections
        for (let i = 2; i < 6; i++) {
          first?.write(HostileServer.response())
          yield* server.received(i + 1)
        }
        assert.deepStrictEqual(
          server.requests.slice(2).map((request) => request.path),
          ["/2", "/3", "/4", "/5"]
        )
        assert.strictEqual(server.connections.length, 2)
      })
    )

    it.live("a line that is full, or a wait that is too long: PoolSaturated", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make(() => {})
        const { client, stats } = yield* poolOn(server, { size: 1, maxWaiting: 1, acquireTimeout: 50 })
        yield* Effect.forkChild(client.get("/hang"))
        yield* server.received(1)
        const waiting = yield* Effect.forkChild(failsWith(client.get("/waits"), "PoolSaturated"), {
          startImmediately: true
        })
        const full = yield* failsWith(client.get("/full"), "PoolSaturated")
        assert.include(full, { reason: "maxWaiting", limit: 1 })
        assert.include(yield* Fiber.join(waiting), { reason: "acquireTimeout", limit: 50 })
        assert.include(yield* stats, { saturated: 2, waiting: 0, active: 1 })
        assert.strictEqual(server.requests.length, 1)
      })
    )

    it.live("a slot's own client uses that slot only, and waits for it", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer(request.path))
        const { slots } = yield* poolOn(server, { size: 4 })
        const bodies = yield* Effect.forEach(
          times(10),
          (i) => Effect.flatMap(slots[2]!.client.get(`/${i}`), (response) => response.text),
          all
        )
        assert.deepStrictEqual(
          bodies,
          times(10).map((i) => `/${i}`)
        )
        assert.strictEqual(server.connections.length, 1)
        assert.include(yield* slots[2]!.stats, { state: "free", requests: 10, connectionsOpen: 1 })
      })
    )

    it.live("byKey: equal keys share a connection", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer())
        const { client } = yield* poolOn(server, { size: 8, selection: { byKey: (request) => request.url } })
        yield* Effect.forEach(times(60), (i) => client.get(`/${i % 6}`), all)
        const byPath = new Map<string, Set<unknown>>()
        for (const { connection, path } of server.requests) {
          byPath.set(path, (byPath.get(path) ?? new Set()).add(connection))
        }
        assert.strictEqual(byPath.size, 6)
        for (const connections of byPath.values()) assert.strictEqual(connections.size, 1)
      })
    )

    it.live("strict: the N-th request waits for slot N modulo size", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path !== "/0") request.answer()
        })
        const { client, stats } = yield* poolOn(server, { size: 2, selection: "strict" })
        yield* Effect.forEach(times(4), (i) => Effect.forkChild(client.get(`/${i}`), { startImmediately: true }))
        yield* server.received(3)
        yield* eventually(stats, { active: 1, waiting: 1 })
        assert.sameMembers(
          server.requests.map((request) => request.path),
          ["/0", "/1", "/3"]
        )
      })
    )

    it.live("each origin has connections of its own", () =>
      Effect.gen(function* () {
        const a = yield* HostileServer.make(() => {})
        const b = yield* HostileServer.make((request) => request.answer())
        const pool = yield* poolOn(a, { size: 1 })
        yield* Effect.forkChild(pool.client.get("/hang"))
        yield* a.received(1)
        assert.strictEqual((yield* pool.client.get(`${b.origin}/`)).status, 200)
        const stats = Option.getOrThrow(yield* pool.hostStats(b.origin))
        assert.include(stats, { origin: b.origin, requests: 1, responses: 1, connectionsOpen: 1 })
        assert.isTrue(Option.isNone(yield* pool.hostStats("http://never.test")))
      })
    )

    it.live("maxHosts: the origin unused for longest makes room, and its sockets are closed", () =>
      Effect.gen(function* () {
        const servers = yield* Effect.forEach(times(3), () => HostileServer.make((request) => request.answer()))
        const [a, b, c] = servers
        const { client, stats } = yield* poolOn(a!, { maxHosts: 2 })
        yield* client.get("/")
        yield* client.get(`${b!.origin}/`)
        yield* client.get("/")
        yield* client.get(`${c!.origin}/`)
        yield* b!.allClosed
        assert.strictEqual(a!.open, 2)
        assert.include(yield* stats, { hosts: 2, requests: 4, responses: 4 })
      })
    )
  })

  describe("connections age", () => {
    it.live("maxRequestsPerConnection: replaced between two requests", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer())
        const { client } = yield* poolOn(server, { size: 2, maxRequestsPerConnection: 3 })
        for (let i = 0; i < 12; i++) yield* client.get("/")
        assert.deepStrictEqual(
          server.connections.map((connection) => connection.requests.length),
          [3, 3, 3, 3]
        )
        yield* server.until(() => server.open === 2)
      })
    )

    it.effect("maxConnectionAge: an old connection is replaced before the next request, never during one", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path !== "/long") request.answer()
        })
        const { client, events } = yield* poolOn(server, { size: 1, maxConnectionAge: 50 })
        const closings = yield* Effect.forkChild(
          events.pipe(
            Stream.filter((event) => event._tag === "ConnectionClosed"),
            Stream.take(1),
            Stream.runCollect
          ),
          { startImmediately: true }
        )
        const long = yield* Effect.forkChild(client.get("/long"))
        yield* server.received(1)
        yield* TestClock.adjust(80)
        assert.strictEqual(server.open, 1)
        server.requests[0]?.answer("late")
        assert.strictEqual(yield* (yield* Fiber.join(long)).text, "late")
        assert.strictEqual(server.open, 1)
        yield* client.get("/")
        assert.strictEqual(server.connections.length, 2)
        yield* server.until(() => server.open === 1)
        assert.include((yield* Fiber.join(closings))[0], { reason: "retired", slot: 0 })
      })
    )

    it.live("a new instance behind a balancer gets traffic as connections age", () =>
      Effect.gen(function* () {
        const instances = yield* Effect.forEach(times(2), () => HostileServer.make((request) => request.answer()))
        let known = 1
        let next = 0
        const balancer = Net.createServer((socket) => {
          const { port } = instances[next++ % known]!
          const behind = Net.connect(port, "127.0.0.1")
          socket.pipe(behind).pipe(socket)
          for (const end of [socket, behind]) {
            end.on("error", () => {})
            end.on("close", () => (end === socket ? behind : socket).destroy())
          }
        })
        const origin = `http://127.0.0.1:${yield* listening(balancer)}`
        const { client } = yield* poolOn({ origin }, { size: 4, maxRequestsPerConnection: 5 })
        for (let i = 0; i < 8; i++) yield* client.get("/")
        assert.strictEqual(instances[1]?.requests.length, 0)
        known = 2
        for (let i = 0; i < 40; i++) yield* client.get("/")
        // After the 20 requests of the old connections the two share what comes evenly.
        assert.isAtLeast(instances[1]?.requests.length ?? 0, 12)
      })
    )
  })

  describe("a slot that cannot connect", () => {
    it.live("is left out for a while, never more than half of them, and comes back", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        const ejection = { failures: 2, base: 100, max: 100 }
        const { client, events, stats } = yield* poolOn({ origin: `http://127.0.0.1:${port}` }, { size: 4, ejection })
        const log = yield* Ref.make<ReadonlyArray<string>>([])
        const back = yield* Deferred.make<void>()
        yield* Effect.forkChild(
          Stream.runForEach(events, (event) => {
            if (event._tag !== "SlotEjected" && event._tag !== "SlotRestored") return Effect.void
            return Ref.updateAndGet(log, (seen) => [...seen, `${event._tag} ${event.slot}`]).pipe(
              Effect.flatMap((seen) => (seen.length === 4 ? Deferred.succeed(back, undefined) : Effect.void))
            )
          }),
          { startImmediately: true }
        )
        for (let i = 0; i < 16; i++) {
          const error = yield* failsWith(client.get("/"), "ConnectError")
          assert.include(error, { phase: "tcp", sent: false })
        }
        assert.include(yield* stats, { ejected: 2, ejections: 2, failures: 16, active: 0 })
        const server = yield* HostileServer.make((request) => request.answer(), { port })
        for (let i = 0; i < 4; i++) yield* client.get("/")
        assert.strictEqual(server.connections.length, 2)
        yield* Deferred.await(back)
        assert.deepStrictEqual(yield* Ref.get(log), [
          "SlotEjected 0",
          "SlotEjected 1",
          "SlotRestored 0",
          "SlotRestored 1"
        ])
        for (let i = 0; i < 4; i++) yield* client.get("/")
        assert.strictEqual(server.connections.length, 4)
        assert.include(yield* stats, { ejected: 0, ejections: 2 })
      })
    )

    it.live("that is asked for by name fails on while it is ejected, and is ejected once", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        const ejection = { failures: 2, base: 60_000, max: 60_000 }
        const { slots, stats } = yield* poolOn({ origin: `http://127.0.0.1:${port}` }, { size: 4, ejection })
        for (let i = 0; i < 10; i++) yield* failsWith(slots[1]!.client.get("/"), "ConnectError")
        assert.include(yield* stats, { ejected: 1, ejections: 1 })
        assert.include(yield* slots[1]!.stats, { state: "ejected", requests: 10 })
      })
    )

    it.live("ejection: false never leaves one out", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        const { client, stats } = yield* poolOn({ origin: `http://127.0.0.1:${port}` }, { ejection: false })
        for (let i = 0; i < 100; i++) yield* failsWith(client.get("/"), "ConnectError")
        assert.include(yield* stats, { ejected: 0, ejections: 0, failures: 100 })
      })
    )
  })

  describe("on Effect's client", () => {
    it.live("cookies: kept and sent back, by withCookiesRef", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) =>
          request.answer(
            request.headers["cookie"] ?? "",
            request.path === "/login" ? "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" : ""
          )
        )
        const pool = yield* poolOn(server)
        const jar = yield* Ref.make<ReadonlyArray<Cookies.Cookie>>([])
        const client = HttpClient.withCookiesRef(pool.client, jar)
        const login = yield* client.get("/login")
        assert.strictEqual(Object.keys(login.cookies.cookies).join(), "a,b")
        assert.strictEqual(yield* (yield* client.get("/next")).text, "a=1; b=2")
        assert.strictEqual(yield* (yield* pool.client.get("/next")).text, "")
      })
    )

    it.live("redirects: followed, over the same pool; what is discarded frees its slot", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          const hop = Number(request.path.slice(1))
          if (hop === 0) request.answer("arrived")
          else request.answer("x".repeat(1000), `Location: /${hop - 1}\r\n`, 302)
        })
        const pool = yield* poolOn(server, { size: 1 })
        const client = HttpClient.followRedirects(pool.client, 5)
        assert.strictEqual(yield* (yield* client.get("/5")).text, "arrived")
        assert.strictEqual((yield* client.get("/6")).status, 302)
        assert.strictEqual((yield* pool.client.get("/1")).status, 302)
        assert.include(yield* pool.stats, { active: 0, waiting: 0 })
      })
    )

    it.live("redirects: credentials do not follow to another origin", () =>
      Effect.gen(function* () {
        const other = yield* HostileServer.make((request) => request.answer())
        const server = yield* HostileServer.make((request) =>
          request.answer(
            "",
            `Location: ${request.path === "/out" ? other.origin : ""}/in\r\n`,
            request.path === "/in" ? 200 : 307
          )
        )
        const headers = { "x-api-key": "default-secret" }
        const pool = yield* poolOn(server, { headers })
        const client = HttpClient.followRedirects(pool.client)
        const secrets = { headers: { authorization: "Bearer secret", cookie: "a=secret" } }
        yield* client.get("/same", secrets)
        assert.include(server.requests[1]?.headers, { authorization: "Bearer secret", "x-api-key": "default-secret" })
        yield* client.get("/out", secrets)
        assert.strictEqual(other.requests.length, 1)
        assert.notInclude(other.requests[0]?.head, "secret")
      })
    )

    it.live("a transformed client: mapRequestInput, mapRequest, transformResponse", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) =>
          request.answer(`${request.path} ${request.headers["x-a"]}`)
        )
        const pool = yield* poolOn(server, { baseUrl: `${server.origin}/api` })
        const client = pool.client.pipe(
          HttpClient.mapRequestInput(HttpClientRequest.prependUrl("v1")),
          HttpClient.mapRequest(HttpClientRequest.setHeader("x-a", "b")),
          HttpClient.filterStatusOk
        )
        assert.strictEqual(yield* (yield* client.get("/users")).text, "/api/v1/users b")
      })
    )

    it.live("errors of a transformed client are PoolErrors still", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.connection.end())
        const pool = yield* poolOn(server)
        const client = HttpClient.withScope(pool.client)
        const error = yield* failsWith(Effect.scoped(client.post("/")), "ConnectError")
        assert.include(error, { phase: "response", sent: true, attempts: 1 })
      })
    )

    it.live("withScope: the end of the scope frees the slot, by draining a little or aborting the rest", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => {
          if (request.path === "/endless") request.write("HTTP/1.1 200 OK\r\n\r\npart")
          else if (request.path === "/half") request.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
          else request.answer()
        })
        const pool = yield* poolOn(server, { size: 1, bodyBufferSize: 1024 })
        const client = HttpClient.withScope(pool.client)
        // Little is left: it is waited for, and the connection stays.
        yield* Effect.scoped(client.get("/half"))
        server.requests[0]?.write("half")
        yield* pool.client.get("/")
        assert.strictEqual(server.connections.length, 1)
        // Much is left.
        yield* Effect.scoped(client.get("/endless"))
        server.requests[2]?.write("x".repeat(2000))
        yield* pool.client.get("/")
        assert.strictEqual(server.connections.length, 2)
        assert.include(yield* pool.stats, { active: 0 })
      })
    )

    it.live("withScope: a body that was discarded is not an empty one", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) =>
          request.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        )
        const pool = yield* poolOn(server, { size: 1 })
        const response = yield* Effect.scoped(HttpClient.withScope(pool.client).get("/"))
        server.requests[0]?.write("half")
        yield* failsWith(response.text, "DecodeError")
        yield* failsWith(response.json, "DecodeError")
        yield* failsWith(Stream.runDrain(response.stream), "DecodeError")
      })
    )

    it.live("layerHttpClient under a generated client", () =>
      Effect.gen(function* () {
        class User extends Schema.Class<User>("User")({ id: Schema.Int, name: Schema.String }) {}
        const Api = HttpApi.make("Api").add(
          HttpApiGroup.make("users").add(
            HttpApiEndpoint.get("get", "/users/:id", { params: { id: Schema.String }, success: User }),
            HttpApiEndpoint.post("create", "/users", { payload: User, success: User })
          )
        )
        const server = yield* HostileServer.make((request) =>
          request.whole(() => {
            const body = request.method === "POST" ? request.text : JSON.stringify({ id: 7, name: request.path })
            request.answer(body, "Content-Type: application/json\r\n")
          })
        )
        yield* Effect.gen(function* () {
          const api = yield* HttpApiClient.make(Api)
          const got = yield* Effect.forEach(times(20), () => api.users.get({ params: { id: "7" } }), all)
          assert.deepStrictEqual(got[0], new User({ id: 7, name: "/api/users/7" }))
          const created = yield* api.users.create({ payload: new User({ id: 1, name: "one" }) })
          assert.strictEqual(created.name, "one")
          assert.include(yield* (yield* Pool.Pool).stats, { requests: 21, responses: 21, connectionsOpened: 4 })
        }).pipe(
          Effect.provide(
            Layer.provide(
              Pool.layerHttpClient({ baseUrl: `${server.origin}/api`, size: 4, drainTimeout: 0 }),
              UndiciConnector.layer
            )
          )
        )
        yield* server.allClosed
      })
    )

    it.live("layerHttpClient folds its errors, and fromHttpClientError gets them back", () =>
      Effect.gen(function* () {
        const port = yield* closedPort
        yield* Effect.gen(function* () {
          const error = yield* Effect.flip(HttpClient.get("/"))
          assert.strictEqual(error.reason._tag, "TransportError")
          yield* failsWith(HttpClient.get("/"), "ConnectError")
          const invalid = yield* Effect.flip(HttpClient.get("../up"))
          assert.strictEqual(invalid.reason._tag, "InvalidUrlError")
        }).pipe(
          Effect.provide(
            Layer.provide(Pool.layerHttpClient({ baseUrl: `http://127.0.0.1:${port}` }), UndiciConnector.layer)
          )
        )
      })
    )

    it.live("failOnStatus: the error holds the response, unread", () =>
      Effect.gen(function* () {
        const server = yield* HostileServer.make((request) => request.answer("gone", "", 410))
        const { client } = yield* poolOn(server, { failOnStatus: true })
        const error = yield* failsWith(client.get("/"), "ResponseError")
        assert.strictEqual(error.response.status, 410)
        assert.strictEqual(yield* error.response.text, "gone")
      })
    )
  })
})

const jsonBody = (body: unknown) => Effect.map(HttpClientRequest.bodyJson(HttpClientRequest.empty, body), (_) => _.body)
