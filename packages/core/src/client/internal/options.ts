/**
 * The options of a pool, each once: kind, default, meaning. Defaults, validation, the names in environments and files,
 * and `docs/options.md` all come from this table.
 */
import { hasProperty } from "effect/Predicate"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as Field from "../../model/internal/field.ts"
import * as Group from "../../model/internal/groupField.ts"
import * as Http from "../../model/internal/httpField.ts"
import { type Row, rowsOf } from "../../model/internal/source.ts"
import type * as Auth from "../../policy/Auth.ts"
import { isInput } from "../../policy/internal/authOptions.ts"
import { anything, isMiddleware, policyFields } from "../../policy/internal/standardOptions.ts"

const isByKey = (value: unknown): value is { readonly byKey: (request: HttpClientRequest) => string } =>
  hasProperty(value, "byKey") && typeof value.byKey === "function"

const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB

/** What may differ from host to host. */
export const hostFields = {
  responseHeaderTimeout: Field.duration(
    "From the end of the request to the head of its response. `Infinity`: no limit.",
    { default: "60 seconds" }
  ),
  bodyIdleTimeout: Field.duration("Between two chunks of a response body. `Infinity`: no limit.", {
    default: "60 seconds"
  }),
  attemptTimeout: Field.duration("One attempt, from the moment it has a slot to the end of its body.", {
    default: "Infinity"
  }),
  requestTimeout: Field.duration("Everything: waiting, all attempts, the body. `Infinity`: no limit.", {
    default: "120 seconds"
  }),
  ...policyFields,
  auth: Field.code(
    "Credentials for every attempt: made by `Auth`, or a function. With `baseUrl`: only for the base origin.",
    "an Auth, a function from request to request, or false",
    (value): value is Auth.Input | false => value === false || isInput(value)
  )
}

const headers = Http.headers(
  "Sent with every request, unless the request has its own. With `baseUrl`: only to the base origin, so that they " +
    "do not follow a redirect."
)

const observeFields = {
  metrics: Field.boolean("Durations, and what Effect's metrics show.", true),
  spans: Field.withDefault(
    Field.field<boolean | "auto">(
      "Spans, and trace context sent on. `auto`: where a tracer is installed, or a span is around the request.",
      {
        unit: "boolean or choice",
        allowed: 'true, false or "auto"',
        show: true,
        parse: (value) => (typeof value === "boolean" || value === "auto" ? value : undefined),
        fromText: Field.booleanFromText
      },
      "auto"
    ),
    "auto"
  )
}

/** All options, in the order of the documentation. */
export const fields = {
  name: Field.textWithDefault("The pool's name in metrics, logs and spans.", 100, "default"),
  baseUrl: Http.baseUrl("Relative URLs are joined to it, by path segments."),
  size: Field.integer("Number of slots; each has at most one connection per origin.", {
    min: 1,
    max: 1024,
    default: 8
  }),
  selection: Field.choice(
    "Which free slot gets a request. In code also `{ byKey: (request) => string }`.",
    ["roundRobin", "strict", "leastPending", "powerOfTwoChoices"],
    { allowed: "{ byKey: (request) => string }", is: isByKey }
  ),
  headers,
  hosts: Group.byOrigin(
    "Settings of single hosts, by origin: `headers`, the four timeouts of requests, and the policies; they go over the " +
      "pool's own.",
    Group.group("", { headers, ...hostFields })
  ),
  dialTimeout: Field.duration("To make a TCP connection.", { default: "5 seconds", finite: true }),
  tlsTimeout: Field.duration("To make a TLS session on it.", { default: "10 seconds", finite: true }),
  ...hostFields,
  acquireTimeout: Field.duration("Waiting for a free slot. `Infinity`: no limit but `requestTimeout`.", {
    default: "30 seconds"
  }),
  drainTimeout: Field.duration("What running requests get when the pool's scope closes; 0 cuts them at once.", {
    default: "10 seconds",
    min: 0,
    finite: true
  }),
  idleConnectionTimeout: Field.duration(
    "How long an unused connection is kept. A server's `Keep-Alive: timeout` wins. `Infinity`: until the server closes it.",
    { default: "90 seconds" }
  ),
  maxConnectionAge: Field.duration(
    "A connection older than this, ± 10 %, is replaced between two requests. `Infinity`: never.",
    { default: "10 minutes" }
  ),
  maxRequestsPerConnection: Field.integer("A connection is replaced after so many requests.", {
    min: 1,
    max: Infinity,
    default: Infinity
  }),
  maxWaiting: Field.integer("Requests to one host that may wait for a slot; one more fails with `PoolSaturated`.", {
    min: 0,
    max: 1_000_000,
    default: 10_000
  }),
  maxHosts: Field.integer("Origins that are remembered; the one unused for longest goes first.", {
    min: 1,
    max: 1_000_000,
    default: 1_000
  }),
  ejection: Group.groupOrFalse(
    Group.group("When a slot that fails is left out for a while. `false`: never.", {
      failures: Field.integer("Connection failures in a row that eject a slot.", {
        min: 1,
        max: 1_000_000,
        default: 5
      }),
      base: Field.duration("Length of the first ejection; the n-th lasts n times as long.", {
        default: "5 seconds",
        finite: true
      }),
      max: Field.duration("The longest ejection.", { default: "60 seconds", finite: true })
    })
  ),
  middleware: Field.code("Functions around every request, outermost first.", "a list of Middleware", isMiddleware),
  observe: Group.policy("What is made known of requests. `false`: nothing.", observeFields, () => [], anything, "all"),
  failOnStatus: Field.boolean("Whether a 4xx or 5xx response is a `ResponseError`.", false),
  maxHeaderSize: Field.bytes("The largest head of a response.", { min: KiB, max: MiB, default: 16 * KiB }),
  bodyBufferSize: Field.bytes("What is kept of a response body that nobody reads yet; then the socket pauses.", {
    min: KiB,
    max: GiB,
    default: 64 * KiB
  }),
  decompress: Field.boolean("Whether compressed responses are asked for and decompressed.", true),
  maxDecompressedSize: Field.bytes("The largest body after decompression; at least `bodyBufferSize`.", {
    min: KiB,
    max: Number.MAX_SAFE_INTEGER,
    default: 128 * MiB
  }),
  tls: Group.group("How servers prove themselves, and the pool itself.", {
    ca: Http.pems("Trusted authorities instead of the platform's."),
    cert: Http.pem("The client's certificate, with its chain; needs `key`."),
    key: Http.secretPem("The key of `cert`."),
    servername: Field.text("The name that is asked for and verified, instead of the host of the URL.", 255),
    insecureSkipVerify: Field.boolean("Accept any certificate: for tests only. Warns once.", false)
  }),
  socketPath: Field.text("A Unix socket to connect to instead of the host of the URL.", 1024),
  addresses: Field.choice(
    "Of a name with several addresses: connect to the `first` that answers, or `spread` the slots over all.",
    ["first", "spread"]
  ),
  proxy: Http.proxy(
    "An HTTP proxy: by `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` of the environment, none (`false`), or a URL."
  )
}

/** Every option; a group before what is in it. */
export const rows: ReadonlyArray<Row> = rowsOf(fields)
