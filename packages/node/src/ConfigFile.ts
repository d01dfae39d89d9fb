/**
 * Servers from a YAML or JSON file.
 *
 * What it promises:
 *
 * - Everything that is wrong with a file is reported at once, by its path: `httpServers[1].tls.certFile`. No message
 *   repeats a key or a certificate.
 * - The environment wins over the file: see `ServerConfig.fromConfig`.
 * - `watch` sees a file that is written in place, replaced by a rename as editors do, or swapped behind a link as Kubernetes
 *   does with a `ConfigMap`, and the same of the certificates it names. What it gives was the same for a while, so it is
 *   not half written.
 * - A bad file is an element of the stream, never its end. A pool that follows a file keeps serving with what it has.
 *
 * In a file `tls` may name files beside PEM texts: `certFile`, `keyFile` and `caFile`, relative to the file they stand in.
 *
 * @since 0.1.0
 */
import * as ServerConfig from "@millrace/core/server/ServerConfig"
import type { ServerPoolError } from "@millrace/core/server/ServerError"
import type { ServerPool } from "@millrace/core/server/ServerPool"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as DirectoryWatch from "./internal/directoryWatch.ts"
import * as ServerFile from "./internal/serverFile.ts"

/**
 * How a file is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Default: json for a name that ends in `.json`, yaml otherwise. */
  readonly format?: "yaml" | "json" | undefined
  /** Of environment names. Default: `HTTP_SERVER`. */
  readonly prefix?: string | undefined
  /** What `httpServers` and `httpServer` stand in. Default: nothing. */
  readonly path?: ReadonlyArray<string> | undefined
  /** The keys of the handlers that there are. Not given: any key will do. */
  readonly handlers?: Iterable<string> | undefined
}

/**
 * How a file is watched.
 *
 * @category models
 * @since 0.1.0
 */
export interface WatchOptions extends Options {
  /** How long a file must stay the same before it counts. Default: 100 ms. */
  readonly debounce?: Duration.Input | undefined
  /** How often to look where the system tells nothing, as network file systems. Default: 5 s. */
  readonly interval?: Duration.Input | undefined
}

/**
 * How a pool follows a file.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowOptions extends WatchOptions {
  /** Is told, after it was logged, why the file as it is now is not in force, or what could not be stopped in order. */
  readonly onError?: ((error: ServerConfig.ConfigError | ServerPoolError) => Effect.Effect<void>) | undefined
}

/**
 * What a file has become: servers, or all that is wrong with it.
 *
 * @category models
 * @since 0.1.0
 */
export type Change = Result.Result<ServerConfig.List, ServerConfig.ConfigError>

const parse = Effect.fnUntraced(function* (loaded: ServerFile.Loaded, options: Options): Effect.fn.Return<Change> {
  if (loaded.tree === undefined) return Result.fail(new ServerConfig.ConfigError({ problems: loaded.problems }))
  const environment = yield* ConfigProvider.ConfigProvider
  const provider = ConfigProvider.orElse(environment, ConfigProvider.fromUnknown(loaded.tree))
  const checked = yield* Effect.result(
    ServerConfig.fromConfig(options).pipe(Effect.provideService(ConfigProvider.ConfigProvider, provider))
  )
  if (loaded.problems.length === 0) return checked
  const others = Result.isFailure(checked) ? checked.failure.problems : []
  return Result.fail(new ServerConfig.ConfigError({ problems: [...loaded.problems, ...others] }))
})

/**
 * Reads servers from a file; fails with all that is wrong with it at once.
 *
 * ```ts
 * import { ServerConfig } from "@millrace/core"
 * import { ConfigFile } from "@millrace/node"
 * import { Effect } from "effect"
 *
 * const configs = Effect.gen(function* () {
 *   const { servers, tls } = yield* ConfigFile.read("servers.yaml")
 *   return yield* ServerConfig.resolveAll(servers, { tls, handlers: ["default", "admin"] })
 * })
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const read = (file: string, options: Options = {}): Effect.Effect<ServerConfig.List, ServerConfig.ConfigError> =>
  Effect.flatMap(
    Effect.flatMap(ServerFile.load(file, options), (loaded) => parse(loaded, options)),
    Effect.fromResult
  )

/**
 * The file as it is, and then each time that it, or a certificate it names, is another. Never ends.
 *
 * **Details**
 *
 * A file that is written again with the same text is no change. Who takes its time with an element gets the latest next;
 * those between are left out.
 *
 * @category configuration
 * @since 0.1.0
 */
export const watch = (file: string, options: WatchOptions = {}): Stream.Stream<Change> => {
  const debounce = Duration.fromInputUnsafe(options.debounce ?? "100 millis")
  const interval = Duration.fromInputUnsafe(options.interval ?? "5 seconds")

  /** Loads until it is the same twice. */
  const settled = Effect.gen(function* () {
    let loaded = yield* ServerFile.load(file, options)
    for (;;) {
      yield* Effect.sleep(debounce)
      const again = yield* ServerFile.load(file, options)
      if (again.digest === loaded.digest) return again
      loaded = again
    }
  })

  return Stream.callback<Change>(
    Effect.fnUntraced(function* (changes) {
      const events = yield* Queue.sliding<void>(1)
      const directories = yield* Effect.acquireRelease(
        Effect.sync(() => DirectoryWatch.make(() => void Queue.offerUnsafe(events, undefined))),
        (self) => Effect.sync(self.close)
      )
      let last = yield* ServerFile.load(file, options)
      directories.follow([file, ...last.files])
      yield* Queue.offer(changes, yield* parse(last, options))
      for (;;) {
        yield* Effect.timeoutOption(Queue.take(events), interval)
        let loaded = yield* ServerFile.load(file, options)
        if (loaded.digest !== last.digest) loaded = yield* settled
        // What was not watched until now may have changed unheard.
        if (directories.follow([file, ...loaded.files])) Queue.offerUnsafe(events, undefined)
        if (loaded.digest === last.digest) {
          // What happens to other files is not worth more than this.
          yield* Effect.sleep(debounce)
          continue
        }
        last = loaded
        yield* Queue.offer(changes, yield* parse(loaded, options))
      }
    }),
    { bufferSize: 1, strategy: "sliding" }
  )
}

/**
 * A pool has the servers of a file, and its default TLS, as long as the scope lasts: each time the file is another, only the
 * difference is applied, by `reload`. Completes at once.
 *
 * **Details**
 *
 * A file that is not valid, or cannot come into force, is logged as an error with all that is wrong with it, and told in an
 * event of the pool (`ConfigRejected`, `RolledBack`); the pool is as before. It is tried again when it changes, not before: after a port has become free, write the file anew. A default TLS that is
 * taken out of the file stays that of the pool.
 *
 * ```ts
 * import { ServerPool } from "@millrace/core"
 * import { ConfigFile } from "@millrace/node"
 * import { Effect } from "effect"
 * import { HttpServerResponse } from "effect/http"
 *
 * export const pool = Effect.gen(function* () {
 *   const handlers = Effect.succeed(HttpServerResponse.text("hello"))
 *   const pool = yield* ServerPool.make({ ...(yield* ConfigFile.read("servers.yaml")), handlers })
 *   yield* pool.start
 *   yield* ConfigFile.follow(pool, "servers.yaml")
 *   return pool
 * })
 * ```
 *
 * @category configuration
 * @since 0.1.0
 */
export const follow = (
  pool: Pick<ServerPool, "reload" | "reject">,
  file: string,
  options: FollowOptions = {}
): Effect.Effect<void, never, Scope.Scope> => {
  const tell = options.onError ?? (() => Effect.void)

  const apply = (change: Change) =>
    Effect.fromResult(change).pipe(
      Effect.tapError(pool.reject),
      Effect.flatMap(({ servers, tls }) => pool.reload(servers, { tls })),
      Effect.catch((error) => {
        const reason = error._tag === "ServerPoolError" ? error.reason : undefined
        const others = reason === "Restart" ? "not all servers are" : "the servers are"
        const log =
          reason === "Stop"
            ? Effect.logWarning(`${file} is in force: ${error.message}`)
            : Effect.logError(`${file} is not in force; ${others} as before: ${error.message}`)
        return Effect.andThen(log, tell(error))
      }),
      // One change that ends badly must not be the last one that anybody hears of.
      Effect.catchDefect((defect) => Effect.logError(`${file} is followed on, though this has died:`, defect))
    )

  return Effect.asVoid(Effect.forkScoped(Stream.runForEach(watch(file, options), apply)))
}
