import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Metric, Scope } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import * as ClientMetrics from "../../src/observe/ClientMetrics.ts"
import { connectionBoundaries, Histogram } from "../../src/observe/Histogram.ts"
import { commonAttributes, type Definition, definitions } from "../../src/observe/internal/definitions.ts"

class Host implements ClientMetrics.HostSource {
  readonly origin: string
  readonly requests: Array<ClientMetrics.RequestSeries> = []
  readonly connectionsClosed = new Map<string, number>()
  connectionDurations: Histogram | undefined
  active = 0
  waiting = 0
  retries = 0
  connectionsActive = 0
  connectionsIdle = 0
  connectionsOpened = 0
  ejections = 0
  abandoned = 0
  breaker: "closed" | "open" | "half_open" | undefined
  limiter: { tokens: number; waiting: number } | undefined

  constructor(origin: string) {
    this.origin = origin
  }
}

class Pool implements ClientMetrics.Source {
  readonly known = new Set<Host>()
  readonly watchers = new Set<ClientMetrics.Watcher>()
  readonly slots = () => ({ free: 5, busy: 2, ejected: 1 })
  readonly hosts = () => this.known
  readonly watch = (watcher: ClientMetrics.Watcher) => {
    this.watchers.add(watcher)
    return () => void this.watchers.delete(watcher)
  }
  host(origin: string): Host {
    const host = new Host(origin)
    this.known.add(host)
    this.changed(host)
    return host
  }
  changed(host: Host): void {
    for (const watcher of this.watchers) watcher.changed(host)
  }
  evict(host: Host): void {
    this.known.delete(host)
    for (const watcher of this.watchers) watcher.evicted(host)
  }
  request(host: Host, method: string, end: number | string, seconds: number): void {
    const found = host.requests.find((series) => series.method === method && series.end === end)
    const series = found ?? { method, end, durations: new Histogram() }
    series.durations.record(seconds)
    if (found !== undefined) return
    // Not always the last one.
    host.requests.unshift(series)
    this.changed(host)
  }
}

const context = () => Context.make(Metric.MetricRegistry, new Map())

const registered = (pool: Pool, name = "billing") =>
  Effect.gen(function* () {
    const services = context()
    yield* Effect.provide(ClientMetrics.register(pool, name), services)
    return {
      snapshot: () => Metric.snapshotUnsafe(services),
      text: () => PrometheusMetrics.formatUnsafe(services, { metricNameMapper: ClientMetrics.prometheusNames })
    }
  })

const local = 'millrace_pool="billing",server_address="api.test",server_port="8443",url_scheme="https"'

describe("ClientMetrics", () => {
  it.effect("reads the numbers when it is asked, not before", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const host = pool.host("https://api.test:8443")
      const { text } = yield* registered(pool)
      host.active = 3
      host.retries = 7
      assert.include(text(), `http_client_active_requests{${local}} 3\n`)
      host.active = 0
      assert.include(text(), `http_client_active_requests{${local}} 0\n`)
      assert.include(text(), `millrace_client_retries_total{${local}} 7\n`)
    })
  )

  it.effect("requests by method, status and error, with OpenTelemetry's names and buckets", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const host = pool.host("https://api.test:8443")
      const { text } = yield* registered(pool)
      pool.request(host, "GET", 200, 0.03)
      pool.request(host, "GET", 200, 11)
      pool.request(host, "POST", 503, 0.2)
      pool.request(host, "GET", "ConnectError", 5)
      const lines = text().split("\n")
      const ok = `${local},http_request_method="GET",http_response_status_code="200"`
      const buckets = lines.filter((line) => line.startsWith(`http_client_request_duration_seconds_bucket{${ok},`))
      assert.deepStrictEqual(
        buckets.map((line) => /le="([^"]+)"} (\d+)$/.exec(line)?.slice(1).join(" ")),
        ["0.005 0", "0.01 0", "0.025 0", "0.05 1", "0.075 1", "0.1 1", "0.25 1", "0.5 1", "0.75 1", "1 1"].concat([
          "2.5 1",
          "5 1",
          "7.5 1",
          "10 1",
          "+Inf 2"
        ])
      )
      assert.include(lines, `http_client_request_duration_seconds_sum{${ok}} 11.03`)
      assert.include(lines, `http_client_request_duration_seconds_count{${ok}} 2`)
      const count = "http_client_request_duration_seconds_count"
      const busy = `http_request_method="POST",http_response_status_code="503",error_type="503"`
      assert.include(lines, `${count}{${local},${busy}} 1`)
      assert.include(lines, `${count}{${local},http_request_method="GET",error_type="ConnectError"} 1`)
      pool.request(host, "PURGE", 200, 5)
      assert.include(text(), `${count}{${local},http_request_method="_OTHER",http_response_status_code="200"} 1\n`)
    })
  )

  it.effect("a host and a status that are new are in the very next scrape", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { text } = yield* registered(pool)
      assert.notInclude(text(), "api.test")
      const host = pool.host("http://api.test")
      assert.include(text(), 'server_address="api.test",server_port="80",url_scheme="http"')
      pool.request(host, "GET", 418, 1)
      assert.include(text(), 'http_response_status_code="418"')
    })
  )

  it.effect("an evicted host takes its series along, and no other's; the same origin begins anew", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { snapshot, text } = yield* registered(pool)
      const before = snapshot().length
      const first = pool.host("http://one.test")
      pool.host("http://two.test")
      first.retries = 9
      pool.evict(first)
      assert.notInclude(text(), "one.test")
      assert.include(text(), "two.test")
      pool.host("http://one.test")
      assert.include(
        text(),
        'millrace_client_retries_total{millrace_pool="billing",server_address="one.test",server_port="80",url_scheme="http"} 0'
      )
      for (const host of [...pool.known]) pool.evict(host)
      assert.strictEqual(snapshot().length, before)
      pool.evict(first)
    })
  )

  it.effect("hosts come and go without leaving anything", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { snapshot } = yield* registered(pool)
      const before = snapshot().length
      for (let i = 0; i < 500; i++) {
        const host = pool.host(`http://h${i}.test`)
        pool.request(host, "GET", 200, 0.1)
        pool.evict(host)
      }
      assert.strictEqual(snapshot().length, before)
    })
  )

  it.effect("all is gone when the scope ends, the watcher too", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const host = pool.host("http://api.test")
      const services = context()
      const scope = yield* Scope.make()
      yield* ClientMetrics.register(pool, "billing").pipe(Effect.provide(services), Scope.provide(scope))
      assert.isAbove(Metric.snapshotUnsafe(services).length, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(Metric.snapshotUnsafe(services), [])
      assert.strictEqual(pool.watchers.size, 0)
      pool.request(host, "GET", 200, 0.1)
      assert.deepStrictEqual(Metric.snapshotUnsafe(services), [])
    })
  )

  it.effect("slots, connections, breaker and limiter", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const host = pool.host("https://api.test:8443")
      const { text } = yield* registered(pool)
      assert.notInclude(text(), "breaker")
      assert.notInclude(text(), "limiter")
      host.connectionsActive = 2
      host.connectionsIdle = 3
      host.connectionsOpened = 9
      host.connectionsClosed.set("idle", 3).set("ECONNRESET", 1)
      host.connectionDurations = new Histogram(connectionBoundaries)
      host.connectionDurations.record(61)
      host.breaker = "half_open"
      host.limiter = { tokens: 4, waiting: 6 }
      host.ejections = 2
      host.abandoned = 1
      host.waiting = 8
      pool.changed(host)
      pool.changed(host)
      for (const line of [
        'millrace_client_slots{millrace_pool="billing",millrace_slot_state="free"} 5',
        'millrace_client_slots{millrace_pool="billing",millrace_slot_state="ejected"} 1',
        `http_client_open_connections{${local},http_connection_state="active"} 2`,
        `http_client_open_connections{${local},http_connection_state="idle"} 3`,
        `http_client_connection_duration_seconds_bucket{${local},le="60"} 0`,
        `http_client_connection_duration_seconds_bucket{${local},le="120"} 1`,
        `millrace_client_connections_opened_total{${local}} 9`,
        `millrace_client_connections_closed_total{${local},millrace_close_reason="idle"} 3`,
        `millrace_client_connections_closed_total{${local},millrace_close_reason="ECONNRESET"} 1`,
        `millrace_client_breaker_state{${local},millrace_breaker_state="half_open"} 1`,
        `millrace_client_breaker_state{${local},millrace_breaker_state="closed"} 0`,
        `millrace_client_limiter_tokens{${local}} 4`,
        `millrace_client_limiter_waiting{${local}} 6`,
        `millrace_client_ejections_total{${local}} 2`,
        `millrace_client_bodies_abandoned_total{${local}} 1`,
        `millrace_client_waiting{${local}} 8`
      ]) {
        assert.include(text().split("\n"), line)
      }
      host.breaker = undefined
      host.limiter = undefined
      host.connectionsClosed.clear()
      const off = text().split("\n")
      assert.include(off, `millrace_client_breaker_state{${local},millrace_breaker_state="half_open"} 0`)
      assert.include(off, `millrace_client_limiter_tokens{${local}} 0`)
      assert.include(off, `millrace_client_connections_closed_total{${local},millrace_close_reason="idle"} 0`)
    })
  )

  it.effect("an IPv6 address has no brackets, and a label value cannot break a line", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { text } = yield* registered(pool, 'a"b\\c\nd')
      pool.host("https://[::1]")
      assert.include(text(), 'server_address="::1",server_port="443",url_scheme="https"')
      assert.include(text(), 'millrace_pool="a\\"b\\\\c\\nd"')
    })
  )

  it.effect("every line is one that Prometheus reads, every family stands together and says what it is", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { text } = yield* registered(pool)
      for (const origin of ["http://one.test", "http://two.test"]) {
        const host = pool.host(origin)
        host.breaker = "closed"
        host.limiter = { tokens: 0.5, waiting: 0 }
        host.connectionsClosed.set("idle", 1)
        host.connectionDurations = new Histogram(connectionBoundaries)
        pool.request(host, "GET", 200, 0.5)
        pool.request(host, "GET", 404, 0.5)
      }
      const name = "[a-zA-Z_:][a-zA-Z0-9_:]*"
      const label = `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"`
      const sample = new RegExp(`^(${name})\\{${label}(?:,${label})*\\} (?:[+-]Inf|NaN|-?[0-9.e+-]+)$`)
      const families = new Map<string, string>()
      let current = ""
      for (const line of text().trimEnd().split("\n")) {
        const [, declared, type] = new RegExp(`^# TYPE (${name}) (counter|gauge|histogram)$`).exec(line) ?? []
        if (declared !== undefined && type !== undefined) {
          assert.isFalse(families.has(declared), `${declared} is declared twice`)
          families.set(declared, type)
          current = declared
        } else if (!line.startsWith("# HELP ")) {
          const [, found = ""] = sample.exec(line) ?? []
          const family = families.get(current) === "histogram" ? found.replace(/_(bucket|sum|count)$/, "") : found
          assert.strictEqual(family, current, line)
        }
      }
      const expected = Object.values(definitions).map((one: Definition): [string, string] => [
        ClientMetrics.prometheusNames(one.name),
        one.kind
      ])
      assert.deepStrictEqual(Object.fromEntries(families), Object.fromEntries(expected))
      for (const [family, kind] of families) assert.strictEqual(kind === "counter", family.endsWith("_total"), family)
    })
  )

  it.effect("every series has exactly the attributes that its definition names", () =>
    Effect.gen(function* () {
      const pool = new Pool()
      const { snapshot } = yield* registered(pool)
      const host = pool.host("http://one.test")
      host.breaker = "closed"
      host.limiter = { tokens: 1, waiting: 0 }
      host.connectionsClosed.set("idle", 1)
      host.connectionDurations = new Histogram(connectionBoundaries)
      pool.request(host, "GET", 404, 0.5)
      const byName = new Map(Object.values(definitions).map((one: Definition) => [one.name, one]))
      const seen = new Set<string>()
      for (const { attributes = {}, description, id } of snapshot()) {
        const definition = byName.get(id)
        if (definition === undefined) return assert.fail(`${id} is not defined`)
        const { unit = "1", ...rest } = attributes
        assert.strictEqual(unit, definition.unit)
        assert.strictEqual(description, definition.description)
        const expected = [...commonAttributes[definition.scope], ...definition.attributes]
        assert.sameMembers(Object.keys(rest), expected, id)
        seen.add(id)
      }
      assert.strictEqual(seen.size, byName.size)
    })
  )

  it("names of others stay as they are", () => {
    assert.strictEqual(ClientMetrics.prometheusNames("app.jobs"), "app.jobs")
  })

  it("the documentation has every metric as it is", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../../docs/observability.md"), "utf8")
    for (const one of Object.values<Definition>(definitions)) {
      const attributes = one.attributes.map((attribute) => `\`${attribute}\``).join(", ")
      const row = [`\`${one.name}\``, one.kind, `\`${one.unit}\``, one.scope, attributes, one.description]
      const cells = page.split("\n").map((line) =>
        line
          .split("|")
          .slice(1, -1)
          .map((cell) => cell.trim())
      )
      assert.isTrue(
        cells.some((found) => found.join("|") === row.join("|")),
        `docs/observability.md needs the row | ${row.join(" | ")} |`
      )
      assert.include(page, `\`${ClientMetrics.prometheusNames(one.name)}\``)
    }
    const documented = [
      ...page.matchAll(/^\| `((?:http|millrace)\.client\.[a-z_.]+)` \| (?:gauge|counter|histogram)/gm)
    ]
    assert.strictEqual(documented.length, Object.keys(definitions).length)
  })
})
