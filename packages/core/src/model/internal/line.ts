/**
 * A FIFO whose members can leave from any place in constant time: an intrusive doubly linked list.
 */
export interface Member<T> {
  previous: T | undefined
  next: T | undefined
}

export class Line<T extends Member<T>> {
  head: T | undefined = undefined
  size = 0
  private tail: T | undefined = undefined

  push(member: T): void {
    member.previous = this.tail
    member.next = undefined
    if (this.tail === undefined) this.head = member
    else this.tail.next = member
    this.tail = member
    this.size++
  }

  remove(member: T): void {
    if (member.previous === undefined) this.head = member.next
    else member.previous.next = member.next
    if (member.next === undefined) this.tail = member.previous
    else member.next.previous = member.previous
    member.previous = undefined
    member.next = undefined
    this.size--
  }
}
