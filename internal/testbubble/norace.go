//go:build !race

package testbubble

const raceDetector = false
