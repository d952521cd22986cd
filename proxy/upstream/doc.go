// Package upstream is the proxy's far side: which endpoints a destination has, which of them a request gets, and the connections to it.
//
// [Pools] outlive configurations, so that a change of routes costs no connection; a [Group] is what one configuration makes of them.
//
// Who may get a request is a selection, which is immutable: the usable endpoints with their weights, ring or table. What changes it, an ejection, an answer to a health check, or time, counts a version of what is known
// of the destination's endpoints, and the next request makes the selection anew. So a choice costs a comparison and no lock, nothing runs for ejections to end, and those who finish on an old configuration see what
// happens too.
package upstream
