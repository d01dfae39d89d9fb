import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Yaml from "effect/encoding/Yaml"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { rows } from "../../src/server/internal/serverOptions.ts"
import * as ServerConfig from "../../src/server/ServerConfig.ts"

const pem = (what: string): string => `-----BEGIN ${what}-----\nS3CRET\n-----END ${what}-----\n`
const cert = pem("CERTIFICATE")
const ca = pem("CERTIFICATE")
const key = Redacted.make(pem("PRIVATE KEY"))

/** Options as a file or JavaScript may bring them: of no known type. */
const untyped = (input: unknown): ServerConfig.Options => Object(input)

const problemsOf = (error: ServerConfig.ConfigError) =>
  Object.fromEntries(error.problems.map(({ message, path }) => [path, message]))

const refusedAll = (servers: ReadonlyArray<ServerConfig.Options>, around?: ServerConfig.Surroundings) =>
  Effect.map(Effect.flip(ServerConfig.resolveAll(servers, around)), problemsOf)

const withProvider = (provider: ConfigProvider.ConfigProvider) =>
  Effect.provideService(ConfigProvider.ConfigProvider, provider)

const fromEnv = (env: Record<string, string>) =>
  ServerConfig.fromConfig().pipe(withProvider(ConfigProvider.fromEnvRecord(env)))

const fromBoth = (env: Record<string, string>, text: string) =>
  ServerConfig.fromConfig().pipe(
    withProvider(ConfigProvider.orElse(ConfigProvider.fromEnvRecord(env), ConfigProvider.fromUnknown(Yaml.parse(text))))
  )

const fromYaml = (text: string) => fromBoth({}, text)

describe("ServerConfig", () => {
  describe("defaults", () => {
    it.effect("are those of the design", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* ServerConfig.resolve({ bind: ":8080" }), {
          name: ":8080",
          bind: { text: ":8080", key: ":8080", host: undefined, port: 8080 },
          expose: new URL("http://localhost:8080"),
          handler: "default",
          disabled: false,
          settings: {
            tls: undefined,
            readTimeout: 300_000,
            readHeaderTimeout: 10_000,
            writeTimeout: Infinity,
            idleTimeout: 75_000,
            maxHeaderBytes: 16_384,
            maxBodyBytes: Infinity,
            maxConnections: Infinity,
            keepAlive: true
          },
          drainTimeout: 10_000,
          drainDelay: 0,
          monitor: undefined
        })
      })
    )

    it.effect("a connection idles longer than AWS' balancers keep it", () =>
      Effect.gen(function* () {
        const { settings } = yield* ServerConfig.resolve({ bind: ":0" })
        assert.isAbove(settings.idleTimeout, 60_000)
      })
    )

    it.effect("of the monitor", () =>
      Effect.gen(function* () {
        const monitor = { path: "/", interval: 10_000, timeout: 5_000, rise: 2, fall: 3 }
        const of = (given: ServerConfig.Options["monitor"]) =>
          Effect.map(ServerConfig.resolve({ bind: ":0", monitor: given }), (config) => config.monitor)
        assert.deepStrictEqual(yield* of(true), monitor)
        assert.deepStrictEqual(yield* of({}), monitor)
        assert.isUndefined(yield* of(false))
        assert.deepStrictEqual(yield* of({ path: "/up?deep=1", interval: "1 second", rise: 1, fall: 1 }), {
          path: "/up?deep=1",
          interval: 1_000,
          timeout: 1_000,
          rise: 1,
          fall: 1
        })
      })
    )

    it.effect("the head of a request has no more time than the request", () =>
      Effect.gen(function* () {
        const { settings } = yield* ServerConfig.resolve({ bind: ":0", readTimeout: "5 seconds" })
        assert.strictEqual(settings.readHeaderTimeout, 5_000)
      })
    )

    it.effect("expose follows bind and TLS, and takes the port that the system chose", () =>
      Effect.gen(function* () {
        const plain = yield* ServerConfig.resolve({ bind: "127.0.0.1:0" })
        assert.strictEqual(ServerConfig.withPort(plain, 4711).expose.href, "http://127.0.0.1:4711/")
        assert.strictEqual(plain.expose.port, "0")
        const secure = yield* ServerConfig.resolve({ bind: ":443", tls: { cert, key } })
        assert.strictEqual(secure.expose.href, "https://localhost/")
        const given = yield* ServerConfig.resolve({ bind: ":0", expose: "https://api.test/v1" })
        assert.strictEqual(ServerConfig.withPort(given, 4711), given)
      })
    )

    it("stand in the documentation of every member", () => {
      const source = readFileSync(new URL("../../src/server/ServerConfig.ts", import.meta.url), "utf8")
      const options = source.slice(source.indexOf("export interface Options"))
      for (const { field, path } of rows) {
        const name = path.at(-1) ?? ""
        if (path.length > 1 || field.defaultText === "" || name === "bind") continue
        const member = options.slice(0, options.indexOf(`readonly ${name}?:`))
        const comment = member.slice(member.lastIndexOf("/**"))
        assert.include(comment.replaceAll("`", ""), `Default: ${field.defaultText}`, name)
      }
    })
  })

  describe("resolve", () => {
    it.effect("keeps what it is given", () =>
      Effect.gen(function* () {
        const config = yield* ServerConfig.resolve({
          name: "public",
          bind: "[::1]:8443",
          expose: new URL("https://api.test/v1"),
          handler: "api",
          disabled: true,
          readTimeout: "1 minute",
          readHeaderTimeout: Duration.seconds(3),
          writeTimeout: 20_000,
          idleTimeout: "Infinity",
          maxHeaderBytes: 8_192,
          maxBodyBytes: 0,
          maxConnections: 7,
          keepAlive: false,
          drainTimeout: 0,
          drainDelay: "5 seconds",
          tls: { cert, key, ca: [ca, ca], clientAuth: "require", minVersion: "TLSv1.3" }
        })
        assert.deepStrictEqual(
          { ...config, expose: config.expose.href, settings: { ...config.settings, tls: undefined } },
          {
            name: "public",
            bind: { text: "[::1]:8443", key: "[::1]:8443", host: "::1", port: 8443 },
            expose: "https://api.test/v1",
            handler: "api",
            disabled: true,
            settings: {
              tls: undefined,
              readTimeout: 60_000,
              readHeaderTimeout: 3_000,
              writeTimeout: 20_000,
              idleTimeout: Infinity,
              maxHeaderBytes: 8_192,
              maxBodyBytes: 0,
              maxConnections: 7,
              keepAlive: false
            },
            drainTimeout: 0,
            drainDelay: 5_000,
            monitor: undefined
          }
        )
        const { tls } = config.settings
        assert.deepStrictEqual(tls?.ca, [ca, ca])
        assert.strictEqual(tls?.clientAuth, "require")
        assert.strictEqual(tls?.minVersion, "TLSv1.3")
        assert.strictEqual(tls === undefined ? "" : Redacted.value(tls.key), Redacted.value(key))
      })
    )

    it.effect.each([
      ["bind", {}, /^is missing: the address to accept on/],
      ["bind", { bind: "8080" }, /write ":8080"$/],
      ["bind", { bind: 8080 }, /must be an address/],
      ["name", { bind: ":1", name: "" }, /text of 1 to 100/],
      ["expose", { bind: ":1", expose: "localhost:8080" }, /absolute http or https URL/],
      ["handler", { bind: ":1", handler: 3 }, /text/],
      ["handler", { bind: ":1", handler: "adnin" }, /"adnin", which is not the key of a handler; did you mean "admin"/],
      ["disabled", { bind: ":1", disabled: "no" }, /true or false/],
      ["readTimeout", { bind: ":1", readTimeout: 0 }, /from 1 ms/],
      [
        "readHeaderTimeout",
        { bind: ":1", readTimeout: "1 second", readHeaderTimeout: "2 seconds" },
        /at most readTimeout/
      ],
      ["drainTimeout", { bind: ":1", drainTimeout: "Infinity" }, /from 0 ms to 24 days/],
      ["drainDelay", { bind: ":1", drainDelay: -1 }, /from 0 ms/],
      ["maxHeaderBytes", { bind: ":1", maxHeaderBytes: 100 }, /from 1024/],
      ["maxBodyBytes", { bind: ":1", maxBodyBytes: -1 }, /0/],
      ["maxConnections", { bind: ":1", maxConnections: 0 }, /at least 1/],
      ["monitor", { bind: ":1", monitor: "on" }, /an object, true for its defaults/],
      ["monitor.path", { bind: ":1", monitor: { path: "health" } }, /a path such as "\/health"/],
      ["monitor.path", { bind: ":1", monitor: { path: "//evil.test" } }, /a path/],
      ["monitor.path", { bind: ":1", monitor: { path: "/a b\r\n" } }, /a path/],
      ["monitor.timeout", { bind: ":1", monitor: { interval: 1000, timeout: 2000 } }, /at most interval/],
      ["readTimout", { bind: ":1", readTimout: 1 }, /did you mean "readTimeout"/],
      ["tls", { bind: ":1", tls: true }, /must be an object/],
      [
        "tls.cert",
        { bind: ":1", tls: {} },
        /^is missing: give cert and key, `inherit: true`, or say `required: false`/
      ],
      ["tls.cert", { bind: ":1", tls: { key } }, /^is missing: key needs it/],
      ["tls.key", { bind: ":1", tls: { cert } }, /^is missing: cert needs it/],
      ["tls.cert", { bind: ":1", tls: { cert: "/etc/tls/tls.crt", key } }, /not the name of a file/],
      ["tls.key", { bind: ":1", tls: { cert, key: "text" } }, /wrapped in Redacted/],
      ["tls.inherit", { bind: ":1", tls: { inherit: true } }, /^finds no certificate in the pool's default TLS/],
      [
        "tls.ca",
        { bind: ":1", tls: { cert, key, clientAuth: "require" } },
        /^is missing: clientAuth "require" needs it/
      ],
      ["tls.clientAuth", { bind: ":1", tls: { cert, key, ca } }, /ca does nothing without/],
      ["tls.minVersion", { bind: ":1", tls: { cert, key, minVersion: "TLSv1.1" } }, /one of "TLSv1.2", "TLSv1.3"/]
    ] as const)("refuses %s of %o", ([path, options, message]) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(ServerConfig.resolve(untyped(options), { handlers: ["default", "admin"] }))
        assert.deepStrictEqual(Object.keys(problemsOf(error)), [path])
        assert.match(problemsOf(error)[path] ?? "", message)
        assert.notInclude(error.message, "S3CRET")
      })
    )

    it.effect("refuses what is no server", () =>
      Effect.gen(function* () {
        for (const input of [null, "x", 3, []]) {
          const error = yield* Effect.flip(ServerConfig.resolve(JSON.parse(JSON.stringify(input))))
          assert.strictEqual(problemsOf(error)["options"], "must be an object")
        }
      })
    )
  })

  describe("resolveAll", () => {
    it.effect("takes HTTP and HTTPS in one list", () =>
      Effect.gen(function* () {
        const configs = yield* ServerConfig.resolveAll([{ bind: ":8080" }, { bind: ":8443", tls: { cert, key } }])
        assert.deepStrictEqual(
          configs.map(({ expose }) => expose.protocol),
          ["http:", "https:"]
        )
      })
    )

    it.effect("reports all problems of all servers at once", () =>
      Effect.gen(function* () {
        const problems = yield* refusedAll(
          [
            { bind: ":8080", readTimeout: -1, handler: "nobody" },
            untyped({ name: "lost" }),
            { name: "again", bind: "[::]:8080", tls: { inherit: true } },
            { bind: "nonsense", tls: {} },
            JSON.parse("3")
          ],
          { handlers: ["default"] }
        )
        assert.deepStrictEqual(Object.keys(problems).sort(), [
          "servers[0].handler",
          "servers[0].readTimeout",
          "servers[1].bind",
          "servers[2].bind",
          "servers[2].tls.inherit",
          "servers[3].bind",
          "servers[3].tls.cert",
          "servers[4]"
        ])
        assert.match(problems["servers[2].bind"] ?? "", /^is the address of server 0 \(":8080", :8080\): one address/)
      })
    )

    it.effect("binds are unique after normalisation", () =>
      Effect.gen(function* () {
        const binds = ["LOCALHOST:1", "localhost:1", "[::1]:2", "[0::1]:2", "127.0.0.1:3", ":3"]
        const problems = yield* refusedAll(binds.map((bind) => ({ bind })))
        assert.deepStrictEqual(Object.keys(problems), ["servers[1].bind", "servers[3].bind", "servers[5].bind"])
        assert.match(problems["servers[5].bind"] ?? "", /^is within, or takes in, the address of server 4/)
      })
    )

    it.effect("port 0 is never a duplicate", () =>
      Effect.gen(function* () {
        const configs = yield* ServerConfig.resolveAll([{ bind: ":0" }, { bind: ":0" }, { bind: "127.0.0.1:0" }])
        assert.strictEqual(configs.length, 3)
      })
    )

    it.effect("a handler must be known where the handlers are", () =>
      Effect.gen(function* () {
        const servers = [{ bind: ":1", handler: "api" }]
        yield* ServerConfig.resolveAll(servers)
        yield* ServerConfig.resolveAll(servers, { handlers: new Set(["api"]) })
        assert.deepStrictEqual(yield* refusedAll(servers, { handlers: [] }), {
          "servers[0].handler": 'is "api", which is not the key of a handler; there is none'
        })
      })
    )

    it.effect("a disabled server is checked all the same", () =>
      Effect.gen(function* () {
        const problems = yield* refusedAll([{ bind: ":1" }, { bind: ":1", disabled: true, tls: {} }])
        assert.deepStrictEqual(Object.keys(problems), ["servers[1].tls.cert", "servers[1].bind"])
      })
    )

    it.effect("refuses what is no list", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* refusedAll(Object({ bind: ":1" })), { servers: "must be a list of servers" })
      })
    )
  })

  describe("TLS", () => {
    const other = { cert: pem("CERTIFICATE").replace("S3CRET", "OTHER"), key: Redacted.make(pem("PRIVATE KEY")) }
    const tlsOf = (tls: ServerConfig.TlsOptions, defaults?: ServerConfig.DefaultTls) =>
      Effect.map(ServerConfig.resolve({ bind: ":1", tls }, { tls: defaults }), ({ settings }) => settings.tls)

    it.effect("the default makes no server secure that does not inherit it", () =>
      Effect.gen(function* () {
        const config = yield* ServerConfig.resolve({ bind: ":1" }, { tls: { cert, key } })
        assert.isUndefined(config.settings.tls)
      })
    )

    it.effect("what is inherited stands under a server's own", () =>
      Effect.gen(function* () {
        const defaults = { cert, key, ca, clientAuth: "require", minVersion: "TLSv1.3" } as const
        const tls = yield* tlsOf({ inherit: true, clientAuth: "request" }, defaults)
        assert.strictEqual(tls?.cert, cert)
        assert.strictEqual(tls?.ca, ca)
        assert.strictEqual(tls?.clientAuth, "request")
        assert.strictEqual(tls?.minVersion, "TLSv1.3")
      })
    )

    it.effect("certificate and key come from the same place", () =>
      Effect.gen(function* () {
        const own = yield* tlsOf({ inherit: true, ...other }, { cert, key })
        assert.strictEqual(own?.cert, other.cert)
        const error = yield* Effect.flip(tlsOf({ inherit: true, cert: other.cert }, { cert, key }))
        assert.deepStrictEqual(Object.keys(problemsOf(error)), ["tls.key"])
      })
    )

    it.effect("is plain only where it is said not to be required", () =>
      Effect.gen(function* () {
        assert.isUndefined(yield* tlsOf({ required: false }))
        assert.isUndefined(yield* tlsOf({ required: false, inherit: true }))
        assert.isDefined(yield* tlsOf({ required: false, inherit: true }, { cert, key }))
        yield* Effect.flip(tlsOf({ required: true, inherit: true }))
      })
    )

    it.effect("the default is checked too, once", () =>
      Effect.gen(function* () {
        const servers = [
          { bind: ":1", tls: { inherit: true, required: false } },
          { bind: ":2", tls: { inherit: true, required: false } }
        ]
        assert.deepStrictEqual(yield* refusedAll(servers, { tls: { cert } }), {
          "tls.key": "is missing: cert needs it"
        })
        assert.deepStrictEqual(yield* refusedAll(servers, { tls: Object({ certt: cert }) }), {
          "tls.certt": 'is not an option; did you mean "cert"?'
        })
      })
    )
  })

  describe("lists", () => {
    it.effect("setHandler gives all servers one handler", () =>
      Effect.gen(function* () {
        const servers = ServerConfig.setHandler([{ bind: ":1" }, { bind: ":2", handler: "b" }], "a")
        const configs = yield* ServerConfig.resolveAll(servers)
        assert.deepStrictEqual(
          configs.map(({ handler }) => handler),
          ["a", "a"]
        )
      })
    )

    it.effect("setDefaultTls does what the default of resolveAll does", () =>
      Effect.gen(function* () {
        const defaults = { cert, key, ca, clientAuth: "require", minVersion: "TLSv1.3" } as const
        const own = { cert: ca, key }
        const servers: ReadonlyArray<ServerConfig.Options> = [
          { bind: ":1" },
          { bind: ":2", tls: { inherit: true } },
          { bind: ":3", tls: { ...own, inherit: true, clientAuth: "request", ca: [ca] } },
          { bind: ":4", tls: own }
        ]
        assert.deepStrictEqual(
          yield* ServerConfig.resolveAll(ServerConfig.setDefaultTls(servers, defaults)),
          yield* ServerConfig.resolveAll(servers, { tls: defaults })
        )
      })
    )
  })

  describe("diff", () => {
    const all = (...servers: ReadonlyArray<ServerConfig.Options>) => ServerConfig.resolveAll(servers)
    const named = (servers: ReadonlyArray<ServerConfig.ServerConfig>) => servers.map(({ name }) => name)

    it.effect("tells what was added, removed, changed and is the same", () =>
      Effect.gen(function* () {
        const before = yield* all({ name: "a", bind: ":1" }, { name: "b", bind: ":2" }, { name: "c", bind: ":3" })
        const after = yield* all(
          { name: "c", bind: "[::]:3" },
          { name: "d", bind: ":4" },
          { name: "b", bind: ":2", idleTimeout: "90 seconds" }
        )
        const { added, changed, removed, same } = ServerConfig.diff(before, after)
        assert.deepStrictEqual([added, removed, same].map(named), [["d"], ["a"], ["c"]])
        assert.deepStrictEqual(
          changed.map(({ fields, touches }) => [fields, [...touches]]),
          [[["idleTimeout"], ["backend"]]]
        )
        assert.strictEqual(changed[0]?.before, before[1])
        assert.strictEqual(changed[0]?.after, after[2])
      })
    )

    const tls = { cert, key, ca, clientAuth: "request" } as const
    const pair = { cert: cert.replace("S3", "S4"), key: Redacted.make(pem("PRIVATE KEY").replace("S3", "S4")) }
    it.effect.each([
      [{ name: "x" }, ["name"], ["pool"]],
      [{ expose: "https://x.test" }, ["expose"], ["pool"]],
      [{ disabled: true }, ["disabled"], ["running"]],
      [{ handler: "x" }, ["handler"], ["handler"]],
      [{ readTimeout: 20_000 }, ["readTimeout"], ["backend"]],
      [{ readHeaderTimeout: 1 }, ["readHeaderTimeout"], ["backend"]],
      [{ writeTimeout: 1 }, ["writeTimeout"], ["backend"]],
      [{ idleTimeout: 1 }, ["idleTimeout"], ["backend"]],
      [{ maxHeaderBytes: 2048 }, ["maxHeaderBytes"], ["backend"]],
      [{ maxBodyBytes: 2048 }, ["maxBodyBytes"], ["backend"]],
      [{ maxConnections: 1 }, ["maxConnections"], ["backend"]],
      [{ keepAlive: false }, ["keepAlive"], ["backend"]],
      [{ drainTimeout: 1 }, ["drainTimeout"], ["pool"]],
      [{ drainDelay: 1 }, ["drainDelay"], ["pool"]],
      [{ monitor: true }, ["monitor"], ["pool"]],
      [{ tls: { ...tls, ...pair } }, ["tls.cert", "tls.key"], ["certificates"]],
      [{ tls: { ...tls, ca: [ca] } }, ["tls.ca"], ["certificates"]],
      [{ tls: { ...tls, minVersion: "TLSv1.3" } }, ["tls.minVersion"], ["certificates"]],
      [{ tls: { ...tls, clientAuth: "require" } }, ["tls.clientAuth"], ["backend"]],
      [{ tls: undefined }, ["expose", "tls"], ["pool", "backend"]],
      [{ handler: "x", drainDelay: 1 }, ["handler", "drainDelay"], ["handler", "pool"]],
      [{ readTimeout: 300_000, tls: { ...tls, key: Redacted.make(Redacted.value(key)) } }, [], []]
    ] as const)("%o changes %o and touches %o", ([options, fields, touches]) =>
      Effect.gen(function* () {
        const before = yield* ServerConfig.resolve({ bind: ":1", tls })
        const after = yield* ServerConfig.resolve({ bind: ":1", tls, ...options })
        const change = ServerConfig.compare(before, after)
        assert.deepStrictEqual(change?.fields ?? [], fields)
        assert.deepStrictEqual<ReadonlyArray<string>>([...(change?.touches ?? [])], touches)
      })
    )

    it.effect("authorities are compared one by one", () =>
      Effect.gen(function* () {
        const of = (authorities: ReadonlyArray<string>) =>
          ServerConfig.resolve({ bind: ":1", tls: { ...tls, ca: authorities } })
        const before = yield* of([ca, cert])
        assert.isUndefined(ServerConfig.compare(before, yield* of([ca, cert])))
        for (const other of [[ca], [ca, pem("TRUSTED CERTIFICATE")]]) {
          assert.deepStrictEqual(ServerConfig.compare(before, yield* of(other))?.fields, ["tls.ca"])
        }
      })
    )

    it.effect("every part of a monitor counts", () =>
      Effect.gen(function* () {
        const base = { path: "/", interval: 1_000, timeout: 500, rise: 1, fall: 1 }
        const of = (monitor: ServerConfig.MonitorOptions) => ServerConfig.resolve({ bind: ":1", monitor })
        const changes = [{ path: "/x" }, { interval: 2_000 }, { timeout: 400 }, { rise: 2 }, { fall: 2 }]
        for (const change of changes) {
          const found = ServerConfig.compare(yield* of(base), yield* of({ ...base, ...change }))
          assert.deepStrictEqual(found?.fields, ["monitor"], JSON.stringify(change))
        }
        assert.isUndefined(ServerConfig.compare(yield* of(base), yield* of(base)))
      })
    )

    it.effect("knows servers without a port of their own by host and name", () =>
      Effect.gen(function* () {
        const before = yield* all({ name: "a", bind: ":0" }, { name: "b", bind: ":0" }, { bind: ":0" }, { bind: ":0" })
        const after = yield* all({ bind: ":0" }, { name: "b", bind: ":0", handler: "x" }, { name: "c", bind: ":0" })
        const { added, changed, removed, same } = ServerConfig.diff(before, after)
        assert.deepStrictEqual([added, removed, same].map(named), [["c"], ["a", ":0"], [":0"]])
        assert.deepStrictEqual(
          changed.map(({ fields }) => fields),
          [["handler"]]
        )
      })
    )

    const server = Schema.Struct({
      bind: Schema.Literals([":1", ":2", ":3", ":0", "127.0.0.1:0"]),
      name: Schema.Literals(["a", "b"]),
      idleTimeout: Schema.Literals([1_000, 2_000])
    })
    const unique = (servers: ReadonlyArray<ServerConfig.Options>) =>
      servers.filter(
        ({ bind }, index) => bind.endsWith(":0") || servers.findIndex((other) => other.bind === bind) === index
      )
    it.effect.prop(
      "added, changed and same are the new list; removed, changed and same the old one",
      [Schema.Array(server), Schema.Array(server)],
      ([a, b]) =>
        Effect.gen(function* () {
          const before = yield* ServerConfig.resolveAll(unique(a))
          const after = yield* ServerConfig.resolveAll(unique(b))
          const { added, changed, removed, same } = ServerConfig.diff(before, after)
          assert.sameMembers([...added, ...changed.map((change) => change.after), ...same], [...after])
          assert.strictEqual(removed.length + changed.length + same.length, before.length)
          for (const one of [...removed, ...changed.map((change) => change.before)]) assert.include(before, one)
          assert.deepStrictEqual(ServerConfig.diff(after, after).same.length, after.length)
          assert.strictEqual(ServerConfig.diff(after, before).added.length, removed.length)
        }),
      { arbitrary: { runs: 100, seed: 1 } }
    )
  })

  describe("fromConfig", () => {
    it.effect("reads a list, and what holds for all of it", () =>
      Effect.gen(function* () {
        const found = yield* fromYaml(`
httpServer:
  readTimeout: 1m
  handler: api
  monitor:
    path: /up
httpServers:
  - name: public
    bind: :8080
    readTimeout: 5s
    maxHeaderBytes: 32 KiB
    maxBodyBytes: 10 MiB
  - bind: "[::1]:9000"
    disabled: yes
    handler: admin
    monitor: false
`)
        assert.deepStrictEqual(found, {
          servers: [
            {
              handler: "api",
              readTimeout: 5_000,
              maxHeaderBytes: 32_768,
              maxBodyBytes: 10_485_760,
              monitor: { path: "/up" },
              name: "public",
              bind: ":8080"
            },
            { handler: "admin", readTimeout: 60_000, monitor: false, bind: "[::1]:9000", disabled: true }
          ],
          tls: undefined
        })
        assert.strictEqual((yield* ServerConfig.resolveAll(found.servers, found)).length, 2)
      })
    )

    it.effect("what it gives is read again to the same", () =>
      Effect.gen(function* () {
        const found = yield* fromYaml(`
httpServer: { drainDelay: 5s, tls: { cert: ${JSON.stringify(cert)}, key: ${JSON.stringify(Redacted.value(key))} } }
httpServers: [ { bind: ":443", tls: { inherit: true } }, { bind: ":80", monitor: true, writeTimeout: Infinity } ]
`)
        const once = yield* ServerConfig.resolveAll(found.servers, found)
        assert.deepStrictEqual(
          once.map(({ drainDelay, settings }) => [drainDelay, settings.tls?.cert]),
          [
            [5_000, cert],
            [5_000, undefined]
          ]
        )
        assert.notInclude(JSON.stringify(found), "PRIVATE KEY")
      })
    )

    it.effect("reads an environment alone", () =>
      Effect.gen(function* () {
        const found = yield* fromEnv({
          HTTP_SERVER_READ_TIMEOUT: "1m",
          HTTP_SERVER_MONITOR: "true",
          HTTP_SERVER_TLS_CERT: cert.replaceAll("\n", "\\n"),
          HTTP_SERVER_TLS_KEY: Redacted.value(key).replaceAll("\n", "\\n"),
          HTTP_SERVERS_0_BIND: ":8443",
          HTTP_SERVERS_0_TLS_INHERIT: "yes",
          HTTP_SERVERS_1_BIND: "127.0.0.1:9000",
          HTTP_SERVERS_1_MONITOR_PATH: "/up"
        })
        const [first, second] = yield* ServerConfig.resolveAll(found.servers, found)
        assert.strictEqual(first?.settings.tls?.cert, cert)
        assert.strictEqual(first?.settings.readTimeout, 60_000)
        assert.strictEqual(first?.monitor?.path, "/")
        assert.isUndefined(second?.settings.tls)
        assert.strictEqual(second?.monitor?.path, "/up")
      })
    )

    it.effect("the environment wins over the file, option by option", () =>
      Effect.gen(function* () {
        const file =
          "httpServer: { readTimeout: 1m, idleTimeout: 2m }\nhttpServers: [{ bind: ':1', name: a }, { bind: ':2' }]"
        const env = { HTTP_SERVER_IDLE_TIMEOUT: "3m", HTTP_SERVERS_0_BIND: ":3", HTTP_SERVERS_2_BIND: ":4" }
        const { servers } = yield* fromBoth(env, file)
        assert.deepStrictEqual(servers, [
          { readTimeout: 60_000, idleTimeout: 180_000, bind: ":3", name: "a" },
          { readTimeout: 60_000, idleTimeout: 180_000, bind: ":2" },
          { readTimeout: 60_000, idleTimeout: 180_000, bind: ":4" }
        ])
      })
    )

    it.effect("a list as JSON in the environment takes the place of the file's", () =>
      Effect.gen(function* () {
        const env = { HTTP_SERVERS: '[{"bind":":9","readTimeout":"5s","keepAlive":false}]', HTTP_SERVERS_0_NAME: "n" }
        const { servers } = yield* fromBoth(env, "httpServers: [{ bind: ':1' }, { bind: ':2' }]")
        assert.deepStrictEqual(servers, [{ bind: ":9", readTimeout: 5_000, keepAlive: false, name: "n" }])
      })
    )

    it.effect("takes another prefix and path, and known handlers", () =>
      Effect.gen(function* () {
        const provider = ConfigProvider.orElse(
          ConfigProvider.fromEnvRecord({ GATE_KEEP_ALIVE: "false", GATES_0_NAME: "x" }),
          ConfigProvider.fromUnknown({ app: { web: { httpServers: [{ bind: ":1", handler: "a" }] } } })
        )
        const source = { prefix: "GATE", path: ["app", "web"] }
        const { servers } = yield* ServerConfig.fromConfig({ ...source, handlers: ["a"] }).pipe(withProvider(provider))
        assert.deepStrictEqual(servers, [{ handler: "a", keepAlive: false, bind: ":1", name: "x" }])
        const error = yield* Effect.flip(
          ServerConfig.fromConfig({ ...source, handlers: ["b"] }).pipe(withProvider(provider))
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)), ["app.web.httpServers[0].handler"])
      })
    )

    it.effect("reports everything at once, by the names of where it was found", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          fromBoth(
            {
              HTTP_SERVER_READ_TIMEOUT: "soon",
              HTTP_SERVER_IDLE_TIMEOT: "5s",
              HTTP_SERVER_BIND: ":1",
              HTTP_SERVERS_0_KEEP_ALIVE: "maybe",
              HTTP_SERVERS_0_BNID: ":1",
              HTTP_SERVERS_2_TLS_REQUIRED: "true",
              HTTP_SERVERS_9_BIND: ":1"
            },
            `
httpServer: { maxHeaderBytes: tiny, colour: red, tls: { cert: nonsense } }
httpServers:
  - { bind: ":1", tls: { inherit: true }, monitor: { path: up } }
  - { bind: "[::]:1", port: 3 }
`
          )
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)).sort(), [
          "HTTP_SERVERS_0_BNID",
          "HTTP_SERVERS_0_KEEP_ALIVE",
          "HTTP_SERVERS_2_BIND",
          "HTTP_SERVERS_2_TLS_CERT",
          "HTTP_SERVERS_9",
          "HTTP_SERVER_BIND",
          "HTTP_SERVER_IDLE_TIMEOT",
          "HTTP_SERVER_READ_TIMEOUT",
          "httpServer.colour",
          "httpServer.maxHeaderBytes",
          "httpServer.tls.cert",
          "httpServers[0].monitor.path",
          "httpServers[0].tls.inherit",
          "httpServers[1].bind",
          "httpServers[1].port"
        ])
        const problems = problemsOf(error)
        assert.match(problems["HTTP_SERVER_BIND"] ?? "", /write "HTTP_SERVERS_0_BIND"$/)
        assert.match(problems["HTTP_SERVERS_9"] ?? "", /so the next is HTTP_SERVERS_3$/)
        assert.match(problems["HTTP_SERVERS_0_BNID"] ?? "", /did you mean "HTTP_SERVERS_0_BIND"/)
      })
    )

    it.effect("no server at all is an error, an empty list is not", () =>
      Effect.gen(function* () {
        for (const text of ["", "httpServer: { readTimeout: 5s }", "httpServers:"]) {
          assert.deepStrictEqual(Object.keys(problemsOf(yield* Effect.flip(fromYaml(text)))), ["httpServers"], text)
        }
        assert.deepStrictEqual((yield* fromYaml("httpServers: []")).servers, [])
      })
    )

    it.effect("refuses other shapes", () =>
      Effect.gen(function* () {
        const paths = (text: string, env: Record<string, string> = {}) =>
          Effect.map(Effect.flip(fromBoth(env, text)), (error) => Object.keys(problemsOf(error)))
        assert.deepStrictEqual(yield* paths("httpServers: { bind: ':1' }"), ["httpServers"])
        assert.deepStrictEqual(yield* paths("httpServer: [{ bind: ':1' }]\nhttpServers: []"), ["httpServer"])
        assert.deepStrictEqual(yield* paths("httpServers: [8080]"), ["httpServers[0]"])
        assert.deepStrictEqual(yield* paths("", { HTTP_SERVERS: ":8080" }), ["HTTP_SERVERS"])
        assert.deepStrictEqual(yield* paths("", { HTTP_SERVERS: "[{}]" }), ["HTTP_SERVERS[0].bind"])
        assert.deepStrictEqual(
          yield* paths("httpServers: [{ bind: ':1', monitor: nope }]", { HTTP_SERVERS_0_MONITOR_PATH: "/" }),
          ["HTTP_SERVERS_0_MONITOR_PATH", "httpServers[0].monitor"]
        )
        assert.deepStrictEqual(
          yield* paths("httpServers: [8080]", { HTTP_SERVERS_0_BIND: ":1", HTTP_SERVERS_0_NAME: "\u0007" }),
          ["HTTP_SERVERS_0_NAME"]
        )
        // A number, with nothing that is an option below it.
        assert.deepStrictEqual(yield* paths("", { HTTP_SERVERS_0_ODD: "1" }), ["HTTP_SERVERS_0_ODD"])
        assert.deepStrictEqual(yield* paths("", { HTTP_SERVERS_0: "1" }), ["httpServers"])
      })
    )

    it.effect("leaves names alone that others own, as Kubernetes' for a service called http-server", () =>
      Effect.gen(function* () {
        const env = { HTTP_SERVER_SERVICE_HOST: "10.0.0.1", HTTP_SERVER_PORT: "tcp://10.0.0.1:80", HTTP_SERVERS_X: "1" }
        assert.deepStrictEqual((yield* fromBoth(env, "httpServers: [{ bind: ':1' }]")).servers, [{ bind: ":1" }])
      })
    )

    it.effect("reports a source that cannot be read", () =>
      Effect.gen(function* () {
        const provider = ConfigProvider.make(() =>
          Effect.fail(new ConfigProvider.SourceError({ message: "vault is sealed" }))
        )
        const error = yield* Effect.flip(ServerConfig.fromConfig().pipe(withProvider(provider)))
        assert.match(problemsOf(error)["httpServers"] ?? "", /cannot be read: vault is sealed/)
      })
    )
  })
})
