/** What a monitor knows of one server. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type { PoolError } from "../../model/PoolError.ts"
import type { Timers } from "../../model/Timers.ts"
import type { Change, ServerReport } from "../Monitor.ts"
import type { Health, Server } from "../Server.ts"
import type { Monitor } from "../ServerConfig.ts"
import { ask, type Asked, textOf, urlOf } from "./healthRequest.ts"
import { after, type Standing, unproven, type Verdict } from "./healthRule.ts"

export interface Means {
  readonly client: HttpClient.HttpClient.With<PoolError>
  readonly timers: Timers
  /** Milliseconds; `undefined`: half of the timeout. */
  readonly slow: number | undefined
  readonly origin: ((server: Server) => string) | undefined
}

/** What is to be done about a server that may have changed. */
export type Todo = "ask anew" | "go on" | "rest"

const same = (a: Monitor | undefined, b: Monitor | undefined): boolean =>
  a?.path === b?.path && a?.interval === b?.interval && a?.timeout === b?.timeout

export class Watch {
  private readonly server: Server
  private readonly means: Means
  private standing: Standing = unproven
  private settings: Monitor | undefined = undefined
  /** The start that `standing` belongs to. */
  private start = 0
  private checks = 0
  private failures = 0
  private latency: number | undefined = undefined
  private lastError: unknown = undefined
  private told: Verdict | undefined = undefined

  constructor(server: Server, means: Means) {
    this.server = server
    this.means = means
  }

  get interval(): number {
    return this.server.config.monitor?.interval ?? Infinity
  }

  readonly todo: Effect.Effect<Todo> = Effect.suspend(() =>
    Effect.map(this.server.health, (health): Todo => {
      const { monitor } = this.server.config
      if (monitor === undefined || health.state !== "Running") {
        this.settings = undefined
        return "rest"
      }
      const anew = this.beginsAnew(health)
      if (!anew && same(this.settings, monitor)) return "go on"
      this.settings = monitor
      return "ask anew"
    })
  )

  /** What was known of it before it was started again says nothing now. */
  private beginsAnew({ starts }: Health): boolean {
    if (this.start === starts) return false
    this.start = starts
    this.standing = unproven
    this.lastError = undefined
    return true
  }

  /** Sends a health request, if there is somebody to ask. */
  readonly ask: Effect.Effect<Asked> = Effect.suspend(() => {
    const { address, config } = this.server
    const { monitor } = config
    if (monitor === undefined || address === undefined) return Effect.succeed(nobody)
    const scheme = config.settings.tls === undefined ? "http" : "https"
    const slow = this.means.slow ?? monitor.timeout / 2
    const asked = Effect.matchEffect(
      Effect.try(() => this.means.origin?.(this.server).replace(/\/$/, "") ?? urlOf(address, scheme, "")),
      {
        onSuccess: (origin) => ask(this.means.client, `${origin}${monitor.path}`, monitor, slow, this.means.timers),
        onFailure: ({ cause }) => Effect.succeed(unknown(cause))
      }
    )
    return Effect.flatMap(this.server.health, ({ starts }) =>
      Effect.tap(asked, (result) => this.hear(result, monitor, starts))
    )
  })

  private hear({ answer, error, latency }: Asked, monitor: Monitor, starts: number): Effect.Effect<void> {
    return Effect.map(this.server.health, (health) => {
      // One that was stopped meanwhile, or started anew, is not the one that was asked.
      if (!health.ready || health.starts !== starts || this.start !== starts) return
      if (error !== undefined) this.lastError = error
      if (answer === undefined) return
      this.checks++
      if (answer === "bad") this.failures++
      if (latency !== undefined) this.latency = latency
      this.standing = after(this.standing, answer, monitor)
    })
  }

  readonly report: Effect.Effect<ServerReport> = Effect.suspend(() =>
    Effect.map(this.server.health, (health): ServerReport => {
      const { bind, config, expose, name } = this.server
      const ill = health.state === "Failed" ? health.lastError : (this.lastError ?? health.lastError)
      const { falls, rises } = this.standing
      return {
        name,
        bind,
        expose: expose.replace(/[?#].*$/, ""),
        state: this.verdict(health),
        status: health.state,
        wanted: health.wanted,
        monitored: config.monitor !== undefined,
        rises,
        falls,
        checks: this.checks,
        failures: this.failures,
        latency: this.latency,
        uptime: Duration.toMillis(health.uptime),
        downtime: Duration.toMillis(health.downtime),
        lastError: textOf(ill),
        counts: health.counts
      }
    })
  )

  private verdict({ ready, state, starts }: Health): Verdict {
    if (state === "Starting" || state === "Stopping") return "Warn"
    if (state !== "Running") return "KO"
    if (!ready) return "Warn"
    if (this.server.config.monitor === undefined) return "OK"
    return this.start === starts ? this.standing.verdict : "Warn"
  }

  /** How it stands now, if it stood otherwise when that was last told. */
  readonly change: Effect.Effect<Change | undefined> = Effect.suspend(() =>
    Effect.map(this.report, (report): Change | undefined => {
      const from = this.told
      const to = report.state
      this.told = to
      return from === undefined || from === to ? undefined : { server: this.server, from, to, report }
    })
  )
}

/** Nobody was asked, so nothing is known of the server. */
const unknown = (error: unknown): Asked => ({ answer: undefined, latency: undefined, error })

const nobody = unknown(new Error("it does not run"))
