/**
 * The options of a pool: names, units, defaults, validation, and how they are read from environments and files.
 *
 * Nothing is checked twice and nothing is reported one at a time: `resolve`, `fromConfig` and `unwrap` name every
 * invalid option in a single `ConfigError`, which never repeats a value that could be secret.
 *
 * The table of options is `docs/options.md`; its source is `internal/options.ts`.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Headers from "effect/http/Headers"
import type * as Redacted from "effect/Redacted"
import { ConfigError } from "../model/ConfigError.ts"
import type { Problem } from "../model/internal/field.ts"
import { parseOrigin } from "../model/internal/httpField.ts"
import { fields } from "./internal/options.ts"
import * as OptionSource from "./internal/optionSource.ts"
import { check, checkHost, type CheckedHost } from "./internal/optionRules.ts"
import * as Auth from "../policy/Auth.ts"
import type * as Bulkhead from "../policy/Bulkhead.ts"
import type * as CircuitBreaker from "../policy/CircuitBreaker.ts"
import type * as Hedge from "../policy/Hedge.ts"
import * as BulkheadOptions from "../policy/internal/bulkheadOptions.ts"
import * as CircuitBreakerOptions from "../policy/internal/circuitBreakerOptions.ts"
import * as HedgeOptions from "../policy/internal/hedgeOptions.ts"
import * as RateLimitOptions from "../policy/internal/rateLimitOptions.ts"
import * as RetryOptions from "../policy/internal/retryOptions.ts"
import type { Middleware } from "../policy/Middleware.ts"
import type * as RateLimit from "../policy/RateLimit.ts"
import type * as Retry from "../policy/Retry.ts"
import type { Selection } from "./Selection.ts"
export { ConfigError } from "../model/ConfigError.ts"

/**
 * How servers prove themselves, and the pool itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsOptions {
  /** Trusted authorities as PEM text, instead of the platform's. */
  readonly ca?: string | ReadonlyArray<string> | undefined
  /** The client's certificate as PEM text, with its chain; needs `key`. */
  readonly cert?: string | undefined
  /** The key of `cert` as PEM text. */
  readonly key?: Redacted.Redacted | undefined
  /** The name that is asked for and verified, instead of the host of the URL. */
  readonly servername?: string | undefined
  /** Accept any certificate: for tests only. Warns once. Default: false. */
  readonly insecureSkipVerify?: boolean | undefined
}

/**
 * Settings of one host. They go over the pool's own; header by header.
 *
 * @category models
 * @since 0.1.0
 */
export interface HostConfig {
  /** Sent with every request to this host, unless the request has its own. */
  readonly headers?: Headers.Input | undefined
  /** From the end of the request to the head of its response. Default: the pool's. */
  readonly responseHeaderTimeout?: Duration.Input | undefined
  /** Between two chunks of a response body. Default: the pool's. */
  readonly bodyIdleTimeout?: Duration.Input | undefined
  /** One attempt, from the moment it has a slot to the end of its body. Default: the pool's. */
  readonly attemptTimeout?: Duration.Input | undefined
  /** Everything: waiting, all attempts, the body. Default: the pool's. */
  readonly requestTimeout?: Duration.Input | undefined
  /** Sends again what failed, when that is safe; `true`: with its defaults. Default: the pool's. */
  readonly retry?: Retry.Options | boolean | undefined
  /** Sends a second attempt beside a slow first one. Default: the pool's. */
  readonly hedge?: Hedge.Options | boolean | undefined
  /** Credentials for every attempt. Default: the pool's, for its base origin. */
  readonly auth?: Auth.Input | false | undefined
  /** How many attempts the host gets in a time. Default: the pool's. */
  readonly rateLimit?: RateLimit.Options | false | undefined
  /** Refuses at once while the host fails. Default: the pool's. */
  readonly circuitBreaker?: CircuitBreaker.Options | boolean | undefined
  /** How many attempts the host gets at a time. Default: the pool's. */
  readonly bulkhead?: Bulkhead.Options | false | undefined
}

/**
 * When a slot that fails is left out for a while.
 *
 * @category models
 * @since 0.1.0
 */
export interface EjectionOptions {
  /** Connection failures in a row that eject a slot. Default: 5. */
  readonly failures?: number | undefined
  /** Length of the first ejection; the n-th lasts n times as long. Default: 5 s. */
  readonly base?: Duration.Input | undefined
  /** The longest ejection. Default: 60 s. */
  readonly max?: Duration.Input | undefined
}

/**
 * What is made known of requests.
 *
 * @category models
 * @since 0.1.0
 */
export interface ObserveOptions {
  /** Durations by method and status, and all that Effect's metrics show of a pool. Default: true. */
  readonly metrics?: boolean | undefined
  /**
   * Spans, and trace context sent on; `auto`: where a tracer is installed, or a span is around the request. Default: auto.
   */
  readonly spans?: boolean | "auto" | undefined
}

/**
 * What a user may say about a pool. Everything is optional.
 *
 * Durations are `Duration.Input`: `"5 seconds"`, or a number of milliseconds. `"Infinity"` means none, where none is
 * allowed. Each option can also be given by the environment or a file, see {@link fromConfig}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The pool's name in metrics, logs and spans. Default: default. */
  readonly name?: string | undefined
  /** Relative URLs are joined to it, by path segments. Default: none. */
  readonly baseUrl?: string | URL | undefined
  /** Number of slots; each has at most one connection per origin. 1 to 1024. Default: 8. */
  readonly size?: number | undefined
  /** Which free slot gets a request. Default: roundRobin. */
  readonly selection?: Selection | undefined
  /**
   * Sent with every request, unless the request has its own. With `baseUrl`: only to the base origin, so that they do
   * not follow a redirect. Default: none.
   */
  readonly headers?: Headers.Input | undefined
  /** Settings of single hosts, by origin. Default: none. */
  readonly hosts?: Readonly<Record<string, HostConfig>> | undefined
  /** To make a TCP connection. Default: 5 s. */
  readonly dialTimeout?: Duration.Input | undefined
  /** To make a TLS session on it. Default: 10 s. */
  readonly tlsTimeout?: Duration.Input | undefined
  /** From the end of the request to the head of its response. Default: 60 s. */
  readonly responseHeaderTimeout?: Duration.Input | undefined
  /** Between two chunks of a response body. Default: 60 s. */
  readonly bodyIdleTimeout?: Duration.Input | undefined
  /** One attempt, from the moment it has a slot to the end of its body. Default: none. */
  readonly attemptTimeout?: Duration.Input | undefined
  /** Everything: waiting, all attempts, the body. Default: 120 s. */
  readonly requestTimeout?: Duration.Input | undefined
  /**
   * Sends again what failed, when that is safe; `true`: with its defaults. This and the other policies: each host has its
   * own. Default: none.
   */
  readonly retry?: Retry.Options | boolean | undefined
  /** Sends a second attempt beside a slow first one. Default: none. */
  readonly hedge?: Hedge.Options | boolean | undefined
  /** Credentials for every attempt; with `baseUrl` only for the base origin. Default: none. */
  readonly auth?: Auth.Input | false | undefined
  /** How many attempts a host gets in a time. Default: none. */
  readonly rateLimit?: RateLimit.Options | false | undefined
  /** Refuses at once while a host fails; `true`: with its defaults. Default: none. */
  readonly circuitBreaker?: CircuitBreaker.Options | boolean | undefined
  /** How many attempts a host gets at a time. Default: none. */
  readonly bulkhead?: Bulkhead.Options | false | undefined
  /** Functions around every request, outermost first. Default: none. */
  readonly middleware?: ReadonlyArray<Middleware> | undefined
  /** What is made known of requests: metrics, and spans when a tracer is installed; `false`: nothing. Default: all. */
  readonly observe?: ObserveOptions | boolean | undefined
  /** Waiting for a free slot. Default: 30 s. */
  readonly acquireTimeout?: Duration.Input | undefined
  /** What running requests get when the pool's scope closes; 0 cuts them at once. Default: 10 s. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long an unused connection is kept. A server's `Keep-Alive: timeout` wins. Default: 90 s. */
  readonly idleConnectionTimeout?: Duration.Input | undefined
  /** A connection older than this, ± 10 %, is replaced between two requests. Default: 10 min. */
  readonly maxConnectionAge?: Duration.Input | undefined
  /** A connection is replaced after so many requests. Default: none. */
  readonly maxRequestsPerConnection?: number | undefined
  /** Requests to one host that may wait for a slot; one more fails with `PoolSaturated`. Default: 10000. */
  readonly maxWaiting?: number | undefined
  /** Origins that are remembered; the one unused for longest goes first. Default: 1000. */
  readonly maxHosts?: number | undefined
  /** When a slot that fails is left out for a while; `false`: never. */
  readonly ejection?: EjectionOptions | false | undefined
  /** Whether a 4xx or 5xx response is a `ResponseError`. Default: false. */
  readonly failOnStatus?: boolean | undefined
  /** The largest head of a response, in bytes. Default: 16384. */
  readonly maxHeaderSize?: number | undefined
  /** What is kept of a response body that nobody reads yet, in bytes; then the socket pauses. Default: 65536. */
  readonly bodyBufferSize?: number | undefined
  /** Whether compressed responses are asked for and decompressed. Default: true. */
  readonly decompress?: boolean | undefined
  /** The largest body after decompression, in bytes; at least `bodyBufferSize`. Default: 134217728. */
  readonly maxDecompressedSize?: number | undefined
  /** How servers prove themselves, and the pool itself. */
  readonly tls?: TlsOptions | undefined
  /** A Unix socket to connect to instead of the host of the URL; no proxy is used then. Default: none. */
  readonly socketPath?: string | undefined
  /** Of a name with several addresses: connect to the first that answers, or spread the slots. Default: first. */
  readonly addresses?: "first" | "spread" | undefined
  /** By the usual environment variables, none (`false`), or the proxy's URL. Default: environment. */
  readonly proxy?: "environment" | false | string | Redacted.Redacted | undefined
}

/**
 * What a connector needs to know to make a connection. Durations in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionOptions {
  readonly dialTimeout: number
  readonly tlsTimeout: number
  /** `Infinity` for none. */
  readonly idleConnectionTimeout: number
  readonly maxHeaderSize: number
  readonly tls: TlsOptions
  readonly socketPath: string | undefined
  readonly addresses: "first" | "spread"
  /** A valid http or https URL, if it is one. */
  readonly proxy: "environment" | false | Redacted.Redacted
}

/**
 * Options after validation. Durations in milliseconds, `Infinity` for none.
 *
 * @category models
 * @since 0.1.0
 */
export interface PoolConfig {
  readonly name: string
  readonly baseUrl: URL | undefined
  readonly size: number
  readonly selection: Selection
  readonly acquireTimeout: number
  readonly drainTimeout: number
  readonly maxWaiting: number
  readonly maxHosts: number
  readonly maxConnectionAge: number
  readonly maxRequestsPerConnection: number
  readonly ejection: { readonly failures: number; readonly base: number; readonly max: number } | undefined
  readonly bodyBufferSize: number
  readonly decompress: boolean
  readonly maxDecompressedSize: number
  readonly connection: ConnectionOptions
  readonly failOnStatus: boolean
  readonly middleware: ReadonlyArray<Middleware>
  readonly observe: { readonly metrics: boolean; readonly spans: boolean | "auto" }
  /** What holds for a host that has no settings of its own. */
  readonly host: ResolvedHost
  /** By origin. With a `baseUrl`, its origin is always in it. */
  readonly hosts: ReadonlyMap<string, ResolvedHost>
}

/**
 * What holds for one host. Durations in milliseconds, `Infinity` for none.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResolvedHost {
  /** Name, value, name, value… in lower case. */
  readonly headers: ReadonlyArray<string>
  readonly responseHeaderTimeout: number
  readonly bodyIdleTimeout: number
  readonly attemptTimeout: number
  readonly requestTimeout: number
  readonly retry: RetryOptions.Resolved | undefined
  readonly hedge: HedgeOptions.Resolved | undefined
  readonly auth: Auth.Auth | undefined
  readonly rateLimit: RateLimitOptions.Resolved | undefined
  readonly circuitBreaker: CircuitBreakerOptions.Resolved | undefined
  readonly bulkhead: BulkheadOptions.Resolved | undefined
}

const failIfAny = (problems: ReadonlyArray<Problem>): Effect.Effect<void, ConfigError> =>
  problems.length === 0 ? Effect.void : Effect.fail(new ConfigError({ problems }))

const over = (base: ResolvedHost, host: CheckedHost): ResolvedHost => {
  const headers = new Map<string, string>()
  for (let i = 0; i < base.headers.length; i += 2) headers.set(base.headers[i] ?? "", base.headers[i + 1] ?? "")
  for (const [name, value] of host.headers ?? []) headers.set(name, value)
  return {
    headers: [...headers].flat(),
    responseHeaderTimeout: host.responseHeaderTimeout ?? base.responseHeaderTimeout,
    bodyIdleTimeout: host.bodyIdleTimeout ?? base.bodyIdleTimeout,
    attemptTimeout: host.attemptTimeout ?? base.attemptTimeout,
    requestTimeout: host.requestTimeout ?? base.requestTimeout,
    retry: policy(base.retry, host.retry, RetryOptions.resolve),
    hedge: policy(base.hedge, host.hedge, HedgeOptions.resolve),
    auth: policy(base.auth, host.auth, Auth.from),
    rateLimit: policy(base.rateLimit, host.rateLimit, RateLimitOptions.resolve),
    circuitBreaker: policy(base.circuitBreaker, host.circuitBreaker, CircuitBreakerOptions.resolve),
    bulkhead: policy(base.bulkhead, host.bulkhead, BulkheadOptions.resolve)
  }
}

/** What is given replaces the whole policy. */
const policy = <Given, Resolved>(
  base: Resolved | undefined,
  given: Given | false | undefined,
  resolve: (given: Given) => Resolved
): Resolved | undefined => (given === undefined ? base : given === false ? undefined : resolve(given))

const defaultHost: ResolvedHost = {
  headers: [],
  responseHeaderTimeout: fields.responseHeaderTimeout.default,
  bodyIdleTimeout: fields.bodyIdleTimeout.default,
  attemptTimeout: fields.attemptTimeout.default,
  requestTimeout: fields.requestTimeout.default,
  retry: undefined,
  hedge: undefined,
  auth: undefined,
  rateLimit: undefined,
  circuitBreaker: undefined,
  bulkhead: undefined
}

/**
 * Validates options and fills in defaults; fails with all that is wrong at once.
 *
 * **Details**
 *
 * With a `baseUrl`, `headers` belong to its origin alone, so that credentials in them do not follow a redirect: they
 * are in `hosts`, and `host` has none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<PoolConfig, ConfigError> {
  const { options: given, problems } = check(options)
  yield* failIfAny(problems)

  const everywhere = over(defaultHost, given)
  const host = given.baseUrl === undefined ? everywhere : { ...everywhere, headers: [], auth: undefined }
  const hosts = new Map<string, ResolvedHost>()
  if (given.baseUrl !== undefined) hosts.set(given.baseUrl.origin, everywhere)
  for (const [origin, settings] of Object.entries(given.hosts ?? {})) {
    hosts.set(origin, over(hosts.get(origin) ?? host, settings))
  }
  const ejection = given.ejection ?? {}

  return {
    name: given.name ?? fields.name.default,
    baseUrl: given.baseUrl,
    size: given.size ?? fields.size.default,
    selection: given.selection ?? fields.selection.default,
    acquireTimeout: given.acquireTimeout ?? fields.acquireTimeout.default,
    drainTimeout: given.drainTimeout ?? fields.drainTimeout.default,
    maxWaiting: given.maxWaiting ?? fields.maxWaiting.default,
    maxHosts: given.maxHosts ?? fields.maxHosts.default,
    maxConnectionAge: given.maxConnectionAge ?? fields.maxConnectionAge.default,
    maxRequestsPerConnection: given.maxRequestsPerConnection ?? fields.maxRequestsPerConnection.default,
    ejection:
      ejection === false
        ? undefined
        : {
            failures: ejection.failures ?? fields.ejection.fields.failures.default,
            base: ejection.base ?? fields.ejection.fields.base.default,
            max: ejection.max ?? fields.ejection.fields.max.default
          },
    bodyBufferSize: given.bodyBufferSize ?? fields.bodyBufferSize.default,
    decompress: given.decompress ?? fields.decompress.default,
    maxDecompressedSize: given.maxDecompressedSize ?? fields.maxDecompressedSize.default,
    failOnStatus: given.failOnStatus ?? fields.failOnStatus.default,
    middleware: given.middleware ?? [],
    observe:
      given.observe === false
        ? { metrics: false, spans: false }
        : {
            metrics: given.observe?.metrics ?? fields.observe.fields.metrics.default,
            spans: given.observe?.spans ?? fields.observe.fields.spans.default
          },
    connection: {
      dialTimeout: given.dialTimeout ?? fields.dialTimeout.default,
      tlsTimeout: given.tlsTimeout ?? fields.tlsTimeout.default,
      idleConnectionTimeout: given.idleConnectionTimeout ?? fields.idleConnectionTimeout.default,
      maxHeaderSize: given.maxHeaderSize ?? fields.maxHeaderSize.default,
      tls: given.tls ?? {},
      socketPath: given.socketPath,
      addresses: given.addresses ?? fields.addresses.default,
      proxy: given.socketPath === undefined ? (given.proxy ?? fields.proxy.default) : false
    },
    host,
    hosts
  }
})

/**
 * Puts new settings of one host over those that `config` has for it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolveHost = Effect.fnUntraced(function* (
  config: PoolConfig,
  origin: string,
  host: HostConfig
): Effect.fn.Return<ResolvedHost, ConfigError> {
  const { problems, settings } = checkHost(origin, host)
  yield* failIfAny(problems)
  return over(config.hosts.get(parseOrigin(origin) ?? origin) ?? config.host, settings)
})

/**
 * Reads the options from the current `ConfigProvider`: from environment names (`HTTP_CLIENT_BASE_URL`,
 * `HTTP_CLIENT_TLS_CA`), and from an object with the names of {@link Options} (`httpClient: { baseUrl, tls: { ca } }`), as
 * a YAML or JSON file has it. Where both name an option, the environment wins.
 *
 * **Details**
 *
 * - Durations: `5s`, `500ms`, `10m`, `5 seconds`, a number of milliseconds. Sizes: `65536`, `64 KiB`.
 * - `headers`, `hosts` and whole groups in the environment are JSON: `HTTP_CLIENT_HEADERS={"x-team":"blue"}`.
 * - `HTTP_CLIENT_EJECTION=false` and `HTTP_CLIENT_PROXY=false` turn these off.
 * - An environment name that is one or two letters away from an option's is taken for a mistake and refused; others
 *   with the same prefix are left alone. In an object, every unknown name is refused.
 * - A `selection` by key is a function and has no text form.
 *
 * @category configuration
 * @since 0.1.0
 */
export const fromConfig = Effect.fnUntraced(function* (source?: {
  /** Of environment names. Default: `HTTP_CLIENT`. */
  readonly prefix?: string | undefined
  /** Where the object stands. Default: `["httpClient"]`. */
  readonly path?: ReadonlyArray<string> | undefined
}): Effect.fn.Return<Options, ConfigError> {
  const found = yield* OptionSource.read(source?.prefix ?? "HTTP_CLIENT", source?.path ?? ["httpClient"])
  const { options, problems } = check(found.input)
  yield* failIfAny([...found.problems, ...problems.map(({ message, path }) => ({ path: found.nameOf(path), message }))])
  return options
})

/**
 * Reads options of which each is a `Config`, or a group of them; for `layerConfig`. Unlike `Config.unwrap` it reads all
 * of them before it fails.
 *
 * @category configuration
 * @since 0.1.0
 */
export const unwrap = Effect.fnUntraced(function* (
  wrapped: Config.Wrap<Options>
): Effect.fn.Return<Options, ConfigError> {
  const found = yield* OptionSource.unwrap(wrapped)
  const { options, problems } = check(found.input)
  yield* failIfAny([...found.problems, ...problems])
  return options
})
