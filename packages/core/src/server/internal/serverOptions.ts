/**
 * The options of a server, each once: kind, default, meaning. Defaults, validation, the names in environments and files,
 * and `docs/server-options.md` all come from this table.
 */
import * as Field from "../../model/internal/field.ts"
import * as Group from "../../model/internal/groupField.ts"
import * as Http from "../../model/internal/httpField.ts"
import { type Row, rowsOf } from "../../model/internal/source.ts"
import { type Bind, isBind, parse } from "./bind.ts"

const KiB = 1024
const MiB = 1024 * KiB

const bind: Field.Field<Bind> = {
  description:
    "The address to accept on: `host:port`, `:port` (all addresses), `[::1]:port`; port 0: the system chooses.",
  unit: "address",
  defaultText: "required",
  read: (value, path, problems) => {
    const parsed = parse(value)
    if (isBind(parsed)) return parsed
    problems.push({ path, message: parsed.message })
    return undefined
  },
  fromText: (raw) => raw
}

/** A path and query, as a request line has them. */
const path = (description: string, byDefault: string): Field.FieldWithDefault<string> =>
  Field.withDefault(
    Field.field(
      description,
      {
        unit: "path",
        allowed: 'a path such as "/health"',
        parse: (value) =>
          typeof value === "string" && /^\/(?!\/)[\x21-\x7e]*$/.test(value) && !value.includes("#") ? value : undefined
      },
      byDefault
    ),
    byDefault
  )

const certificates = {
  cert: Http.pem("The certificate, with its chain; needs `key`."),
  key: Http.secretPem("The key of `cert`."),
  ca: Http.pems("Authorities of client certificates."),
  clientAuth: Field.choice("Whether clients must (`require`), may (`request`) or need not show a certificate.", [
    "none",
    "request",
    "require"
  ]),
  minVersion: Field.choice("The oldest version of TLS that is spoken.", ["TLSv1.2", "TLSv1.3"])
}

const monitorFields = {
  path: path("What is asked for, by GET.", "/"),
  interval: Field.duration("Between two health requests.", { default: "10 seconds", finite: true }),
  timeout: Field.duration("For the whole answer; at most `interval`.", { default: "5 seconds", finite: true }),
  rise: Field.integer("Good answers in a row that make a server healthy again.", { min: 1, max: 1_000, default: 2 }),
  fall: Field.integer("Bad answers in a row that make it unhealthy.", { min: 1, max: 1_000, default: 3 })
}

/** What a monitor is given. Durations are milliseconds. */
type Monitor = { -readonly [K in keyof typeof monitorFields]: (typeof monitorFields)[K]["default"] }

const monitorRules = (given: Partial<Monitor>): ReadonlyArray<Field.Problem> => {
  const interval = given.interval ?? monitorFields.interval.default
  if ((given.timeout ?? Math.min(monitorFields.timeout.default, interval)) <= interval) return []
  return [{ path: "timeout", message: `must be at most interval, which is ${interval} ms` }]
}

const anything = <A>(_: A): _ is A => true

/** What may also stand for all servers, under `httpServer`. */
const shared = {
  handler: Field.textWithDefault("The key of the handler that answers.", 100, "default"),
  readTimeout: Field.duration("A whole request, its body included. `Infinity`: no limit.", { default: "300 seconds" }),
  readHeaderTimeout: Field.duration(
    "The head of a request; at most `readTimeout`, and that where `readTimeout` is shorter than the default. `Infinity`: " +
      "no limit.",
    { default: "10 seconds" }
  ),
  writeTimeout: Field.duration("A response, from the end of its request to its own end; streams too.", {
    default: "Infinity"
  }),
  idleTimeout: Field.duration(
    "How long a connection is kept between two requests. Longer than a balancer in front keeps it. `Infinity`: no limit.",
    { default: "75 seconds" }
  ),
  maxHeaderBytes: Field.bytes("The largest head of a request.", { min: KiB, max: MiB, default: 16 * KiB }),
  maxBodyBytes: Field.bytes("The largest body of a request; one more is a 413.", {
    min: 0,
    max: Infinity,
    default: Infinity
  }),
  maxConnections: Field.integer("Connections at a time; one more is refused.", {
    min: 1,
    max: Infinity,
    default: Infinity
  }),
  keepAlive: Field.boolean("Whether a connection serves more than one request.", true),
  drainTimeout: Field.duration("What requests under way get when the server stops; 0 cuts them at once.", {
    default: "10 seconds",
    min: 0,
    finite: true
  }),
  drainDelay: Field.duration(
    "How long a server that stops still accepts, so that balancers see that it is not ready.",
    {
      default: 0,
      min: 0,
      finite: true
    }
  ),
  monitor: Group.policy(
    "Health requests to the server itself; `true`: with the defaults.",
    monitorFields,
    monitorRules,
    anything
  )
}

/** All options of a server, in the order of the documentation. */
export const fields = {
  name: { ...Field.text("The server's name in metrics, logs and errors.", 100), defaultText: "its bind" },
  bind,
  expose: {
    ...Http.baseUrl("Where clients find the server, if not at its bind: behind a balancer, say."),
    defaultText: "from bind and tls"
  },
  disabled: Field.boolean("Whether it is never started.", false),
  ...shared,
  tls: Group.group("With it the server speaks HTTPS.", {
    ...certificates,
    required: Field.boolean(
      "Whether the server is refused without a certificate; `false`: it then speaks plain HTTP.",
      true
    ),
    inherit: Field.boolean("Whether what is not given here comes from the default TLS of the pool.", false)
  })
}

/** The default TLS of a pool. */
export const defaultTls = Group.group(
  "The default TLS of the pool, for the servers whose `tls.inherit` is true; it makes no server secure by itself.",
  certificates
)

/** What holds for all servers that say nothing else. */
export const commonFields = { ...shared, tls: defaultTls }

type Reads<F extends Field.Fields> = Partial<{ [K in keyof F]: F[K] extends Field.Field<infer A> ? A : never }>

/** Options of one server after reading. */
export type Given = Reads<typeof fields>

/** Options for all servers after reading. */
export type GivenCommon = Reads<typeof commonFields>

/** TLS after reading; of one server. */
export type GivenTls = NonNullable<Given["tls"]>

/** The options of one server, flat. */
export const rows: ReadonlyArray<Row> = rowsOf(fields)

/** The options for all servers, flat. */
export const commonRows: ReadonlyArray<Row> = rowsOf(commonFields)

/** The health requests that are meant, with their defaults; the timeout is never longer than the interval. */
export const resolveMonitor = (given: Given["monitor"]): Monitor | undefined => {
  if (given === undefined || given === false) return undefined
  const interval = given.interval ?? monitorFields.interval.default
  return {
    path: given.path ?? monitorFields.path.default,
    interval,
    timeout: given.timeout ?? Math.min(monitorFields.timeout.default, interval),
    rise: given.rise ?? monitorFields.rise.default,
    fall: given.fall ?? monitorFields.fall.default
  }
}
