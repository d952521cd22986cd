// Package law holds the tests of the repository's own rules: who may import whom, what every package says of itself, and what no file may contain.
// The rules are tables, so that a change of a rule is a change that a reviewer sees.
package law
