/**
 * Many listeners as one unit.
 *
 * A pool holds servers keyed by their bind address. It owns the socket that accepts, and hands connections to the server
 * behind it; so a server can be replaced, its handler swapped and its certificate renewed while clients connect.
 *
 * What it promises:
 *
 * - An operation on many servers acts on all of them at once, goes on past those that fail, and then fails with every one
 *   of them by name.
 * - `start` returns when every address really accepts. Called again it tries only what does not run.
 * - A server that stops is not ready first; after `drainDelay` it accepts no more; what is under way has `drainTimeout`;
 *   the rest is cut, and counted in the result.
 * - A bind has one server, and one socket, at any time. Any mix of operations by any number of fibers is safe: there is one
 *   transition of a server at a time.
 * - A start that is interrupted closes what it has opened. Every other operation runs to its end, also where its caller
 *   does not wait: nothing is left half way.
 * - When the scope ends all servers are stopped, with their drain, and nothing is left.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Timers from "../model/internal/timers.ts"
import { keysOf } from "./internal/registry.ts"
import type { Field } from "./internal/fieldMatch.ts"
import * as PoolFace from "./internal/poolFace.ts"
import { type Handler, Listener } from "./Listener.ts"
import type { Server, Stopped } from "./Server.ts"
import * as ServerConfig from "./ServerConfig.ts"
import type { ServerPoolError } from "./ServerError.ts"
import type { ServerEvent } from "./ServerEvent.ts"

export type { Field } from "./internal/fieldMatch.ts"

/**
 * Servers of a pool: all, or those that a `filter` lets through. It owns none of them; the pool does.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerGroup {
  /**
   * Starts what does not run, except what is disabled, and returns when all of it accepts. Where some cannot, all others
   * run, and the error names each that does not with its cause; `start` again tries only those.
   */
  readonly start: Effect.Effect<void, ServerPoolError>
  /** Stops what runs, and says of each what had to be cut. Called twice it does no harm. */
  readonly stop: Effect.Effect<ReadonlyArray<Stopped>, ServerPoolError>
  /**
   * Opens every address anew, also of what does not run, and returns when all accept. Connections that there were drain
   * meanwhile. Between closing and opening an address a connection attempt can be refused: to lose none, use `update`.
   */
  readonly restart: Effect.Effect<void, ServerPoolError>
  readonly restartOne: (which: Which) => Effect.Effect<void, ServerPoolError>
  /** Whether any of them runs. */
  readonly isRunning: Effect.Effect<boolean>
  /** The longest of them. */
  readonly uptime: Effect.Effect<Duration.Duration>
  /** There are servers that should run, and all of them do, none about to stop. */
  readonly ready: Effect.Effect<boolean>
  /** In the order in which they came. */
  readonly servers: Effect.Effect<ReadonlyArray<Server>>
  readonly size: Effect.Effect<number>
  readonly get: (which: Which) => Effect.Effect<Option.Option<Server>>
  readonly has: (which: Which) => Effect.Effect<boolean>
  /** One after the other, in order; a failure ends it. */
  readonly forEach: <E, R>(f: (server: Server) => Effect.Effect<unknown, E, R>) => Effect.Effect<void, E, R>
  /** Those of the binds that are there, in the order of the binds. */
  readonly forEachOf: <E, R>(
    binds: Iterable<string>,
    f: (server: Server) => Effect.Effect<unknown, E, R>
  ) => Effect.Effect<void, E, R>
  /**
   * The servers whose field is `pattern`, whatever its case, or matches `regex`; at least one has to be given. A live view
   * of the same servers: one that is added later, and matches, belongs to it.
   */
  readonly filter: (
    field: Field,
    pattern?: string,
    regex?: string | RegExp
  ) => Effect.Effect<ServerGroup, ServerPoolError>
  /** The `target` of those whose `source` is `pattern` or matches `regex`; of all, if neither is given. */
  readonly list: (
    source: Field,
    target: Field,
    pattern?: string,
    regex?: string | RegExp
  ) => Effect.Effect<ReadonlyArray<string>, ServerPoolError>
  /** A pool of its own with the same configurations, handlers and default TLS, not started. */
  readonly clone: Effect.Effect<ServerPool, never, Scope.Scope>
}

/**
 * A bind: as configured in any spelling, or as the system chose it. Or the server itself.
 *
 * @category models
 * @since 0.1.0
 */
export type Which = string | Server

/**
 * Whether a server that is there with the same bind is replaced. Without it that is an error.
 *
 * @category models
 * @since 0.1.0
 */
export interface AddOptions {
  readonly replace?: boolean | undefined
}

/**
 * What comes into force together with a list of configurations.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReloadOptions {
  /** The default TLS. Default: as it is. */
  readonly tls?: ServerConfig.DefaultTls | undefined
}

/**
 * A running pool.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerPool extends ServerGroup {
  readonly name: string
  /**
   * Puts in a server, which is started if the pool is; where it cannot be, the pool is as before. With `replace` as
   * `update`.
   */
  readonly addConfig: (
    config: ServerConfig.Options,
    options?: AddOptions
  ) => Effect.Effect<Server, ServerPoolError | ServerConfig.ConfigError>
  /**
   * Puts in a server that was taken from a pool, as it is: if it runs, its clients notice nothing. It answers with the
   * handler of its key here; where there is none it brings its own.
   */
  readonly add: (server: Server, options?: AddOptions) => Effect.Effect<Server, ServerPoolError>
  /** Stops a server and takes it out; `None` where there is none, or it did not run. */
  readonly remove: (which: Which) => Effect.Effect<Option.Option<Stopped>, ServerPoolError>
  /**
   * Gets a server and takes it out, at once; it goes on to run. The scope owns it until it is added to a pool: if it is in
   * none when the scope ends, it is stopped, with its drain.
   */
  readonly take: (which: Which) => Effect.Effect<Option.Option<Server>, never, Scope.Scope>
  /** Stops all servers and takes them out. */
  readonly clear: Effect.Effect<ReadonlyArray<Stopped>, ServerPoolError>
  /**
   * Another configuration for the server with the same bind. A changed handler or certificate holds from the next request
   * or handshake on. For other limits of connections a new server takes over the address, and the old one drains meanwhile.
   * On failure nothing has changed.
   */
  readonly update: (config: ServerConfig.Options) => Effect.Effect<Server, ServerPoolError | ServerConfig.ConfigError>
  /**
   * Another list of configurations. It is validated as a whole first; only what differs is touched; where some of it
   * cannot come into force, all is put back, and the error names the servers. What leaves drains meanwhile. With `tls` that
   * is the default TLS from now on, as one with the list.
   */
  readonly reload: (
    configs: ReadonlyArray<ServerConfig.Options>,
    options?: ReloadOptions
  ) => Effect.Effect<void, ServerPoolError | ServerConfig.ConfigError>
  /**
   * Tells those who listen to `events` of configurations that were refused before they came here, as a file that cannot be
   * read. Nothing else happens.
   */
  readonly reject: (error: ServerConfig.ConfigError) => Effect.Effect<void>
  /** What answers from the next request on, on all servers with that key; without a key, on all servers. */
  readonly setHandler: (handler: Handler, key?: string) => Effect.Effect<void>
  /** What answers on servers with that key. Default: `default`. */
  readonly handler: (key?: string) => Effect.Effect<Option.Option<Handler>>
  /**
   * New certificates for all servers that inherit them, from the next handshake on; or, on failure, for none. Ends when those
   * that are just stopped, restarted or updated have been looked at, too: an update may make a server inherit them.
   */
  readonly setDefaultTls: (
    tls: ServerConfig.DefaultTls
  ) => Effect.Effect<void, ServerPoolError | ServerConfig.ConfigError>
  /**
   * Takes all servers out of the other pool and puts them in here, as they run. Where binds are in both, and `replace` is
   * not set, nothing moves. One that cannot be put in stays where it was, and is named in the error.
   */
  readonly merge: (other: ServerPool, options?: AddOptions) => Effect.Effect<void, ServerPoolError>
  /** What happens from now on, until the pool is closed; a slow consumer misses the oldest. */
  readonly events: Stream.Stream<ServerEvent>
}

/**
 * What a pool is made of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly servers: ReadonlyArray<ServerConfig.Options>
  /** By key; one alone is `default`. */
  readonly handlers: Handler | Readonly<Record<string, Handler>>
  /** For servers whose `tls.inherit` is true. */
  readonly tls?: ServerConfig.DefaultTls | undefined
  /** Default: `default`. */
  readonly name?: string | undefined
}

/**
 * The default tag. An application with several pools gives each a tag of its own.
 *
 * @category services
 * @since 0.1.0
 */
export const ServerPool: Context.Service<ServerPool, ServerPool> = Context.Service<ServerPool, ServerPool>(
  "@millrace/core/ServerPool"
)

/**
 * Makes a pool that lives as long as the scope. Nothing is opened before `start`.
 *
 * ```ts
 * import { Listener, ServerPool } from "@millrace/core"
 * import { Effect } from "effect"
 * import { HttpServerResponse } from "effect/http"
 *
 * export const program: Effect.Effect<never, unknown, Listener.Listener> = Effect.gen(function* () {
 *   const pool = yield* ServerPool.make({
 *     servers: [
 *       { name: "public", bind: ":8080" },
 *       { name: "admin", bind: "127.0.0.1:9000", handler: "admin" }
 *     ],
 *     handlers: {
 *       default: Effect.succeed(HttpServerResponse.text("hello")),
 *       admin: Effect.succeed(HttpServerResponse.text("fine"))
 *     }
 *   })
 *   yield* pool.start
 *   return yield* Effect.never
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<ServerPool, ServerConfig.ConfigError, Scope.Scope | Listener> {
  const listener = yield* Listener
  const services = yield* Effect.context<never>()
  const handlers = handlersOf(options.handlers)
  const surroundings = { handlers: handlers.keys(), tls: options.tls }
  const configs = yield* ServerConfig.resolveAll(options.servers, surroundings)
  const keys = keysOf(configs)
  const specs = configs.map((config, index) => ({ key: keys[index]!, options: options.servers[index]!, config }))
  const platform = { listener, timers: Timers.make(services) }
  return yield* PoolFace.make(options.name ?? "default", platform, specs, handlers, options.tls)
})

/**
 * The pool behind the default tag.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<ServerPool, ServerConfig.ConfigError, Listener> =>
  Layer.effect(ServerPool, make(options))

/**
 * The pool behind the default tag, with servers from `Config`.
 *
 * ```ts
 * import { ServerPool } from "@millrace/core"
 * import { Config, Effect } from "effect"
 * import { HttpServerResponse } from "effect/http"
 *
 * export const layer = ServerPool.layerConfig({
 *   servers: [{ bind: Config.String("BIND").pipe(Config.withDefault(":8080")) }],
 *   handlers: Effect.succeed(HttpServerResponse.text("hello"))
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Omit<Options, "servers" | "tls"> & {
    readonly servers: ReadonlyArray<Config.Wrap<ServerConfig.Options>>
    readonly tls?: Config.Wrap<ServerConfig.DefaultTls> | undefined
  }
): Layer.Layer<ServerPool, ServerConfig.ConfigError, Listener> =>
  Layer.effect(
    ServerPool,
    Effect.gen(function* () {
      const { servers, tls, ...rest } = options
      const problems: Array<{ readonly path: string; readonly message: string }> = []
      const read = <A>(wrapped: Config.Wrap<A>, path: string) =>
        Effect.map(Effect.result(Config.unwrap(wrapped)), (result) => {
          if (Result.isSuccess(result)) return result.success
          problems.push({ path, message: `cannot be read: ${result.failure.message.replace(/\s*\n\s*/g, " ")}` })
          return undefined
        })
      const configs = yield* Effect.forEach(servers, (server, index) => read(server, `servers[${index}]`))
      const defaultTls = tls === undefined ? undefined : yield* read(tls, "tls")
      if (problems.length > 0) return yield* new ServerConfig.ConfigError({ problems })
      return yield* make({ ...rest, servers: configs.filter((config) => config !== undefined), tls: defaultTls })
    })
  )

/**
 * The pool behind the default tag, with whatever servers the current `ConfigProvider` has: environment variables
 * `HTTP_SERVERS_0_BIND`…, and the list under `httpServers` of a YAML or JSON file. All that is wrong is reported at once.
 *
 * @see {@link ServerConfig.fromConfig} for the names and their order
 * @category layers
 * @since 0.1.0
 */
export const layerFromConfig = (
  options: Omit<Options, "servers" | "tls">,
  source?: { readonly prefix?: string | undefined; readonly path?: ReadonlyArray<string> | undefined }
): Layer.Layer<ServerPool, ServerConfig.ConfigError, Listener> =>
  Layer.effect(
    ServerPool,
    Effect.flatMap(
      ServerConfig.fromConfig({ ...source, handlers: handlersOf(options.handlers).keys() }),
      ({ servers, tls }) => make({ ...options, servers, tls })
    )
  )

const handlersOf = (handlers: Options["handlers"]): ReadonlyMap<string, Handler> =>
  new Map(Effect.isEffect(handlers) ? [["default", handlers] as const] : Object.entries(handlers))
