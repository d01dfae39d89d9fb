import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Metric, Scope } from "effect"
import { HttpClientResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { commonAttributes, type Definition, serverDefinitions } from "../../src/observe/internal/definitions.ts"
import * as ServerMetrics from "../../src/observe/ServerMetrics.ts"
import * as Monitor from "../../src/server/Monitor.ts"
import type { Options } from "../../src/server/ServerConfig.ts"
import { FakeListener, pem } from "../fixtures/listener.ts"
import { onFunction, turn } from "../fixtures/pools.ts"
import { binds, make as makePool } from "../fixtures/serverPools.ts"

const context = () => Context.make(Metric.MetricRegistry, new Map())

const read = (services: Context.Context<never>) => ({
  snapshot: () => Metric.snapshotUnsafe(services),
  text: () => PrometheusMetrics.formatUnsafe(services, { metricNameMapper: ServerMetrics.prometheusNames })
})

const setup = (configs: ReadonlyArray<Options>) =>
  Effect.gen(function* () {
    const listener = new FakeListener()
    const pool = yield* makePool(listener, configs, { name: "edge" })
    const services = context()
    yield* Effect.provide(ServerMetrics.register(pool), services)
    return { listener, pool, ...read(services) }
  })

/** Three servers, of which the second answers late and wrong, and the third is not asked. */
const monitored = Effect.gen(function* () {
  const listener = new FakeListener()
  const [a, b, c] = binds(3)
  const pool = yield* makePool(listener, [{ ...a!, monitor: true }, { ...b!, monitor: { fall: 1 } }, c!], {
    name: "edge"
  })
  const client = yield* onFunction((request, { origin }) => {
    const wrong = origin.endsWith("8001")
    const response = HttpClientResponse.fromWeb(request, new Response("", { status: wrong ? 500 : 200 }))
    return Effect.delay(Effect.succeed(response), wrong ? 2000 : 250)
  })
  const monitor = yield* Monitor.make(pool, client)
  const services = context()
  yield* Effect.provide(ServerMetrics.register(pool, monitor), services)
  yield* pool.start
  yield* turn
  listener.at(8000).logged("GET").ended(503, 20)
  yield* TestClock.adjust("5 seconds")
  yield* turn
  return { pool, listener, ...read(services) }
})

const labels = (name: string, bind: string, scheme = "http") =>
  `millrace_pool="edge",millrace_server_name="${name}",millrace_server_bind="${bind}",url_scheme="${scheme}"`

const s0 = labels("s0", "127.0.0.1:8000")

const all: ReadonlyArray<Definition> = Object.values(serverDefinitions)

describe("ServerMetrics", () => {
  it.effect("reads the counts when it is asked, not before", () =>
    Effect.gen(function* () {
      const { listener, pool, text } = yield* setup(binds(1))
      yield* pool.start
      const backend = listener.at(8000)
      backend.request(3)
      for (const line of [
        `millrace_server_requests_total{${s0}} 3`,
        `millrace_server_failures_total{${s0}} 0`,
        `millrace_server_connections{${s0}} 3`,
        `millrace_server_connections_accepted_total{${s0}} 3`,
        `millrace_server_connections_refused_total{${s0}} 0`,
        `millrace_server_starts_total{${s0}} 1`
      ]) {
        assert.include(text().split("\n"), line)
      }
      backend.finish()
      assert.include(text(), `millrace_server_connections{${s0}} 0\n`)
      yield* pool.restart
      assert.include(text(), `millrace_server_requests_total{${s0}} 3\n`, "a counter does not go down")
      assert.include(text(), `millrace_server_starts_total{${s0}} 2\n`)
    })
  )

  it.effect("durations and active requests, by method and status, as Prometheus reads them", () =>
    Effect.gen(function* () {
      const { listener, pool, text } = yield* setup(binds(1))
      yield* pool.start
      const backend = listener.at(8000)
      const lines = () => text().split("\n")
      assert.isFalse(
        lines().some((line) => line.startsWith("http_server_")),
        "none before there is a request"
      )
      const slow = backend.logged("GET")
      assert.include(lines(), `http_server_active_requests{${s0},http_request_method="GET"} 1`)
      backend.logged("GET").ended(200, 40)
      backend.logged("BREW").ended(418, 1)
      backend.logged("POST").ended(500, 4)
      backend.logged("POST").ended(undefined, 30_000)
      slow.ended(200, 700)
      const name = "http_server_request_duration_seconds"
      const ok = `${s0},http_request_method="GET",http_response_status_code="200"`
      for (const line of [
        "# HELP http_server_request_duration_seconds Duration of HTTP server requests.",
        "# TYPE http_server_request_duration_seconds histogram",
        `http_server_active_requests{${s0},http_request_method="GET"} 0`,
        `${name}_bucket{${ok},le="0.025"} 0`,
        `${name}_bucket{${ok},le="0.05"} 1`,
        `${name}_bucket{${ok},le="0.75"} 2`,
        `${name}_bucket{${ok},le="10"} 2`,
        `${name}_bucket{${ok},le="+Inf"} 2`,
        `${name}_sum{${ok}} 0.74`,
        `${name}_count{${ok}} 2`,
        `${name}_count{${s0},http_request_method="_OTHER",http_response_status_code="418"} 1`,
        `${name}_count{${s0},http_request_method="POST",http_response_status_code="500",error_type="500"} 1`,
        `${name}_bucket{${s0},http_request_method="POST",error_type="aborted",le="10"} 0`,
        `${name}_count{${s0},http_request_method="POST",error_type="aborted"} 1`
      ]) {
        assert.include(lines(), line)
      }
      const les = lines().flatMap((line) =>
        line.startsWith(`${name}_bucket{${ok}`) ? [/le="(.*)"/.exec(line)?.[1]] : []
      )
      assert.deepStrictEqual(les.join(" "), "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 +Inf")
    })
  )

  it.effect("durations go on over replacements and restarts, and follow a server under its new name", () =>
    Effect.gen(function* () {
      const { listener, pool, snapshot, text } = yield* setup(binds(1))
      const count = (of: string, n: number) =>
        assert.include(
          text(),
          `http_server_request_duration_seconds_count{${of},http_request_method="GET",http_response_status_code="200"} ${n}\n`
        )
      yield* pool.start
      const old = listener.at(8000).logged("GET")
      yield* pool.update({ ...binds(1)[0]!, maxConnections: 9 })
      listener.at(8000).logged("GET").ended(200, 1)
      count(s0, 1)
      old.ended(200, 1)
      count(s0, 2)
      yield* pool.restart
      listener.at(8000).logged("GET").ended(200, 1)
      count(s0, 3)
      const { length } = snapshot()
      yield* pool.update({ ...binds(1)[0]!, maxConnections: 9, name: "new" })
      yield* turn
      count(labels("new", "127.0.0.1:8000"), 3)
      assert.strictEqual(snapshot().length, length)
      const backend = listener.at(8000)
      yield* pool.clear
      yield* turn
      assert.deepStrictEqual(snapshot(), [])
      backend.logged("DELETE").ended(204, 1)
      assert.deepStrictEqual(snapshot(), [], "what is said of a server that has left is not registered")
    })
  )

  it.effect("state, readiness, uptime and downtime", () =>
    Effect.gen(function* () {
      const { pool, text } = yield* setup(binds(1))
      yield* TestClock.adjust("7 seconds")
      assert.include(text(), `millrace_server_downtime_seconds{${s0}} 7\n`)
      assert.include(text(), `millrace_server_state{${s0},millrace_server_state="stopped"} 1\n`)
      assert.include(text(), `millrace_server_ready{${s0}} 0\n`)
      yield* pool.start
      yield* TestClock.adjust("2500 millis")
      for (const line of [
        `millrace_server_state{${s0},millrace_server_state="running"} 1`,
        `millrace_server_state{${s0},millrace_server_state="stopped"} 0`,
        `millrace_server_ready{${s0}} 1`,
        `millrace_server_uptime_seconds{${s0}} 2.5`,
        `millrace_server_downtime_seconds{${s0}} 0`
      ]) {
        assert.include(text().split("\n"), line)
      }
    })
  )

  it.effect("a server's series appear as it comes and vanish as it goes, and no other's", () =>
    Effect.gen(function* () {
      const { pool, snapshot, text } = yield* setup([])
      assert.deepStrictEqual(snapshot(), [])
      const [a, b] = binds(2)
      yield* pool.addConfig(a!)
      yield* turn
      const { length } = snapshot()
      assert.isAbove(length, 0)
      for (let i = 0; i < 20; i++) {
        yield* pool.addConfig(b!)
        yield* turn
        assert.include(text(), `{${labels("s1", "127.0.0.1:8001")}}`)
        yield* pool.remove(b!.bind)
        yield* turn
        assert.notInclude(text(), "8001")
      }
      assert.strictEqual(snapshot().length, length)
      yield* pool.clear
      yield* turn
      assert.deepStrictEqual(snapshot(), [])
    })
  )

  it.effect("a server that is renamed, or speaks TLS now, has its series under its new name only", () =>
    Effect.gen(function* () {
      const { pool, snapshot, text } = yield* setup(binds(1))
      const { length } = snapshot()
      yield* pool.update({ bind: "127.0.0.1:8000", name: "new", tls: pem("a") })
      yield* turn
      assert.include(text(), `{${labels("new", "127.0.0.1:8000", "https")}}`)
      assert.notInclude(text(), '"s0"')
      assert.strictEqual(snapshot().length, length)
    })
  )

  it.effect("the port that the system chose is in the bind, and stays there while the server does not run", () =>
    Effect.gen(function* () {
      const { pool, snapshot, text } = yield* setup([
        { name: "a", bind: "127.0.0.1:0" },
        { name: "a", bind: "127.0.0.1:0" }
      ])
      yield* pool.start
      yield* turn
      const { length } = snapshot()
      for (const port of [40_000, 40_001]) {
        assert.include(text(), `millrace_server_ready{${labels("a", `127.0.0.1:${port}`)}} 1\n`)
      }
      yield* pool.stop
      yield* turn
      assert.include(text(), `millrace_server_ready{${labels("a", "127.0.0.1:40000")}} 0\n`)
      assert.strictEqual(snapshot().length, length)
    })
  )

  it.effect("with a monitor: what it says of those that it asks", () =>
    Effect.gen(function* () {
      const { pool, text } = yield* monitored
      const s1 = labels("s1", "127.0.0.1:8001")
      for (const line of [
        `millrace_server_health{${s0},millrace_server_health="ok"} 1`,
        `millrace_server_health{${s0},millrace_server_health="ko"} 0`,
        `millrace_server_health_latency_seconds{${s0}} 0.25`,
        `millrace_server_health_checks_total{${s0}} 1`,
        `millrace_server_health_failures_total{${s0}} 0`,
        `millrace_server_health{${s1},millrace_server_health="ko"} 1`,
        `millrace_server_health{${s1},millrace_server_health="warn"} 0`,
        `millrace_server_health_latency_seconds{${s1}} 2`,
        `millrace_server_health_failures_total{${s1}} 1`
      ]) {
        assert.include(text().split("\n"), line)
      }
      const asked = () =>
        text()
          .split("\n")
          .filter((line) => line.startsWith("millrace_server_health"))
      assert.isFalse(asked().some((line) => line.includes('"s2"')))
      yield* pool.update({ ...binds(1)[0]!, monitor: false })
      yield* turn
      assert.isFalse(asked().some((line) => line.includes('"s0"')))
      // Between its leaving and the event that tells of it.
      yield* pool.remove("127.0.0.1:8001")
      assert.isFalse(asked().some((line) => / [1-9]/.test(line.slice(line.indexOf("}")))))
      yield* turn
      assert.deepStrictEqual(
        asked().filter((line) => !line.startsWith("#")),
        []
      )
    })
  )

  it.effect("all is gone when the scope ends, and what comes then is not registered", () =>
    Effect.gen(function* () {
      const pool = yield* makePool(new FakeListener(), binds(2))
      const services = context()
      const scope = yield* Scope.make()
      yield* ServerMetrics.register(pool).pipe(Effect.provide(services), Scope.provide(scope))
      assert.isAbove(Metric.snapshotUnsafe(services).length, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(Metric.snapshotUnsafe(services), [])
      yield* pool.addConfig({ bind: ":1" })
      yield* turn
      assert.deepStrictEqual(Metric.snapshotUnsafe(services), [])
    })
  )

  it.effect("every line is one that Prometheus reads, every family stands together and says what it is", () =>
    Effect.gen(function* () {
      const { text } = yield* monitored
      const name = "[a-zA-Z_:][a-zA-Z0-9_:]*"
      const label = `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"`
      const sample = new RegExp(`^(${name})\\{${label}(?:,${label})*\\} -?[0-9.e+-]+$`)
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
      const expected = all.map(({ kind, name: own }): [string, string] => [ServerMetrics.prometheusNames(own), kind])
      assert.deepStrictEqual(Object.fromEntries(families), Object.fromEntries(expected))
    })
  )

  it.effect("every series has exactly the attributes that its definition names", () =>
    Effect.gen(function* () {
      const { snapshot } = yield* monitored
      const byName = new Map(all.map((one) => [one.name, one]))
      const seen = new Set<string>()
      for (const { attributes = {}, description, id } of snapshot()) {
        const definition = byName.get(id)
        if (definition === undefined) return assert.fail(`${id} is not defined`)
        const { unit = "1", ...rest } = attributes
        assert.deepStrictEqual([unit, description], [definition.unit, definition.description])
        assert.sameMembers(Object.keys(rest), [...commonAttributes[definition.scope], ...definition.attributes], id)
        seen.add(id)
      }
      assert.strictEqual(seen.size, byName.size)
    })
  )

  it("one name mapper is enough for servers and clients; names of others stay", () => {
    assert.strictEqual(
      ServerMetrics.prometheusNames("http.client.request.duration"),
      "http_client_request_duration_seconds"
    )
    assert.strictEqual(ServerMetrics.prometheusNames("app.jobs"), "app.jobs")
  })

  it("the documentation has every metric as it is", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../../docs/server/monitoring.md"), "utf8")
    const rows = page.split("\n").map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim())
        .join("|")
    )
    for (const { attributes, description, kind, name, unit } of all) {
      const more = attributes.map((attribute) => `\`${attribute}\``).join(", ")
      const prometheus = `\`${ServerMetrics.prometheusNames(name)}\``
      const row = [`\`${name}\``, kind, `\`${unit}\``, more, prometheus, description]
      assert.include(rows, row.join("|"), `docs/server/monitoring.md needs the row | ${row.join(" | ")} |`)
    }
    const documented = rows.filter((row) => /^`(http|millrace)\.server\.[a-z_.]+`\|(gauge|counter|histogram)/.test(row))
    assert.strictEqual(documented.length, all.length)
  })
})
