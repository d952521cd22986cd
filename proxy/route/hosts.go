package route

import (
	"fmt"
	"strings"
)

// hosts are names and wildcards of hosts, in lower case: a wildcard is kept without its star, so that it begins with a dot, and no name does.
type hosts []string

// compileHosts compiles a list of a.example.com and *.example.com.
func compileHosts(list []string) (hosts, error) {
	var out hosts
	for _, h := range list {
		kept := strings.TrimPrefix(h, "*")
		switch {
		case kept == "" || kept == ".", kept != h && kept[0] != '.', kept == h && kept[0] == '.', strings.ContainsAny(kept, "*:/ "):
			return nil, fmt.Errorf("%q is neither a host nor a wildcard such as *.example.com", h)
		case kept != lowerASCII(kept):
			return nil, fmt.Errorf("%q is not in lower case", h)
		}
		out = append(out, kept)
	}
	return out, nil
}

// hold reports whether a name, in any case, is one of the hosts.
func (h hosts) hold(name []byte) bool {
	if len(name) > maxName {
		return false
	}
	for _, host := range h {
		if host[0] == '.' {
			if n := len(name) - len(host); n > 0 && beginsFolded(name[n:], host) {
				return true
			}
		} else if len(name) == len(host) && beginsFolded(name, host) {
			return true
		}
	}
	return false
}

func (h hosts) want() string {
	var all []string
	for _, host := range h {
		if host[0] == '.' {
			host = "*" + host
		}
		all = append(all, host)
	}
	if len(all) == 1 {
		return "host " + all[0]
	}
	return "one of the hosts " + strings.Join(all, ", ")
}

// nameOf is the host of an authority, without port, brackets and the dot at its end; nil when what follows the colon is no port.
func nameOf(authority []byte) []byte {
	name, port := splitAuthority(authority)
	if port < 0 {
		return nil
	}
	return name
}

// maxName bounds the names that are looked up: a DNS name has at most 253 characters.
const maxName = 253

// hostLists holds lists of entries by hosts and wildcards.
type hostLists map[string]list

// eachOf gives the lists of a name, in any case, to a function: that of the name itself and those of all wildcards that it has.
func eachOf[Name string | []byte](l hostLists, name Name, try func(list)) {
	var space [maxName]byte
	if len(l) == 0 || len(name) > len(space) {
		return
	}
	folded := space[:len(name)]
	for i := range len(name) {
		folded[i] = lower(name[i])
	}
	if found := l[string(folded)]; found != nil && folded[0] != '.' {
		try(found)
	}
	for i := 1; i < len(folded); i++ {
		if folded[i] == '.' {
			if found := l[string(folded[i:])]; found != nil {
				try(found)
			}
		}
	}
}
