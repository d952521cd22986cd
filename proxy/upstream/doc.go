// Package upstream is the proxy's far side: which endpoints a destination has, which of them a request gets, and the connections to it.
//
// [Pools] outlive configurations, so that a change of routes costs no connection; a [Group] is what one configuration makes of them.
//
// [Group.Take] and [Group.Connect] are the way to a connection, whatever is spoken on it and however many there may be. A connection belongs to a destination, which counts what it has: one that has all it
// may lets requests wait in line. TLS and HTTP/2 change how a connection is made and shared, and not what it looks like: bytes of one exchange of HTTP/1.1 after the other.
//
// Who may get a request is a selection, which is immutable: the usable endpoints with their weights, ring or table. What changes it, an ejection, an answer to a health check, or time, counts a version of what is known
// of the destination's endpoints, and the next request makes the selection anew. So a choice costs a comparison and no lock, nothing runs for ejections to end, and those who finish on an old configuration see what
// happens too.
package upstream
