package local

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"meshtest.dev/meshtest/env"
)

// canBindPrivileged reports whether this user may listen on any port.
func canBindPrivileged() bool {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err == nil {
		if start, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && start <= 1 {
			return true
		}
	}
	return os.Geteuid() == 0
}

// clockTick is the unit of CPU times in /proc: USER_HZ, 100 on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// processUsage reads what a process has used from /proc.
func processUsage(pid int) (env.Usage, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return env.Usage{}, err
	}
	// The fields after the command's name, which may hold anything, are counted from its closing parenthesis: state is the first.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 22 {
		return env.Usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
		return n
	}
	return env.Usage{
		CPU: time.Duration(number(11)+number(12)) * clockTick, // utime, stime
		RSS: number(21) * int64(os.Getpagesize()),
	}, nil
}
