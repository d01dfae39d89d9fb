/**
 * Every metric of a client and of a server: the only place of its name, unit and meaning. The documentation is checked against it.
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
  readonly scope: "pool" | "host" | "server"
}

/** Attributes that every series has, by scope. */
export const commonAttributes: { readonly [K in Definition["scope"]]: ReadonlyArray<string> } = {
  pool: ["millrace.pool"],
  host: ["millrace.pool", "server.address", "server.port", "url.scheme"],
  server: ["millrace.pool", "millrace.server.name", "millrace.server.bind", "url.scheme"]
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

const serverGauge = define("gauge", "server")
const serverCounter = define("counter", "server")

/** Every metric of a server. */
export const serverDefinitions = {
  requestDuration: define("histogram", "server")(
    "http.server.request.duration",
    "s",
    "Duration of HTTP server requests.",
    "http.request.method",
    "http.response.status_code",
    "error.type"
  ),
  activeRequests: serverGauge(
    "http.server.active_requests",
    "{request}",
    "Number of active HTTP server requests.",
    "http.request.method"
  ),
  requests: serverCounter("millrace.server.requests", "{request}", "Requests that came in."),
  failures: serverCounter("millrace.server.failures", "{response}", "Responses with a status of 500 or above."),
  connections: serverGauge("millrace.server.connections", "{connection}", "Connections that are open."),
  accepted: serverCounter("millrace.server.connections.accepted", "{connection}", "Connections that were accepted."),
  refused: serverCounter(
    "millrace.server.connections.refused",
    "{connection}",
    "Connections that were refused as there were too many."
  ),
  starts: serverCounter("millrace.server.starts", "{start}", "Times that the address was opened."),
  uptime: serverGauge("millrace.server.uptime", "s", "Time since it last started; 0 while it does not run."),
  downtime: serverGauge("millrace.server.downtime", "s", "Time since it last ran; 0 while it runs."),
  ready: serverGauge("millrace.server.ready", "1", "1 while it runs and nobody has asked it to stop."),
  state: serverGauge(
    "millrace.server.state",
    "1",
    "1 for the state that the server is in, 0 for the others.",
    "millrace.server.state"
  ),
  health: serverGauge(
    "millrace.server.health",
    "1",
    "1 for what the monitor says of the server, 0 for the others.",
    "millrace.server.health"
  ),
  latency: serverGauge("millrace.server.health.latency", "s", "Duration of the last health request that was answered."),
  checks: serverCounter("millrace.server.health.checks", "{request}", "Health requests."),
  checkFailures: serverCounter("millrace.server.health.failures", "{request}", "Health requests that failed.")
} satisfies Record<string, Definition>

/** The name of a family in Prometheus' text form: with its unit, and `_total` for a counter. */
export const prometheusName = ({ kind, name, unit }: Definition): string =>
  `${name.replaceAll(".", "_")}${unit === "s" ? "_seconds" : ""}${kind === "counter" ? "_total" : ""}`
