/**
 * Hears when something happens in the directories that files stand in.
 *
 * A file is replaced by a rename, or by the swap of a link on the way to it, so the directories are watched, not the file:
 * its own, that of each link it leads through, and the one that it is in at the end. What an operating system does not
 * tell (network file systems, a link further up) is not heard; who needs to know looks again from time to time.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"

/** As many links as Linux follows. */
const maxLinks = 40

/** The directories in which a change can make another file of `file`. */
const directoriesOf = (file: string): ReadonlySet<string> => {
  const out = new Set<string>()
  let at = Path.resolve(file)
  for (let n = 0; n < maxLinks; n++) {
    out.add(Path.dirname(at))
    try {
      at = Path.resolve(Path.dirname(at), Fs.readlinkSync(at))
    } catch {
      break // no link, or nothing there
    }
  }
  try {
    out.add(Path.dirname(Fs.realpathSync(file)))
  } catch {
    // Nothing there yet: it will come into one of those found.
  }
  return out
}

/** Which directory it is, not only what it is called; `undefined` if there is none, or none that can be had. */
const identityOf = (directory: string): string | undefined => {
  try {
    const { dev, ino } = Fs.statSync(directory, { bigint: true })
    return `${dev}:${ino} ${directory}`
  } catch {
    // Not there, not ours, a circle of links, no name at all: what is in it cannot be read, either, and that is told.
    return undefined
  }
}

export interface DirectoryWatch {
  /** Watches for these files and no others; says whether that is new, so that something may have been missed. */
  readonly follow: (files: Iterable<string>) => boolean
  readonly close: () => void
}

/** Calls `onEvent` whenever something may have changed. */
export const make = (onEvent: () => void): DirectoryWatch => {
  const watchers = new Map<string, Fs.FSWatcher>()

  const watch = (identity: string, directory: string): void => {
    try {
      const watcher = Fs.watch(directory, { persistent: false }, onEvent)
      // Out of watches, or the directory is gone: to look again from time to time must do.
      watcher.on("error", () => {
        watcher.close()
        watchers.delete(identity)
      })
      watchers.set(identity, watcher)
    } catch {
      // The same.
    }
  }

  return {
    follow: (files) => {
      const wanted = new Map<string, string>()
      for (const file of files) {
        for (const directory of directoriesOf(file)) {
          const identity = identityOf(directory)
          if (identity !== undefined) wanted.set(identity, directory)
        }
      }
      for (const [identity, watcher] of watchers) {
        if (wanted.has(identity)) continue
        watcher.close()
        watchers.delete(identity)
      }
      const before = watchers.size
      for (const [identity, directory] of wanted) if (!watchers.has(identity)) watch(identity, directory)
      return watchers.size > before
    },
    close: () => {
      for (const watcher of watchers.values()) watcher.close()
      watchers.clear()
    }
  }
}
