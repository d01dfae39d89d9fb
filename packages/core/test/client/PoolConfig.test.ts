import { assert, describe, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Yaml from "effect/encoding/Yaml"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { rows } from "../../src/client/internal/options.ts"
import * as PoolConfig from "../../src/client/PoolConfig.ts"

const pem = (what: string): string => `-----BEGIN ${what}-----\nAAAA\n-----END ${what}-----\n`
const certificate = pem("CERTIFICATE")
const key = Redacted.make(pem("PRIVATE KEY"))

/** Options as a file or JavaScript may bring them: of no known type. */
const untyped = (input: unknown): PoolConfig.Options => Object(input)

const refused = (options: PoolConfig.Options) => Effect.flip(PoolConfig.resolve(options))

const problemsOf = (error: PoolConfig.ConfigError) =>
  Object.fromEntries(error.problems.map(({ message, path }) => [path, message]))

const withProvider = (provider: ConfigProvider.ConfigProvider) =>
  Effect.provideService(ConfigProvider.ConfigProvider, provider)

const fromEnv = (env: Record<string, string>) =>
  PoolConfig.fromConfig().pipe(withProvider(ConfigProvider.fromEnvRecord(env)))

const fromYaml = (text: string) =>
  PoolConfig.fromConfig().pipe(withProvider(ConfigProvider.fromUnknown(Yaml.parse(text))))

const noPolicies = {
  retry: undefined,
  hedge: undefined,
  auth: undefined,
  rateLimit: undefined,
  circuitBreaker: undefined,
  bulkhead: undefined
}

describe("PoolConfig", () => {
  describe("defaults", () => {
    it.effect("are those of the design", () =>
      Effect.gen(function* () {
        const host = {
          headers: [],
          responseHeaderTimeout: 60_000,
          bodyIdleTimeout: 60_000,
          attemptTimeout: Infinity,
          requestTimeout: 120_000,
          ...noPolicies
        }
        assert.deepStrictEqual(yield* PoolConfig.resolve({}), {
          name: "default",
          baseUrl: undefined,
          size: 8,
          selection: "roundRobin",
          acquireTimeout: 30_000,
          drainTimeout: 10_000,
          maxWaiting: 10_000,
          maxHosts: 1_000,
          maxConnectionAge: 600_000,
          maxRequestsPerConnection: Infinity,
          ejection: { failures: 5, base: 5_000, max: 60_000 },
          bodyBufferSize: 65_536,
          decompress: true,
          maxDecompressedSize: 134_217_728,
          failOnStatus: false,
          middleware: [],
          observe: { metrics: true, spans: "auto" },
          connection: {
            dialTimeout: 5_000,
            tlsTimeout: 10_000,
            idleConnectionTimeout: 90_000,
            maxHeaderSize: 16_384,
            tls: {},
            socketPath: undefined,
            addresses: "first",
            proxy: "environment"
          },
          host,
          hosts: new Map()
        })
      })
    )

    it.effect("hold for options that are undefined, also inside groups", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({
          size: undefined,
          ejection: { failures: undefined, base: "1 second" },
          tls: { ca: undefined },
          headers: { "x-none": undefined }
        })
        assert.strictEqual(config.size, 8)
        assert.deepStrictEqual(config.ejection, { failures: 5, base: 1_000, max: 60_000 })
        assert.deepStrictEqual(config.connection.tls, {})
        assert.deepStrictEqual(config.host.headers, [])
      })
    )

    it("stand in the documentation of every member", () => {
      const source = readFileSync(new URL("../../src/client/PoolConfig.ts", import.meta.url), "utf8")
      const options = source.slice(source.indexOf("export interface Options"))
      for (const { field, path } of rows) {
        const name = path.at(-1) ?? ""
        if (path.length > 1 || field.defaultText === "") continue
        const member = options.slice(0, options.indexOf(`readonly ${name}?:`))
        const comment = member.slice(member.lastIndexOf("/**"))
        assert.include(comment, `Default: ${field.defaultText}.`, name)
      }
    })
  })

  describe("resolve", () => {
    it.effect("takes every form of a duration", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({
          dialTimeout: "2 seconds",
          tlsTimeout: 1_500,
          requestTimeout: Duration.infinity,
          attemptTimeout: Duration.minutes(1),
          maxConnectionAge: "Infinity",
          bodyIdleTimeout: { seconds: 3 },
          responseHeaderTimeout: [4, 0],
          acquireTimeout: 5_000_000_000n,
          drainTimeout: 0
        })
        assert.strictEqual(config.connection.dialTimeout, 2_000)
        assert.strictEqual(config.connection.tlsTimeout, 1_500)
        assert.strictEqual(config.host.requestTimeout, Infinity)
        assert.strictEqual(config.host.attemptTimeout, 60_000)
        assert.strictEqual(config.maxConnectionAge, Infinity)
        assert.strictEqual(config.host.bodyIdleTimeout, 3_000)
        assert.strictEqual(config.host.responseHeaderTimeout, 4_000)
        assert.strictEqual(config.acquireTimeout, 5_000)
        assert.strictEqual(config.drainTimeout, 0)
      })
    )

    it.effect("keeps what it is given", () =>
      Effect.gen(function* () {
        const selection = { byKey: () => "k" }
        const config = yield* PoolConfig.resolve({
          name: "billing",
          baseUrl: new URL("http://api.test/v1?tenant=a"),
          selection,
          ejection: false,
          maxRequestsPerConnection: 100,
          tls: {
            ca: [certificate, certificate],
            cert: certificate,
            key,
            servername: "api.test",
            insecureSkipVerify: true
          },
          proxy: false,
          addresses: "spread"
        })
        assert.strictEqual(config.name, "billing")
        assert.strictEqual(config.baseUrl?.href, "http://api.test/v1?tenant=a")
        assert.strictEqual(config.selection, selection)
        assert.isUndefined(config.ejection)
        assert.strictEqual(config.maxRequestsPerConnection, 100)
        assert.strictEqual(config.connection.proxy, false)
        assert.strictEqual(config.connection.addresses, "spread")
        const { tls } = config.connection
        assert.deepStrictEqual(
          [tls.ca, tls.cert, tls.servername, tls.insecureSkipVerify],
          [[certificate, certificate], certificate, "api.test", true]
        )
        assert.strictEqual(tls.key && Redacted.value(tls.key), Redacted.value(key))
      })
    )

    it.effect("takes a proxy as text or Redacted, and keeps it redacted", () =>
      Effect.gen(function* () {
        for (const proxy of ["http://u:pw@proxy.test:3128", Redacted.make("http://u:pw@proxy.test:3128")]) {
          const { connection } = yield* PoolConfig.resolve({ proxy })
          assert.isTrue(Redacted.isRedacted(connection.proxy))
          assert.notInclude(JSON.stringify(connection), "pw")
          if (typeof connection.proxy === "object") {
            assert.strictEqual(Redacted.value(connection.proxy), "http://u:pw@proxy.test:3128/")
          }
        }
      })
    )

    it.effect("uses no proxy for a Unix socket", () =>
      Effect.gen(function* () {
        const { connection } = yield* PoolConfig.resolve({ socketPath: "/run/api.sock" })
        assert.strictEqual(connection.socketPath, "/run/api.sock")
        assert.strictEqual(connection.proxy, false)
      })
    )

    const cases: ReadonlyArray<readonly [path: string, options: unknown, message: RegExp]> = [
      ["name", { name: "" }, /1 to 100 characters/],
      ["name", { name: "a\nb" }, /control characters/],
      ["baseUrl", { baseUrl: "/v1" }, /absolute http or https URL/],
      ["baseUrl", { baseUrl: "ftp://api.test" }, /absolute http or https URL/],
      ["baseUrl", { baseUrl: 1 }, /absolute http or https URL/],
      ["baseUrl", { baseUrl: "http://user:pw@api.test" }, /user info; use Auth.*`hosts`/],
      ["baseUrl", { baseUrl: "http://api.test/#a" }, /fragment/],
      ["size", { size: 0 }, /integer from 1 to 1024, not 0$/],
      ["size", { size: 1025 }, /integer from 1 to 1024, not 1025$/],
      ["size", { size: 1.5 }, /not 1.5$/],
      ["size", { size: NaN }, /not NaN$/],
      ["size", { size: "8" }, /not "8"$/],
      ["size", { size: "8".repeat(100) }, /1024$/],
      ["size", { size: null }, /integer from 1 to 1024$/],
      ["size", { size: Infinity }, /not Infinity$/],
      ["selection", { selection: "random" }, /one of "roundRobin", "strict".*byKey.*not "random"$/],
      ["selection", { selection: { byKey: "a" } }, /one of/],
      ["addresses", { addresses: "all" }, /one of "first", "spread", not "all"$/],
      ["dialTimeout", { dialTimeout: "5 parsecs" }, /duration such as.*not "5 parsecs"$/],
      ["dialTimeout", { dialTimeout: 0 }, /from 1 ms to 24 days, not 0$/],
      ["dialTimeout", { dialTimeout: "-1 seconds" }, /from 1 ms/],
      ["dialTimeout", { dialTimeout: "Infinity" }, /from 1 ms to 24 days, not "Infinity"$/],
      ["tlsTimeout", { tlsTimeout: Duration.infinity }, /from 1 ms to 24 days$/],
      ["drainTimeout", { drainTimeout: "Infinity" }, /from 0 ms/],
      ["drainTimeout", { drainTimeout: NaN }, /from 0 ms/],
      ["requestTimeout", { requestTimeout: "30 days" }, /"Infinity" for none/],
      ["requestTimeout", { requestTimeout: null }, /duration/],
      ["maxWaiting", { maxWaiting: -1 }, /from 0 to/],
      ["maxHosts", { maxHosts: 0 }, /from 1 to/],
      ["maxRequestsPerConnection", { maxRequestsPerConnection: 0 }, /at least 1, or Infinity for none, not 0$/],
      ["ejection", { ejection: true }, /object, or false/],
      ["ejection.failures", { ejection: { failures: 0 } }, /from 1/],
      ["ejection.base", { ejection: { base: "Infinity" } }, /from 1 ms to 24 days, not/],
      ["ejection.max", { ejection: { max: "1 second" } }, /at least ejection.base, which is 5000 ms/],
      ["ejection.times", { ejection: { times: 1 } }, /not an option; did you mean "failures"|"base"|"max"/],
      ["failOnStatus", { failOnStatus: "yes" }, /true or false, not "yes"/],
      ["maxHeaderSize", { maxHeaderSize: 10 }, /from 1024 to 1048576/],
      ["maxDecompressedSize", { maxDecompressedSize: 4096 }, /at least bodyBufferSize, which is 65536/],
      ["tls", { tls: "x" }, /must be an object/],
      ["tls.ca", { tls: { ca: "/etc/ca.pem" } }, /not the name of a file/],
      ["tls.ca", { tls: { ca: [] } }, /not the name of a file/],
      ["tls.cert", { tls: { cert: "/etc/c.pem", key } }, /not the name of a file/],
      ["tls.key", { tls: { cert: certificate } }, /missing: tls.cert needs it/],
      ["tls.cert", { tls: { key } }, /missing: tls.key needs it/],
      ["tls.key", { tls: { cert: certificate, key: pem("PRIVATE KEY") } }, /wrapped in Redacted/],
      ["tls.servername", { tls: { servername: "" } }, /text/],
      ["socketPath", { socketPath: 1 }, /text/],
      ["proxy", { proxy: "http://proxy.test", socketPath: "/run/a" }, /must not be a URL when socketPath/],
      ["addresses", { addresses: "spread", socketPath: "/run/a" }, /must not be "spread"/],
      ["proxy", { proxy: "proxy.test:3128" }, /"environment", false, or/],
      ["proxy", { proxy: "http://proxy.test/path" }, /without path/],
      ["proxy", { proxy: true }, /"environment", false, or/],
      ["headers", { headers: "a: b" }, /object of header names/],
      ["headers", { headers: 1 }, /object of header names/],
      ["headers", { headers: ["a"] }, /object of header names/],
      ["headers.a…", { headers: { "a b": "1" } }, /not a header name/],
      ["headers.a…", { headers: { "a\r\nb": "1" } }, /not a header name/],
      ["headers.x", { headers: { x: "1\r\nevil: 2" } }, /line breaks/],
      ["headers.x", { headers: { x: "€" } }, /Latin-1/],
      ["headers.x", { headers: { x: 1 } }, /must be text/],
      ["headers.x", { headers: { x: ["a", 1] } }, /must be text/],
      ...["Connection", "transfer-encoding", "keep-alive", "Upgrade", "expect", "content-length", "Host", "te"].map(
        (name) => [`headers.${name.toLowerCase()}`, { headers: { [name]: "1" } }, /transport writes it/] as const
      ),
      ...["Authorization", "cookie", "proxy-authorization", "x-api-key"].map(
        (name) => [`headers.${name.toLowerCase()}`, { headers: [[name, "1"]] }, /every host.*under `hosts`/] as const
      ),
      ["hosts", { hosts: [] }, /keys are origins/],
      ['hosts["api.test"]', { hosts: { "api.test": {} } }, /origin such as/],
      ['hosts["http://api.test/v1"]', { hosts: { "http://api.test/v1": {} } }, /without path/],
      ['hosts["http://api.test/"]', { hosts: { "http://api.test": {}, "http://api.test/": {} } }, /given twice/],
      ['hosts["http://a"]', { hosts: { "http://a": 1 } }, /must be an object/],
      ['hosts["http://a"].size', { hosts: { "http://a": { size: 1 } } }, /not an option/],
      ['hosts["http://a"].requestTimeout', { hosts: { "http://a": { requestTimeout: 0 } } }, /duration/],
      ['hosts["http://a"].headers.host', { hosts: { "http://a": { headers: { host: "b" } } } }, /transport/],
      ["baseURL", { baseURL: "http://api.test" }, /not an option; did you mean "baseUrl"\?$/],
      ["requestTimout", { requestTimout: 1 }, /did you mean "requestTimeout"\?$/],
      ["options", [], /must be an object/]
    ]
    it.effect.each(cases)("refuses %s of %o", ([path, options, message]) =>
      Effect.gen(function* () {
        const error = yield* refused(untyped(options))
        assert.deepStrictEqual(Object.keys(problemsOf(error)), [path])
        assert.match(problemsOf(error)[path] ?? "", message)
      })
    )

    it.effect("reports all problems at once, each on a line of its own", () =>
      Effect.gen(function* () {
        const error = yield* refused(
          untyped({
            size: 0,
            dialTimeout: "soon",
            baseUrl: "nowhere",
            headers: { authorization: "x", host: "y" },
            siz: 1
          })
        )
        assert.strictEqual(error._tag, "ConfigError")
        assert.deepStrictEqual(Object.keys(problemsOf(error)).sort(), [
          "baseUrl",
          "dialTimeout",
          "headers.host",
          "siz",
          "size"
        ])
        const lines = error.message.split("\n")
        assert.lengthOf(lines, 6)
        for (const { message, path } of error.problems) assert.include(lines, `- ${path}: ${message}`)
      })
    )

    it.effect("puts no secret into its message", () =>
      Effect.gen(function* () {
        const error = yield* refused(
          untyped({
            name: "hunter2\n",
            baseUrl: "http://user:hunter2@api.test/",
            proxy: "http://user:hunter2@proxy.test/path",
            headers: { authorization: "hunter2\n", cookie: "hunter2\r", "x-a": ["hunter2", 2], "x-b: hunter2": "" },
            tls: { key: "hunter2", cert: "hunter2", ca: "hunter2" },
            hosts: {
              "http://user:hunter2@a.test": { headers: { authorization: "hunter2\n" } },
              "http://b.test?token=hunter2": {},
              "http://c.test": { headers: { authorization: "hunter2\n" } }
            }
          })
        )
        assert.isAtLeast(error.problems.length, 11)
        for (const text of [error.message, String(error), JSON.stringify(error)]) assert.notInclude(text, "hunter2")
      })
    )
  })

  describe("hosts", () => {
    it.effect("without a base URL the pool's headers go to all, a host's own over them", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({
          headers: { "X-Team": "blue", accept: ["text/plain", "text/html"] },
          requestTimeout: "1 second",
          hosts: { "https://B.test:443": { headers: [["x-team", "red"]], bodyIdleTimeout: 5, attemptTimeout: 6 } }
        })
        assert.deepStrictEqual(config.host.headers, ["x-team", "blue", "accept", "text/plain, text/html"])
        assert.deepStrictEqual(
          config.hosts,
          new Map([
            [
              "https://b.test",
              {
                headers: ["x-team", "red", "accept", "text/plain, text/html"],
                responseHeaderTimeout: 60_000,
                bodyIdleTimeout: 5,
                attemptTimeout: 6,
                requestTimeout: 1_000,
                ...noPolicies
              }
            ]
          ])
        )
      })
    )

    it.effect("with a base URL the pool's headers stay with its origin", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({
          baseUrl: "https://api.test/v1",
          headers: { authorization: "Bearer t" },
          hosts: {
            "https://api.test": { headers: { "x-a": "1" } },
            "https://other.test": { headers: { cookie: "c" }, responseHeaderTimeout: 1 }
          }
        })
        assert.deepStrictEqual(config.host.headers, [])
        assert.deepStrictEqual(config.hosts.get("https://api.test")?.headers, ["authorization", "Bearer t", "x-a", "1"])
        assert.deepStrictEqual(config.hosts.get("https://other.test")?.headers, ["cookie", "c"])
        assert.strictEqual(config.hosts.get("https://other.test")?.responseHeaderTimeout, 1)
      })
    )

    it.effect("resolveHost puts settings over those that the host has", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({
          baseUrl: "https://api.test",
          headers: { authorization: "Bearer t" }
        })
        const base = yield* PoolConfig.resolveHost(config, "https://api.test:443/", { requestTimeout: "1 second" })
        assert.deepStrictEqual(base.headers, ["authorization", "Bearer t"])
        assert.strictEqual(base.requestTimeout, 1_000)
        const other = yield* PoolConfig.resolveHost(config, "https://other.test", { headers: { "x-a": "1" } })
        assert.deepStrictEqual(other.headers, ["x-a", "1"])
      })
    )

    it.effect("resolveHost reports all problems at once", () =>
      Effect.gen(function* () {
        const config = yield* PoolConfig.resolve({})
        const error = yield* Effect.flip(
          PoolConfig.resolveHost(config, "http://a/b", { requestTimeout: 0, headers: { host: "c" } })
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)), [
          'hosts["http://a/b"]',
          'hosts["http://a/b"].headers.host',
          'hosts["http://a/b"].requestTimeout'
        ])
      })
    )
  })

  describe("fromConfig", () => {
    const expected = {
      name: "billing",
      baseUrl: new URL("https://api.test/v1"),
      size: 4,
      selection: "leastPending",
      headers: [["x-team", "blue"]],
      hosts: { "https://slow.test": { headers: [["authorization", "Bearer t"]], requestTimeout: 300_000 } },
      dialTimeout: 2_000,
      tlsTimeout: 1_500,
      requestTimeout: Infinity,
      acquireTimeout: 500,
      maxRequestsPerConnection: Infinity,
      ejection: { failures: 2, base: 1_000 },
      failOnStatus: true,
      decompress: false,
      bodyBufferSize: 131_072,
      tls: { ca: certificate, insecureSkipVerify: true },
      addresses: "spread",
      proxy: false
    }

    it.effect("reads the environment", () =>
      Effect.gen(function* () {
        const options = yield* fromEnv({
          HTTP_CLIENT_NAME: "billing",
          HTTP_CLIENT_BASE_URL: "https://api.test/v1",
          HTTP_CLIENT_SIZE: "4",
          HTTP_CLIENT_SELECTION: "leastPending",
          HTTP_CLIENT_HEADERS: '{"X-Team":"blue"}',
          HTTP_CLIENT_HOSTS: '{"https://slow.test":{"requestTimeout":"5m","headers":{"authorization":"Bearer t"}}}',
          HTTP_CLIENT_DIAL_TIMEOUT: "2 seconds",
          HTTP_CLIENT_TLS_TIMEOUT: "1.5s",
          HTTP_CLIENT_REQUEST_TIMEOUT: "Infinity",
          HTTP_CLIENT_ACQUIRE_TIMEOUT: "500",
          HTTP_CLIENT_MAX_REQUESTS_PER_CONNECTION: "Infinity",
          HTTP_CLIENT_EJECTION_FAILURES: "2",
          HTTP_CLIENT_EJECTION_BASE: "1s",
          HTTP_CLIENT_FAIL_ON_STATUS: "yes",
          HTTP_CLIENT_DECOMPRESS: "0",
          HTTP_CLIENT_BODY_BUFFER_SIZE: "128 KiB",
          HTTP_CLIENT_TLS_CA: certificate.replaceAll("\n", "\\n"),
          HTTP_CLIENT_TLS_INSECURE_SKIP_VERIFY: "true",
          HTTP_CLIENT_ADDRESSES: "spread",
          HTTP_CLIENT_PROXY: "off",
          HTTP_CLIENT_TOKEN: "somebody else's",
          HTTP_CLIENT_ORDERS_SIZE: "of another pool"
        })
        assert.deepStrictEqual<unknown>(options, expected)
        assert.deepStrictEqual(
          yield* PoolConfig.resolve(options),
          yield* PoolConfig.resolve(yield* fromEnv({ ...environmentOf(expected) }))
        )
      })
    )

    it.effect("reads an object, as a YAML file has it", () =>
      Effect.gen(function* () {
        const options = yield* fromYaml(`
httpClient:
  name: billing
  baseUrl: https://api.test/v1
  size: 4
  selection: leastPending
  headers:
    X-Team: blue
  hosts:
    https://slow.test:
      requestTimeout: 5m
      headers:
        authorization: Bearer t
  dialTimeout: 2 seconds
  tlsTimeout: 1500
  requestTimeout: Infinity
  acquireTimeout: 500ms
  maxRequestsPerConnection: Infinity
  ejection:
    failures: 2
    base: 1s
  failOnStatus: true
  decompress: false
  bodyBufferSize: 131072
  tls:
    ca: ${JSON.stringify(certificate)}
    insecureSkipVerify: true
  addresses: spread
  proxy: false
`)
        assert.deepStrictEqual<unknown>(options, expected)
      })
    )

    it.effect("reads lists", () =>
      Effect.gen(function* () {
        const ca = [pem("A"), pem("B")]
        const options = yield* fromYaml(`
httpClient:
  headers:
    accept: [text/plain, text/html]
  tls:
    ca: ${JSON.stringify(ca)}
`)
        assert.deepStrictEqual(options, { headers: [["accept", "text/plain, text/html"]], tls: { ca } })
        const env = { HTTP_CLIENT_TLS: JSON.stringify({ ca }), HTTP_CLIENT_HEADERS: '{"a":["1","2"]}' }
        assert.deepStrictEqual(yield* fromEnv(env), { headers: [["a", "1, 2"]], tls: { ca } })
      })
    )

    it.effect("is empty where nothing is configured", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* fromEnv({ OTHER: "1" }), {})
        assert.deepStrictEqual(yield* fromYaml("httpClient: {}"), {})
      })
    )

    it.effect("keeps secrets redacted", () =>
      Effect.gen(function* () {
        const options = yield* fromEnv({
          HTTP_CLIENT_PROXY: "http://user:hunter2@proxy.test",
          HTTP_CLIENT_TLS_CERT: certificate,
          HTTP_CLIENT_TLS_KEY: pem("PRIVATE KEY").replaceAll("\n", "\\n")
        })
        assert.notInclude(JSON.stringify(options), "hunter2")
        assert.notInclude(JSON.stringify(options), "PRIVATE")
        const { key, proxy } = { key: options.tls?.key, proxy: options.proxy }
        assert.strictEqual(key && Redacted.value(key), pem("PRIVATE KEY"))
        assert.strictEqual(Redacted.isRedacted(proxy) && Redacted.value(proxy), "http://user:hunter2@proxy.test/")
        assert.strictEqual((yield* fromEnv({ HTTP_CLIENT_PROXY: "environment" })).proxy, "environment")
      })
    )

    it.effect("lets the environment win over the object, option by option", () =>
      Effect.gen(function* () {
        const provider = ConfigProvider.fromEnvRecord({
          HTTP_CLIENT_SIZE: "2",
          HTTP_CLIENT_EJECTION_FAILURES: "9"
        }).pipe(
          ConfigProvider.orElse(
            ConfigProvider.fromUnknown({ httpClient: { size: 3, name: "file", ejection: { base: "1s" } } })
          )
        )
        assert.deepStrictEqual(yield* PoolConfig.fromConfig().pipe(withProvider(provider)), {
          name: "file",
          size: 2,
          ejection: { base: 1_000, failures: 9 }
        })
      })
    )

    it.effect("takes another prefix and path", () =>
      Effect.gen(function* () {
        const source = { prefix: "BILLING", path: ["clients", "billing"] }
        const env = ConfigProvider.fromEnvRecord({ BILLING_SIZE: "2", HTTP_CLIENT_SIZE: "x" })
        const file = ConfigProvider.fromUnknown({ clients: { billing: { size: "x" } } })
        assert.deepStrictEqual(yield* PoolConfig.fromConfig(source).pipe(withProvider(env)), { size: 2 })
        const error = yield* Effect.flip(PoolConfig.fromConfig(source).pipe(withProvider(file)))
        assert.deepStrictEqual(Object.keys(problemsOf(error)), ["clients.billing.size"])
      })
    )

    it.effect("takes `false` for a group, and groups as JSON", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* fromEnv({ HTTP_CLIENT_EJECTION: "false" }), { ejection: false })
        assert.deepStrictEqual(
          yield* fromEnv({ HTTP_CLIENT_EJECTION: '{"failures":"3"}', HTTP_CLIENT_EJECTION_BASE: "1s" }),
          {
            ejection: { failures: 3, base: 1_000 }
          }
        )
        assert.deepStrictEqual(yield* fromYaml("httpClient: { ejection: false }"), { ejection: false })
      })
    )

    it.effect("reports every environment name at once", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          fromEnv({
            HTTP_CLIENT_SIZE: "many",
            HTTP_CLIENT_DIAL_TIMEOUT: "5 parsecs",
            HTTP_CLIENT_MAX_HEADER_SIZE: "big",
            HTTP_CLIENT_FAIL_ON_STATUS: "maybe",
            HTTP_CLIENT_HEADERS: '{"cookie":"hunter2"}',
            HTTP_CLIENT_HOSTS: "nonsense hunter2",
            HTTP_CLIENT_EJECTION: "off",
            HTTP_CLIENT_EJECTION_BASE: "1s",
            HTTP_CLIENT_TLS_KEY: pem("hunter2"),
            HTTP_CLIENT_PROXY: "hunter2",
            HTTP_CLIENT_REQEST_TIMEOUT: "5s"
          })
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)).sort(), [
          "HTTP_CLIENT_DIAL_TIMEOUT",
          "HTTP_CLIENT_EJECTION_BASE",
          "HTTP_CLIENT_FAIL_ON_STATUS",
          "HTTP_CLIENT_HEADERS.cookie",
          "HTTP_CLIENT_HOSTS",
          "HTTP_CLIENT_MAX_HEADER_SIZE",
          "HTTP_CLIENT_PROXY",
          "HTTP_CLIENT_REQEST_TIMEOUT",
          "HTTP_CLIENT_SIZE",
          "HTTP_CLIENT_TLS_CERT"
        ])
        assert.match(
          problemsOf(error)["HTTP_CLIENT_REQEST_TIMEOUT"] ?? "",
          /did you mean "HTTP_CLIENT_REQUEST_TIMEOUT"/
        )
        assert.notInclude(error.message, "hunter2")
      })
    )

    it.effect("reports every name of an object at once", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          fromYaml("httpClient: { size: many, siz: 3, tls: { c: 1 }, ejection: 5, hosts: { 'http://a/b': {} } }")
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)).sort(), [
          "httpClient.ejection",
          'httpClient.hosts["http://a/b"]',
          "httpClient.siz",
          "httpClient.size",
          "httpClient.tls.c"
        ])
        const text = yield* Effect.flip(fromYaml("httpClient: 5"))
        assert.deepStrictEqual(problemsOf(text), { httpClient: "must be an object" })
      })
    )

    it.effect("reports a source that cannot be read", () =>
      Effect.gen(function* () {
        const provider = ConfigProvider.make((path) =>
          path[0] === "HTTP_CLIENT_SIZE"
            ? Effect.fail(new ConfigProvider.SourceError({ message: "the disk is gone" }))
            : Effect.succeed(undefined)
        )
        const error = yield* Effect.flip(PoolConfig.fromConfig().pipe(withProvider(provider)))
        assert.deepStrictEqual(problemsOf(error), { HTTP_CLIENT_SIZE: "cannot be read: the disk is gone" })
      })
    )

    /** Options as they stand in an environment. */
    const environmentOf = (options: object): Record<string, string> => {
      const env: Record<string, string> = {}
      for (const { env: name, path } of rows) {
        let value: unknown = options
        for (const key of path) value = Object(value)[key]
        const grouped = ["ejection", "tls"].includes(path.join("."))
        if (value === undefined || (grouped && value !== false)) continue
        const text = path[0] === "headers" ? Object.fromEntries(Object(value)) : value
        env[`HTTP_CLIENT_${name}`] =
          typeof value === "object" && !(value instanceof URL) ? JSON.stringify(text) : String(Object(value))
      }
      return env
    }

    /** A tree as YAML, in block form as people write it. */
    const yaml = (value: unknown, indent = ""): string =>
      typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
        ? Object.entries(value)
            .map(([key, inner]) => `\n${indent}${JSON.stringify(key)}: ${yaml(inner, `${indent}  `)}`)
            .join("")
        : JSON.stringify(value)

    describe("policies", () => {
      const policies = ["retry", "hedge", "rateLimit", "circuitBreaker", "bulkhead", "observe"]
      const given: PoolConfig.Options = {
        retry: {
          maxRetries: 7,
          statuses: [500, 503],
          initialDelay: 10,
          multiplier: 3,
          maxDelay: 5_000,
          jitter: "decorrelated",
          jitterFactor: 0.5,
          maxRetryAfter: 9_000,
          retryNonIdempotent: true,
          budget: { ratio: 0.5, minPerSecond: 3, window: 20_000 }
        },
        hedge: { delay: 40, percentile: 0.9, minDelay: 5, minSamples: 20, maxRatio: 0.3 },
        rateLimit: {
          limit: 20,
          interval: 2_000,
          algorithm: "tokenBucket",
          burst: 4,
          maxWait: 3_000,
          maxQueue: 6,
          respectHeaders: false,
          maxPause: 8_000
        },
        circuitBreaker: {
          consecutiveFailures: 9,
          failureRate: 0.4,
          slowCallRate: 0.6,
          slowCallDuration: 700,
          windowDuration: 12_000,
          minimumCalls: 11,
          openFor: 4_000,
          halfOpenMax: 2
        },
        bulkhead: { maxConcurrent: 3, maxWaiting: 4, maxWait: 500 },
        observe: { metrics: false, spans: true }
      }
      const env = {
        HTTP_CLIENT_RETRY_MAX_RETRIES: "7",
        HTTP_CLIENT_RETRY_STATUSES: "500, 503",
        HTTP_CLIENT_RETRY_INITIAL_DELAY: "10ms",
        HTTP_CLIENT_RETRY_MULTIPLIER: "3",
        HTTP_CLIENT_RETRY_MAX_DELAY: "5s",
        HTTP_CLIENT_RETRY_JITTER: "decorrelated",
        HTTP_CLIENT_RETRY_JITTER_FACTOR: "0.5",
        HTTP_CLIENT_RETRY_MAX_RETRY_AFTER: "9 seconds",
        HTTP_CLIENT_RETRY_RETRY_NON_IDEMPOTENT: "yes",
        HTTP_CLIENT_RETRY_BUDGET_RATIO: "0.5",
        HTTP_CLIENT_RETRY_BUDGET_MIN_PER_SECOND: "3",
        HTTP_CLIENT_RETRY_BUDGET_WINDOW: "20s",
        HTTP_CLIENT_HEDGE_DELAY: "40",
        HTTP_CLIENT_HEDGE_PERCENTILE: "0.9",
        HTTP_CLIENT_HEDGE_MIN_DELAY: "5ms",
        HTTP_CLIENT_HEDGE_MIN_SAMPLES: "20",
        HTTP_CLIENT_HEDGE_MAX_RATIO: "0.3",
        HTTP_CLIENT_RATE_LIMIT_LIMIT: "20",
        HTTP_CLIENT_RATE_LIMIT_INTERVAL: "2s",
        HTTP_CLIENT_RATE_LIMIT_ALGORITHM: "tokenBucket",
        HTTP_CLIENT_RATE_LIMIT_BURST: "4",
        HTTP_CLIENT_RATE_LIMIT_MAX_WAIT: "3s",
        HTTP_CLIENT_RATE_LIMIT_MAX_QUEUE: "6",
        HTTP_CLIENT_RATE_LIMIT_RESPECT_HEADERS: "no",
        HTTP_CLIENT_RATE_LIMIT_MAX_PAUSE: "8s",
        HTTP_CLIENT_CIRCUIT_BREAKER_CONSECUTIVE_FAILURES: "9",
        HTTP_CLIENT_CIRCUIT_BREAKER_FAILURE_RATE: "0.4",
        HTTP_CLIENT_CIRCUIT_BREAKER_SLOW_CALL_RATE: "0.6",
        HTTP_CLIENT_CIRCUIT_BREAKER_SLOW_CALL_DURATION: "700",
        HTTP_CLIENT_CIRCUIT_BREAKER_WINDOW_DURATION: "12s",
        HTTP_CLIENT_CIRCUIT_BREAKER_MINIMUM_CALLS: "11",
        HTTP_CLIENT_CIRCUIT_BREAKER_OPEN_FOR: "4s",
        HTTP_CLIENT_CIRCUIT_BREAKER_HALF_OPEN_MAX: "2",
        HTTP_CLIENT_BULKHEAD_MAX_CONCURRENT: "3",
        HTTP_CLIENT_BULKHEAD_MAX_WAITING: "4",
        HTTP_CLIENT_BULKHEAD_MAX_WAIT: "500",
        HTTP_CLIENT_OBSERVE_METRICS: "off",
        HTTP_CLIENT_OBSERVE_SPANS: "true"
      }

      it("each option that is not code alone is in these tests", () => {
        // A window has one length, so one of the two must be missing.
        const known = new Set([...Object.keys(env), "HTTP_CLIENT_CIRCUIT_BREAKER_WINDOW_CALLS"])
        const missing = rows
          .filter(({ field, name }) => policies.includes(name.split(".")[0] ?? "") && field.unit !== "code")
          .map(({ env: name }) => `HTTP_CLIENT_${name}`)
          .filter((name) => !known.has(name) && !Object.keys(env).some((other) => other.startsWith(`${name}_`)))
        assert.deepStrictEqual(missing, [])
      })

      it.effect("come from the environment, YAML and code to the same", () =>
        Effect.gen(function* () {
          const expected = yield* PoolConfig.resolve(given)
          assert.deepStrictEqual(yield* PoolConfig.resolve(yield* fromEnv(env)), expected)
          assert.deepStrictEqual(yield* PoolConfig.resolve(yield* fromYaml(yaml({ httpClient: given }))), expected)
          const calls = { circuitBreaker: { failureRate: 0.5, windowCalls: 40 } }
          assert.deepStrictEqual(
            yield* PoolConfig.resolve(
              yield* fromEnv({
                HTTP_CLIENT_CIRCUIT_BREAKER_FAILURE_RATE: "0.5",
                HTTP_CLIENT_CIRCUIT_BREAKER_WINDOW_CALLS: "40"
              })
            ),
            yield* PoolConfig.resolve(calls)
          )
          assert.strictEqual(expected.host.circuitBreaker?.halfOpenMax, 2)
          assert.strictEqual(expected.host.retry?.maxRetries, 7)
          assert.strictEqual(expected.host.hedge?.minSamples, 20)
          assert.strictEqual(expected.host.rateLimit?.burst, 4)
          assert.strictEqual(expected.host.bulkhead?.maxWaiting, 4)
        })
      )

      it.effect("are turned on and off by one word", () =>
        Effect.gen(function* () {
          for (const [name, key] of [
            ["RETRY", "retry"],
            ["HEDGE", "hedge"],
            ["CIRCUIT_BREAKER", "circuitBreaker"]
          ] as const) {
            const on = yield* PoolConfig.resolve({ [key]: true })
            assert.isDefined(on.host[key], key)
            assert.deepStrictEqual(yield* PoolConfig.resolve(yield* fromEnv({ [`HTTP_CLIENT_${name}`]: "true" })), on)
            assert.deepStrictEqual(yield* PoolConfig.resolve(yield* fromYaml(`httpClient: { ${key}: true }`)), on)
          }
          const off = yield* PoolConfig.resolve({ observe: false })
          assert.deepStrictEqual(off.observe, { metrics: false, spans: false })
          assert.deepStrictEqual(yield* PoolConfig.resolve(yield* fromEnv({ HTTP_CLIENT_OBSERVE: "off" })), off)
          for (const name of ["RETRY", "HEDGE", "CIRCUIT_BREAKER", "RATE_LIMIT", "BULKHEAD"]) {
            const read = yield* PoolConfig.resolve(yield* fromEnv({ [`HTTP_CLIENT_${name}`]: "false" }))
            assert.deepInclude(read.host, noPolicies)
          }
        })
      )

      it.effect("of single hosts, too", () =>
        Effect.gen(function* () {
          const { observe: _, ...host } = given
          const expected = yield* PoolConfig.resolve({ hosts: { "https://a.test": host } })
          const tree = { "https://a.test": host }
          const read = yield* fromEnv({ HTTP_CLIENT_HOSTS: JSON.stringify(tree) })
          assert.deepStrictEqual(yield* PoolConfig.resolve(read), expected)
          assert.deepStrictEqual(
            yield* PoolConfig.resolve(yield* fromYaml(yaml({ httpClient: { hosts: tree } }))),
            expected
          )
          assert.strictEqual(expected.hosts.get("https://a.test")?.retry?.maxRetries, 7)
          assert.isUndefined(expected.host.retry)
        })
      )

      it.effect("that are wrong are all reported at once, by the names they have there", () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(
            fromEnv({
              HTTP_CLIENT_RETRY_MAX_RETRIES: "-1",
              HTTP_CLIENT_RETRY_BUDGET_RATIO: "much",
              HTTP_CLIENT_HEDGE_PERCENTILE: "95",
              HTTP_CLIENT_RATE_LIMIT_LIMIT: "0",
              HTTP_CLIENT_CIRCUIT_BREAKER_OPEN_FOR: "soon",
              HTTP_CLIENT_BULKHEAD_MAX_CONCURRENT: "x",
              HTTP_CLIENT_OBSERVE_SPANS: "some",
              HTTP_CLIENT_RETRY_WHILE: "x"
            })
          )
          const names = Object.keys(problemsOf(error))
          for (const name of [
            "HTTP_CLIENT_RETRY_MAX_RETRIES",
            "HTTP_CLIENT_RETRY_BUDGET_RATIO",
            "HTTP_CLIENT_HEDGE_PERCENTILE",
            "HTTP_CLIENT_RATE_LIMIT_LIMIT",
            "HTTP_CLIENT_RATE_LIMIT_INTERVAL",
            "HTTP_CLIENT_CIRCUIT_BREAKER_OPEN_FOR",
            "HTTP_CLIENT_BULKHEAD_MAX_CONCURRENT",
            "HTTP_CLIENT_OBSERVE_SPANS"
          ]) {
            assert.include(names, name)
          }
        })
      )
    })

    const int = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
    const millis = int(1, 1_000_000)
    const Some = Schema.Struct({
      name: Schema.optional(Schema.Literals(["a", "b c", "ä"])),
      baseUrl: Schema.optional(Schema.Literals(["http://a.test/", "https://b.test:8443/x?y=z"])),
      size: Schema.optional(int(-3, 1100)),
      selection: Schema.optional(Schema.Literals(["roundRobin", "strict", "random"])),
      headers: Schema.optional(
        Schema.Literals(["x-a", "cookie", "host"]).pipe((name) =>
          Schema.Array(Schema.Tuple([name, Schema.Literals(["1", "true", "x y"])]))
        )
      ),
      dialTimeout: Schema.optional(Schema.Union([millis, Schema.Literals(["5s", "1 minute", "Infinity"])])),
      requestTimeout: Schema.optional(Schema.Union([millis, Schema.Literals(["5m", "2 hours", "Infinity"])])),
      maxWaiting: Schema.optional(int(-1, 100)),
      ejection: Schema.optional(
        Schema.Union([
          Schema.Literal(false),
          Schema.Struct({
            failures: Schema.optional(int(0, 5)),
            base: Schema.optional(millis),
            max: Schema.optional(millis)
          })
        ])
      ),
      failOnStatus: Schema.optional(Schema.Boolean),
      bodyBufferSize: Schema.optional(Schema.Union([int(1000, 10_000), Schema.Literal("1 MiB")])),
      tls: Schema.optional(Schema.Struct({ servername: Schema.optional(Schema.Literals(["a.test", "b.test"])) })),
      addresses: Schema.optional(Schema.Literals(["first", "spread"])),
      socketPath: Schema.optional(Schema.Literals(["/run/a.sock"]))
    })

    it.effect.prop(
      "gives the same for the environment, YAML and JSON, right or wrong",
      { given: Some },
      ({ given }) =>
        Effect.gen(function* () {
          const tree = {
            ...given,
            ...(given.headers === undefined ? {} : { headers: Object.fromEntries(given.headers) })
          }
          const json: unknown = JSON.parse(JSON.stringify({ httpClient: tree }))
          const neutral = (error: PoolConfig.ConfigError) =>
            error.problems
              .map(({ message, path }) => {
                const row = rows.findLast(({ env, name }) =>
                  [`HTTP_CLIENT_${env}`, `httpClient.${name}`].some((at) => path === at || path.startsWith(`${at}.`))
                )
                return `${row?.name}: ${message}`
              })
              .sort()
          const read = (provider: ConfigProvider.ConfigProvider) =>
            PoolConfig.fromConfig().pipe(
              withProvider(provider),
              Effect.mapError(neutral),
              Effect.flatMap(PoolConfig.resolve),
              Effect.exit
            )

          const environment = yield* read(ConfigProvider.fromEnvRecord(environmentOf(given)))
          assert.deepStrictEqual(yield* read(ConfigProvider.fromUnknown(json)), environment)
          assert.deepStrictEqual(yield* read(ConfigProvider.fromUnknown(Yaml.parse(yaml(json)))), environment)
          if (environment._tag === "Success") {
            assert.strictEqual(environment.value.size, given.size ?? 8)
            assert.strictEqual(environment.value.maxWaiting, given.maxWaiting ?? 10_000)
          }
        }),
      { arbitrary: { runs: 150 } }
    )
  })

  describe("unwrap", () => {
    const env = ConfigProvider.fromEnvRecord({
      SIZE: "4",
      TIMEOUT: "5 seconds",
      BAD: "hunter2",
      KEY: pem("KEY"),
      CERT: certificate
    })

    it.effect("reads options that are Configs, groups of them, or one Config of all", () =>
      Effect.gen(function* () {
        const options = yield* PoolConfig.unwrap({
          size: Config.Int("SIZE"),
          requestTimeout: Config.Duration("TIMEOUT"),
          tls: { cert: Config.String("CERT"), key: Config.Redacted("KEY") },
          maxWaiting: Config.succeed(undefined)
        })
        const config = yield* PoolConfig.resolve(options)
        assert.strictEqual(config.size, 4)
        assert.strictEqual(config.host.requestTimeout, 5_000)
        assert.strictEqual(config.connection.tls.key && Redacted.value(config.connection.tls.key), pem("KEY"))
        assert.deepStrictEqual(yield* PoolConfig.unwrap(Config.succeed({ size: 2 })), { size: 2 })
      }).pipe(withProvider(env))
    )

    it.effect("reports all problems at once, without secrets", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          PoolConfig.unwrap({
            size: Config.Int("NOT_THERE"),
            name: Config.succeed(""),
            dialTimeout: Config.Duration("SIZE"),
            baseUrl: Config.URL("BAD"),
            hosts: Config.schema(Schema.Struct({ "http://a": Schema.Struct({}) }), "BAD"),
            proxy: Config.Literal("environment", "BAD")
          })
        )
        assert.deepStrictEqual(Object.keys(problemsOf(error)).sort(), [
          "baseUrl",
          "dialTimeout",
          "hosts",
          "name",
          "proxy",
          "size"
        ])
        assert.include(problemsOf(error)["size"] ?? "", "NOT_THERE")
        assert.notInclude(error.message, "hunter2")
        assert.lengthOf(error.message.split("\n"), 7)

        const whole = yield* Effect.flip(
          PoolConfig.unwrap(Config.fail(new ConfigProvider.SourceError({ message: "gone" })))
        )
        assert.deepStrictEqual(Object.keys(problemsOf(whole)), ["options"])
      }).pipe(withProvider(env))
    )
  })

  it("the table of options in the documentation is fresh", () => {
    const root = fileURLToPath(new URL("../../../../", import.meta.url))
    const { status, stderr } = spawnSync(process.execPath, ["scripts/docs.mjs", "--check"], {
      cwd: root,
      encoding: "utf8"
    })
    assert.strictEqual(status, 0, stderr)
  })
})
