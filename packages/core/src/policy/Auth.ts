/**
 * Authentication: what puts credentials into requests.
 *
 * What it promises:
 *
 * - Every attempt asks anew, so a retry never carries a token that has expired meanwhile. What can be answered at once is
 *   answered at once; while credentials are waited for, no slot, token of a rate limit or permit is held.
 * - A server that answers 401 is asked again once, with new credentials where there can be new ones; never twice.
 * - Credentials go only to the origins that they are for: whatever a redirect says.
 * - A request that already has an `authorization` header (or that API key) keeps its own, and a 401 to it is left alone.
 * - Secrets are `Redacted`, are refused at construction when empty, and are in no message, span or inspected error. What
 *   fails is an `AuthError`, which names the request and the endpoint.
 *
 * What it never does: read `WWW-Authenticate`, take part in a challenge (Digest, NTLM), or store a token outside memory.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import { hasProperty } from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { ConfigError } from "../model/ConfigError.ts"
import * as Timers from "../model/internal/timers.ts"
import { AuthError, requestInfo } from "../model/PoolError.ts"
import { checkApiKey, checkBasic, checkBearer, checkOAuth2, checkPolicy, isToken } from "./internal/authOptions.ts"
import { authorizationOf, headerSetter, Issued } from "./internal/credentials.ts"
import { wrapper } from "./internal/authWrapper.ts"
import { TokenSource } from "./internal/tokenSource.ts"
import type { Policy } from "./Gate.ts"

type Request = HttpClientRequest.HttpClientRequest

/**
 * What puts credentials into requests.
 *
 * @category models
 * @since 0.1.0
 */
export interface Auth {
  /**
   * The request with credentials: at once where that is possible, which is much cheaper, or as an effect. A request that
   * already has credentials of its own comes back as it is.
   */
  readonly authorize: (request: Request) => Request | Effect.Effect<Request, AuthError>
  /**
   * Is told that the server answered 401 to this request, as it was sent. Says whether to send it again makes sense:
   * `true` only if it carried credentials of this `Auth` and `authorize` may answer others now. Default: never.
   */
  readonly rejected?: ((request: Request) => boolean) | undefined
  /** Headers that it sets and that spans and logs must hide, beside those that are hidden anyway. */
  readonly secretHeaders?: ReadonlyArray<string> | undefined
}

/**
 * Authentication of one's own: a function. A failure becomes an `AuthError`, whose `cause` it is as it came: keep secrets
 * out of it.
 *
 * @category models
 * @since 0.1.0
 */
export type Custom = (request: Request) => Request | Effect.Effect<Request, unknown>

/**
 * What is accepted wherever authentication is.
 *
 * @category models
 * @since 0.1.0
 */
export type Input = Auth | Custom

// -----------------------------------------------------------------------------
// constructors
// -----------------------------------------------------------------------------

const failed = (request: Request, reason: string, cause?: unknown): AuthError =>
  new AuthError({ request: requestInfo(request.method, request.url, request.urlParams), attempts: 0, reason, cause })

/** Its kind only: its message could hold what it failed on. */
const kindOf = (error: unknown): string => {
  if (hasProperty(error, "_tag") && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : typeof error
}

/**
 * An `Auth` of what is accepted as one. A request that has an `authorization` header does not reach a function.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { HttpClientRequest } from "effect/http"
 *
 * const auth = Auth.from((request) => HttpClientRequest.setHeader(request, "authorization", "Tenant 42"))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const from = (input: Input): Auth => {
  if (typeof input !== "function") return input
  return {
    authorize: (request) => {
      if (authorizationOf(request) !== undefined) return request
      const answer = input(request)
      return Effect.isEffect(answer)
        ? Effect.mapError(answer, (error) =>
            error instanceof AuthError ? error : failed(request, `the function for it failed (${kindOf(error)})`, error)
          )
        : answer
    }
  }
}

const keepsAuthorization =
  (put: (request: Request) => Request): Auth["authorize"] =>
  (request) =>
    authorizationOf(request) === undefined ? put(request) : request

/**
 * `Authorization: Bearer …` (RFC 6750), with one token, or with the token that an effect gives.
 *
 * The effect is asked for every attempt, and once more after a 401: it should keep what is costly to get. What it needs
 * is taken from where the `Auth` is made. Its failure, or an empty token, is an `AuthError`.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Config, Effect } from "effect"
 *
 * const auth = Config.Redacted("API_TOKEN").pipe(Effect.flatMap(Auth.bearer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const bearer = <E = never, R = never>(
  token: Redacted.Redacted | Effect.Effect<Redacted.Redacted, E, R>
): Effect.Effect<Auth, ConfigError, R> =>
  Effect.isEffect(token)
    ? Effect.contextWith((services: Context.Context<R>) => Effect.succeed(asking(Effect.provide(token, services))))
    : Effect.map(checkBearer(token), (given) => ({
        authorize: keepsAuthorization(headerSetter("authorization", `Bearer ${Redacted.value(given.token)}`))
      }))

const asking = (token: Effect.Effect<Redacted.Redacted, unknown>): Auth => {
  const issued = new Issued()
  return {
    authorize: (request) => {
      if (authorizationOf(request) !== undefined) return request
      return Effect.matchEffect(token, {
        onFailure: (error) => Effect.fail(failed(request, `no bearer token (${kindOf(error)})`, error)),
        onSuccess: (redacted) => {
          const value = Redacted.value(redacted)
          if (!isToken(value)) return Effect.fail(failed(request, "the bearer token is empty, or no token"))
          const header = `Bearer ${value}`
          issued.add(header)
          return Effect.succeed(HttpClientRequest.setHeader(request, "authorization", header))
        }
      })
    },
    rejected: (request) => issued.has(request)
  }
}

/**
 * Credentials for `basic`.
 *
 * @category models
 * @since 0.1.0
 */
export interface BasicOptions {
  /** Without a colon and control characters. */
  readonly username: string
  /** Not empty, without control characters. */
  readonly password: Redacted.Redacted
}

/**
 * `Authorization: Basic …` (RFC 7617), in UTF-8.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Redacted } from "effect"
 *
 * const auth = Auth.basic({ username: "ada", password: Redacted.make("correct horse") })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const basic = (options: BasicOptions): Effect.Effect<Auth, ConfigError> =>
  Effect.map(checkBasic(options), ({ password, username }) => {
    const credentials = Base64.encode(`${username}:${Redacted.value(password)}`)
    return { authorize: keepsAuthorization(headerSetter("authorization", `Basic ${credentials}`)) }
  })

/**
 * A key for `apiKey`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ApiKeyOptions {
  /** Of the header, or of the query parameter. */
  readonly name: string
  /** Not empty. */
  readonly value: Redacted.Redacted
  /** Where it is sent. Default: `"header"`, for a URL ends up in the logs of every server that sees it. */
  readonly in?: "header" | "query" | undefined
}

/**
 * An API key in a header or in the query. In the query it is `Redacted`, so errors and spans hide it. A request that
 * already has that header or parameter keeps its own.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Redacted } from "effect"
 *
 * const auth = Auth.apiKey({ name: "x-api-key", value: Redacted.make("k-123") })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const apiKey = (options: ApiKeyOptions): Effect.Effect<Auth, ConfigError> =>
  Effect.map(checkApiKey(options), (given): Auth => {
    if (given.in === "query") {
      const { name, value } = given
      return {
        authorize: (request) =>
          hasParameter(request, name) ? request : HttpClientRequest.appendUrlParam(request, name, value)
      }
    }
    const name = given.name.toLowerCase()
    const put = headerSetter(name, Redacted.value(given.value))
    return {
      authorize: (request) => (request.headers[name] === undefined ? put(request) : request),
      secretHeaders: [name]
    }
  })

const hasParameter = ({ url, urlParams }: Request, name: string): boolean => {
  if (urlParams.params.some(([known]) => known === name)) return true
  // A fragment may look like a query; it is not sent.
  const query = /^[^?#]*\?([^#]*)/.exec(url)?.[1]
  return query !== undefined && new URLSearchParams(query).has(name)
}

/**
 * A client of an OAuth2 server.
 *
 * @category models
 * @since 0.1.0
 */
export interface OAuth2Options {
  /** The token endpoint: http or https, without user info and fragment. No redirect from it is followed by this. */
  readonly tokenUrl: string | URL
  readonly clientId: string
  /** Not empty, without control characters. */
  readonly clientSecret: Redacted.Redacted
  /** How the client shows who it is (RFC 6749, 2.3.1). Default: `"client_secret_basic"`, which servers must support. */
  readonly method?: "client_secret_basic" | "client_secret_post" | undefined
  /** What the token shall allow: names with spaces between. Default: the server's. */
  readonly scope?: string | undefined
  /** For whom the token shall be; not in the RFC, but asked for by many servers. Default: none. */
  readonly audience?: string | undefined
  /** How long before its end a token is renewed; at most half of its life counts. Default: 60 seconds. */
  readonly skew?: Duration.Input | undefined
  /** One token request, with its answer. Default: 10 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** How often a token request that failed is sent again: after 408, 429, 5xx, failures and timeouts. Default: 2. */
  readonly maxRetries?: number | undefined
}

/**
 * Bearer tokens by OAuth2 client credentials (RFC 6749, 4.4), got with the `HttpClient` of the context.
 *
 * **Details**
 *
 * - The first request makes the first token; nothing is asked at construction.
 * - One token request at a time serves all callers. From `skew` before the end of the token, the first caller starts the
 *   request for the next one; nobody waits for it while the old one is good.
 * - A token without `expires_in` is used until a server answers 401.
 * - A failure fails those who wait for it, and those who come in the next second; that time doubles with each failure in
 *   a row, up to 30 s, or is what `Retry-After` says, up to 30 s.
 * - Closing the scope interrupts a token request. Without callers it goes on to its end, which `timeout` and `maxRetries`
 *   bound, and its token is kept.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Redacted } from "effect"
 *
 * const auth = Auth.oauth2({
 *   tokenUrl: "https://login.test/oauth2/token",
 *   clientId: "billing",
 *   clientSecret: Redacted.make("s3cret"),
 *   scope: "invoices:read"
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const oauth2 = (options: OAuth2Options): Effect.Effect<Auth, ConfigError, HttpClient.HttpClient | Scope.Scope> =>
  Effect.flatMap(HttpClient.HttpClient, (client) => oauth2With(client, options))

/**
 * `oauth2` with a given client: a pool's, say; it may be the very pool that uses this `Auth`.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Effect, Redacted } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const pool = yield* Pool.make({})
 *   return yield* Auth.oauth2With(pool.client, {
 *     tokenUrl: "https://login.test/oauth2/token",
 *     clientId: "billing",
 *     clientSecret: Redacted.make("s3cret")
 *   })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const oauth2With: <E>(
  client: HttpClient.HttpClient.With<E>,
  options: OAuth2Options
) => Effect.Effect<Auth, ConfigError, Scope.Scope> = Effect.fnUntraced(function* (client, options) {
  const resolved = yield* checkOAuth2(options)
  const services = yield* Effect.context()
  // A token belongs to all, not to the span in which this happens to be made.
  const fork = Effect.runForkWith(Context.omit(Tracer.ParentSpan)(services))
  const source = new TokenSource(resolved, { timers: Timers.make(services), send: client.execute, fork })
  yield* Effect.addFinalizer(() => source.close)
  return source
})

// -----------------------------------------------------------------------------
// combinators
// -----------------------------------------------------------------------------

/**
 * Authentication for a client that is no pool, or for chosen origins of one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly auth: Input
  /**
   * Where the credentials may be sent: origins such as `https://api.test`. There is no default: a client does not know
   * where it is meant to go, and a guess would hand credentials to whoever is asked first, or to whom a redirect names.
   */
  readonly origins: ReadonlyArray<string>
}

/**
 * Authentication as a policy. It has no `guard`: an effect has no request to put credentials into.
 *
 * Put `followRedirects` around the result, not below it: then each hop is looked at, and only those to the `origins` get
 * credentials.
 *
 * ```ts
 * import * as Auth from "@millrace/core/policy/Auth"
 * import { Effect, Redacted } from "effect"
 * import { HttpClient } from "effect/http"
 *
 * const program = Effect.gen(function* () {
 *   const auth = yield* Auth.bearer(Redacted.make("t0ken"))
 *   const policy = yield* Auth.policy({ auth, origins: ["https://api.test"] })
 *   const client = policy.wrap(yield* HttpClient.HttpClient).pipe(HttpClient.followRedirects())
 *   return yield* client.get("https://api.test/me")
 * })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const policy = (options: Options): Effect.Effect<Pick<Policy<AuthError>, "wrap">, ConfigError> =>
  Effect.map(checkPolicy(options), ({ auth, origins }) => ({ wrap: wrapper(from(auth), origins) }))
