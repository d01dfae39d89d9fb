/** A transport between a pool and a real one, which notes what goes by and changes nothing. */
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import * as Stream from "effect/Stream"
import type { Connector, Control, Exchange, Failure, RawHeaders, Target, Transport } from "../../client/Connector.ts"
import { codeOf } from "../../model/PoolError.ts"
import * as File from "./recordingFile.ts"
import * as Secrets from "./secrets.ts"
import { bytesNow, concat } from "./sentRequest.ts"

export class Recorder {
  private readonly inner: Connector
  readonly rules: Secrets.Rules
  readonly maxBodySize: number
  private readonly notes = new Set<Note>()

  constructor(inner: Connector, rules: Secrets.Rules, maxBodySize: number) {
    this.inner = inner
    this.rules = rules
    this.maxBodySize = maxBodySize
  }

  /** It does not decompress: so nothing compressed is asked for, and the file can be read. */
  get connector(): Connector {
    return {
      open: (target) => new RecordingTransport(this.inner.open(target), target, this),
      afterTurn: this.inner.afterTurn
    }
  }

  /** In the order in which they were sent. */
  get exchanges(): ReadonlyArray<File.Recorded> {
    return Array.from(this.notes, (note) => note.recorded)
  }

  add(note: Note): void {
    this.notes.add(note)
  }

  /** It was never sent, or a connection that had gone stale was no news to anybody. */
  forget(note: Note): void {
    this.notes.delete(note)
  }
}

class RecordingTransport implements Transport {
  private readonly inner: Transport
  private readonly target: Target
  private readonly recorder: Recorder
  readonly broken: Transport["broken"]
  private note: Note | undefined = undefined

  constructor(inner: Transport, target: Target, recorder: Recorder) {
    this.inner = inner
    this.target = target
    this.recorder = recorder
    this.broken = inner.broken === undefined ? undefined : () => inner.broken?.()
  }

  send(exchange: Exchange): void {
    if (this.note?.outer === exchange) this.recorder.forget(this.note)
    this.note = new Note(exchange, this.target, this.recorder, (error) => this.inner.classify(error))
    this.inner.send(this.note)
  }

  cancel(): void {
    if (this.note === undefined) return
    this.recorder.forget(this.note)
    this.inner.cancel(this.note)
  }

  retire(): void {
    this.inner.retire()
  }

  get close(): Effect.Effect<void> {
    return this.inner.close
  }

  classify(error: Error): Failure {
    return this.inner.classify(error)
  }
}

/** Bytes up to a limit, and how many there were. */
class Kept {
  private readonly chunks: Array<Uint8Array> = []
  size = 0

  push(chunk: Uint8Array, limit: number): void {
    this.size += chunk.length
    // Copied: a transport may use its buffer again.
    if (this.size <= limit) this.chunks.push(chunk.slice())
    else this.chunks.length = 0
  }

  get bytes(): Uint8Array {
    return concat(this.chunks)
  }
}

/** One exchange, as the transport below sees it, and what is known of it. */
class Note implements Exchange {
  readonly outer: Exchange
  readonly body: HttpBody.HttpBody
  private readonly target: Target
  private readonly recorder: Recorder
  private readonly classify: (error: Error) => Failure
  private readonly sent = new Kept()
  private readonly received = new Kept()
  private head: { readonly status: number; readonly headers: RawHeaders } | undefined = undefined
  private end: File.Failure | "given up" | "complete" = "given up"
  private isNoted = true

  constructor(outer: Exchange, target: Target, recorder: Recorder, classify: (error: Error) => Failure) {
    this.outer = outer
    this.target = target
    this.recorder = recorder
    this.classify = classify
    this.body = this.tapped(outer.body)
  }

  get method(): string {
    return this.outer.method
  }
  get path(): string {
    return this.outer.path
  }
  get headers(): Array<string> {
    return this.outer.headers
  }
  get services(): Exchange["services"] {
    return this.outer.services
  }

  onRequestStart(control: Control): void {
    this.outer.onRequestStart(control)
    this.recorder.add(this)
  }

  onRequestSent(): void {
    this.outer.onRequestSent()
  }

  onResponseStarted(): void {
    this.outer.onResponseStarted()
  }

  onResponseStart(control: Control, status: number, headers: RawHeaders): void {
    if (status >= 200) this.head = { status, headers }
    this.outer.onResponseStart(control, status, headers)
  }

  onResponseData(control: Control, chunk: Uint8Array): void {
    this.received.push(chunk, this.recorder.maxBodySize)
    this.outer.onResponseData(control, chunk)
  }

  onResponseEnd(control: Control): void {
    this.end = "complete"
    this.outer.onResponseEnd(control)
  }

  onResponseError(control: Control | null, error: Error): void {
    const failure = this.classify(error)
    if (failure._tag !== "Given") this.end = recordedFailure(failure)
    // It may have failed before anything was written.
    this.recorder.add(this)
    this.outer.onResponseError(control, error)
  }

  get recorded(): File.Recorded {
    const { maxBodySize, rules } = this.recorder
    const tooLong = (kept: Kept) => ({ notRecorded: `${kept.size} bytes, more than maxBodySize of ${maxBodySize}` })
    const typeOf = (type: unknown) => (typeof type === "string" ? type : "")
    const headers = File.flatHeadersOf(this.headers, rules)
    const request = { method: this.method, url: Secrets.url(this.target.origin + this.path, rules), headers }
    const bodyOf = (kept: Kept, type: unknown) =>
      kept.size > maxBodySize ? { body: tooLong(kept) } : File.bodyOf(kept.bytes, typeOf(type), rules)
    return {
      request: {
        ...request,
        ...(this.isNoted
          ? bodyOf(this.sent, headers["content-type"])
          : { body: { notRecorded: "a stream of the platform" } })
      },
      ...(this.head === undefined
        ? {}
        : {
            response: {
              status: this.head.status,
              headers: File.headersOf(this.head.headers, rules),
              ...bodyOf(this.received, this.head.headers["content-type"])
            }
          }),
      ...(this.end === "complete" ? {} : { end: this.end })
    }
  }

  /** The body that is sent, which is noted while it is. */
  private tapped(body: HttpBody.HttpBody): HttpBody.HttpBody {
    const keep = (chunk: Uint8Array) => this.sent.push(chunk, this.recorder.maxBodySize)
    if (body._tag === "Stream") {
      const tapped = Stream.tap(body.stream, (chunk) => Effect.sync(() => keep(chunk)))
      return HttpBody.stream(tapped, body.contentType, body.contentLength)
    }
    const bytes = bytesNow(body)
    if (bytes === undefined) this.isNoted = false
    else keep(bytes)
    return body
  }
}

const recordedFailure = (failure: Exclude<Failure, { readonly _tag: "Given" }>): File.Failure => {
  switch (failure._tag) {
    case "Connect":
      return { kind: "Connect", phase: failure.phase, millis: failure.millis, reason: codeOf(failure.cause) }
    case "ConnectTimeout":
      return { kind: "ConnectTimeout", phase: failure.phase, millis: failure.millis, reason: "timeout" }
    case "Broken":
      return { kind: "Broken", reason: codeOf(failure.cause) }
    case "Protocol":
    case "Rejected":
      return { kind: failure._tag, reason: failure.reason }
  }
}
