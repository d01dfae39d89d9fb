/**
 * What a parser's error may show.
 *
 * @since 0.1.0
 */

/**
 * The error of an HTTP parser without the bytes it stumbled over (undici's `data`, node's `rawPacket`): they are whatever
 * the server sent, cookies and bodies among them, and causes are logged.
 *
 * @internal
 */
export const withoutBytes = (error: Error): Error => {
  const code = "code" in error ? { code: error.code } : undefined
  return Object.assign(new Error(error.message), { name: error.name, ...code })
}
