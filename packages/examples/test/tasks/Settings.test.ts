import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Equal, FileSystem, Redacted, Schema } from "effect"
import * as Yaml from "effect/encoding/Yaml"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { fileURLToPath } from "node:url"
import * as Settings from "../../src/tasks/Settings.ts"

const shipped = fileURLToPath(new URL("../../src/tasks/config/config.yaml", import.meta.url))

/** The settings of a file with this text. */
const readText = Effect.fnUntraced(
  function* (text: string, environment: Record<string, string> = {}, name = "config.yaml") {
    const files = yield* FileSystem.FileSystem
    const file = `${yield* files.makeTempDirectoryScoped().pipe(Effect.orDie)}/${name}`
    yield* Effect.orDie(files.writeFileString(file, text))
    return yield* Settings.read({ file, environment })
  },
  Effect.scoped,
  Effect.provide(NodeFileSystem.layer)
)

/** What is wrong, one line each. */
const problems = <A, R>(read: Effect.Effect<A, { readonly problems: ReadonlyArray<Problem> }, R>) =>
  Effect.map(Effect.flip(read), (error) => error.problems.map(({ message, path }) => `${path}: ${message}`))

interface Problem {
  readonly path: string
  readonly message: string
}

const defaults = Settings.read({ environment: {} })

/** With secrets in plain text, so that two can be compared. */
const plain = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return ["redacted", Redacted.value(value)]
  if (Duration.isDuration(value)) return Duration.toMillis(value)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
}

const leaves = (value: unknown, path: ReadonlyArray<string> = []): ReadonlyArray<string> =>
  typeof value === "object" && value !== null && Object.keys(value).length > 0
    ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]))
    : [path.join(".")]

describe("Settings", () => {
  it.effect("without a file and without environment the service runs: embedded storage, stub work, stdout", () =>
    Effect.gen(function* () {
      const settings = yield* defaults
      assert.strictEqual(settings.server.bind, "127.0.0.1:8080")
      assert.strictEqual(settings.admin.bind, "127.0.0.1:6060")
      assert.deepStrictEqual(
        [settings.storage.type, settings.work.type, settings.logger.output_internal, settings.app.semaphore],
        ["internal", "stub", true, 16]
      )
      assert.isTrue(Equal.equals(settings.work.stub.min, Duration.minutes(3)))
      assert.isUndefined(settings.server.tls.cert_file)
    })
  )

  it.effect("config.yaml holds every key, each at its default", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const text = yield* files.readFileString(shipped)
      assert.deepStrictEqual(
        leaves(Yaml.parse(text)),
        Settings.keys.map(({ name }) => name)
      )
      const read = yield* Settings.read({ file: shipped, environment: {} })
      assert.deepStrictEqual(plain(read), plain(yield* defaults))
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("every key of config.yaml is explained or stands beside one that is", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const lines = (yield* files.readFileString(shipped)).split("\n").filter((line) => /^ *[a-z_]+:/.test(line))
      const obvious = /^ *(min|max|username|user|port):/
      assert.deepStrictEqual(
        lines.filter((line) => !line.includes(" # ") && !obvious.test(line)),
        []
      )
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("no two settings have the same environment variable", () =>
    Effect.sync(() => {
      const variables = Settings.keys.map(({ variable }) => variable)
      assert.strictEqual(new Set(variables).size, variables.length)
      assert.include(variables, "TASKS_APP_SEMAPHORE")
    })
  )

  it.effect("the environment wins over the file, and the file over the defaults", () =>
    Effect.gen(function* () {
      const settings = yield* readText("app:\n  semaphore: 4\n  poll: 2s\n", {
        TASKS_APP_SEMAPHORE: "8",
        TASKS_STORAGE_PASSWORD: " s3cret ",
        TASKS_LOGGER_OUTPUT_INTERNAL: "no",
        TASKS_WORK_STUB_FAILURE_RATE: "0.5",
        TASKS_STORAGE_HOST: ""
      })
      assert.strictEqual(settings.app.semaphore, 8)
      assert.strictEqual(Duration.toMillis(settings.app.poll), 2_000)
      assert.strictEqual(Redacted.value(settings.storage.password), " s3cret ")
      assert.isFalse(settings.logger.output_internal)
      assert.strictEqual(settings.work.stub.failure_rate, 0.5)
      assert.strictEqual(settings.storage.host, "127.0.0.1")
    })
  )

  it.effect("every setting can come from the environment, as the text that config.yaml has", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const tree: unknown = Yaml.parse(yield* files.readFileString(shipped))
      const at = (name: string): unknown =>
        name.split(".").reduce((value: unknown, key) => new Map(Object.entries(Object(value))).get(key), tree)
      const text = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value))
      const environment = Object.fromEntries(Settings.keys.map(({ name, variable }) => [variable, text(at(name))]))
      assert.deepStrictEqual(plain(yield* Settings.read({ environment })), plain(yield* defaults))
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.effect("all that is wrong is reported at once, by path or variable, with what was probably meant", () =>
    Effect.gen(function* () {
      const text = `
sever: {}
server: { bind: 8080, read_timeout: 5, readHeaderTimeout: 2s, tls: { cert_file: x } }
app: 5
logger:
clickhouse: { batch_inteval: 1m, try_connection_perod: 3s, batch_size: 20000 }
work: { type: http, stub: { min: 7m, failure_rate: 2 } }
storage: { ssl_mode: verify, migaret_src: "file:///x", prot: 1, need_migrate: maybe, zzzzzz: 1 }
`
      const environment = { TASKS_STORAGE_PROT: "1", TASKS_SERVER_WRITE_TIMEOUT: "-1s", TASKS_NONSENSE: "1" }
      assert.deepStrictEqual(yield* problems(readText(text, environment)), [
        "sever: unknown key; did you mean server?",
        "server.readHeaderTimeout: unknown key; did you mean read_header_timeout?",
        "clickhouse.batch_inteval: unknown key; did you mean batch_interval?",
        "clickhouse.try_connection_perod: unknown key; it is connection_interval now",
        "storage.migaret_src: unknown key; leave it out: the migrations are part of the program",
        "storage.prot: unknown key; did you mean port?",
        "storage.zzzzzz: unknown key",
        "TASKS_STORAGE_PROT: unknown environment variable; did you mean TASKS_STORAGE_PORT?",
        "TASKS_NONSENSE: unknown environment variable",
        'server.bind: must be an address such as "127.0.0.1:8080", ":8080" or "[::1]:8080", not 8080',
        'server.read_timeout: must be a duration with its unit, such as "5s", "1m30s" or "5 minutes", from 1 ms to 24 days, not 5',
        'TASKS_SERVER_WRITE_TIMEOUT: must be a duration with its unit, such as "5s", "1m30s" or "5 minutes", from 1 ms to 24 days, not "-1s"',
        "server.tls.key_file: must be given with cert_file",
        "app: must be a group of keys",
        "work.stub.failure_rate: must be a number from 0 to 1, not 2",
        "clickhouse.batch_size: must not be greater than buffer",
        'storage.ssl_mode: must be one of disable, require, verify-full, not "verify"',
        'storage.need_migrate: must be true or false, not "maybe"'
      ])
    })
  )

  it.effect("what only two keys together can get wrong is reported", () =>
    Effect.gen(function* () {
      const text = `
server: { read_header_timeout: 9s, tls: { key_file: k, client_auth: require } }
app: { lease: 1s }
work: { type: http, stub: { min: 7m } }
storage: { ca_file: ca.pem }
`
      assert.deepStrictEqual(yield* problems(readText(text)), [
        "server.tls.cert_file: must be given with key_file",
        "server.tls.client_ca_file: must be given where client_auth is not none",
        "app.lease: must be longer than poll",
        "work.stub.min: must not be longer than max",
        "storage.ca_file: is read only where ssl_mode is verify-full"
      ])
      assert.deepStrictEqual(yield* problems(readText("work: { type: http }\nserver: { read_timeout: 1s }")), [
        "server.read_header_timeout: must not be longer than read_timeout",
        "work.http.url: must be given where type is http"
      ])
    })
  )

  it.effect("no secret is in a message, nor in what is printed of settings", () =>
    Effect.gen(function* () {
      const text = `
storage: { password: 31337 }
clickhouse: { address: "http://me:hush-1@host:8123", password: [hush-2] }
work: { http: { url: "https://me:hush-3@host", token: { t: hush-4 }, headers: { x-key: [hush-5] } } }
`
      const found = yield* problems(
        readText(text, { TASKS_WORK_HTTP_HEADERS: "hush-6", TASKS_STORAGE_PASWORD: "hush-7" })
      )
      assert.strictEqual(found.length, 7)
      assert.notMatch(found.join("\n"), /hush|31337/)

      const settings = yield* readText("", {
        TASKS_STORAGE_PASSWORD: "hush",
        TASKS_WORK_HTTP_TOKEN: "hush",
        TASKS_WORK_HTTP_HEADERS: '{"x-key":"hush"}'
      })
      assert.notInclude(JSON.stringify(settings), "hush")
      assert.strictEqual(Redacted.value(settings.work.http.headers["x-key"] ?? Redacted.make("")), "hush")
      const hosts = (given: string) =>
        Effect.map(Settings.read({ environment: { TASKS_ADMIN_HOSTS: given } }), ({ admin }) => admin.hosts)
      assert.deepStrictEqual(yield* hosts('["a.internal", "b"]'), ["a.internal", "b"])
      assert.include((yield* Effect.flip(hosts('["a:6060"]'))).message, "names of hosts, without ports")
    })
  )

  it.effect("a file that cannot be read or understood says so, without what is in it", () =>
    Effect.gen(function* () {
      const environment = {}
      const [missing = ""] = yield* problems(Settings.read({ file: "/nowhere/config.yaml", environment }))
      assert.strictEqual(missing, "/nowhere/config.yaml: cannot be read: there is no such file")
      const [directory = ""] = yield* problems(Settings.read({ file: "/", environment }))
      assert.strictEqual(directory, "/: cannot be read: it is a directory")
      for (const [text, name, expected] of [
        ["a: [1", "config.yaml", /config\.yaml: is not valid YAML: Expected … at flow offset/],
        ["app: *hush", "config.yaml", /config\.yaml: is not valid YAML: Unknown YAML alias …$/],
        ["app: {}\napp: {}", "config.yaml", /config\.yaml: is not valid YAML: Duplicate key … at line 2$/],
        ["- a", "config.yaml", /config\.yaml: must hold keys and their values$/],
        ["just text", "config.yaml", /config\.yaml: must hold keys and their values$/],
        ['{"storage": {"password": "hush",,}}', "config.json", /config\.json: is not valid JSON: line 1 column 33$/]
      ] as const) {
        const [problem = ""] = yield* problems(readText(text, {}, name))
        assert.match(problem, expected)
      }
    })
  )

  it.effect("JSON is read too, and an empty file is one without settings", () =>
    Effect.gen(function* () {
      const settings = yield* readText('\uFEFF{"app": {"semaphore": 2}}', {}, "config.JSON")
      assert.strictEqual(settings.app.semaphore, 2)
      for (const text of ["", "# nothing\n", "app:\nserver:\n  tls:\n"]) {
        assert.deepStrictEqual(plain(yield* readText(text)), plain(yield* defaults))
      }
    })
  )

  it.effect("variables that Kubernetes and Docker set for a service called tasks are not taken for settings", () =>
    Effect.gen(function* () {
      const settings = yield* Settings.read({
        environment: {
          TASKS_SERVICE_HOST: "10.0.0.1",
          TASKS_SERVICE_PORT: "8080",
          TASKS_SERVICE_PORT_HTTP: "8080",
          TASKS_PORT: "tcp://10.0.0.1:8080",
          TASKS_PORT_8080_TCP: "tcp://10.0.0.1:8080",
          TASKS_PORT_8080_TCP_PROTO: "tcp",
          TASKS_PORT_8080_TCP_ADDR: "10.0.0.1",
          TASKS_STORAGE_SERVICE_HOST: "10.0.0.2",
          TASKS_STORAGE_PORT: "tcp://10.0.0.2:5432",
          TASKS_TEST_POSTGRES: "postgres://localhost",
          PATH: "/bin"
        }
      })
      assert.strictEqual(settings.storage.port, 5432)
    })
  )

  it.effect("durations are read as Go writes them, and as people do", () =>
    Effect.gen(function* () {
      for (const [text, millis] of [
        ["250ms", 250],
        ["3s", 3_000],
        ["1m30s", 90_000],
        ["1h0m0.5s", 3_600_500],
        ["5 minutes", 300_000],
        ["1 hour 30 min", 5_400_000],
        [" 1 day ", 86_400_000]
      ] as const) {
        const settings = yield* Settings.read({ environment: { TASKS_APP_LEASE: text, TASKS_APP_POLL: "1ms" } })
        assert.strictEqual(Duration.toMillis(settings.app.lease), millis, text)
      }
      for (const text of ["5", "s", "5 parsecs", "5s!", "-5s", "0s", "0", "1e3s", "Infinity", "25d", "5s 5"]) {
        assert.lengthOf(yield* problems(Settings.read({ environment: { TASKS_APP_LEASE: text } })), 1, text)
      }
      const settings = yield* Settings.read({ environment: { TASKS_APP_DRAIN_TIMEOUT: "0" } })
      assert.strictEqual(Duration.toMillis(settings.app.drain_timeout), 0)
    })
  )

  it.effect("addresses are those that a server can listen at", () =>
    Effect.gen(function* () {
      for (const bind of ["127.0.0.1:0", ":8080", "*:80", "[::1]:8080", "localhost:65535", "[fe80::1%eth0]:80"]) {
        assert.strictEqual((yield* Settings.read({ environment: { TASKS_SERVER_BIND: bind } })).server.bind, bind)
      }
      for (const bind of ["8080", "localhost", "::1:8080", "http://localhost:8080", ":65536", "a b:80"]) {
        assert.lengthOf(yield* problems(Settings.read({ environment: { TASKS_SERVER_BIND: bind } })), 1, bind)
      }
    })
  )

  it.effect("ClickHouse is spoken to by HTTP: the port of its native protocol is refused", () =>
    Effect.gen(function* () {
      const address = (text: string) => Settings.read({ environment: { TASKS_CLICKHOUSE_ADDRESS: text } })
      assert.strictEqual((yield* address("clickhouse:8123")).clickhouse.address, "http://clickhouse:8123")
      assert.strictEqual((yield* address("https://c:8443")).clickhouse.address, "https://c:8443")
      for (const wrong of ["clickhouse:9000", "tcp://clickhouse:8123", "http://a b", "http://me@host"]) {
        assert.lengthOf(yield* problems(address(wrong)), 1, wrong)
      }
      assert.lengthOf(yield* problems(readText("clickhouse: { database: 'a; drop table b' }")), 1)
    })
  )

  it.effect("settings are values of their schema", () =>
    Effect.gen(function* () {
      assert.isTrue(Schema.is(Settings.schema)(yield* defaults))
    })
  )
})
