/** A server that answers what was recorded. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type Connector, type Failure, TransportError } from "../../client/Connector.ts"
import { type Answering, FunctionTransport, type Reply } from "../../client/internal/functionTransport.ts"
import { type ConnectPhase, InvalidRequest } from "../../model/PoolError.ts"
import { type Candidate, detail, type Difference, explain, jsonDifferences, weights } from "./facets.ts"
import * as File from "./recordingFile.ts"
import * as Secrets from "./secrets.ts"
import { receive, type SentRequest } from "./sentRequest.ts"

export class Player {
  private readonly file: File.File
  private readonly inOrder: boolean
  private readonly used = new Set<number>()

  constructor(file: File.File, inOrder: boolean) {
    this.file = file
    this.inOrder = inOrder
  }

  readonly connector: Connector = { open: (target) => new FunctionTransport(target, this.answer) }

  private readonly answer: Answering = (exchange, target) =>
    Effect.flatMap(receive(exchange, target), (request) => {
      const index = this.find(request)
      const recorded = index === undefined ? undefined : this.file.exchanges[index]
      if (index === undefined || recorded === undefined) return Effect.fail(this.refuse(request))
      this.used.add(index)
      return play(recorded)
    })

  private find(request: SentRequest): number | undefined {
    const { exchanges, secrets } = this.file
    if (this.inOrder) {
      const next = exchanges[this.used.size]
      return next !== undefined && differencesBetween(next, request, secrets).length === 0 ? this.used.size : undefined
    }
    const index = exchanges.findIndex(
      (recorded, i) => !this.used.has(i) && differencesBetween(recorded, request, secrets).length === 0
    )
    return index === -1 ? undefined : index
  }

  private refuse(request: SentRequest): TransportError {
    const { exchanges, secrets } = this.file
    const candidate = (recorded: File.Recorded, i: number): Candidate => ({
      name: `${i + 1} of ${exchanges.length}, ${recorded.request.method} ${recorded.request.url}`,
      differences: differencesBetween(recorded, request, secrets),
      spent: this.used.has(i) ? "it has been replayed already" : "its turn has not come: requests must be in order"
    })
    const all = exchanges.map(candidate)
    const next = this.inOrder ? all[this.used.size] : undefined
    const lines = explain(
      next === undefined ? "recorded request" : "next recorded request",
      next === undefined ? all : [next]
    )
    return failing({
      _tag: "Given",
      error: (at) =>
        new InvalidRequest({ ...at, reason: `it is not in the recording, or not any more\n  ${lines.join("\n  ")}` })
    })
  }
}

const failing = (failure: Failure): TransportError => new TransportError({ failure })

const differencesBetween = (
  { request: recorded }: File.Recorded,
  request: SentRequest,
  rules: Secrets.Rules
): ReadonlyArray<Difference> => {
  const differences: Array<Difference> = []
  if (recorded.method !== request.method) {
    differences.push({ facet: "method", expected: recorded.method, got: request.method, weight: weights.method })
  }
  const url = Secrets.url(request.url, rules)
  const [path = "", query] = recorded.url.split("?", 2)
  const [gotPath = "", gotQuery] = url.split("?", 2)
  if (path !== gotPath) differences.push({ facet: "URL", expected: path, got: gotPath, weight: weights.segment })
  if (query !== gotQuery) differences.push(detail("query", query, gotQuery))
  return [...differences, ...bodyDifferences(recorded.body, request, rules)]
}

const bodyDifferences = (
  recorded: File.Body | undefined,
  request: SentRequest,
  rules: Secrets.Rules
): ReadonlyArray<Difference> => {
  // What was not recorded cannot be compared.
  if (recorded !== undefined && "notRecorded" in recorded) return []
  const { body } = File.bodyOf(request.body, request.headers["content-type"] ?? "", rules)
  if (JSON.stringify(recorded) === JSON.stringify(body)) return []
  if (recorded !== undefined && body !== undefined && "json" in recorded && "json" in body) {
    const missing = jsonDifferences(recorded.json, body.json)
    if (missing.length > 0) return missing
  }
  return [detail("body", shown(recorded), shown(body))]
}

const shown = (body: File.Body | undefined) => {
  if (body === undefined) return undefined
  return "json" in body ? body.json : "text" in body ? body.text : Object.values(body).join()
}

const play = ({ end, response }: File.Recorded): Effect.Effect<Reply, TransportError> => {
  const rest = end === undefined ? Stream.empty : end === "given up" ? Stream.never : Stream.fail(failureOf(end))
  if (response === undefined) return Stream.runDrain(rest).pipe(Effect.andThen(Effect.never))
  const { body, headers, status } = response
  if (body !== undefined && "notRecorded" in body) {
    const reason = `its response was not recorded: ${body.notRecorded}`
    return Effect.fail(failing({ _tag: "Given", error: (at) => new InvalidRequest({ ...at, reason }) }))
  }
  const bytes = File.bytesOf(body)
  return Effect.succeed({
    status,
    headers: Object.fromEntries(
      Object.entries(headers).map(([name, value]) => {
        // Without its secrets a body may have another length.
        if (name === "content-length" && end === undefined && bytes.length > 0) return [name, String(bytes.length)]
        return [name, typeof value === "string" ? value : [...value]]
      })
    ),
    body: Stream.concat(bytes.length === 0 ? Stream.empty : Stream.succeed(bytes), rest)
  })
}

const phases: ReadonlyArray<ConnectPhase> = ["dns", "tcp", "tls", "proxy", "request", "response"]

const failureOf = ({ kind, millis = 0, phase, reason }: File.Failure): TransportError => {
  const cause = Object.assign(new Error(reason), { code: reason })
  const address = undefined
  switch (kind) {
    case "Connect":
      return failing({ _tag: kind, phase: phases.find((known) => known === phase) ?? "tcp", address, millis, cause })
    case "ConnectTimeout":
      return failing({ _tag: kind, phase: phase === "tls" ? "tls" : "dial", address, millis })
    case "Broken":
      return failing({ _tag: kind, cause })
    case "Protocol":
    case "Rejected":
      return failing({ _tag: kind, reason, cause })
  }
}
