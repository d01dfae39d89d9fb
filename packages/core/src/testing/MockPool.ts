/**
 * A pool for tests: a real `Pool`, with all its policies, on a server that is a list of routes. No socket, no port, and
 * on the `TestClock` no time.
 *
 * What it promises:
 *
 * - Whatever is between the application and the wire is the pool's own: slots, waiting, time limits, and every policy
 *   that its options ask for.
 * - Routes are tried in order. One that has answered as often as it may is passed over.
 * - A request that no route answers fails with `InvalidRequest`, which names the nearest route and what differs.
 * - When the scope ends, such requests, routes that were not used, and routes that threw fail the test with a
 *   {@link MockMismatch}, unless it has failed already or has asked with `verify`.
 * - No message shows the value of a header or query parameter whose name looks secret.
 *
 * What it never does: open a connection, or wait for real time.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Connector, type RawHeaders, TransportError } from "../client/Connector.ts"
import * as Pool from "../client/Pool.ts"
import type { ConfigError, Options } from "../client/PoolConfig.ts"
import type { PoolError } from "../model/PoolError.ts"
import { given, MockServer } from "./internal/mockServer.ts"
import type { MockMismatch } from "./internal/mockMismatch.ts"
import type { SentRequest } from "./internal/sentRequest.ts"

export { MockMismatch } from "./internal/mockMismatch.ts"
export type { SentRequest } from "./internal/sentRequest.ts"

/**
 * What the test may ask the server in a mock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /** Every attempt that reached the server, in order of arrival. */
  readonly sent: Effect.Effect<ReadonlyArray<SentRequest>>
  /**
   * Fails with everything that is not as expected so far. What it told is not told again when the scope ends; what goes
   * wrong later is.
   */
  readonly verify: Effect.Effect<void, MockMismatch>
}

/**
 * A pool on a mocked server, and what the test may ask that server.
 *
 * @category models
 * @since 0.1.0
 */
export interface MockPool extends Server {
  readonly pool: Pool.Pool
}

/**
 * The service tag of the mock, for tests whose pool comes from a layer.
 *
 * @category services
 * @since 0.1.0
 */
export const MockPool: Context.Service<MockPool, MockPool> = Context.Service("@millrace/core/testing/MockPool")

/**
 * The service tag of the server in a mock, for {@link layerConnector}.
 *
 * @category services
 * @since 0.1.0
 */
export const Server: Context.Service<Server, Server> = Context.Service("@millrace/core/testing/MockPool/Server")

// -----------------------------------------------------------------------------
// answers
// -----------------------------------------------------------------------------

/**
 * A response of a mock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reply {
  readonly status: number
  readonly headers: RawHeaders
  /** When it fails with anything but a `PoolError`, the connection breaks there. */
  readonly body: Stream.Stream<Uint8Array, unknown>
}

/**
 * How a route answers: an effect, so that whatever delays, counts or chooses is an effect too. `Effect.delay` makes it
 * late on the current clock, `Effect.never` makes it silent, and it may fail with any `PoolError`.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer = Effect.Effect<Reply, PoolError | TransportError>

/**
 * @category models
 * @since 0.1.0
 */
export interface ReplyOptions {
  /** Default 200. */
  readonly status?: number | undefined
  /** Names in lower case; repeated ones as arrays. */
  readonly headers?: RawHeaders | undefined
}

const utf8 = new TextEncoder()

const whole = (bytes: Uint8Array, type: string | undefined, options: ReplyOptions = {}): Answer =>
  Effect.succeed({
    status: options.status ?? 200,
    headers: {
      ...(type === undefined ? {} : { "content-type": type }),
      "content-length": String(bytes.length),
      ...options.headers
    },
    body: bytes.length === 0 ? Stream.empty : Stream.succeed(bytes)
  })

/**
 * Answers with JSON.
 *
 * ```ts
 * import { MockPool } from "@millrace/core/testing"
 *
 * export const created = MockPool.json({ id: 1 }, { status: 201, headers: { location: "/invoices/1" } })
 * ```
 *
 * @category answers
 * @since 0.1.0
 */
export const json = (value: Schema.Json, options?: ReplyOptions): Answer =>
  whole(utf8.encode(JSON.stringify(value)), "application/json", options)

/**
 * Answers with plain text.
 *
 * @category answers
 * @since 0.1.0
 */
export const text = (value: string, options?: ReplyOptions): Answer =>
  whole(utf8.encode(value), "text/plain; charset=utf-8", options)

/**
 * Answers with bytes as they are.
 *
 * @category answers
 * @since 0.1.0
 */
export const bytes = (value: Uint8Array, options?: ReplyOptions): Answer =>
  whole(value, "application/octet-stream", options)

/**
 * Answers with a status and no body.
 *
 * ```ts
 * import { MockPool } from "@millrace/core/testing"
 *
 * export const busy = MockPool.status(503, { "retry-after": "2" })
 * ```
 *
 * @category answers
 * @since 0.1.0
 */
export const status = (code: number, headers?: RawHeaders): Answer =>
  whole(new Uint8Array(), undefined, { status: code, headers })

/**
 * Answers with a body that comes in pieces. Where the stream waits, the body does; where it fails, the connection
 * breaks.
 *
 * ```ts
 * import { MockPool } from "@millrace/core/testing"
 * import { Schedule, Stream } from "effect"
 *
 * export const trickle = MockPool.stream(Stream.make("a", "b", "c").pipe(Stream.schedule(Schedule.spaced("1 second"))))
 * export const half = MockPool.stream(Stream.concat(Stream.make("only the "), Stream.fail("reset")))
 * ```
 *
 * @category answers
 * @since 0.1.0
 */
export const stream = (body: Stream.Stream<string | Uint8Array, unknown>, options: ReplyOptions = {}): Answer =>
  Effect.succeed({
    status: options.status ?? 200,
    headers: { "transfer-encoding": "chunked", ...options.headers },
    body: Stream.map(body, (chunk) => (typeof chunk === "string" ? utf8.encode(chunk) : chunk))
  })

/**
 * Fails the attempt with that very error, wherever in a real pool it would come from. The function gets the `request`
 * and `attempts` that every `PoolError` has.
 *
 * ```ts
 * import { PoolError } from "@millrace/core"
 * import { MockPool } from "@millrace/core/testing"
 * import { Duration } from "effect"
 *
 * export const slow = MockPool.fail(
 *   (at) => new PoolError.TimeoutError({ ...at, phase: "headers", timeout: Duration.seconds(60) })
 * )
 * ```
 *
 * @category answers
 * @since 0.1.0
 */
export const fail = (error: (at: Pick<PoolError, "request" | "attempts">) => PoolError): Answer =>
  Effect.fail(given(error))

/**
 * The connection is refused: a `ConnectError` of the phase `tcp`; nothing was sent.
 *
 * @category answers
 * @since 0.1.0
 */
export const refuse: Answer = Effect.suspend(() =>
  Effect.fail(
    new TransportError({
      failure: {
        _tag: "Connect",
        phase: "tcp",
        address: undefined,
        millis: 0,
        cause: Object.assign(new Error("the mock refuses"), { code: "ECONNREFUSED" })
      }
    })
  )
)

/**
 * The connection breaks before the first byte of a response: a `ConnectError` of the phase `response`. As in reality, a
 * request that may be sent twice is at once sent again, once, when its connection had been used before.
 *
 * @category answers
 * @since 0.1.0
 */
export const reset: Answer = Effect.suspend(() =>
  Effect.fail(
    new TransportError({
      failure: { _tag: "Broken", cause: Object.assign(new Error("the mock resets"), { code: "ECONNRESET" }) }
    })
  )
)

// -----------------------------------------------------------------------------
// routes
// -----------------------------------------------------------------------------

type NamesIn<Path extends string> = Path extends `${string}:${infer Rest}`
  ? Rest extends `${infer Name}/${infer More}`
    ? Name | NamesIn<More>
    : Rest extends `${infer Name}?${string}`
      ? Name
      : Rest
  : never

/**
 * The names of a pattern: `"id"` of `/invoices/:id`.
 *
 * @category models
 * @since 0.1.0
 */
export type Names<Path extends string> = Path extends `${string}://${string}/${infer Rest}`
  ? NamesIn<Rest>
  : NamesIn<Path>

/**
 * What a request must be for a route to answer it. What is not named may be anything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Match<out Path extends string = string> {
  /**
   * Under `baseUrl` (`/invoices/:id`, `/files/*`, `/search?page=2`), absolute (`https://other.test/x`), or a regular
   * expression for the whole path.
   */
  readonly path: Path | RegExp
  readonly query?: Readonly<Record<string, string | RegExp>> | undefined
  readonly headers?: Readonly<Record<string, string | RegExp>> | undefined
  /**
   * The text, a pattern of it, what a function accepts, or JSON: then the body has at least these members, with equal
   * values; arrays are compared whole.
   */
  readonly body?: Schema.Json | RegExp | ((request: SentRequest) => boolean) | undefined
}

/** As a method, for it is called with requests of its own route only, which have those parameters. */
interface Handling<Path extends string> {
  handle(request: SentRequest & { readonly params: Readonly<Record<Names<Path>, string>> }): Answer
}

/**
 * An answer, or a function of the request.
 *
 * @category models
 * @since 0.1.0
 */
export type Step<Path extends string = string> = Answer | Handling<Path>["handle"]

/**
 * Answers in turn.
 *
 * @see {@link sequence}
 * @category models
 * @since 0.1.0
 */
export interface Sequence<Path extends string = string> {
  readonly steps: ReadonlyArray<Step<Path>>
}

/**
 * A route of a mock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Route {
  /** `*`: any. */
  readonly method: string
  readonly match: Match
  /** Its answers in turn; the last is given as often as `max` allows. */
  readonly steps: ReadonlyArray<Step>
  /** Answered less often, it is unused. */
  readonly min: number
  /** Answered that often, it is passed over. */
  readonly max: number
}

/**
 * A route for a method; `*` for any. It must be used once or more.
 *
 * @category routes
 * @since 0.1.0
 */
export const route = <const Path extends string>(
  method: string,
  match: Path | RegExp | Match<Path>,
  answer: Step<Path> | Sequence<Path>
): Route => {
  const steps: ReadonlyArray<Step> = "steps" in answer ? answer.steps : [answer]
  const count = "steps" in answer ? steps.length : undefined
  return {
    method,
    match: typeof match === "string" || match instanceof RegExp ? { path: match } : match,
    steps,
    min: count ?? 1,
    max: count ?? Infinity
  }
}

const verb =
  (method: string) =>
  <const Path extends string>(match: Path | RegExp | Match<Path>, answer: Step<Path> | Sequence<Path>): Route =>
    route(method, match, answer)

/**
 * A route for GET.
 *
 * ```ts
 * import { MockPool } from "@millrace/core/testing"
 *
 * export const routes = [
 *   MockPool.get("/invoices/:id", ({ params }) => MockPool.json({ id: params.id })),
 *   MockPool.get({ path: "/search", query: { page: /^\d+$/ } }, MockPool.json([]))
 * ]
 * ```
 *
 * @category routes
 * @since 0.1.0
 */
export const get = verb("GET")

/**
 * A route for POST.
 *
 * ```ts
 * import { MockPool } from "@millrace/core/testing"
 *
 * export const route = MockPool.post(
 *   { path: "/invoices", headers: { "idempotency-key": /.+/ }, body: { amount: 5 } },
 *   MockPool.sequence(MockPool.status(503), MockPool.json({ id: 1 }, { status: 201 }))
 * )
 * ```
 *
 * @category routes
 * @since 0.1.0
 */
export const post = verb("POST")

/**
 * A route for PUT.
 *
 * @category routes
 * @since 0.1.0
 */
export const put = verb("PUT")

/**
 * A route for PATCH.
 *
 * @category routes
 * @since 0.1.0
 */
export const patch = verb("PATCH")

/**
 * A route for DELETE.
 *
 * @category routes
 * @since 0.1.0
 */
export const del = verb("DELETE")

/**
 * A route for HEAD. Its body is not sent.
 *
 * @category routes
 * @since 0.1.0
 */
export const head = verb("HEAD")

/**
 * Answers in turn, each once: the route must be used exactly that often. For what comes after, put another route of the
 * same pattern behind it.
 *
 * @category answers
 * @since 0.1.0
 */
export const sequence = <Path extends string = string>(...steps: ReadonlyArray<Step<Path>>): Sequence<Path> => ({
  steps
})

/**
 * The route must be used exactly `count` times; one more request is passed on to the routes behind it.
 *
 * @category routes
 * @since 0.1.0
 */
export const times = (self: Route, count: number): Route => ({ ...self, min: count, max: count })

/**
 * The route need not be used.
 *
 * @category routes
 * @since 0.1.0
 */
export const optional = (self: Route): Route => ({ ...self, min: 0 })

// -----------------------------------------------------------------------------
// constructors and layers
// -----------------------------------------------------------------------------

/**
 * Makes a pool on the routes. All options of `Pool.make` do what they do there; only `drainTimeout` is 0 by default,
 * because nobody moves the test's clock while its scope is closed.
 *
 * ```ts
 * // run
 * import { MockPool } from "@millrace/core/testing"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const mock = yield* MockPool.make({ baseUrl: "https://billing.test" }, [
 *     MockPool.get("/invoices/:id", ({ params }) => MockPool.json({ id: params.id }))
 *   ])
 *   const response = yield* mock.pool.client.get("/invoices/7")
 *   console.log(yield* response.json) // { id: "7" }
 *   console.log((yield* mock.sent).map(({ method, path }) => `${method} ${path}`)) // [ "GET /invoices/7" ]
 * })
 * await Effect.runPromise(Effect.scoped(program))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
  routes: ReadonlyArray<Route>
): Effect.fn.Return<MockPool, ConfigError, Scope.Scope> {
  const server = yield* makeServer(routes, options.baseUrl)
  const pool = yield* Effect.provideService(Pool.make({ drainTimeout: 0, ...options }), Connector, server.connector)
  return { pool, sent: server.sent, verify: server.verify }
})

/** An invalid `baseUrl` is for the pool to refuse. */
const makeServer = (
  routes: ReadonlyArray<Route>,
  baseUrl: string | URL | undefined
): Effect.Effect<MockServer, never, Scope.Scope> =>
  Effect.suspend(() => {
    const base = String(baseUrl)
    const server = new MockServer(routes, URL.canParse(base) ? new URL(base) : undefined)
    return Effect.as(server.watch, server)
  })

/**
 * The mock, its pool behind the default tag, and that as Effect's plain `HttpClient`: whatever the application uses.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options,
  routes: ReadonlyArray<Route>
): Layer.Layer<MockPool | Pool.Pool | HttpClient.HttpClient, ConfigError> =>
  Layer.effectContext(
    Effect.map(make(options, routes), (mock) =>
      Context.make(MockPool, mock).pipe(
        Context.add(Pool.Pool, mock.pool),
        Context.add(HttpClient.HttpClient, mock.pool.httpClient)
      )
    )
  )

/**
 * The mock, and its pool behind the application's own tag. With several mocks in one test, make each with {@link make}:
 * there is one `MockPool` tag.
 *
 * ```ts
 * import { Pool } from "@millrace/core"
 * import { MockPool } from "@millrace/core/testing"
 * import { Context } from "effect"
 *
 * class Billing extends Context.Service<Billing, Pool.Pool>()("app/Billing") {}
 *
 * export const layer = MockPool.layerFor(Billing, { baseUrl: "https://billing.test" }, [
 *   MockPool.get("/invoices", MockPool.json([]))
 * ])
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFor = <Self>(
  tag: Context.Key<Self, Pool.Pool>,
  options: Options,
  routes: ReadonlyArray<Route>
): Layer.Layer<MockPool | Self, ConfigError> =>
  Layer.effectContext(
    Effect.map(make(options, routes), (mock) => Context.add(Context.make(MockPool, mock), tag, mock.pool))
  )

/**
 * Only the server, in the place of a platform's connector: for `FaultInjection` or `Recording` between it and a pool.
 * `baseUrl` is what routes are relative to; without it they answer for any origin.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConnector = (
  routes: ReadonlyArray<Route>,
  options: { readonly baseUrl?: string | URL | undefined } = {}
): Layer.Layer<Connector | Server> =>
  Layer.effectContext(
    Effect.map(makeServer(routes, options.baseUrl), (server) =>
      Context.make(Connector, server.connector).pipe(Context.add(Server, { sent: server.sent, verify: server.verify }))
    )
  )
