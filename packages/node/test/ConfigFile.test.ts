import { assert, describe, it } from "@effect/vitest"
import type * as ServerConfig from "@millrace/core/server/ServerConfig"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import { appendFile, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as ConfigFile from "../src/ConfigFile.ts"
import { selfSigned } from "./fixtures/certificate.ts"

/** A directory that is gone after the test. */
const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "millrace-config-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

const environment = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))

const problemsOf = (error: ServerConfig.ConfigError) =>
  Object.fromEntries(error.problems.map(({ message, path }) => [path, message]))

const nothing = Effect.void

/** Reads `text` from a file of this name, with the environment, after `before` has prepared the directory. */
const reading = (
  name: string,
  text: string,
  options: ConfigFile.Options = {},
  env: Record<string, string> = {},
  before: (directory: string) => Effect.Effect<void> = () => nothing
) =>
  Effect.gen(function* () {
    const inside = yield* directory
    yield* before(inside)
    const file = Path.join(inside, name)
    Fs.writeFileSync(file, text)
    return yield* ConfigFile.read(file, options).pipe(environment(env))
  })

const list = (...binds: ReadonlyArray<string>): string =>
  `httpServers:\n${binds.map((bind) => `  - bind: "${bind}"\n`).join("")}`

const bindsOf = (change: ConfigFile.Change): ReadonlyArray<string> | string =>
  Result.isSuccess(change) ? change.success.servers.map(({ bind }) => bind) : change.failure.message

/** What `watch` gives, one by one; the first is already taken. */
const watching = (file: string, options: ConfigFile.WatchOptions = {}) =>
  Effect.gen(function* () {
    const changes = yield* Queue.unbounded<ConfigFile.Change>()
    yield* ConfigFile.watch(file, { debounce: "20 millis", interval: "1 hour", ...options }).pipe(
      Stream.runForEach((change) => Queue.offer(changes, change)),
      environment({}),
      Effect.forkScoped
    )
    const first = yield* Queue.take(changes)
    return { first, next: Queue.take(changes) }
  })

const replace = (file: string, text: string): void => {
  Fs.writeFileSync(`${file}~`, text)
  Fs.renameSync(`${file}~`, file)
}

describe("ConfigFile", () => {
  describe("read", () => {
    it.effect("reads YAML and JSON to the same", () =>
      Effect.gen(function* () {
        const yaml = yield* reading(
          "servers.yaml",
          "httpServer: { readTimeout: 1m }\nhttpServers:\n  - bind: :8080\n    keepAlive: no\n"
        )
        const tree = { httpServer: { readTimeout: "1m" }, httpServers: [{ bind: ":8080", keepAlive: false }] }
        assert.deepStrictEqual(yaml, {
          servers: [{ bind: ":8080", keepAlive: false, readTimeout: 60_000 }],
          tls: undefined
        })
        assert.deepStrictEqual(yield* reading("servers.json", JSON.stringify(tree)), yaml)
        assert.deepStrictEqual(yield* reading("servers", JSON.stringify(tree), { format: "json" }), yaml)
        assert.deepStrictEqual(
          yield* reading("servers", JSON.stringify({ a: { b: tree } }), { path: ["a", "b"] }),
          yaml
        )
      })
    )

    it.effect("the environment wins over the file", () =>
      Effect.gen(function* () {
        const env = { HTTP_SERVER_READ_TIMEOUT: "5s", HTTP_SERVERS_0_BIND: ":9" }
        const { servers } = yield* reading("s.yaml", `httpServer: { readTimeout: 1m }\n${list(":1")}`, {}, env)
        assert.deepStrictEqual(servers, [{ bind: ":9", readTimeout: 5_000 }])
        const other = yield* reading("s.yaml", list(":1"), { prefix: "GATE" }, { GATES_0_NAME: "x", ...env })
        assert.deepStrictEqual(other.servers, [{ bind: ":1", name: "x" }])
      })
    )

    it.effect("lists unknown keys and bad values all at once, with paths", () =>
      Effect.gen(function* () {
        const text = `
httpServer: { readTimeout: soon, tls: { certFile: gone.pem, keyFile: 3 } }
httpservers: []
httpServers:
  - { bind: "8080", colour: red }
  - { bind: ":1", handler: nobody, tls: { cert: x, certFile: y, keyFile: servers.yaml } }
`
        const error = yield* Effect.flip(reading("servers.yaml", text, { handlers: ["default"] }))
        const problems = problemsOf(error)
        assert.deepStrictEqual(Object.keys(problems).sort(), [
          "httpServer.readTimeout",
          "httpServer.tls.certFile",
          "httpServer.tls.keyFile",
          "httpServers[0].bind",
          "httpServers[0].colour",
          "httpServers[1].handler",
          "httpServers[1].tls.certFile",
          "httpServers[1].tls.keyFile",
          "httpservers"
        ])
        assert.strictEqual(problems["httpServer.tls.certFile"], "cannot be read: there is no such file")
        assert.strictEqual(problems["httpServer.tls.keyFile"], "must be the name of a file")
        assert.match(problems["httpServers[1].tls.keyFile"] ?? "", /a file without PEM text/)
        assert.match(problems["httpservers"] ?? "", /did you mean "httpServers"/)
      })
    )

    it.effect("takes certificates from files beside it", () =>
      Effect.gen(function* () {
        const { cert, key } = selfSigned("localhost")
        const text = `
httpServer: { tls: { certFile: tls.crt, keyFile: ./tls.key } }
httpServers:
  - { bind: ":1", tls: { inherit: true } }
  - { bind: ":2", tls: { certFile: tls.crt, keyFile: tls.key, caFile: tls.crt, clientAuth: require } }
`
        const found = yield* reading("servers.yaml", text, {}, {}, (inside) =>
          Effect.sync(() => {
            Fs.writeFileSync(Path.join(inside, "tls.crt"), cert)
            Fs.writeFileSync(Path.join(inside, "tls.key"), key)
          })
        )
        assert.strictEqual(found.tls?.cert, cert)
        const own = found.servers[1]?.tls
        assert.strictEqual(own?.cert, cert)
        assert.strictEqual(own?.ca, cert)
        assert.strictEqual(own?.key === undefined ? "" : Redacted.value(own.key), key)
        assert.notInclude(JSON.stringify(found), "PRIVATE KEY")
      })
    )

    it.effect.each([
      ["s.yaml", "", "is empty"],
      ["s.yaml", "# nothing\n", "is empty"],
      ["s.yaml", "- bind: ':1'", "must be an object"],
      ["s.yaml", "servers", "must be an object"],
      ["s.yaml", "httpServers:\n  - bind: ':1'\n bind: 2\n", "is not valid YAML: "],
      ["s.yaml", "httpServers:\n\t- bind: ':1'\n", "is not valid YAML: Tabs"],
      ["s.yaml", "httpServers: [{ bind: ':1', tls: { key: *S3CRET } }]", "is not valid YAML: Unknown alias at"],
      ["s.json", "", "is not valid JSON"],
      ["s.json", "null", "is empty"],
      ["s.json", '{ "key": S3CRET }', "is not valid JSON"],
      ["s.json", '{ "key": "S3CRET" ', "is not valid JSON"]
    ] as const)("refuses %s with %o", ([name, text, message]) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(reading(name, text))
        assert.strictEqual(error.problems.length, 1)
        assert.match(error.problems[0]?.path ?? "", new RegExp(`/${name.replace(".", "\\.")}$`))
        assert.isTrue(error.problems[0]?.message.startsWith(message), error.message)
        assert.notInclude(error.message, "S3CRET")
      })
    )

    it.effect("says where JSON ends to be JSON", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(reading("s.json", '{\n  "a": 1\n  "b": 2\n}'))
        assert.match(error.message, /is not valid JSON: line 3 column 3$/)
      })
    )

    it.effect("says why a file cannot be read", () =>
      Effect.gen(function* () {
        const inside = yield* directory
        const missing = yield* Effect.flip(ConfigFile.read(Path.join(inside, "none.yaml")))
        assert.match(missing.message, /none\.yaml: cannot be read: there is no such file$/)
        const folder = yield* Effect.flip(ConfigFile.read(inside))
        assert.match(folder.message, /cannot be read: it is a directory$/)
        const odd = yield* Effect.flip(ConfigFile.read("bad\0name.yaml"))
        assert.match(odd.message, /cannot be read: ERR_INVALID_ARG_VALUE$/)
      })
    )

    it.effect("a few lines of aliases that stand for millions of values are refused at once", () =>
      Effect.gen(function* () {
        const tens = Array.from({ length: 8 }, (_, n) => `a${n + 1}: &a${n + 1} [${`*a${n},`.repeat(10)}]`)
        const bomb = `a0: &a0 x\n${tens.join("\n")}\nhttpServers: *a8\n`
        const error = yield* Effect.flip(reading("s.yaml", bomb))
        assert.match(error.message, /s\.yaml: holds more than 100000 values, aliases included$/)
      })
    )

    it.effect("what is no file, or far too long, is not read", () =>
      Effect.gen(function* () {
        const pipe = Path.join(yield* directory, "pipe.yaml")
        execFileSync("mkfifo", [pipe])
        const waiting = yield* Effect.flip(ConfigFile.read(pipe))
        assert.match(waiting.message, /pipe\.yaml: cannot be read: it is a pipe or a device, not a file$/)
        const long = yield* Effect.flip(reading("long.yaml", `# ${"x".repeat(16 * 1024 * 1024)}`))
        assert.match(long.message, /long\.yaml: is longer than 16 MiB$/)
      })
    )

    it.effect("a file without servers is an error", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(reading("s.yaml", "other: 1\n"))
        assert.deepStrictEqual(Object.keys(problemsOf(error)), ["httpServers"])
        const inside = yield* Effect.flip(reading("s.yaml", "a: 1\nhttp_server: {}\n", { path: ["a", "b"] }))
        assert.deepStrictEqual(Object.keys(problemsOf(inside)), ["a.b.httpServers"])
        const near = problemsOf(yield* Effect.flip(reading("s.yaml", "http_server: {}\nHttpServers: []\n")))
        assert.deepStrictEqual(Object.keys(near).sort(), ["HttpServers", "httpServers", "http_server"])
        assert.strictEqual(near["http_server"], 'is not read; did you mean "httpServer"?')
      })
    )
  })

  describe("watch", () => {
    it.live("begins with the file as it is, and sees it written in place", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { first, next } = yield* watching(file)
        assert.deepStrictEqual(bindsOf(first), [":1"])
        Fs.writeFileSync(file, list(":1", ":2"))
        assert.deepStrictEqual(bindsOf(yield* next), [":1", ":2"])
        Fs.appendFileSync(file, '  - bind: ":3"\n')
        assert.deepStrictEqual(bindsOf(yield* next), [":1", ":2", ":3"])
      })
    )

    it.live("sees a file replaced by a rename, again and again", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { next } = yield* watching(file)
        for (const bind of [":2", ":3", ":4"]) {
          replace(file, list(bind))
          assert.deepStrictEqual(bindsOf(yield* next), [bind])
        }
      })
    )

    it.live("sees an editor that moves the old file away and writes another", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { next } = yield* watching(file)
        Fs.renameSync(file, `${file}~`)
        Fs.writeFileSync(file, list(":2"))
        assert.deepStrictEqual(bindsOf(yield* next), [":2"])
      })
    )

    it.live("sees a ConfigMap of Kubernetes: the link that its files lead through is swapped", () =>
      Effect.gen(function* () {
        const inside = yield* directory
        const file = Path.join(inside, "servers.yaml")
        const version = (n: number, text: string): void => {
          Fs.mkdirSync(Path.join(inside, `..v${n}`))
          Fs.writeFileSync(Path.join(inside, `..v${n}`, "servers.yaml"), text)
          Fs.symlinkSync(`..v${n}`, Path.join(inside, "..data_tmp"))
          Fs.renameSync(Path.join(inside, "..data_tmp"), Path.join(inside, "..data"))
          Fs.rmSync(Path.join(inside, `..v${n - 1}`), { recursive: true, force: true })
        }
        version(1, list(":1"))
        Fs.symlinkSync(Path.join("..data", "servers.yaml"), file)
        const { first, next } = yield* watching(file)
        assert.deepStrictEqual(bindsOf(first), [":1"])
        for (const n of [2, 3, 4]) {
          version(n, list(`:${n}`))
          assert.deepStrictEqual(bindsOf(yield* next), [`:${n}`])
        }
      })
    )

    it.live("sees a file in another directory that a link leads to", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        const target = Path.join(yield* directory, "target.yaml")
        Fs.writeFileSync(target, list(":1"))
        Fs.symlinkSync(target, file)
        const { next } = yield* watching(file)
        replace(target, list(":2"))
        assert.deepStrictEqual(bindsOf(yield* next), [":2"])
      })
    )

    it.live("looks from time to time for what the system does not tell, and hears again after it", () =>
      Effect.gen(function* () {
        const inside = yield* directory
        for (const n of [1, 2]) {
          Fs.mkdirSync(Path.join(inside, `v${n}`))
          Fs.writeFileSync(Path.join(inside, `v${n}`, "servers.yaml"), list(`:${n}`))
        }
        const current = Path.join(inside, "current")
        Fs.symlinkSync("v1", current)
        // The link is further up than what is watched.
        const { next } = yield* watching(Path.join(current, "servers.yaml"), { interval: "30 millis" })
        Fs.symlinkSync("v2", `${current}~`)
        Fs.renameSync(`${current}~`, current)
        assert.deepStrictEqual(bindsOf(yield* next), [":2"])
        replace(Path.join(inside, "v2", "servers.yaml"), list(":3"))
        assert.deepStrictEqual(bindsOf(yield* next), [":3"])
      })
    )

    it.live("a bad file is an element that says why, and not the end", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { next } = yield* watching(file)
        replace(file, list("8080"))
        const refused = yield* next
        assert.isTrue(Result.isFailure(refused) && refused.failure._tag === "ConfigError")
        assert.match(String(bindsOf(refused)), /httpServers\[0\]\.bind: must be an address/)
        replace(file, "httpServers: [")
        assert.match(String(bindsOf(yield* next)), /is not valid YAML/)
        Fs.rmSync(file)
        assert.match(String(bindsOf(yield* next)), /there is no such file/)
        Fs.writeFileSync(file, list(":2"))
        assert.deepStrictEqual(bindsOf(yield* next), [":2"])
      })
    )

    it.live("a name that no file can have is an element, and not the end", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        const certificate = (name: string) => `httpServers: [{ bind: ":1", tls: { certFile: ${name}, keyFile: k } }]`
        Fs.writeFileSync(file, certificate('"\\0/a.pem"'))
        const { first, next } = yield* watching(file)
        assert.isTrue(Result.isFailure(first))
        Fs.writeFileSync(file, certificate(`${"x".repeat(300)}/a.pem`))
        assert.isTrue(Result.isFailure(yield* next))
        Fs.writeFileSync(file, "httpServers: []")
        assert.isTrue(Result.isSuccess(yield* next))
      })
    )

    it.live("waits for a file that is not there yet", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        const { first, next } = yield* watching(file)
        assert.match(String(bindsOf(first)), /there is no such file/)
        Fs.writeFileSync(file, list(":1"))
        assert.deepStrictEqual(bindsOf(yield* next), [":1"])
      })
    )

    it.live("the same text again, and other files, are no change", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { next } = yield* watching(file)
        replace(file, list(":1"))
        Fs.writeFileSync(`${file}.bak`, list(":9"))
        Fs.utimesSync(file, 1, 1)
        replace(file, list(":2"))
        assert.deepStrictEqual(bindsOf(yield* next), [":2"])
      })
    )

    it.live("what is written in pieces is seen as a whole", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const { next } = yield* watching(file, { debounce: "500 millis" })
        // Written without a pause for longer than the file must stay the same.
        const begun = performance.now()
        const binds: Array<string> = []
        yield* Effect.promise(() => writeFile(file, "httpServers:\n"))
        for (let passed = 0; passed < 600; passed = performance.now() - begun) {
          // Servers are slow to check, comments are not: however fast the disk is, there are a few of the one only.
          const bind = `127.0.0.1:${1024 + binds.length}`
          const next = passed >= binds.length * 20
          yield* Effect.promise(() => appendFile(file, next ? `  - { bind: "${bind}" }\n` : "  # and\n"))
          if (next) binds.push(bind)
        }
        assert.deepStrictEqual(bindsOf(yield* next), binds)
      })
    )

    it.live("sees a certificate that is renewed", () =>
      Effect.gen(function* () {
        const inside = yield* directory
        const secrets = yield* directory
        const install = ({ cert, key }: { readonly cert: string; readonly key: string }): void => {
          replace(Path.join(secrets, "tls.key"), key)
          replace(Path.join(secrets, "tls.crt"), cert)
        }
        const [old, renewed] = [selfSigned("a.test"), selfSigned("b.test")]
        install(old)
        const file = Path.join(inside, "servers.yaml")
        const [certFile, keyFile] = ["tls.crt", "tls.key"].map((name) => Path.join(secrets, name))
        Fs.writeFileSync(file, `httpServers: [{ bind: ":1", tls: { certFile: ${certFile}, keyFile: ${keyFile} } }]`)
        const certOf = (change: ConfigFile.Change) =>
          Result.isSuccess(change) ? change.success.servers[0]?.tls?.cert : change.failure.message
        const { first, next } = yield* watching(file)
        assert.strictEqual(certOf(first), old.cert)
        install(renewed)
        assert.strictEqual(certOf(yield* next), renewed.cert)
      })
    )

    it.live("the latest is next for who takes his time", () =>
      Effect.gen(function* () {
        const file = Path.join(yield* directory, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const seen = yield* ConfigFile.watch(file, { debounce: "10 millis", interval: "1 hour" }).pipe(
          Stream.tap(() => Effect.sync(() => replace(file, list(":2")))),
          Stream.takeUntil((change) => bindsOf(change)[0] === ":2"),
          Stream.runCollect,
          environment({})
        )
        assert.deepStrictEqual(seen.map(bindsOf), [[":1"], [":2"]])
      })
    )

    // Linux tells which directories a process watches.
    it.live.skipIf(process.platform !== "linux")("ends with its scope, and leaves no watch behind", () =>
      Effect.gen(function* () {
        const inside = yield* directory
        const file = Path.join(inside, "servers.yaml")
        Fs.writeFileSync(file, list(":1"))
        const inode = ` ino:${Fs.statSync(inside).ino.toString(16)} `
        const isWatched = () =>
          Fs.readdirSync("/proc/self/fdinfo").some((name) => {
            const info = Path.join("/proc/self/fdinfo", name)
            return Fs.existsSync(info) && Fs.readFileSync(info, "utf8").includes(inode)
          })
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* watching(file)
            assert.isTrue(isWatched())
          })
        )
        assert.isFalse(isWatched())
        const taken = yield* ConfigFile.watch(file).pipe(Stream.take(1), Stream.runCollect, environment({}))
        assert.strictEqual(taken.length, 1)
        assert.isFalse(isWatched())
      })
    )
  })
})
