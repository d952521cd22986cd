// Package capturetest has what tests of captured traffic need: network namespaces of their own, joined by wires, where rules can be installed that this machine does not notice.
package capturetest
