/**
 * Every metric of a client: the only place of its name, unit and meaning. The documentation is checked against it.
 *
 * What goes up and down is a gauge: Effect has no other metric that does and that Prometheus does not take for a counter.
 */

export interface Definition {
  readonly name: string
  readonly kind: "counter" | "gauge" | "histogram"
  /** UCUM, as OpenTelemetry writes it. */
  readonly unit: string
  readonly description: string
  /** Beside those that every metric of its scope has. */
  readonly attributes: ReadonlyArray<string>
  /** Of what there is one series, or more. */
  readonly scope: "pool" | "host"
}

/** Attributes that every series has, by scope. */
export const commonAttributes: { readonly [K in Definition["scope"]]: ReadonlyArray<string> } = {
  pool: ["millrace.pool"],
  host: ["millrace.pool", "server.address", "server.port", "url.scheme"]
}

const define =
  (kind: Definition["kind"], scope: Definition["scope"]) =>
  (name: string, unit: string, description: string, ...attributes: ReadonlyArray<string>): Definition => ({
    name,
    kind,
    unit,
    description,
    attributes,
    scope
  })

const histogram = define("histogram", "host")
const gauge = define("gauge", "host")
const counter = define("counter", "host")

export const definitions = {
  requestDuration: histogram(
    "http.client.request.duration",
    "s",
    "Duration of HTTP client requests.",
    "http.request.method",
    "http.response.status_code",
    "error.type"
  ),
  activeRequests: gauge("http.client.active_requests", "{request}", "Number of active HTTP requests."),
  openConnections: gauge(
    "http.client.open_connections",
    "{connection}",
    "Number of outbound HTTP connections that are currently active or idle on the client.",
    "http.connection.state"
  ),
  connectionDuration: histogram(
    "http.client.connection.duration",
    "s",
    "The duration of the successfully established outbound HTTP connections."
  ),
  slots: define("gauge", "pool")("millrace.client.slots", "{slot}", "Slots by what they do.", "millrace.slot.state"),
  waiting: gauge("millrace.client.waiting", "{request}", "Requests that wait for a slot."),
  retries: counter("millrace.client.retries", "{retry}", "Attempts after the first of their request."),
  connectionsOpened: counter("millrace.client.connections.opened", "{connection}", "Connections that were made."),
  connectionsClosed: counter(
    "millrace.client.connections.closed",
    "{connection}",
    "Connections that are gone, by reason.",
    "millrace.close.reason"
  ),
  ejections: counter(
    "millrace.client.ejections",
    "{ejection}",
    "Times that a slot was put to rest as it could not connect."
  ),
  abandoned: counter(
    "millrace.client.bodies.abandoned",
    "{response}",
    "Responses whose body nobody read, aborted by the garbage collector."
  ),
  breakerState: gauge(
    "millrace.client.breaker.state",
    "1",
    "1 for the state that the circuit breaker is in, 0 for the others.",
    "millrace.breaker.state"
  ),
  limiterTokens: gauge("millrace.client.limiter.tokens", "{token}", "Requests that the rate limit would let pass now."),
  limiterWaiting: gauge("millrace.client.limiter.waiting", "{request}", "Requests that wait for the rate limit.")
} satisfies Record<string, Definition>

/** The name of a family in Prometheus' text form: with its unit, and `_total` for a counter. */
export const prometheusName = ({ kind, name, unit }: Definition): string =>
  `${name.replaceAll(".", "_")}${unit === "s" ? "_seconds" : ""}${kind === "counter" ? "_total" : ""}`
