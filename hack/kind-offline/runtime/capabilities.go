package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// capabilities in the order of their numbers in the kernel's linux/capability.h.
var capabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
	"SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
	"AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

var bounding = regexp.MustCompile(`(?m)^CapBnd:\s+([0-9a-f]+)$`)

// missingCapabilities reads, from a process's status in /proc, which capabilities it and its children can never have.
func missingCapabilities(status string) (map[string]bool, error) {
	data, err := os.ReadFile(status)
	if err != nil {
		return nil, err
	}
	found := bounding.FindSubmatch(data)
	if found == nil {
		return nil, fmt.Errorf("%s does not say CapBnd", status)
	}
	set, err := strconv.ParseUint(string(found[1]), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("reading CapBnd in %s: %w", status, err)
	}
	missing := map[string]bool{}
	for number, name := range capabilities {
		if set>>number&1 == 0 {
			missing["CAP_"+name] = true
		}
	}
	return missing, nil
}
