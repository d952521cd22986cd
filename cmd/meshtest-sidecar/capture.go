package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/proxy/capture"
)

const captureUsage = `capture lets the kernel redirect the TCP connections of its network namespace to the sidecar there, prints the rules as nft would, and ends. It takes the capability NET_ADMIN and nothing else. Lists are
separated by commas; a flag that is not given is taken from the environment, --exclude-inbound-ports from MESHTEST_EXCLUDE_INBOUND_PORTS and so on.

  --exclude-inbound-ports LIST    ports of the pod that are reached without the sidecar
  --exclude-outbound-ports LIST   ports elsewhere that are reached without the sidecar
  --exclude-outbound-cidrs LIST   addresses elsewhere that are reached without the sidecar: 10.0.0.0/8,192.0.2.7
  --exclude-uids LIST             users whose traffic is left alone
  --exclude-gids LIST             groups whose traffic is left alone
  --inbound-port PORT             of the sidecar, for what comes (15006)
  --outbound-port PORT            of the sidecar, for what is sent (15001)
  --uid ID, --gid ID              of the sidecar (1337)
  --print                         only print the rules
  --remove                        remove the rules
`

// captureTraffic is the verb capture.
func captureTraffic(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	var rules capture.Rules
	flags := flag.NewFlagSet("meshtest-sidecar capture", flag.ContinueOnError)
	flags.Func("exclude-inbound-ports", "", list(&rules.ExcludeInboundPorts, strconv.Atoi))
	flags.Func("exclude-outbound-ports", "", list(&rules.ExcludeOutboundPorts, strconv.Atoi))
	flags.Func("exclude-outbound-cidrs", "", list(&rules.ExcludeOutboundCIDRs, parseRange))
	flags.Func("exclude-uids", "", list(&rules.ExcludeUIDs, parseID))
	flags.Func("exclude-gids", "", list(&rules.ExcludeGIDs, parseID))
	flags.IntVar(&rules.InboundPort, "inbound-port", capture.DefaultInboundPort, "")
	flags.IntVar(&rules.OutboundPort, "outbound-port", capture.DefaultOutboundPort, "")
	flags.Func("uid", "", one(&rules.Owner, parseID))
	flags.Func("gid", "", one(&rules.Group, parseID))
	show, remove := flags.Bool("print", false, ""), flags.Bool("remove", false, "")
	if goOn, err := parse(flags, args, stdout); !goOn {
		return err
	}
	if err := fromEnvironment(flags, getenv); err != nil {
		return usageError{err}
	}
	if err := rules.Validate(); err != nil {
		return usageError{err}
	}
	if *remove {
		return capture.Remove()
	}
	if !*show {
		if err := capture.Install(ctx, rules); err != nil {
			return err
		}
	}
	_, err := io.WriteString(stdout, rules.String())
	return err
}

// fromEnvironment sets the flags that were not given and have a variable.
func fromEnvironment(flags *flag.FlagSet, getenv func(string) string) (err error) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	flags.VisitAll(func(f *flag.Flag) {
		name := "MESHTEST_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := getenv(name)
		if given[f.Name] || value == "" {
			return
		}
		if wrong := flags.Set(f.Name, value); wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, wrong))
		}
	})
	return err
}

// list parses values separated by commas into a slice, in place of what it has.
func list[T any](into *[]T, parse func(string) (T, error)) func(string) error {
	return func(text string) error {
		var all []T
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			value, err := parse(item)
			if err != nil {
				return err
			}
			all = append(all, value)
		}
		*into = all
		return nil
	}
}

func one[T any](into *T, parse func(string) (T, error)) func(string) error {
	return func(text string) (err error) {
		*into, err = parse(text)
		return err
	}
}

// parseID parses the number of a user or group.
func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err
}

// parseRange parses a range of addresses, or one address.
func parseRange(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		return address.Prefix(address.BitLen())
	}
	return netip.ParsePrefix(text)
}
