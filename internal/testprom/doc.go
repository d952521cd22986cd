// Package testprom starts a real Prometheus for tests that compare with one. Only on Linux, where none can outlive the test.
package testprom
