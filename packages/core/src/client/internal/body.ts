/**
 * The body of a response on its way from the connection to whoever reads it.
 *
 * - `buffering`: nobody has asked yet. Small bodies are complete when the fiber wakes; beyond the high-water mark the
 *   connection pauses.
 * - `collecting`: somebody wants all of it; chunks are kept, the connection never pauses.
 * - `streaming`: somebody takes chunk after chunk; the connection pauses when they are slow.
 * - `discarding`: nobody will read it; chunks are dropped while few enough, to keep the connection.
 *
 * It ends once, with `end` or `fail`. What was read with `collect` stays, so that a body can be read twice.
 */
import type { PoolError } from "../../model/PoolError.ts"
import * as wakeups from "./wakeups.ts"

/** What a body may ask of the exchange it belongs to. */
export interface BodySource {
  readonly pause: () => void
  readonly resume: () => void
  /** Nobody wants the rest. */
  readonly abort: () => void
}

/** Shared by all bodies of which nothing is held; never written to. */
const none: Array<Uint8Array> = []

export class Body implements wakeups.Sleeper {
  mode: "buffering" | "collecting" | "streaming" | "discarding" = "buffering"
  ended = false
  error: PoolError | undefined = undefined
  private chunks: Array<Uint8Array> = none
  private size = 0
  private paused = false
  private waiting: Array<() => void> | undefined = undefined
  private awakened = false
  private readonly source: BodySource
  private readonly highWaterMark: number

  constructor(source: BodySource, highWaterMark: number) {
    this.source = source
    this.highWaterMark = highWaterMark
  }

  /** Somebody reads, or has read, it. */
  get wanted(): boolean {
    return this.mode === "collecting" || this.mode === "streaming"
  }

  get isPaused(): boolean {
    return this.paused
  }

  push(chunk: Uint8Array): void {
    this.size += chunk.length
    if (this.mode === "discarding") {
      if (this.size > this.highWaterMark) this.source.abort()
      return
    }
    // A literal has room for one, which most bodies are; an empty array that grows has room for seventeen.
    if (this.chunks.length === 0) this.chunks = [chunk]
    else this.chunks.push(chunk)
    if (this.mode !== "collecting" && this.size > this.highWaterMark && !this.paused) {
      this.paused = true
      this.source.pause()
    }
    if (this.mode === "streaming") this.stir()
  }

  /** All of it is here, and nothing of it was taken. */
  get complete(): boolean {
    return this.ended && this.mode !== "streaming"
  }

  end(): void {
    this.ended = this.error === undefined
    this.stir()
  }

  fail(error: PoolError): void {
    this.error = error
    this.stir()
  }

  /** From now on chunks are kept until the end. */
  collect(): void {
    if (this.mode === "buffering") this.mode = "collecting"
    this.unpause()
  }

  /** All of it, once it has ended. It stays here, so that it can be read again. */
  bytes(): Uint8Array {
    this.mode = "collecting"
    return this.chunks.length === 1 ? this.chunks[0]! : this.copy()
  }

  /** The same in memory of its own, for a caller that may do with it what it likes. */
  copy(): Uint8Array<ArrayBuffer> {
    this.mode = "collecting"
    return concat(this.chunks)
  }

  stream(): void {
    this.mode = "streaming"
  }

  /** What has arrived since the last call; asks for more when there is nothing. */
  take(): ReadonlyArray<Uint8Array> {
    const taken = this.chunks
    this.chunks = none
    this.size = 0
    this.unpause()
    return taken
  }

  /** Whether a body of that length is short enough to be received for nothing. */
  mayDrain(length: number): boolean {
    return this.mode !== "streaming" && length <= this.highWaterMark
  }

  discard(): void {
    this.mode = "discarding"
    this.chunks = none
    if (this.size > this.highWaterMark) this.source.abort()
    else this.unpause()
  }

  /** Calls `f` in the microtask after something has happened; the result takes that back. */
  onChange(f: () => void): () => void {
    this.waiting ??= []
    this.waiting.push(f)
    return () => {
      const index = this.waiting?.indexOf(f) ?? -1
      if (index !== -1) this.waiting?.splice(index, 1)
    }
  }

  get hasReader(): boolean {
    return this.waiting !== undefined && this.waiting.length > 0
  }

  wake(): void {
    this.awakened = false
    const waiting = this.waiting
    if (waiting === undefined) return
    this.waiting = undefined
    for (const f of waiting) f()
  }

  private stir(): void {
    if (this.waiting !== undefined && !this.awakened) {
      this.awakened = true
      wakeups.soon(this)
    }
  }

  private unpause(): void {
    if (this.paused) {
      this.paused = false
      this.source.resume()
    }
  }
}

/** Where there is a Buffer (Node), memory that is not zeroed first: for 10 MiB that costs more than to copy them. */
const { Buffer } = globalThis as {
  readonly Buffer?: { readonly allocUnsafeSlow?: (size: number) => { readonly buffer: ArrayBuffer } }
}

/** Every byte of it must be written. */
const allocate = (size: number): Uint8Array<ArrayBuffer> => {
  const memory = Buffer?.allocUnsafeSlow?.(size).buffer
  return memory === undefined ? new Uint8Array(size) : new Uint8Array(memory)
}

const concat = (chunks: ReadonlyArray<Uint8Array>): Uint8Array<ArrayBuffer> => {
  // Not what has been counted as they came: a connector's chunk may be shorter by now.
  const whole = allocate(chunks.reduce((sum, chunk) => sum + chunk.length, 0))
  let offset = 0
  for (const chunk of chunks) {
    whole.set(chunk, offset)
    offset += chunk.length
  }
  return whole
}
