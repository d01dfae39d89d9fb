/**
 * The options of servers: names, units, defaults, validation, and how they are read from environments and files.
 *
 * What it promises:
 *
 * - A list is checked as a whole, and everything that is wrong with it is named in a single `ConfigError`:
 *   `servers[2].bind`, `HTTP_SERVERS_2_BIND`, `httpServers[2].bind`. No message repeats a key or a certificate.
 * - A server that says `tls` never speaks plain HTTP because a certificate is missing, unless it says `required: false`.
 * - No two servers of a list have the same address, however it is written, nor one that is within the other's.
 * - `diff` names what changed, and what has to be touched for it: a changed handler is no reason to touch a connection.
 *
 * It opens no socket, and reads no file: PEM texts are texts. `ConfigFile` of `@millrace/node` reads files.
 *
 * The table of options is `docs/server-options.md`; its source is `internal/serverOptions.ts`.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import { ConfigError } from "../model/ConfigError.ts"
import type { Problem } from "../model/internal/field.ts"
import type { Bind } from "./internal/bind.ts"
import * as ConfigDiff from "./internal/configDiff.ts"
import type { Given } from "./internal/serverOptions.ts"
import { checkAll, checkOne } from "./internal/serverRules.ts"
import * as ServerSource from "./internal/serverSource.ts"
import type { Settings } from "./Listener.ts"
export { ConfigError } from "../model/ConfigError.ts"
export type { Bind } from "./internal/bind.ts"

// -----------------------------------------------------------------------------
// What a user says
// -----------------------------------------------------------------------------

/**
 * Certificates as PEM text, and what is asked of clients: the default of a pool.
 *
 * @category models
 * @since 0.1.0
 */
export interface DefaultTls {
  /** The certificate, with its chain; needs `key`. */
  readonly cert?: string | undefined
  /** The key of `cert`. */
  readonly key?: Redacted.Redacted | undefined
  /** Authorities of client certificates. */
  readonly ca?: string | ReadonlyArray<string> | undefined
  /** Whether clients must, may, or need not show a certificate. Default: none. */
  readonly clientAuth?: "none" | "request" | "require" | undefined
  /** The oldest version of TLS that is spoken. Default: TLSv1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
}

/**
 * The TLS of one server.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsOptions extends DefaultTls {
  /** Whether the server is refused without a certificate; `false`: it then speaks plain HTTP. Default: true. */
  readonly required?: boolean | undefined
  /**
   * Whether what is not given here comes from the default TLS of the pool; certificate and key come from the same place.
   * Default: false.
   */
  readonly inherit?: boolean | undefined
}

/**
 * Health requests to a server.
 *
 * @category models
 * @since 0.1.0
 */
export interface MonitorOptions {
  /** What is asked for, by GET. Default: /. */
  readonly path?: string | undefined
  /** Between two health requests. Default: 10 s, as Kubernetes' `periodSeconds`. */
  readonly interval?: Duration.Input | undefined
  /** For the whole answer; at most `interval`. Default: 5 s, as an AWS target group's. */
  readonly timeout?: Duration.Input | undefined
  /** Good answers in a row that make a server healthy again. Default: 2, as HAProxy's `rise`. */
  readonly rise?: number | undefined
  /** Bad answers in a row that make it unhealthy. Default: 3, as HAProxy's `fall`. */
  readonly fall?: number | undefined
}

/**
 * What a user says about one server. Only `bind` is required.
 *
 * Durations are `Duration.Input`: `"5 seconds"`, or a number of milliseconds; `"Infinity"` means none, where none is
 * allowed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The server's name in metrics, logs and errors. Default: its bind. */
  readonly name?: string | undefined
  /** `host:port`, `:port` for all addresses, `[::1]:port`, `localhost:port`. Port 0: the system chooses. */
  readonly bind: string
  /** Where clients find the server. Default: from bind and tls, `:8080` is `http://localhost:8080`. */
  readonly expose?: string | URL | undefined
  /** Whether it is never started. It is checked all the same. Default: false. */
  readonly disabled?: boolean | undefined
  /** The key of the handler that answers. Default: default. */
  readonly handler?: string | undefined
  /** A whole request, its body included. Default: 5 min, as Node's `requestTimeout`. */
  readonly readTimeout?: Duration.Input | undefined
  /** The head of a request; at most `readTimeout`. Default: 10 s, or `readTimeout` where that is shorter. */
  readonly readHeaderTimeout?: Duration.Input | undefined
  /** A response, from the end of its request to its own end; streams too. Default: none. */
  readonly writeTimeout?: Duration.Input | undefined
  /**
   * How long a connection is kept between two requests. Must exceed what a balancer in front keeps. Default: 75 s, as
   * nginx' `keepalive_timeout`; AWS' balancers keep 60 s, Google's 600 s.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /** The largest head of a request. Default: 16384, as Node's. */
  readonly maxHeaderBytes?: number | undefined
  /** The largest body of a request: 413. A handler that streams one without a length counts by itself. Default: none. */
  readonly maxBodyBytes?: number | undefined
  /** Connections at a time; one more is refused. Default: none. */
  readonly maxConnections?: number | undefined
  /** Whether a connection serves more than one request. Default: true. */
  readonly keepAlive?: boolean | undefined
  /** What requests under way get when the server stops; 0 cuts them at once. Default: 10 s. */
  readonly drainTimeout?: Duration.Input | undefined
  /** How long a server that stops still accepts, so that balancers see that it is not ready. Default: 0 s. */
  readonly drainDelay?: Duration.Input | undefined
  /** Health requests to the server itself; `true`: with the defaults. Default: none. */
  readonly monitor?: MonitorOptions | boolean | undefined
  /** With it the server speaks HTTPS. */
  readonly tls?: TlsOptions | undefined
}

// -----------------------------------------------------------------------------
// What it comes to
// -----------------------------------------------------------------------------

/**
 * One server after validation. Durations in milliseconds, `Infinity` for none.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerConfig {
  readonly name: string
  readonly bind: Bind
  /** With port 0 in it where the system chooses the port; `withPort` puts the port in. */
  readonly expose: URL
  readonly handler: string
  readonly disabled: boolean
  /** For the listener. */
  readonly settings: Settings
  readonly drainTimeout: number
  readonly drainDelay: number
  readonly monitor: Monitor | undefined
}

/**
 * Health requests after validation. Durations in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Monitor {
  readonly path: string
  readonly interval: number
  readonly timeout: number
  readonly rise: number
  readonly fall: number
}

/**
 * Servers, as files and environments have them.
 *
 * @category models
 * @since 0.1.0
 */
export interface List {
  /** What holds for all servers is already in each. */
  readonly servers: ReadonlyArray<Options>
  /** The default TLS of the pool. */
  readonly tls: DefaultTls | undefined
}

/**
 * What a list of servers is checked against.
 *
 * @category models
 * @since 0.1.0
 */
export interface Surroundings {
  /** The keys of the handlers that there are. Not given: any key will do. */
  readonly handlers?: Iterable<string> | undefined
  /** The default TLS of the pool, for servers whose `tls.inherit` is true. */
  readonly tls?: DefaultTls | undefined
}

const failIfAny = (problems: ReadonlyArray<Problem>): Effect.Effect<void, ConfigError> =>
  problems.length === 0 ? Effect.void : Effect.fail(new ConfigError({ problems }))

/**
 * Validates one server and fills in defaults; fails with all that is wrong at once.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = Effect.fnUntraced(function* (
  options: Options,
  surroundings: Surroundings = {}
): Effect.fn.Return<ServerConfig, ConfigError> {
  const { config, problems } = checkOne(options, surroundings)
  yield* failIfAny(problems)
  return config
})

/**
 * Validates a list of servers, each and together; fails with all that is wrong in all of them at once.
 *
 * ```ts
 * import { ServerConfig } from "@millrace/core"
 *
 * const configs = ServerConfig.resolveAll(
 *   [
 *     { name: "public", bind: ":8443", tls: { inherit: true } },
 *     { name: "admin", bind: "127.0.0.1:9000", handler: "admin" }
 *   ],
 *   { handlers: ["default", "admin"] }
 * )
 * // fails: servers[0].tls.inherit finds no certificate in the pool's default TLS
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolveAll = Effect.fnUntraced(function* (
  servers: ReadonlyArray<Options>,
  surroundings: Surroundings = {}
): Effect.fn.Return<ReadonlyArray<ServerConfig>, ConfigError> {
  const checked = checkAll(servers, surroundings)
  yield* failIfAny(checked.problems)
  return checked.servers.map(({ config }) => config)
})

/**
 * The configuration with the port that the system chose in its URL. A URL that was given stays as it is.
 *
 * @category combinators
 * @since 0.1.0
 */
export const withPort = (config: ServerConfig, port: number): ServerConfig => {
  if (config.expose.port !== "0") return config
  const expose = new URL(config.expose)
  expose.port = String(port)
  return { ...config, expose }
}

// -----------------------------------------------------------------------------
// Lists
// -----------------------------------------------------------------------------

/**
 * The same servers, all answered by one handler.
 *
 * @category combinators
 * @since 0.1.0
 */
export const setHandler = (servers: ReadonlyArray<Options>, handler: string): ReadonlyArray<Options> =>
  servers.map((server) => ({ ...server, handler }))

/**
 * The same servers, with the default TLS in those that inherit it; their own stays over it. Other servers stay as they are.
 *
 * @category combinators
 * @since 0.1.0
 */
export const setDefaultTls = (servers: ReadonlyArray<Options>, tls: DefaultTls): ReadonlyArray<Options> =>
  servers.map((server) => {
    const own = server.tls
    if (own?.inherit !== true) return server
    const pair = own.cert === undefined && own.key === undefined ? tls : own
    return {
      ...server,
      tls: {
        ...own,
        cert: pair.cert,
        key: pair.key,
        ca: own.ca ?? tls.ca,
        clientAuth: own.clientAuth ?? tls.clientAuth,
        minVersion: own.minVersion ?? tls.minVersion
      }
    }
  })

/**
 * What a change has to touch.
 *
 * - `handler`: requests that come next; no connection.
 * - `certificates`: handshakes that come next; no connection.
 * - `backend`: the limits of connections, or whether they speak TLS. A new backend takes over, the old one drains.
 * - `running`: the server is started or stopped.
 * - `pool`: nothing but what the pool itself keeps, as names and the time to drain.
 *
 * @category models
 * @since 0.1.0
 */
export type Touch = "handler" | "certificates" | "backend" | "running" | "pool"

/**
 * A server that stays, and differs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly before: ServerConfig
  readonly after: ServerConfig
  /** Names of options: `readTimeout`, `tls.cert`. */
  readonly fields: ReadonlyArray<string>
  readonly touches: ReadonlySet<Touch>
}

/**
 * What became of a list.
 *
 * @category models
 * @since 0.1.0
 */
export interface Diff {
  readonly added: ReadonlyArray<ServerConfig>
  /** Stop these first: what is added may need their address. */
  readonly removed: ReadonlyArray<ServerConfig>
  readonly changed: ReadonlyArray<Change>
  /** As they are in the new list. */
  readonly same: ReadonlyArray<ServerConfig>
}

/**
 * What differs between two lists. A server is known by its address; where the system chooses the port, by its host and name.
 *
 * @category combinators
 * @since 0.1.0
 */
export const diff = (before: ReadonlyArray<ServerConfig>, after: ReadonlyArray<ServerConfig>): Diff =>
  ConfigDiff.diff(before, after)

/**
 * What differs between two configurations of one server, their addresses aside; `undefined` if nothing does.
 *
 * @category combinators
 * @since 0.1.0
 */
export const compare = (before: ServerConfig, after: ServerConfig): Change | undefined =>
  ConfigDiff.compare(before, after)

// -----------------------------------------------------------------------------
// Configuration
// -----------------------------------------------------------------------------

const optionsOf = ({ bind, ...rest }: Given): Options => ({ ...rest, bind: bind?.text ?? "" })

/**
 * Reads servers from the current `ConfigProvider`: from environment names, and from objects with the names of
 * {@link Options}, as a YAML or JSON file has them. All of it is checked as `resolveAll` does.
 *
 * **Details**
 *
 * - `httpServers`: the list. `HTTP_SERVERS` is the same as JSON, and takes its place.
 * - `HTTP_SERVERS_0_BIND`: one option of the first server, over the list's. The number after the last adds a server.
 * - `httpServer`: what holds for all servers that say nothing else; not `name`, `bind`, `expose` and `disabled`. Its `tls`
 *   is the default TLS. `HTTP_SERVER_READ_TIMEOUT` is one option of it, over the object's.
 * - A group, `monitor` say, replaces the whole group that holds for all.
 * - No server at all is an error, unless the list is there and empty: half a file must not stop a pool.
 *
 * @category configuration
 * @since 0.1.0
 */
export const fromConfig = Effect.fnUntraced(function* (source?: {
  /** Of environment names. Default: `HTTP_SERVER`. */
  readonly prefix?: string | undefined
  /** What `httpServers` and `httpServer` stand in. Default: nothing. */
  readonly path?: ReadonlyArray<string> | undefined
  /** The keys of the handlers that there are. Not given: any key will do. */
  readonly handlers?: Iterable<string> | undefined
}): Effect.fn.Return<List, ConfigError> {
  const found = yield* ServerSource.read(source?.prefix ?? "HTTP_SERVER", source?.path ?? [])
  const { problems, servers, tls } = checkAll(found.servers, { common: found.common, handlers: source?.handlers })
  yield* failIfAny([...found.problems, ...problems.map(({ message, path }) => ({ path: found.nameOf(path), message }))])
  return { servers: servers.map(({ given }) => optionsOf(given)), tls }
})
