/**
 * The parser of `text/event-stream` (WHATWG HTML 9.2.5 and 9.2.6), fed with bytes in any pieces.
 *
 * Effect's parser (`effect/encoding/Sse`) gives the same events, but says nothing of a block that has only an `id`,
 * forgets the id from one connection to the next, and looks at the size only between chunks. To take up a stream where it
 * broke needs the first two; a test holds both parsers to the same events.
 */

/** One event, as the server sent it. */
export interface ParsedEvent {
  readonly event: string
  readonly data: string
  readonly id: string
}

export class EventParser {
  /** The id that the next connection asks for; only a block that was complete changes it. */
  lastEventId: string
  /** What the server's last `retry` said, in milliseconds. */
  retry: number | undefined = undefined
  /** More than `maxSize` characters belong to one event. The parser takes no more. */
  tooLarge = false
  readonly #maxSize: number
  // The byte order mark is left to `feed`: a decoder that drops it too would drop two.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  #begun = false
  /** Pieces of a line whose end has not come: joined once, as adding them up one by one costs the square. */
  #line: Array<string> = []
  #size = 0
  #afterCr = false
  #event = ""
  #data = ""
  #id: string

  constructor(maxSize: number, lastEventId: string) {
    this.#maxSize = maxSize
    this.lastEventId = lastEventId
    this.#id = lastEventId
  }

  /** Adds the events that these bytes complete to `out`. */
  feed(bytes: Uint8Array, out: Array<ParsedEvent>): void {
    let text = this.#decoder.decode(bytes, { stream: true })
    if (text === "" || this.tooLarge) return
    if (!this.#begun && text.charCodeAt(0) === BOM) text = text.slice(1)
    this.#begun = true
    let start = 0
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === LF && this.#afterCr) {
        this.#afterCr = false
        start = at + 1
      } else if (code === LF || code === CR) {
        this.#afterCr = code === CR
        const line = this.#complete(text.slice(start, at))
        if (this.tooLarge) return
        this.#take(line, out)
        start = at + 1
      } else {
        this.#afterCr = false
      }
    }
    if (start < text.length) this.#keep(text.slice(start))
  }

  #keep(piece: string): void {
    this.#line.push(piece)
    this.#size += piece.length
    this.tooLarge = this.#size > this.#maxSize
  }

  #complete(end: string): string {
    this.#keep(end)
    const line = this.#line.length === 1 ? end : this.#line.join("")
    this.#line = []
    return line
  }

  #take(line: string, out: Array<ParsedEvent>): void {
    if (line === "") {
      this.#dispatch(out)
      return
    }
    const colon = line.indexOf(":")
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? "" : line.slice(line.charCodeAt(colon + 1) === SPACE ? colon + 2 : colon + 1)
    if (name === "data") this.#data += `${value}\n`
    else if (name === "event") this.#event = value
    else if (name === "id" && !value.includes("\0")) this.#id = value
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value)
    // A line that leaves nothing behind, a comment say, does not count: an endless row of them is a heartbeat.
    this.#size = this.#data.length + this.#event.length
  }

  #dispatch(out: Array<ParsedEvent>): void {
    this.lastEventId = this.#id
    if (this.#data !== "") {
      out.push({ event: this.#event === "" ? "message" : this.#event, data: this.#data.slice(0, -1), id: this.#id })
    }
    this.#data = ""
    this.#event = ""
    this.#size = 0
  }
}

const BOM = 0xfeff
const LF = 10
const CR = 13
const SPACE = 32
