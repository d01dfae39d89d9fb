/**
 * Rate limits and circuit breakers that all processes keep together, in Redis.
 *
 * Each policy is one hash, changed by one script at a time: so it works with a cluster, and no process sees half of a
 * change. The time is the server's. All keys expire when nobody uses them. What the policies promise, and what happens
 * while Redis is gone, is told in `SharedPolicies` of `@millrace/core`.
 *
 * Needs the package `redis` (5 or 6) beside it, and Redis 6 or newer, Valkey, or what speaks the same Lua.
 *
 * @since 0.1.0
 */
import { ConfigError } from "@millrace/core/model/ConfigError"
import {
  type Options as PolicyOptions,
  make as makePolicies,
  SharedPolicies
} from "@millrace/core/policy/SharedPolicies"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redis from "effect/persistence/Redis"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { connect } from "./internal/redisConnection.ts"
import { storeOf } from "./internal/redisStore.ts"
import { problemsOf } from "./internal/redisOptions.ts"

/**
 * How the policies are kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends PolicyOptions {
  /** Begins the name of each key. Who shares it shares policies of the same name. Default: `millrace:`. */
  readonly prefix?: string | undefined
}

/**
 * Where Redis is.
 *
 * @category models
 * @since 0.1.0
 */
export interface RedisOptions extends Options {
  /** `redis://…` or `rediss://…`, as `redis` has it. With credentials in it: as `Redacted`. */
  readonly url?: string | Redacted.Redacted | undefined
  /** Instead of `url`. Default: localhost. */
  readonly host?: string | undefined
  /** Default: 6379. */
  readonly port?: number | undefined
  readonly username?: string | undefined
  readonly password?: Redacted.Redacted | undefined
  readonly database?: number | undefined
  /** Whether the connection is encrypted; `rediss://` says so by itself. Default: false. */
  readonly tls?: boolean | undefined
}

const defaultPrefix = "millrace:"

/**
 * Shared policies in a Redis that somebody else is connected to: `NodeRedis` of `@effect/platform-node`, say.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<SharedPolicies, ConfigError, Redis.Redis | Scope.Scope> =>
  Effect.flatMap(Redis.Redis, (redis) => {
    const { prefix = defaultPrefix, ...rest } = options
    return makePolicies(storeOf(redis, prefix), rest)
  })

/**
 * Provides them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<never, ConfigError, Redis.Redis> =>
  Layer.effect(SharedPolicies, make(options))

const missing = { path: "redis", message: "the package `redis` is not installed; shared policies need version 5 or 6" }

/**
 * Shared policies in a Redis that they connect to by themselves, until the scope ends.
 *
 * It need not be there yet: it is tried for a second, then when it is needed, and again when it comes back. Fails with
 * everything that is wrong with the options, or when the package `redis` is missing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeRedis = (options: RedisOptions = {}): Effect.Effect<SharedPolicies, ConfigError, Scope.Scope> =>
  Effect.gen(function* () {
    const { database, host, password, port, prefix = defaultPrefix, tls, url, username, ...rest } = options
    const problems = [...problemsOf({ database, host, password, port, prefix, tls, url, username })]
    const module = yield* Effect.option(Effect.tryPromise(() => import("redis")))
    if (Option.isNone(module)) return yield* new ConfigError({ problems: [...problems, missing] })
    const target = {
      database,
      host,
      password,
      port,
      tls,
      url: typeof url === "string" ? Redacted.make(url) : url,
      username
    }
    // Nothing is connected before it is used.
    const redis = yield* connect(module.value.createClient, target)
    const policies = yield* Effect.result(makePolicies(storeOf(redis, prefix), rest))
    if (Result.isFailure(policies)) problems.push(...policies.failure.problems)
    if (problems.length > 0 || Result.isFailure(policies)) return yield* new ConfigError({ problems })
    // So that the first request need not wait for the connection. If Redis is not there, that one finds out.
    yield* Effect.exit(Effect.timeout(redis.send("PING"), "1 second"))
    return policies.success
  })

/**
 * Provides them to every pool that is made under the layer.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { SharedPolicies, UndiciConnector } from "@millrace/node"
 * import { Layer } from "effect"
 *
 * const pool = Pool.layer({ name: "billing" }).pipe(
 *   Layer.provide([UndiciConnector.layer, SharedPolicies.layerRedis({ host: "redis.internal" })])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRedis = (options?: RedisOptions): Layer.Layer<never, ConfigError> =>
  Layer.effect(SharedPolicies, makeRedis(options))
