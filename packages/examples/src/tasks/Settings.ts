/**
 * The whole configuration of the service: one schema, a default for every key.
 *
 * What it promises:
 *
 * - Without a file and without environment variables the service runs: embedded storage, stub work, logs to stdout.
 * - The environment wins over the file: `TASKS_APP_SEMAPHORE` is `app.semaphore`. An empty variable counts as none.
 * - An unknown key or variable, and every value that is not allowed, is reported in one `ConfigError`, by its path in the file or
 *   the name of its variable, with what it was probably meant to be. No message repeats a secret.
 *
 * `config/config.yaml` names and explains every key at its default. The keys here are those of the file.
 */
import type { ConfigError } from "@millrace/core/model/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Keys from "./config/Keys.ts"
import * as Kinds from "./config/Kinds.ts"
import * as Source from "./config/Source.ts"

const prefix = "TASKS_"

/** A key with its default, as a file would say it. */
const setting = <S extends Schema.Constraint>(schema: S, byDefault: S["Encoded"]) =>
  Schema.withDecodingDefaultKey<S>(Effect.succeed(byDefault))(schema)

/** What no key can know alone. */
type Rule<A> = readonly [path: string, message: string, broken: (value: A) => boolean]

/** Keys under a key. */
const group = <F extends Schema.Struct.Fields>(fields: F, ...rules: ReadonlyArray<Rule<Schema.Struct.Type<F>>>) =>
  Schema.Struct(fields).check(
    Schema.makeFilter((value) =>
      rules.filter(([, , broken]) => broken(value)).map(([path, issue]) => ({ path: path.split("."), issue }))
    )
  )

/** Whether one duration is longer than another. */
const longer =
  <const A extends string, const B extends string>(a: A, b: B) =>
  (value: { readonly [K in A | B]: Duration.Duration }): boolean =>
    Duration.isGreaterThan(value[a], value[b])

const Tls = group(
  {
    cert_file: setting(Kinds.optionalFile, ""),
    key_file: setting(Kinds.optionalFile, ""),
    client_ca_file: setting(Kinds.optionalFile, ""),
    client_auth: setting(Kinds.choice("none", "request", "require"), "none")
  },
  ["key_file", "must be given with cert_file", (tls) => tls.cert_file !== undefined && tls.key_file === undefined],
  ["cert_file", "must be given with key_file", (tls) => tls.cert_file === undefined && tls.key_file !== undefined],
  [
    "client_ca_file",
    "must be given where client_auth is not none",
    (tls) => tls.client_auth !== "none" && tls.client_ca_file === undefined
  ]
)

const Server = group(
  {
    bind: setting(Kinds.bind, "127.0.0.1:8080"),
    read_timeout: setting(Kinds.duration(), "5s"),
    read_header_timeout: setting(Kinds.duration(), "2s"),
    write_timeout: setting(Kinds.duration(), "10s"),
    idle_timeout: setting(Kinds.duration(), "30s"),
    drain_delay: setting(Kinds.duration({ zero: true }), "0s"),
    drain_timeout: setting(Kinds.duration({ zero: true }), "10s"),
    tls: setting(Tls, {})
  },
  ["read_header_timeout", "must not be longer than read_timeout", longer("read_header_timeout", "read_timeout")]
)

const Admin = group({
  bind: setting(Kinds.bind, "127.0.0.1:6060"),
  hosts: setting(Kinds.hosts, [])
})

const Logger = group({
  handler: setting(Kinds.choice("auto", "text", "json"), "auto"),
  level: setting(Kinds.choice("trace", "debug", "info", "warn", "error", "fatal", "none"), "info"),
  output_internal: setting(Kinds.flag, true)
})

const App = group(
  {
    semaphore: setting(Kinds.integer(1, 100_000), 16),
    lease: setting(Kinds.duration(), "30s"),
    poll: setting(Kinds.duration(), "1s"),
    max_deaths: setting(Kinds.integer(1, 1_000), 5),
    drain_timeout: setting(Kinds.duration({ zero: true }), "10s")
  },
  ["lease", "must be longer than poll", (app) => !longer("lease", "poll")(app)]
)

const Stub = group(
  {
    min: setting(Kinds.duration({ zero: true }), "3m"),
    max: setting(Kinds.duration({ zero: true }), "5m"),
    failure_rate: setting(Kinds.share, 0.1)
  },
  ["min", "must not be longer than max", longer("min", "max")]
)

const Http = group(
  {
    url: setting(Kinds.optionalUrl, ""),
    token: setting(Kinds.secret, ""),
    headers: setting(Kinds.headers, {}),
    connections: setting(Kinds.integer(1, 1_024), 16),
    timeout: setting(Kinds.duration(), "30m"),
    attempt_timeout: setting(Kinds.duration(), "10m"),
    max_retries: setting(Kinds.integer(0, 100), 3),
    rate_limit: setting(Kinds.integer(1, 1_000_000), 100),
    patience: setting(Kinds.duration({ zero: true }), "5m"),
    max_result: setting(Kinds.integer(0, 1_048_576), 4_096)
  },
  ["attempt_timeout", "must not be longer than timeout", longer("attempt_timeout", "timeout")]
)

const Work = group(
  {
    type: setting(Kinds.choice("stub", "http"), "stub"),
    stub: setting(Stub, {}),
    http: setting(Http, {})
  },
  ["http.url", "must be given where type is http", ({ http, type }) => type === "http" && http.url === undefined]
)

const ClickHouse = group(
  {
    address: setting(Kinds.clickhouse, "127.0.0.1:8123"),
    username: setting(Kinds.text, "default"),
    password: setting(Kinds.secret, ""),
    database: setting(Kinds.identifier, "tasks"),
    table: setting(Kinds.identifier, "logs"),
    connection_attempts: setting(Kinds.integer(1, 1_000), 5),
    connection_interval: setting(Kinds.duration(), "3s"),
    batch_size: setting(Kinds.integer(1, 1_000_000), 1_000),
    batch_interval: setting(Kinds.duration(), "5s"),
    buffer: setting(Kinds.integer(1, 10_000_000), 10_000)
  },
  ["batch_size", "must not be greater than buffer", ({ batch_size, buffer }) => batch_size > buffer]
)

const Storage = group(
  {
    type: setting(Kinds.choice("internal", "postgres", "memory"), "internal"),
    directory: setting(Kinds.text, ".tasks"),
    host: setting(Kinds.text, "127.0.0.1"),
    port: setting(Kinds.integer(1, 65_535), 5432),
    user: setting(Kinds.text, "tasks"),
    password: setting(Kinds.secret, ""),
    name: setting(Kinds.text, "tasks"),
    ssl_mode: setting(Kinds.choice("disable", "require", "verify-full"), "disable"),
    ca_file: setting(Kinds.optionalFile, ""),
    need_migrate: setting(Kinds.flag, true),
    max_connections: setting(Kinds.integer(1, 1_000), 10),
    connect_timeout: setting(Kinds.duration(), "5s"),
    connection_attempts: setting(Kinds.integer(1, 1_000), 10),
    statement_timeout: setting(Kinds.duration(), "5s")
  },
  [
    "ca_file",
    "is read only where ssl_mode is verify-full",
    (storage) => storage.ca_file !== undefined && storage.ssl_mode !== "verify-full"
  ]
)

/** The schema: a file's tree in, `Settings` out. */
export const schema = group({
  server: setting(Server, {}),
  admin: setting(Admin, {}),
  logger: setting(Logger, {}),
  app: setting(App, {}),
  work: setting(Work, {}),
  clickhouse: setting(ClickHouse, {}),
  storage: setting(Storage, {})
})

/** Everything that is configured; durations are `Duration`, secrets `Redacted`. */
export type Settings = typeof schema.Type

/** Keys of the configuration files that this service took over, where a similar name does not say it all. */
const former: ReadonlyMap<string, string> = new Map([
  ["clickhouse.try_connection_perod", "it is connection_interval now"],
  ["storage.migaret_src", "leave it out: the migrations are part of the program"]
])

/** Where settings come from. */
export interface Sources {
  /** YAML, or JSON if its name ends in `.json`. Default: none. */
  readonly file?: string | undefined
  /** Default: that of the process. */
  readonly environment?: Source.Environment | undefined
}

/** Reads the settings, or fails with all that is wrong with them at once. A name of a file is relative to the working directory. */
export const read = ({ environment = process.env, file }: Sources = {}): Effect.Effect<Settings, ConfigError> =>
  Source.read(schema, { file, environment, prefix, former })

/** Every key by its name in files and in environments: `app.semaphore`, `TASKS_APP_SEMAPHORE`. */
export const keys: ReadonlyArray<{ readonly name: string; readonly variable: string }> = Keys.of(schema.ast).map(
  ({ name, variable }) => ({ name, variable: prefix + variable })
)
