/** A request by undici's `dispatch`: no promise, no stream; the least that a caller of undici can do. */
import type { Dispatcher } from "undici"
import type { ByCallback, Work } from "../Work.ts"

type Done = (error: Error | undefined, length: number) => void

class Collect implements Dispatcher.DispatchHandler {
  readonly #text: boolean
  readonly #done: Done
  readonly #chunks: Array<Buffer> = []

  constructor(text: boolean, done: Done) {
    this.#text = text
    this.#done = done
  }

  onRequestStart() {}
  onResponseStart() {}
  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer) {
    this.#chunks.push(chunk)
  }
  onResponseEnd() {
    const chunks = this.#chunks
    const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
    this.#done(undefined, this.#text ? bytes.toString("utf8").length : bytes.length)
  }
  onResponseError(_: Dispatcher.DispatchController, error: Error) {
    this.#done(error, 0)
  }
}

export const byDispatch = (next: () => Dispatcher, work: Work): ByCallback => {
  const options: Dispatcher.DispatchOptions = {
    method: work.method,
    path: work.path,
    body: work.body ?? null,
    headers: work.body === undefined ? [] : ["content-type", "application/json"]
  }
  const text = work.read === "text"
  return { _tag: "Callback", send: (done) => void next().dispatch(options, new Collect(text, done)) }
}
