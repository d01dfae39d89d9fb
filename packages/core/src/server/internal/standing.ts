/** How a server stands, since when, and what last went wrong. It does nothing: what moves it is `ServerUnit`. */
import * as Duration from "effect/Duration"
import type { Address, Health, State } from "../Server.ts"
import { type Phase, stopped } from "./phase.ts"

export class Standing {
  private current: Phase = stopped
  private lastError: unknown
  private starts = 0
  private downSince: number
  private readonly now: () => number

  constructor(now: () => number) {
    this.now = now
    this.downSince = now()
  }

  get phase(): Phase {
    return this.current
  }

  set phase(next: Phase) {
    const ran = this.current._tag === "Running"
    const runs = next._tag === "Running"
    if (ran && !runs) this.downSince = this.now()
    if (!ran && runs) this.starts++
    this.current = next
  }

  get state(): State {
    const { current } = this
    return current._tag === "Running" ? { _tag: "Running", address: current.address } : current
  }

  get address(): Address | undefined {
    return this.current._tag === "Running" ? this.current.address : undefined
  }

  upMillis(): number {
    return this.current._tag === "Running" ? this.now() - this.current.since : 0
  }

  /** Something has failed, which need not have changed how it stands. */
  note(error: unknown): void {
    this.lastError = error
  }

  get health(): Pick<Health, "state" | "uptime" | "downtime" | "lastError" | "starts"> {
    return {
      state: this.current._tag,
      uptime: Duration.millis(this.upMillis()),
      downtime: Duration.millis(this.current._tag === "Running" ? 0 : this.now() - this.downSince),
      lastError: this.lastError,
      starts: this.starts
    }
  }
}
