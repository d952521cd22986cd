//go:build race

package testbubble

const raceDetector = true
