/** A piece of work as a request of Effect's `HttpClient`, and an answer read as the work asks. */
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { Work } from "../Work.ts"

const request = (url: string, work: Work): HttpClientRequest.HttpClientRequest => {
  const bare = HttpClientRequest.make(work.method)(url)
  return work.body === undefined ? bare : HttpClientRequest.setBody(bare, HttpBody.text(work.body, "application/json"))
}

export const byHttpClient = <E>(client: HttpClient.HttpClient.With<E>, url: string, work: Work) => {
  const answer = client.execute(request(url, work))
  return work.read === "text"
    ? Effect.flatMap(answer, (response) => Effect.map(response.text, (text) => text.length))
    : Effect.flatMap(answer, (response) => Effect.map(response.arrayBuffer, (bytes) => bytes.byteLength))
}
