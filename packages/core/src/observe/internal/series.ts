/** Series that read when they are looked at, and go together. */
import * as Metric from "effect/Metric"
import type { Histogram } from "../Histogram.ts"
import type { Definition } from "./definitions.ts"

export interface Attributes {
  readonly [name: string]: string
}

/** What has the `MetricRegistry`. */
export type Context = Parameters<typeof Metric.snapshotUnsafe>[0]

export class Series {
  readonly #context: Context
  /** Of all of them. */
  readonly #attributes: Attributes
  #registrations: Array<Metric.Registration> = []

  constructor(context: Context, attributes: Attributes) {
    this.#context = context
    this.#attributes = attributes
  }

  /** None yet, in the same place, with more attributes; they go on their own. */
  within(attributes: Attributes): Series {
    return new Series(this.#context, { ...this.#attributes, ...attributes })
  }

  gauge(definition: Definition, attributes: Attributes, value: () => number): void {
    this.#add(Metric.gauge(definition.name, this.#optionsOf(definition, attributes)), () => ({ value: value() }))
  }

  counter(definition: Definition, attributes: Attributes, count: () => number): void {
    const options = { ...this.#optionsOf(definition, attributes), incremental: true }
    this.#add(Metric.counter(definition.name, options), () => ({ count: count(), incremental: true }))
  }

  histogram(definition: Definition, attributes: Attributes, histogram: Histogram): void {
    const options = { ...this.#optionsOf(definition, attributes), boundaries: histogram.boundaries }
    this.#add(Metric.histogram(definition.name, options), () => stateOf(histogram))
  }

  remove(): void {
    for (const registration of this.#registrations) registration.remove()
    this.#registrations = []
  }

  /** An Effect metric tells its unit as an attribute, which exporters take out again. */
  #optionsOf({ description, unit }: Definition, more: Attributes) {
    const attributes = { ...this.#attributes, ...more }
    return { description, attributes: unit === "1" ? attributes : { ...attributes, unit } }
  }

  #add<Input, State>(metric: Metric.Metric<Input, State>, get: () => State): void {
    this.#registrations.push(Metric.registerUnsafe(metric, this.#context, { get, update: ignore, modify: ignore }))
  }
}

const ignore = (): void => {}

const stateOf = (histogram: Histogram): Metric.HistogramState => {
  let count = 0
  const buckets = histogram.counts.map((inside, bucket): [number, number] => {
    count += inside
    return [histogram.boundaries[bucket] ?? Infinity, count]
  })
  // What OTLP sends as JSON must be a number.
  const { max, min } = count === 0 ? { min: 0, max: 0 } : histogram
  return { buckets, count, min, max, sum: histogram.sum }
}
