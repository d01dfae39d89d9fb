/** A pool that follows its file: real files, real listeners. */
import { assert, describe, it } from "@effect/vitest"
import { ServerPool } from "@millrace/core"
import type { ConfigError } from "@millrace/core/server/ServerConfig"
import { ServerPoolError } from "@millrace/core/server/ServerError"
import type { ServerEvent } from "@millrace/core/server/ServerEvent"
import { Deferred, Effect, Logger, Option, Queue, Stream } from "effect"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as ConfigFile from "../src/ConfigFile.ts"
import * as NodeListener from "../src/NodeListener.ts"
import { selfSigned } from "./fixtures/certificate.ts"
import { text } from "./fixtures/listener.ts"
import { connect, connectTls, get } from "./fixtures/rawClient.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "millrace-follow-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const server = (name: string, more = "") => `  - { name: ${name}, bind: "127.0.0.1:0"${more} }\n`

/** A pool that runs what a file says, and follows it. */
const following = (first: string, before: (inside: string) => void = () => {}) =>
  Effect.gen(function* () {
    const inside = yield* directory
    before(inside)
    const file = Path.join(inside, "servers.yaml")
    Fs.writeFileSync(file, first)
    const handlers = { default: text("default."), other: text("other.") }
    const pool = yield* ServerPool.make({ ...(yield* ConfigFile.read(file)), handlers }).pipe(
      Effect.provide(NodeListener.layer)
    )
    yield* pool.start
    const events = yield* Queue.unbounded<ServerEvent>()
    yield* Effect.forkScoped(
      Stream.runForEach(pool.events, (event) => Queue.offer(events, event)),
      { startImmediately: true }
    )
    const errors = yield* Queue.unbounded<ConfigError | ServerPoolError>()
    const onError = (error: ConfigError | ServerPoolError) => Effect.asVoid(Queue.offer(errors, error))
    yield* ConfigFile.follow(pool, file, { debounce: "20 millis", interval: "1 hour", onError })
    const next = (tag: ServerEvent["_tag"]) =>
      Stream.runHead(Stream.filter(Stream.fromQueue(events), ({ _tag }) => _tag === tag))
    const reloaded = next("Reloaded")
    // The file as it was found.
    yield* reloaded
    const write = (next: string) =>
      Effect.sync(() => {
        Fs.writeFileSync(`${file}~`, next)
        Fs.renameSync(`${file}~`, file)
      })
    const portOf = (name: string) =>
      Effect.map(pool.servers, (servers) => servers.find((one) => one.name === name)?.address?.port ?? 0)
    return { pool, write, next, reloaded, error: Queue.take(errors), portOf }
  }).pipe(Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord({})))

const quiet = Effect.provide(Logger.layer([]))

describe("ConfigFile.follow", () => {
  it.live("reloads when the file changes, and applies only the difference", () =>
    Effect.gen(function* () {
      const { pool, portOf, reloaded, write } = yield* following(`httpServers:\n${server("a")}${server("b")}`)
      const before = yield* portOf("a")
      const client = yield* connect(before)
      client.send(get("/"))
      yield* client.take("default.")
      yield* write(`httpServers:\n${server("a", ", handler: other")}${server("c")}`)
      yield* reloaded
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["a", "c"])
      assert.strictEqual(yield* portOf("a"), before)
      assert.isAbove(yield* portOf("c"), 0)
      // On the same connection.
      client.send(get("/"))
      yield* client.take("other.")
    })
  )

  it.live("refuses a bad file, says why, keeps serving, and takes the next good one", () =>
    Effect.gen(function* () {
      const logged: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
      yield* Effect.gen(function* () {
        const { error, next, pool, portOf, reloaded, write } = yield* following(`httpServers:\n${server("a")}`)
        const client = yield* connect(yield* portOf("a"))
        yield* write(`httpServers:\n${server("a", ", handlr: other")}`)
        const unknown = yield* error
        assert.strictEqual(unknown._tag, "ConfigError")
        assert.include(unknown.message, "httpServers[0].handlr")
        assert.deepInclude(Option.getOrThrow(yield* next("ConfigRejected")), { error: unknown })
        // Only the pool knows its handlers.
        yield* write(`httpServers:\n${server("a", ", handler: nobody")}`)
        const nobody = yield* error
        assert.include(nobody.message, "nobody")
        assert.deepInclude(Option.getOrThrow(yield* next("ConfigRejected")), { error: nobody })
        yield* write("httpServers: [")
        const broken = yield* error
        assert.include(broken.message, "is not valid YAML")
        assert.deepInclude(Option.getOrThrow(yield* next("ConfigRejected")), { error: broken })
        assert.lengthOf(logged, 3)
        for (const line of logged) assert.match(line, /^Error .*servers\.yaml is not in force/)
        client.send(get("/"))
        yield* client.take("default.")
        yield* write(`httpServers:\n${server("a")}${server("b")}`)
        yield* reloaded
        assert.deepStrictEqual(yield* pool.list("name", "name"), ["a", "b"])
      }).pipe(Effect.provide(Logger.layer([logger])))
    })
  )

  it.live("a file that cannot come into force leaves all as it was", () =>
    Effect.gen(function* () {
      const { error, pool, portOf, write } = yield* following(`httpServers:\n${server("a")}`)
      const taken = yield* following(`httpServers:\n${server("taken")}`)
      const port = yield* taken.portOf("taken")
      yield* write(`httpServers:\n${server("a", ", handler: other")}  - { name: b, bind: "127.0.0.1:${port}" }\n`)
      const failed = yield* error
      assert.strictEqual(failed._tag, "ServerPoolError")
      assert.include(failed.message, "b")
      assert.deepStrictEqual(yield* pool.list("name", "name"), ["a"])
      const client = yield* connect(yield* portOf("a"))
      client.send(get("/"))
      yield* client.take("default.")
    }).pipe(quiet)
  )

  it.live("goes on when what is told of an error dies", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* directory, "servers.yaml")
      Fs.writeFileSync(file, "httpServers: [")
      const logged = yield* Queue.unbounded<string>()
      const logger = Logger.make(({ logLevel, message }) => {
        Queue.offerUnsafe(logged, `${logLevel} ${String(message)}`)
      })
      const servers = [{ name: "old", bind: ":1", cause: new Error("taken") }]
      const reload = () => Effect.fail(new ServerPoolError({ reason: "Restart", servers }))
      yield* ConfigFile.follow({ reload, reject: () => Effect.void }, file, {
        debounce: "20 millis",
        onError: () => Effect.die(new Error("nobody listens"))
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.match(yield* Queue.take(logged), /not in force; the servers are as before/)
      assert.match(yield* Queue.take(logged), /followed on, .*nobody listens/)
      Fs.writeFileSync(file, `httpServers:\n${server("a")}`)
      assert.match(yield* Queue.take(logged), /not in force; not all servers are as before: .*taken/s)
    })
  )

  it.live("what left and could not be stopped in order is a warning: the file is in force", () =>
    Effect.gen(function* () {
      const file = Path.join(yield* directory, "servers.yaml")
      Fs.writeFileSync(file, `httpServers:\n${server("a")}`)
      const logged = yield* Deferred.make<string>()
      const logger = Logger.make(({ logLevel, message }) => {
        Deferred.doneUnsafe(logged, Effect.succeed(`${logLevel} ${String(message)}`))
      })
      const servers = [{ name: "old", bind: ":1", cause: new Error("stuck") }]
      const reload = () => Effect.fail(new ServerPoolError({ reason: "Stop", servers }))
      yield* ConfigFile.follow({ reload, reject: () => Effect.void }, file).pipe(Effect.provide(Logger.layer([logger])))
      assert.match(yield* Deferred.await(logged), /^Warn .*servers\.yaml is in force: .*stuck/s)
    }).pipe(Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord({})))
  )

  it.live("another default TLS holds from the next handshake on", () =>
    Effect.gen(function* () {
      const [old, renewed] = [selfSigned("localhost"), selfSigned("localhost")]
      const put = (inside: string, name: string, { cert, key }: typeof old) => {
        Fs.writeFileSync(Path.join(inside, `${name}.crt`), cert)
        Fs.writeFileSync(Path.join(inside, `${name}.key`), key)
      }
      const file = (name: string) =>
        `httpServer:\n  tls: { certFile: ${name}.crt, keyFile: ${name}.key }\n` +
        `httpServers:\n${server("a", ", tls: { inherit: true }")}`
      const { portOf, reloaded, write } = yield* following(file("old"), (inside) => {
        put(inside, "old", old)
        put(inside, "new", renewed)
      })
      const port = yield* portOf("a")
      const first = yield* connectTls(port, { ca: old.cert })
      yield* write(file("new"))
      yield* reloaded
      const second = yield* connectTls(port, { ca: renewed.cert })
      for (const client of [first, second]) {
        client.send(get("/"))
        yield* client.take("default.")
      }
    })
  )
})
