// Package upstream is the proxy's far side: which endpoints a destination has, which of them a request gets, and the connections to it.
//
// [Pools] outlive configurations, so that a change of routes costs no connection; a [Group] is what one configuration makes of them.
package upstream
